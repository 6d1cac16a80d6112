"""LHC events: the networks, and the traps that concern them."""

import numpy as np
import pytest
import torch

from kilonode.cases.contract import Batch
from kilonode.cases.lhc_events import baseline, models
from kilonode.data.stats import measure
from kilonode.data.transform import TRANSFORMS, Scaler

SHAPE = (3, 32, 32)
TASKS = ("classifier", "anomaly")


def images(count):
    """Mostly empty, a few hot pixels, as events are."""
    rng = np.random.default_rng(0)
    return ((rng.random((count, *SHAPE)) < 0.2) * rng.exponential(size=(count, *SHAPE)) ** 3).astype(np.float32)


def scaler(raw):
    stats = {"image": {name: measure(function(raw)).to_json() for name, function in TRANSFORMS.items()}}
    return Scaler({"field": "image", "transform": "log1p"}, stats)


@pytest.mark.parametrize(
    ("settings", "shape", "parameters"),
    [
        ({"filters": 128, "features": 512, "weights": [1, 1]}, (3, 64, 64), 4_494_594),
        ({"variant": "pooled", "filters": 128, "weights": [1, 1]}, (3, 224, 224), 594_178),
    ],
)
def test_the_published_networks_have_their_published_size(settings, shape, parameters):
    """4.49 million and 594 thousand parameters."""
    model = models.build("classifier", settings, shape)
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("columns", [1, 5, 16, 31])
def test_turning_an_event_about_the_beam_changes_no_score(task, columns):
    model = models.build(task, {"filters": 4 if task == "classifier" else [4, 4]}, SHAPE).eval()
    x = torch.from_numpy(np.log1p(images(8)))
    with torch.no_grad():
        rolled = model(x.roll(columns, -1))
        expected = model(x) if task == "classifier" else model(x).roll(columns, -1)
    torch.testing.assert_close(rolled, expected, rtol=0, atol=1e-4)


def test_without_periodic_padding_the_seam_is_seen():
    model = models.build("classifier", {"filters": 4, "periodic": False}, SHAPE).eval()
    x = torch.from_numpy(np.log1p(images(8)))
    with torch.no_grad():
        assert (model(x.roll(13, -1)) - model(x)).abs().max() > 1e-3


@pytest.mark.parametrize("shape", [(3, 64, 64), (3, 128, 128), (3, 227, 227), (1, 33, 47)])
def test_networks_take_images_of_any_size(shape):
    x = torch.rand(2, *shape)
    for variant in models.STAGES:
        model = models.build("classifier", {"variant": variant, "filters": 2, "features": 5}, shape)
        assert model(x).shape == (2, 6)
    model = models.build("anomaly", {"filters": [2, 2, 2], "code": 3}, shape)
    assert model(x).shape == x.shape
    assert model.features(x).shape == (2, 3)


@pytest.mark.parametrize("task", TASKS)
def test_an_empty_image_has_a_finite_answer(task):
    x = torch.zeros(2, *SHAPE)
    model = models.build(task, {}, SHAPE)
    losses = model.losses(Batch(x, torch.zeros(2, dtype=torch.int64), torch.arange(2)))
    assert torch.isfinite(losses).all()
    assert np.isfinite(baseline.features(task, x.numpy())["summary"]).all()


def test_the_weight_of_a_class_multiplies_its_loss():
    x, key = torch.rand(4, *SHAPE), torch.arange(4)
    y = torch.tensor([0, 1, 2, 3])
    found = []
    for weights in ([1.0] * 4, [1.0, 2.0, 0.5, 3.0]):
        torch.manual_seed(0)
        found.append(models.build("classifier", {"weights": weights}, SHAPE).losses(Batch(x, y, key)))
    torch.testing.assert_close(found[1], found[0] * torch.tensor([1.0, 2.0, 0.5, 3.0]))


def test_dropout_keeps_the_mean_and_is_off_at_inference():
    model = models.build("classifier", {"dropout": 0.5}, SHAPE)
    x = torch.rand(400, *SHAPE)
    keep = model._keep(x, torch.arange(400))
    assert all(abs(part.mean() - 1) < 0.1 for part in keep)
    assert set(torch.unique(keep[0]).tolist()) == {0.0, 2.0}
    assert model.eval()._keep(x, torch.arange(400)) is None


@pytest.mark.parametrize(
    ("task", "settings", "shape", "said"),
    [
        ("classifier", {"variant": "wide"}, SHAPE, "variant needs one of"),
        ("classifier", {"filter": 3}, SHAPE, "need keys among"),
        ("classifier", {"variant": "pooled"}, (3, 16, 16), "pooled needs 32 rows and columns"),
        ("detector", {}, SHAPE, "task needs one of"),
    ],
)
def test_impossible_networks_are_refused(task, settings, shape, said):
    with pytest.raises(ValueError, match=said):
        models.build(task, settings, shape)


def test_one_event_ten_times_hotter_leaves_the_input_of_others_almost_alone():
    raw = images(60)
    hot = np.concatenate([raw, 10 * raw[:1]])
    np.testing.assert_allclose(scaler(hot)(raw[1:]), scaler(raw)(raw[1:]), rtol=0.04)  # dividing by the maximum: 90 %
