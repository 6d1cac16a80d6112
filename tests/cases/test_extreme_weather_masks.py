"""The U-Net: masks painted from boxes, boxes read from masks, periodic longitude; and that it can learn at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from small_weather import SMALL

from kilonode.cases.contract import Batch
from kilonode.cases.extreme_weather import labels, models, rivals, rules, scores, simulate, trainings, unet
from kilonode.cases.extreme_weather.world import INDEX

SHAPE = (16, 48, 72)


def network(**settings: Any) -> Any:
    torch.manual_seed(0)
    return models.build("boxes", {"variant": "unet", "levels": 3, "width": 0.125, **settings}, SHAPE)


def table(*boxes: tuple[int, ...]) -> torch.Tensor:
    return torch.from_numpy(labels.padded(np.array(boxes, np.int32).reshape(-1, 5)))[None].long()


def batch(*boxes: tuple[int, ...]) -> Batch:
    torch.manual_seed(1)
    y = table(*boxes) if boxes else torch.full((1, labels.ROWS, 5), labels.UNLABELLED)
    return Batch(torch.randn(2, *SHAPE), y.repeat(2, 1, 1), torch.arange(2))


def wet(rows: slice, columns: np.ndarray) -> torch.Tensor:
    """Fields that are dry but for a strip, each channel standardised somehow."""
    x = torch.zeros(1, *SHAPE)
    x[0, INDEX["TMQ"], rows, columns] = 3.0
    return x


# ---- masks


def test_a_round_storm_is_the_ellipse_in_its_box_and_goes_around_the_globe() -> None:
    mask = unet.painted(table((20, 68, 30, 78, rules.TC)), torch.zeros(1, *SHAPE))[0].numpy()
    rows, columns = np.nonzero(mask)
    assert (rows.min(), rows.max()) == (20, 29)
    assert set(columns) == {68, 69, 70, 71, 0, 1, 2, 3, 4, 5}
    assert (mask[mask > 0] == rules.TC + 1).all()
    assert (mask > 0).sum() == pytest.approx(np.pi * 25, rel=0.1)


def test_a_river_is_where_its_box_is_moister_than_on_average() -> None:
    mask = unet.painted(table((30, 10, 40, 40, rules.AR)), wet(slice(33, 35), np.arange(5, 45)))[0].numpy()
    expected = np.zeros(SHAPE[1:], np.int64)
    expected[33:35, 10:40] = rules.AR + 1
    np.testing.assert_array_equal(mask, expected)


def test_rows_moist_everywhere_are_no_river() -> None:
    x = wet(slice(33, 35), np.arange(5, 45))
    x[0, INDEX["TMQ"], :36] += torch.linspace(20, 0, 36)[:, None]
    mask = unet.painted(table((30, 10, 40, 40, rules.AR)), x)[0].numpy()
    assert set(np.nonzero(mask)[0]) == {33, 34}


def test_of_boxes_on_each_other_the_smaller_one_is_painted_over() -> None:
    mask = unet.painted(table((20, 20, 24, 24, rules.TD), (10, 10, 40, 40, rules.ETC)), torch.zeros(1, *SHAPE))[0]
    assert mask[22, 22] == rules.TD + 1
    assert mask[30, 30] == rules.ETC + 1


def test_boxes_come_back_from_their_masks_with_every_class() -> None:
    boxes = table((4, 66, 14, 80, rules.ETC), (20, 10, 25, 15, rules.TD), (22, 40, 28, 46, rules.TC),
                  (32, 30, 36, 60, rules.AR))  # fmt: skip
    found, lost = rivals.through_masks(boxes.numpy(), wet(slice(32, 36), np.arange(30, 60)).numpy())
    assert lost == 0
    assert scores.mean_average_precision(found, boxes.numpy(), 0.9, (48, 72), False) == 1.0


def test_a_pixel_of_small_probability_is_no_storm() -> None:
    logits = np.zeros((1, 5, 48, 72), np.float32)
    logits[0, 0] = 3.0
    logits[0, 2, 20:26, 30:36] = 2.5
    (one,) = unet.found(logits)
    assert one.boxes.tolist() == [[20, 30, 26, 36]]
    assert one.kinds.tolist() == [rules.TC]
    assert one.score[0] == pytest.approx(np.exp(2.5) / (np.exp(2.5) + np.exp(3) + 3), rel=1e-5)
    logits[0, 2] -= 2.0
    assert len(unet.found(logits)[0].score) == 0


def test_outside_the_labelled_sector_nothing_and_a_river_count_as_one() -> None:
    mask = torch.zeros(1, 48, 72, dtype=torch.int64)
    mask[0, 10, 3] = rules.AR + 1
    losses = unet.pixel_losses(torch.zeros(1, 5, 48, 72), mask)[0]
    assert losses[20, 40].item() == pytest.approx(np.log(5))  # 202.5 degrees east
    assert losses[20, 3].item() == pytest.approx(np.log(5 / 2))
    assert losses[10, 3].item() == pytest.approx(unet.WEIGHTS[rules.AR + 1] * np.log(5))


# ---- the network


def test_turning_the_globe_turns_the_answer() -> None:
    model, x = network().eval(), batch().x
    with torch.no_grad():
        torch.testing.assert_close(model(x.roll(2 * model.cell, -1)), model(x).roll(2 * model.cell, -1))


def test_pixels_far_away_do_not_feel_a_change() -> None:
    model, x = network(levels=2).eval(), batch().x
    other = x.clone()
    other[..., 32:36] += 5.0
    with torch.no_grad():
        apart = (model(x) - model(other)).abs().amax(dim=(0, 1, 2))
    assert apart[34] > 0
    assert apart[torch.arange(72).sub(34).abs() > 14].max() == 0


def test_frames_nobody_looked_at_teach_nothing_but_give_a_gradient_to_other_ranks() -> None:
    model = network().train()
    losses = model.losses(batch())
    assert (losses == 0).all()
    losses.sum().backward()
    assert all(weight.grad is not None and not weight.grad.any() for weight in model.parameters())


def test_a_labelled_frame_weighs_the_same_beside_one_without_labels() -> None:
    model, seen = network(turn=False).train(), batch((10, 10, 20, 20, rules.ETC))
    mixed = seen.y.clone()  # type: ignore[union-attr]
    mixed[0] = labels.UNLABELLED
    both, one = (model.losses(Batch(seen.x, y, seen.key)) for y in (seen.y, mixed))
    assert one[0] == 0
    torch.testing.assert_close(one[1], both[1])


def test_frugal_training_gives_the_same_gradients() -> None:
    found = []
    for is_frugal in (False, True):
        model = network(checkpoint=is_frugal).train()
        model.losses(batch((10, 10, 20, 20, rules.ETC))).sum().backward()
        found.append([weight.grad for weight in model.parameters()])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def test_fields_the_network_cannot_take_are_refused() -> None:
    for shape in ((16, 50, 72), (8, 48, 72), (16, 8, 48, 72)):
        with pytest.raises(ValueError, match=r"needs 16 channels, and rows and columns that are multiples of 8, got"):
            models.build("boxes", {"variant": "unet", "levels": 4}, shape)
    with pytest.raises(ValueError, match="variant needs one of cells, unet, got 'mask'"):
        models.build("boxes", {"variant": "mask"}, SHAPE)


def test_it_learns_a_handful_of_frames_by_heart() -> None:
    frames = simulate.simulate(3, 1, {**SMALL, "cyclones": 0, "rivers": 0})["frames"]
    x, y = frames["images"][::2], frames["boxes"][::2]
    x = ((x - x.mean((0, 2, 3), keepdims=True)) / x.std((0, 2, 3), keepdims=True)).astype(np.float32)
    model = network(width=0.25, turn=False)
    trainings.fit(model, x, y, 120, {"batch": 4, "lr": 5e-3, "clip": 5.0}, 0)
    found = model.found(rivals.outputs(model, lambda raw: raw, x))
    bound, _ = rivals.through_masks(y, x)
    best = scores.mean_average_precision(bound, y, 0.1, (48, 72), True)
    assert scores.mean_average_precision(found, y, 0.1, (48, 72), True) > 0.6 * best > 0.4
