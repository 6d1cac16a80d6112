"""Schedules against values worked out by hand, and optimisers against their update rules."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kilonode.training import optim

COSINE: dict[str, Any] = {"lr": 0.1, "schedule": "cosine", "warmup_epochs": 1, "epochs": 5}
STEPS = 4  # of an epoch: warm-up over steps 0..3, cosine over 4..19


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0.02),  # a fifth: the fifth step of five is the first at the peak
        (1, 0.04),
        (3, 0.08),
        (4, 0.1),
        (8, 0.1 * (0.01 + 0.99 * (2 + math.sqrt(2)) / 4)),  # a quarter of the way: cos(45 degrees)
        (12, 0.1 * (0.01 + 0.99 / 2)),  # half of the way
        (20, 0.001),  # 1 % of the peak, one step after the last
        (99, 0.001),
    ],
)
def test_cosine_has_the_values_worked_out_by_hand(step: int, expected: float) -> None:
    assert optim.learning_rate(COSINE, step, STEPS) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("step", "expected"), [(0, 0.02), (3, 0.08), (4, 0.1), (5, 0.1), (1000, 0.1)])
def test_constant_stays_at_the_peak_after_warming_up(step: int, expected: float) -> None:
    rate = optim.learning_rate({**COSINE, "schedule": "constant"}, step, STEPS)
    assert rate == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("warmup", "expected"), [(0, [0.1, 0.1]), (0.5, [0.1 / 3, 0.2 / 3, 0.1])])
def test_warm_up_may_be_absent_or_part_of_an_epoch(warmup: float, expected: list[float]) -> None:
    settings = {**COSINE, "schedule": "constant", "warmup_epochs": warmup}
    rates = [optim.learning_rate(settings, step, STEPS) for step in range(len(expected))]
    assert rates == pytest.approx(expected, rel=1e-12)


def test_a_run_that_is_all_warm_up_never_leaves_it() -> None:
    settings = {**COSINE, "warmup_epochs": 5}
    rates = [optim.learning_rate(settings, step, STEPS) for step in range(20)]
    assert rates == pytest.approx([0.1 * (step + 1) / 21 for step in range(20)], rel=1e-12)


@pytest.mark.parametrize(
    ("step", "expected"),
    [(3, 0.08), (4, 0.1), (11, 0.1), (12, 0.02), (15, 0.02), (16, 0.004), (99, 0.004)],  # falls at epochs 3 and 4
)
def test_steps_fall_at_their_epochs(step: int, expected: float) -> None:
    settings = {**COSINE, "schedule": "step", "milestones": [3, 4], "factor": 0.2}
    assert optim.learning_rate(settings, step, STEPS) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("power", "step", "expected"),
    [
        ({}, 12, 0.1 * (0.01 + 0.99 * 0.25)),  # half of the way, squared
        ({"power": 1}, 8, 0.1 * (0.01 + 0.99 * 0.75)),
        ({"power": 1}, 20, 0.001),
        ({"power": 3}, 4, 0.1),
    ],
)
def test_polynomial_has_the_values_worked_out_by_hand(power: dict[str, float], step: int, expected: float) -> None:
    settings = {**COSINE, "schedule": "polynomial", **power}
    assert optim.learning_rate(settings, step, STEPS) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("scale", "ratio"), [("none", 1), ("linear", 16), ("sqrt", 4)])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "step", "polynomial"])
def test_the_peak_follows_the_batch(scale: str, ratio: float, schedule: str) -> None:
    plain = {**COSINE, "schedule": schedule, "milestones": [3], "batch": 1024}
    scaled = {**plain, "scale": scale, "reference_batch": 64}
    for step in (0, 3, 4, 9, 17):
        wanted = ratio * optim.learning_rate(plain, step, STEPS)
        assert optim.learning_rate(scaled, step, STEPS) == pytest.approx(wanted, rel=1e-12)


@given(
    peak=st.floats(1e-6, 10),
    warmup=st.integers(0, 4),
    epochs=st.integers(1, 50),
    steps=st.integers(1, 200),
    schedule=st.sampled_from(["constant", "cosine", "polynomial"]),
)
def test_the_rate_rises_to_the_peak_without_a_jump_and_then_only_falls(
    peak: float, warmup: int, epochs: int, steps: int, schedule: str
) -> None:
    settings = {"lr": peak, "schedule": schedule, "warmup_epochs": warmup, "epochs": epochs + warmup}
    top = warmup * steps
    rates = [optim.learning_rate(settings, step, steps) for step in range(top + 3)]
    assert rates[top] == pytest.approx(peak, rel=1e-12)
    jumps = [later - earlier for earlier, later in pairwise(rates[: top + 1])]
    assert jumps == pytest.approx([peak / (top + 1)] * top, rel=1e-9)
    assert rates[top] >= rates[top + 1] >= rates[top + 2] >= 0.01 * peak * (1 - 1e-12)


def test_the_rate_depends_on_the_step_alone() -> None:
    forwards = [optim.learning_rate(COSINE, step, STEPS) for step in range(25)]
    backwards = [optim.learning_rate(COSINE, step, STEPS) for step in reversed(range(25))]
    assert backwards[::-1] == forwards


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # One step from weight 1 with gradient 1 and lr 0.1, decay 0.5.
        ({"optimizer": "sgd", "weight_decay": 0.5}, 1 - 0.1 * 1.5),
        ({"optimizer": "adam", "weight_decay": 0.5}, 1 - 0.1),  # decay enters the gradient, whose size Adam divides out
        ({"optimizer": "adamw", "weight_decay": 0.5}, 1 - 0.1 - 0.1 * 0.5),
        ({"optimizer": "adamw"}, 1 - 0.1),
    ],
)
def test_optimisers_take_the_step_their_name_promises(settings: dict[str, Any], expected: float) -> None:
    weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = optim.optimizer([weight], {"lr": 0.1, **settings})
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    assert weight.item() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(("momentum", "expected"), [({}, 1 - 0.1 - 0.19), ({"momentum": 0.5}, 1 - 0.1 - 0.15)])
def test_sgd_remembers_its_direction(momentum: dict[str, float], expected: float) -> None:
    weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = optim.optimizer([weight], {"lr": 0.1, "optimizer": "sgd", **momentum})
    for _ in range(2):
        weight.grad = torch.ones_like(weight)
        optimizer.step()
    assert weight.item() == pytest.approx(expected, abs=1e-12)


def test_nesterov_looks_ahead() -> None:
    """Sutskever et al. 2013 as torch writes it: v = 0.9 v + g, then w = w - lr (g + 0.9 v)."""
    weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = optim.optimizer([weight], {"lr": 0.1, "optimizer": "sgd", "nesterov": True})
    wanted, velocity = 1.0, 0.0
    for gradient in (1.0, 0.5, -2.0):
        weight.grad = torch.full_like(weight, gradient)
        optimizer.step()
        velocity = 0.9 * velocity + gradient
        wanted -= 0.1 * (gradient + 0.9 * velocity)
    assert weight.item() == pytest.approx(wanted, abs=1e-12)
