"""The gradient noise scale, on a quadratic whose noise is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kilonode.training.noise import LocalNorm, NoiseSums, noise_scale

DIMENSION, NOISE = 20, 3.0
SLOPE = np.linspace(0.5, 1.5, DIMENSION)
TRUTH = DIMENSION * NOISE**2 / float(SLOPE @ SLOPE)
"""tr(Sigma) / |G|^2 of losses |w - t|^2 / 2 at w - <t> = SLOPE, with targets t scattered by NOISE in each direction."""


def step(sums: NoiseSums, sizes: list[int], rng: np.random.Generator) -> None:
    """One global batch in parts of these sizes: gradients of samples are SLOPE plus noise."""
    parts = [SLOPE + NOISE * rng.normal(size=(size, DIMENSION)) for size in sizes]
    for part in parts:
        sums.part(float(np.sum(part.mean(0) ** 2)), len(part))
    sums.whole(float(np.sum(np.concatenate(parts).mean(0) ** 2)), sum(sizes))


@pytest.mark.parametrize("sizes", [[16, 16], [8] * 4, [1, 31], [13, 7, 12], [2] * 16])
def test_it_is_that_of_a_quadratic_with_known_noise(sizes: list[int]) -> None:
    """Even and uneven parts, 4000 steps: within 10 %, and far from the batch of 32 that it must not confuse it with."""
    sums, rng = NoiseSums(), np.random.default_rng(0)
    for _ in range(4000):
        step(sums, sizes, rng)
    assert sums.scale() == pytest.approx(TRUTH, rel=0.1)
    assert 8.2 < TRUTH < 8.4


def test_both_estimators_are_those_of_the_paper() -> None:
    """Appendix A.1 with B_small = 8, B_big = 64, |G_small|^2 = 5, |G_big|^2 = 2."""
    signal = (64 * 2 - 8 * 5) / (64 - 8)
    variance = (5 - 2) / (1 / 8 - 1 / 64)
    assert noise_scale(5.0, 2.0, 1 / 8, 1 / 64) == pytest.approx(variance / signal, rel=1e-12)


def test_ranks_may_be_added_before_or_after() -> None:
    """What ranks gather separately and add up is what one would have gathered."""
    rng = np.random.default_rng(1)
    whole, ranks = NoiseSums(), [NoiseSums(), NoiseSums()]
    for _ in range(50):
        first, second = rng.normal(size=(2, DIMENSION)) + SLOPE
        for sums in (whole, ranks[0]):
            sums.whole(float(np.sum((first + second) ** 2) / 4), 10)
        for sums, part in ((whole, first), (whole, second), (ranks[0], first), (ranks[1], second)):
            sums.part(float(part @ part), 5)
    added = NoiseSums(*np.sum([sums.values() for sums in ranks], axis=0).tolist())
    assert added.scale() == pytest.approx(whole.scale(), rel=1e-12)


def test_without_parts_or_without_a_signal_there_is_none() -> None:
    assert NoiseSums().scale() is None
    alone = NoiseSums()
    alone.part(2.0, 32)
    alone.whole(2.0, 32)
    assert alone.scale() is None  # one rank, one piece: nothing to compare
    assert noise_scale(10.0, 1.0, 1 / 2, 1 / 4) is None  # all of the gradient is noise
    assert noise_scale(1.0, 1.0, 1 / 2, 1 / 4) == 0.0  # none of it is


def test_the_local_norm_is_that_of_one_pass_not_of_what_was_there() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    x, seen = torch.randn(10, 3), []
    for part in (x[:4], x[4:]):
        wanted = torch.autograd.grad(model(part).sum(), list(model.parameters()))
        with LocalNorm(model.parameters()) as local:
            model(part).sum().backward()
        seen.append(local.square)
        assert local.square == pytest.approx(sum(float(grad.square().sum()) for grad in wanted), rel=1e-6)
    model(x).sum().backward()  # after the context nobody looks
    assert local.square == seen[-1]
