"""Galaxy shapes: comparisons, memory, figures and real galaxies, and the traps that concern them."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_ingest import field, ingested, real, said

from kilonode import config
from kilonode.cases.contract import Explanation, Trained
from kilonode.cases.galaxy_shapes import cosmos, figures, halves, measures, models, scores, simulate
from kilonode.errors import UserError

SMALL = {"latent": 5, "width": 3, "draws": 20}
SETTINGS = config.resolve("galaxy_shapes", "toy")["simulation"]
PIXELS = 69 * 69


@pytest.fixture(scope="module")
def sky():
    made = [simulate.simulate(2, number, {**SETTINGS, "per_field": 12})["galaxies"] for number in range(8)]
    return {name: np.concatenate([field[name] for field in made]) for name in made[0]}


@pytest.fixture(scope="module")
def x(sky):
    return sky["image"].reshape(-1, PIXELS)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return models.build("density", SMALL, (1, 69, 69)).eval()


def test_wilson_is_the_published_interval():
    assert measures.wilson(round(0.972 * 4344), 4344) == pytest.approx((0.967, 0.976), abs=5e-4)
    assert measures.wilson(0, 10)[0] == pytest.approx(0, abs=1e-12)


def test_a_dead_latent_fails_the_run():
    rng = np.random.default_rng(0)
    code = np.column_stack([rng.standard_normal((50, 3)), 0.01 * rng.standard_normal((50, 5))])
    (row,) = measures._activity(code)
    assert (row["value"], row["met"]) == (3, False)
    (row,) = measures._activity(rng.standard_normal((50, 4)))
    assert (row["value"], row["met"]) == (4, True)


def test_a_comparison_of_known_scores_gives_these_numbers():
    groups = np.repeat(np.arange(5), 20)
    gaussian = np.zeros(100)
    code = np.where(np.arange(100) % 4 == 0, -1.0, 3.0)
    rows = measures.comparison(
        {"code": code, "gaussian": gaussian, "code_given_code": code, "oracle": gaussian + 4}, groups, None
    )
    value = {(row["metric"], row["method"]): row for row in rows}
    assert value["win_rate_over_gaussian", "code"]["value"] == 0.75
    low, high = value["win_rate_over_gaussian", "code"]["interval"]
    assert (low, high) == pytest.approx(measures.wilson(75, 100))
    assert value["median_over_gaussian", "code"]["value"] == 3
    assert value["quantile_05_over_gaussian", "code"]["value"] == -1


def test_two_halves_are_compared_and_a_copy_is_its_own_neighbour(x):
    assert (halves.nearest(x[:10], x[:10]) < 1e-3).all()
    assert (halves.nearest(x[10:40], x[:10]) > 50).all()
    groups = np.repeat(np.arange(8), 12)
    found = halves.compare(SMALL, x, groups, x[:12])
    assert found.own.shape == (96,)
    assert found.unseen.shape == found.nearer_own.shape == (12,)
    assert np.isfinite(found.own).all()


class _Rows(dict):
    """A split of a store, as measures see it."""

    @property
    def rows(self):
        return len(self["image"])

    def read(self, name):
        return self[name]

    def take(self, name, rows):
        return self[name][rows]


@pytest.fixture(scope="module")
def measured(sky, model):
    parts = {"train": slice(0, 60), "validation": slice(60, 72), "test": slice(72, 96)}
    stores = {name: _Rows({field: values[part] for field, values in sky.items()}) for name, part in parts.items()}
    answering = SimpleNamespace(
        model=model,
        features=lambda raw: model.features(scores.tensor(raw.reshape(len(raw), -1))).detach().numpy(),
    )
    raw = {name: store["image"] for name, store in stores.items()}
    given = Trained("density", {"model": SMALL}, answering, stores, raw, simulated=True)
    with pytest.raises(UserError, match="expected simulated galaxies"):
        measures.measure(Trained("density", {"model": SMALL}, answering, stores, raw, simulated=False))
    return measures.measure(given)


def test_every_number_of_the_issue_is_measured_once(measured):
    names = [(row["question"], row["metric"], row["method"]) for row in measured.rows]
    assert len(set(names)) == len(names)
    value = {name: row["value"] for name, row in zip(names, measured.rows, strict=True)}
    assert all(value[name] is not None and np.isfinite(value[name]) for name in value)
    for rival in ("gaussian", "gaussian_bic", "sersic", "factor_analysis", "gaussian_one_variance"):
        method = "code_one_variance" if rival.endswith("one_variance") else "code"
        assert ("win_rate", f"win_rate_over_{rival}", method) in value
        for quantile in ("median", "quantile_05", "quantile_95"):
            assert ("nats", f"{quantile}_over_{rival}", method) in value
    less = value["log_likelihood", "mean", "gaussian"] - value["log_likelihood", "mean", "gaussian_bic"]
    assert less == pytest.approx(29.6, abs=0.05)
    assert value["residual", "chi_square", "oracle"] == pytest.approx(1, abs=0.02)
    assert value["empty_sky", "median_over_sky", "code"] < 3
    assert {metric for question, metric, _ in value if question == "memory"} >= {"own_half_gain", "nearer_own_half"}
    assert [metric for question, metric, _ in value if question == "draws"] == [
        "log_likelihood_1", "log_likelihood_20", "log_likelihood_1000",
    ]  # fmt: skip


def test_every_figure_is_drawn_and_has_a_caption(measured):
    rng = np.random.default_rng(0)
    explanation = Explanation(
        case="galaxy_shapes",
        task="density",
        inputs=rng.random((6, 1, 69, 69), np.float32),
        corrupted=None,
        outputs=rng.random((6, 1, 69, 69), np.float32),
        embedding=rng.normal(size=(2, 24, 2)),
        trustworthiness=np.array([0.9, 0.8]),
        columns={"kind": rng.integers(0, 4, 24), "S/N": rng.random(24)},
        labels={"kind": figures.KINDS},
        saliency=rng.random((5, 1, 69, 69)),
        curves={},
        arrays=measured.arrays,
    )
    drawn = figures.draw(explanation)
    assert set(drawn) == set(figures.CAPTIONS)
    for figure in drawn.values():
        assert all(size < 20 for size in figure.get_size_inches())
        figure.savefig(io.BytesIO(), dpi=20)
    nothing = {"arrays": {}, "embedding": np.zeros((0, 0, 2)), "saliency": np.zeros((0, 1, 69, 69))}
    empty = Explanation(**{**vars(explanation), **nothing})
    assert figures.draw(empty) == {}


# real galaxies


def test_stamps_keep_light_and_noise_of_small_images_and_cut_large_ones():
    rng = np.random.default_rng(0)
    small, large = 0.01 * rng.standard_normal((32, 40)), 0.02 * rng.standard_normal((91, 80))
    small[16, 20] = 5.0
    found = cosmos.stamps([small, large])
    assert found.noise == pytest.approx([0.01, 0.02], rel=0.2)
    assert found.kept[0] == pytest.approx(1)
    assert found.weight.sum(axis=1).tolist() == [32 * 40, PIXELS]
    assert found.x[0].sum() * found.noise[0] == pytest.approx(small.sum(), rel=1e-5)
    assert np.unravel_index(found.x[0].argmax(), (69, 69)) == ((69 - 32) // 2 + 16, (69 - 40) // 2 + 20)
    with pytest.raises(UserError, match="expected sky noise on the border"):
        cosmos.stamps([np.zeros((20, 20))])


def test_real_galaxies_are_ingested_with_their_light_and_scored(tmp_path, model):
    path = real("cosmos_galaxies/real_galaxy_images_extension.fits")  # skips where it is not there
    columns = {"pixels": field("images", unit="electron s-1"), "size": said("images/shape")}
    arrays = ingested(tmp_path, "fits", path, columns)["arrays"]
    bounds = zip(arrays["pixels"].offsets[:-1], arrays["pixels"].offsets[1:], arrays["size"], strict=True)
    images = [arrays["pixels"].values[start:stop].reshape(size) for start, stop, size in bounds]
    found = cosmos.stamps(images)
    assert found.x.shape == (100, PIXELS)
    whole = np.array([max(image.shape) <= 69 for image in images])
    light = np.array([image.sum() for image in images])
    np.testing.assert_allclose(found.x.sum(1, dtype=np.float64)[whole] * found.noise[whole], light[whole], rtol=1e-4)
    assert found.kept[~whole].max() < 1.2
    some = cosmos.Stamps(found.x[:12], found.weight[:12], found.noise[:12], found.kept[:12])
    rows = {(row["metric"], row["method"]): row["value"] for row in cosmos.compare(model, some)}
    assert 0 <= rows["win_rate_over_gaussian", "code"] <= rows["win_rate_over_gaussian_bic", "code"] <= 1
    assert rows["median_snr", "data"] > 20
