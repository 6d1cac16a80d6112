"""Networks: sizes, targets, losses, periodic longitude, memory; and that the detector can learn at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from small_weather import SMALL

from kilonode.cases.contract import Batch
from kilonode.cases.extreme_weather import (
    box_measures,
    detector,
    labels,
    models,
    patch_measures,
    rivals,
    scores,
    simulate,
    trainings,
    turns,
)
from kilonode.data.stats import measure
from kilonode.data.transform import TRANSFORMS, Scaler

SHAPE = (16, 32, 48)


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


# ---- patches


def test_the_published_network_for_cyclones_has_417550_parameters() -> None:
    found = models.build("patches", {}, (8, 32, 32))
    assert sum(weight.numel() for weight in found.parameters()) == 417_550  # type: ignore[attr-defined]


@pytest.mark.parametrize("variant", ["pyramid", "residual"])
def test_one_network_takes_patches_of_every_size(variant: str) -> None:
    found = models.build("patches", {"variant": variant, "dense": 16}, (8, 32, 32))
    for size in ((32, 32), (37, 56), (27, 60)):
        assert found(torch.randn(2, 8, *size)).shape == (2, 2)


def test_unknown_variants_and_patches_too_small_are_refused() -> None:
    with pytest.raises(ValueError, match="variant needs one of published, pyramid, residual, got 'deep'"):
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


@pytest.mark.parametrize("shape", [SHAPE, (16, 8, 32, 48)])
def test_a_frame_turned_in_training_takes_its_boxes_along(shape: tuple[int, ...]) -> None:
    seen = batch(shape)
    y = seen.y.clone()  # type: ignore[union-attr]
    y[1] = labels.UNLABELLED
    x, boxes = turns.turned(seen.x, y, torch.tensor([3, 4]))
    by = int((boxes.flatten(0, -2)[0] - y.flatten(0, -2)[0])[1]) % 48
    assert by
    torch.testing.assert_close(x[0], seen.x[0].roll(by, -1))
    assert ((boxes[0] - y[0])[..., :2, (1, 3)] % 48 == by).all()
    assert ((boxes[..., 1] < 48) & (boxes[..., 0] == y[..., 0]) & (boxes[..., 4] == y[..., 4])).all()
    assert (boxes[1] == labels.UNLABELLED).all()
    assert torch.equal(boxes, turns.turned(seen.x, y, torch.tensor([3, 4]))[1])


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


def test_the_loss_counts_in_cells_of_any_size() -> None:
    heads, boxes = torch.randn(1, 10, 4, 6), torch.tensor([[[4, 8, 14, 20, 1], [16, 30, 26, 46, 2]]])
    twice = torch.cat([2 * boxes[..., :4], boxes[..., 4:]], dim=-1)
    torch.testing.assert_close(detector.head_losses(heads, boxes, 8), detector.head_losses(heads, twice, 16))


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
        full = detector.Detector(16, filters, 4, False)
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


def test_the_detector_learns_a_handful_of_frames_by_heart() -> None:
    """Frames of 48 x 72 with cells of four pixels: the geometry of the demo at a quarter of the cost."""
    frames = [simulate.simulate(3, group, SMALL)["frames"] for group in (1, 2)]
    x, y = (np.concatenate([part[name][::4] for part in frames]) for name in ("images", "boxes"))
    x = ((x - x.mean((0, 2, 3), keepdims=True)) / x.std((0, 2, 3), keepdims=True)).astype(np.float32)
    model = network((16, 48, 72), levels=2, width=0.125, reconstruction=0.0, turn=False)
    trainings.fit(model, x, y, 120, {"batch": 4, "lr": 3e-3, "clip": 5.0}, 0)
    found = model.found(rivals.outputs(model, lambda raw: raw, x))
    bound, lost = rivals.through_cells(y, model.cell, (48, 72))
    best = scores.mean_average_precision(bound, y, 0.1, (48, 72), False)
    assert lost <= 3
    assert scores.mean_average_precision(found, y, 0.1, (48, 72), False) > 0.9 * best > 0.8


def test_the_drawing_of_the_network_follows_its_layers() -> None:
    layers = box_measures.layers(network().eval(), batch().x[:1].numpy())
    assert layers[0].tolist() == [0, 16, 1, 32, 48]
    assert layers[-1].tolist() == [5, 16, 1, 32, 48]
    assert [box_measures.LAYERS[kind] for kind in layers[:, 0]].count("encoder") == 3
