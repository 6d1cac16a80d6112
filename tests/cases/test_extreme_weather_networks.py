"""Networks and boxes: targets, losses, periodic longitude, precision by hand, memory; and what measures promise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from kilonode import config
from kilonode.cases.contract import Batch
from kilonode.cases.extreme_weather import (
    areas,
    box_measures,
    detector,
    few_labels,
    labels,
    models,
    patch_measures,
    rivals,
    rules,
    scores,
    trainings,
)
from kilonode.cases.extreme_weather.rules import Found
from kilonode.data.stats import measure
from kilonode.data.transform import TRANSFORMS, Scaler

SHAPE = (16, 32, 48)
GLOBE = (96, 144)


def network(shape: tuple[int, ...] = SHAPE, **settings: Any) -> Any:
    torch.manual_seed(0)
    return models.build("boxes", {"width": 0.0625, **settings}, shape)


def batch(shape: tuple[int, ...] = SHAPE, boxes: list[list[int]] | None = None) -> Batch:
    torch.manual_seed(1)
    frames = () if len(shape) == 3 else (4,)
    y = torch.full((2, *frames, labels.ROWS, 5), labels.UNUSED)
    for number, box in enumerate([[4, 8, 14, 20, 1], [16, 40, 26, 52, 2]] if boxes is None else boxes):
        y[..., number, :] = torch.tensor(box)
    return Batch(torch.randn(2, *shape), y, torch.arange(2))


def said(boxes: list[list[float]], score: list[float], kind: int = 1) -> Found:
    table = np.array(boxes, float).reshape(-1, 4)
    return Found(table, np.full(len(table), kind), np.array(score, float), table[:, :2])


def reference(*frames: list[list[int]]) -> np.ndarray:
    return np.stack([labels.padded(np.array(boxes, np.int32).reshape(-1, 5)) for boxes in frames])


# ---- patches


def test_the_published_network_for_cyclones_has_417550_parameters() -> None:
    found = models.build("patches", {}, (8, 32, 32))
    assert sum(weight.numel() for weight in found.parameters()) == 417_550  # type: ignore[attr-defined]


def test_one_pyramid_takes_patches_of_every_size() -> None:
    found = models.build("patches", {"variant": "pyramid", "dense": 16}, (8, 32, 32))
    for size in ((32, 32), (37, 56), (27, 60)):
        assert found(torch.randn(2, 8, *size)).shape == (2, 2)


def test_unknown_variants_and_patches_too_small_are_refused() -> None:
    with pytest.raises(ValueError, match="variant needs one of published, pyramid, got 'deep'"):
        models.build("patches", {"variant": "deep"}, (8, 32, 32))
    with pytest.raises(ValueError, match="too small for kernels"):
        models.build("patches", {}, (8, 12, 12))


def test_standard_scale_gives_each_channel_mean_zero_and_deviation_one_on_training_data() -> None:
    x = np.random.default_rng(0).normal([[[[5.0]], [[1e5]]]], [[[[2.0]], [[300.0]]]], (50, 2, 6, 7)).astype(np.float32)
    stats = {"x": {name: measure(function(x)).to_json() for name, function in TRANSFORMS.items()}}
    scaler = Scaler({"field": "x", "transform": "none", "scale": "standard"}, stats)
    np.testing.assert_allclose(scaler(x).mean(axis=(0, 2, 3)), 0, atol=2e-3)
    np.testing.assert_allclose(scaler(x).std(axis=(0, 2, 3)), 1, atol=1e-3)
    film = np.stack([x, x], axis=2)
    np.testing.assert_allclose(scaler(film)[:, :, 1], scaler(x))
    only = Scaler({"field": "x", "transform": "none", "scale": "standard", "channels": [1]}, stats)
    np.testing.assert_allclose(only(x)[:, 0], scaler(x)[:, 1])
    assert scaler(x).dtype == np.float32


def test_a_patch_alone_has_lost_mean_and_size_of_every_channel() -> None:
    x = np.random.default_rng(0).normal(3, 2, (4, 2, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(patch_measures._alone(x), patch_measures._alone(5 * x + 7), atol=1e-4)


# ---- targets and losses


def test_boxes_come_back_from_their_cells_with_every_class() -> None:
    boxes = [[0, 8, 10, 20, 0], [24, 44, 32, 52, 1], [16, 20, 30, 44, 2], [2, 30, 6, 40, 3]]
    target, kind, lost = detector.encoded(torch.tensor([boxes]), 8, (4, 6))
    assert lost.item() == 0
    heads = torch.zeros(1, 10, 4, 6)
    heads[:, :4], heads[:, 5] = target, torch.where(kind >= 0, 30.0, -30.0)
    heads[:, 6:] = torch.nn.functional.one_hot(kind.clamp(min=0), 4).movedim(-1, 1) * 60.0
    found = detector.decoded(heads, 8)[0]
    back = {tuple(row[:5].round().int().tolist()) for row in found if row[5] > 0.5}
    assert back == {tuple(box) for box in boxes}


def test_a_later_box_takes_the_cell_and_the_lost_one_is_counted() -> None:
    _, kind, lost = detector.encoded(torch.tensor([[[0, 0, 8, 8, 0], [1, 1, 7, 7, 2]]]), 8, (4, 6))
    assert (kind >= 0).sum() == 1
    assert kind[0, 0, 0] == 2
    assert lost.item() == 1


def test_a_frame_nobody_looked_at_feeds_the_reconstruction_alone() -> None:
    model, seen = network(), batch()
    hidden = Batch(seen.x, torch.full_like(seen.y, labels.UNLABELLED), seen.key)  # type: ignore[arg-type]
    model.losses(hidden).sum().backward()
    assert all(weight.grad is None or not weight.grad.any() for weight in model.box.parameters())
    assert model.halvings[0].conv.weight.grad.any()
    empty = Batch(seen.x, torch.full_like(seen.y, labels.UNUSED), seen.key)  # type: ignore[arg-type]
    model.losses(empty).sum().backward()
    assert any(weight.grad.any() for weight in model.object.parameters())
    assert not any(weight.grad is not None and weight.grad.any() for weight in model.box.parameters())


def test_without_its_weight_the_reconstruction_costs_nothing() -> None:
    seen = batch()
    hidden = Batch(seen.x, torch.full_like(seen.y, labels.UNLABELLED), seen.key)  # type: ignore[arg-type]
    assert (network(reconstruction=0.0).losses(hidden) == 0).all()


def test_the_loss_of_one_cell_is_the_one_computed_by_hand() -> None:
    heads = torch.zeros(1, 10, 1, 1)
    loss = detector.head_losses(heads, torch.tensor([[[0, 0, 8, 16, 1]]]), 8)
    place = 5 * (0.5 * 0.5**2 + 0.5 * 0.0**2)  # middle at (0.5, 1.0 % 1 = 0) of the cell
    size = 7 * (0.0 + 0.5 * 1.0**2)  # log2 of 1 and of 2
    assert loss.item() == pytest.approx(place + size + np.log(2) + np.log(4), rel=1e-5)


@pytest.mark.parametrize("shape", [SHAPE, (16, 8, 32, 48)])
def test_turning_the_globe_by_a_cell_turns_the_answer_by_a_cell(shape: tuple[int, ...]) -> None:
    model, x = network(shape).eval(), batch(shape).x
    with torch.no_grad():
        plain, turned = model(x), model(x.roll(16, -1))
        torch.testing.assert_close(turned, plain.roll(2, -1), atol=1e-4, rtol=1e-4)
        back, back_turned = model.decoded(model.code(x)), model.decoded(model.code(x.roll(16, -1)))
        torch.testing.assert_close(back_turned, back.roll(16, -1), atol=1e-4, rtol=1e-4)


def test_cells_far_away_do_not_feel_a_change() -> None:
    model, x = network((16, 32, 144)).eval(), batch((16, 32, 144)).x
    other = x.clone()
    other[..., 64:72] += 5.0
    with torch.no_grad():
        apart = (model(x) - model(other)).abs().amax(dim=(0, 1, 2))
    assert apart[8] > 1e-3
    assert apart[torch.arange(18).sub(8).abs() > 4].max() == 0


@pytest.mark.parametrize(("shape", "heads", "back"), [
    (SHAPE, (2, 10, 4, 6), (2, 16, 32, 48)),
    ((16, 8, 32, 48), (2, 10, 4, 4, 6), (2, 16, 8, 32, 48)),
])  # fmt: skip
def test_heads_and_decoder_have_the_shapes_they_state(
    shape: tuple[int, ...], heads: tuple[int, ...], back: tuple[int, ...]
) -> None:
    model, x = network(shape), batch(shape).x
    assert model(x).shape == heads
    assert model.decoded(model.code(x)).shape == back
    assert model.features(x).shape == (2, model.norm.normalized_shape[0])


def test_the_detector_at_full_size_has_the_parameters_of_the_original() -> None:
    with torch.device("meta"):
        filters = list(detector.FILTERS)
        full = detector.Detector(16, filters, 4, 10.0, False, False)
    assert 60e6 < sum(weight.numel() for weight in full.parameters()) < 70e6


def test_frugal_training_keeps_less_and_gives_the_same_gradients() -> None:
    def kept(is_frugal: bool) -> tuple[int, list[torch.Tensor]]:
        model, total = network(checkpoint=is_frugal).train(), 0

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal total
            total += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = model.losses(batch()).sum()
        loss.backward()
        return total, [weight.grad for weight in model.parameters()]

    (plain, first), (frugal, second) = kept(False), kept(True)
    assert frugal < 0.8 * plain  # weights are counted in both
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b)


def test_fields_that_do_not_halve_are_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 8"):
        network((16, 30, 48))


def test_training_beside_the_main_one_repeats_itself_and_uses_its_pool() -> None:
    x, y = np.random.default_rng(0).normal(size=(8, *SHAPE)).astype(np.float32), np.full((8, 15, 5), labels.UNLABELLED)
    y[3] = batch().y[0].numpy()  # type: ignore[index]
    rules_ = {"batch": 4, "lr": 1e-3, "clip": 5.0}
    both = [trainings.fit(network(reconstruction=0.0), x, y, 3, rules_, 0, np.array([3])) for _ in range(2)]
    for a, b in zip(both[0].parameters(), both[1].parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(both[0].box.conv.weight, network().box.conv.weight)


# ---- overlaps, suppression, precision


def test_overlap_goes_around_the_globe() -> None:
    a, b = np.array([[40.0, 140, 50, 150]]), np.array([[40.0, 0, 50, 6]])
    assert areas.iou(a, b, *GLOBE)[0, 0] == pytest.approx(6 / 10)
    assert areas.iou(b, a, *GLOBE)[0, 0] == pytest.approx(6 / 10)
    assert areas.iou(np.array([[40.0, 284, 50, 294]]), b, *GLOBE)[0, 0] == pytest.approx(6 / 10)


def test_overlap_counts_area_on_the_sphere() -> None:
    a, b = np.array([[48.0, 0, 96, 10]]), np.array([[48.0, 0, 80, 10]])  # equator to pole, equator to 60 degrees
    assert areas.iou(a, b, *GLOBE)[0, 0] == pytest.approx(np.sin(np.deg2rad(60)))
    assert areas.iou(a, a, *GLOBE)[0, 0] == pytest.approx(1.0)


def test_of_boxes_on_each_other_the_best_stays() -> None:
    boxes = np.array([[40.0, 140, 50, 150], [40, 141, 50, 151], [40, 60, 50, 70], [41, -3, 50, 7]])
    kept = areas.suppressed(boxes, np.array([0.5, 0.9, 0.3, 0.4]), *GLOBE)
    assert kept.tolist() == [1, 2] or kept.tolist() == [1, 3, 2]


def test_average_precision_is_the_one_computed_by_hand() -> None:
    """Three boxes; said in order: hit, miss, hit. Precision 1, 1/2, 2/3 at recall 1/3, 1/3, 2/3: AP 1/3 + 2/9."""
    truth = reference([[40, 10, 50, 20, 1], [40, 60, 50, 70, 1]], [[20, 0, 30, 10, 1]])
    found = [said([[40, 10, 50, 20], [60, 100, 70, 110]], [0.9, 0.8]), said([[20, 1, 30, 11]], [0.7])]
    matched = scores.match(found, truth, 1, 0.5, GLOBE, False)
    assert matched.hit.tolist() == [True, False, True]
    assert scores.average_precision(matched)(np.ones(2)) == pytest.approx(1 / 3 + 2 / 9)
    assert scores.average_precision(matched)(np.array([1.0, 0.0])) == pytest.approx(1 / 2)
    assert matched.found[:, 2].tolist() == [1, 0, 1]


def test_a_box_is_found_once() -> None:
    truth = reference([[40, 10, 50, 20, 1]])
    found = [said([[40, 10, 50, 20], [40, 11, 50, 21]], [0.5, 0.9])]
    matched = scores.match(found, truth, 1, 0.3, GLOBE, False)
    assert matched.hit.tolist() == [True, False]


def test_a_class_without_a_box_has_no_precision_and_does_not_count() -> None:
    truth = reference([[40, 10, 50, 20, 1]])
    found = [said([[40, 10, 50, 20]], [0.9])]
    each = [scores.average_precision(scores.match(found, truth, kind, 0.1, GLOBE, False)) for kind in range(4)]
    assert np.isnan(each[0](np.ones(1)))
    assert scores.mean_of(each)(np.ones(1)) == 1.0
    assert np.isnan(scores.mean_of(each)(np.zeros(1)))


def test_all_three_overlaps_are_reported() -> None:
    assert scores.OVERLAPS == (0.1, 0.3, 0.5)


def test_rivers_outside_the_sector_are_ignored_against_labels_and_count_against_truth() -> None:
    truth = reference([[60, 80, 70, 100, 3]])
    found = [said([[60, 80, 70, 100], [60, 10, 70, 30]], [0.5, 0.9], kind=3)]
    ignored, counted = (scores.match(found, truth, 3, 0.5, GLOBE, sector) for sector in (True, False))
    assert ignored.hit.tolist() == [True]
    assert counted.hit.tolist() == [False, True]


def test_through_cells_a_lonely_box_is_perfect() -> None:
    truth = reference([[40, 140, 50, 150, 0], [60, 20, 70, 50, 3]])
    found, lost = rivals.through_cells(truth, 8, GLOBE)
    assert lost == 0
    assert scores.mean_average_precision(found, truth, 0.5, GLOBE, False) == pytest.approx(1.0)


def test_labels_said_as_boxes_score_one_against_themselves() -> None:
    truth = reference([[40, 140, 50, 150, 0], [60, 20, 70, 50, 3]], [])
    assert scores.mean_average_precision(rivals.as_found(truth), truth, 0.5, GLOBE, False) == 1.0


# ---- few labels, tuning


def test_a_share_of_labels_is_hidden_whole_frames_at_a_time() -> None:
    all_labels = np.full((20, 15, 5), labels.UNLABELLED)
    all_labels[::2] = labels.UNUSED
    y, kept = few_labels.hidden(all_labels, 0.3, 0)
    assert len(kept) == 3
    assert (kept % 2 == 0).all()
    assert rivals.looked_at(y).sum() == 3
    assert len(few_labels.hidden(all_labels, 0.01, 0)[1]) == 1


def test_the_worth_of_unlabelled_frames_is_read_from_the_other_curve() -> None:
    shares = np.array([0.01, 0.1, 1.0])
    curves = np.array([np.stack([shares, [0.2, 0.4, 0.6]], 1), np.stack([shares, [0.1, 0.2, 0.6]], 1)])
    assert few_labels.worth_of(curves) == pytest.approx(10**0.5)
    assert np.isnan(few_labels.worth_of(curves[:, :1]))


def test_thresholds_are_tuned_on_the_frames_they_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    from kilonode.cases.extreme_weather import earth, simulate

    small = {"rows": 48, "frames": 8, "stored": 8, "spin_up": 1, "labelled": 1.0, "cyclones": 0, "rivers": 0}
    frames = simulate.simulate(0, 0, small)["frames"]
    monkeypatch.setattr(rivals, "TRIALS", 4)
    grid = earth.globe(48, 72)
    best, values = rivals.tuned(frames["images"][::2], frames["boxes"][::2], grid)
    assert len(values) == 4
    found = [rules.detect(frame, grid, best) for frame in frames["images"][::2]]
    again = scores.mean_average_precision(found, frames["boxes"][::2], 0.1, grid.shape, True)
    assert again == pytest.approx(max(values))
    assert (
        rules.detect(frames["images"][0], grid, replace(best, depth=1e9, vorticity=1.0, transport=1e9)).score.size == 0
    )


def test_the_drawing_of_the_network_follows_its_layers() -> None:
    layers = box_measures.layers(network().eval(), batch().x[:1].numpy())
    assert layers[0].tolist() == [0, 16, 1, 32, 48]
    assert layers[-1].tolist() == [5, 16, 1, 32, 48]
    assert [box_measures.LAYERS[kind] for kind in layers[:, 0]].count("encoder") == 3


def test_the_article_asks_for_five_shares_and_three_seeds() -> None:
    asked = config.task("extreme_weather", "article", "boxes")["measures"]
    assert asked["fractions"] == [0.01, 0.03, 0.1, 0.3, 1.0]
    assert asked["seeds"] >= 3
