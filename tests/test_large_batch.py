"""LARS and LAMB against the papers' equations, read into numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from kilonode.training import optim

SHAPES = ((5, 3), (4, 2, 3, 3), (7,), ())
STEPS = 6


def start(rng: np.random.Generator) -> list[np.ndarray]:
    return [np.asarray(rng.normal(size=shape)) for shape in SHAPES]


def gradients(seed: int) -> list[list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [[np.asarray(rng.normal(size=shape)) * 10.0 ** (step - 3) for shape in SHAPES] for step in range(STEPS)]


def lars(weights: list[np.ndarray], lr: float, momentum: float, decay: float, trust: float) -> list[np.ndarray]:
    """You et al. 2017, algorithm 1; weights of one axis or none take plain momentum without decay."""
    weights, velocities = [w.copy() for w in weights], [np.zeros_like(w) for w in weights]
    for step in gradients(3):
        for i, g in enumerate(step):
            w, layer = weights[i], weights[i].ndim > 1
            beta = decay if layer else 0.0
            rate = trust * np.linalg.norm(w) / (np.linalg.norm(g) + beta * np.linalg.norm(w)) if layer else 1.0
            velocities[i] = momentum * velocities[i] + lr * rate * (g + beta * w)
            weights[i] = w - velocities[i]
    return weights


def lamb(weights: list[np.ndarray], lr: float, decay: float) -> list[np.ndarray]:
    """You et al. 2019, algorithm 2 with phi(z) = z; weights of one axis or none take Adam's step without decay."""
    weights, means, squares = [w.copy() for w in weights], [0.0 * w for w in weights], [0.0 * w for w in weights]
    for t, step in enumerate(gradients(3), start=1):
        for i, g in enumerate(step):
            w, layer = weights[i], weights[i].ndim > 1
            means[i] = 0.9 * means[i] + 0.1 * g
            squares[i] = 0.999 * squares[i] + 0.001 * g**2
            r = means[i] / (1 - 0.9**t) / (np.sqrt(squares[i] / (1 - 0.999**t)) + 1e-6)
            u = r + (decay if layer else 0.0) * w
            weights[i] = w - lr * (np.linalg.norm(w) / np.linalg.norm(u) if layer else 1.0) * u
    return weights


def ours(weights: list[np.ndarray], settings: dict[str, Any]) -> list[np.ndarray]:
    parameters = [torch.nn.Parameter(torch.tensor(w)) for w in weights]
    optimizer = optim.optimizer(parameters, settings)
    for step in gradients(3):
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = torch.tensor(gradient)
        optimizer.step()
    return [parameter.detach().numpy() for parameter in parameters]


@pytest.mark.parametrize("decay", [0.0, 0.02])
def test_lars_takes_the_steps_of_the_paper(decay: float) -> None:
    weights = start(np.random.default_rng(1))
    settings = {"optimizer": "lars", "lr": 0.3, "momentum": 0.8, "weight_decay": decay, "trust": 0.01}
    for mine, theirs in zip(ours(weights, settings), lars(weights, 0.3, 0.8, decay, 0.01), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-10)


@pytest.mark.parametrize("decay", [0.0, 0.02])
def test_lamb_takes_the_steps_of_the_paper(decay: float) -> None:
    weights = start(np.random.default_rng(1))
    settings = {"optimizer": "lamb", "lr": 0.05, "weight_decay": decay}
    for mine, theirs in zip(ours(weights, settings), lamb(weights, 0.05, decay), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-10)


@pytest.mark.parametrize("kind", ["lars", "lamb"])
def test_the_size_of_a_layers_gradient_does_not_matter(kind: str) -> None:
    """What both were made for, without decay and up to LAMB's eps; plain momentum would step 1000 times as far."""
    steps = []
    for size in (1.0, 1000.0):
        weight = torch.nn.Parameter(torch.linspace(1, 2, 6, dtype=torch.float64).view(2, 3))
        before = weight.detach().clone()
        optimizer = optim.optimizer([weight], {"optimizer": kind, "lr": 0.1})
        weight.grad = size * torch.linspace(-1, 3, 6, dtype=torch.float64).view(2, 3)
        optimizer.step()
        steps.append(weight.detach() - before)
    torch.testing.assert_close(steps[0], steps[1], rtol=1e-5, atol=0)
    trust = {"lars": 0.001, "lamb": 1.0}[kind]
    assert steps[0].norm().item() == pytest.approx(0.1 * trust * before.norm().item(), rel=1e-9)


@pytest.mark.parametrize("kind", ["lars", "lamb"])
@pytest.mark.parametrize("zero", ["weight", "gradient"])
def test_nothing_is_divided_by_zero(kind: str, zero: str) -> None:
    """A layer of zeros can leave zero; one without gradient stays."""
    weight = torch.nn.Parameter(torch.zeros(2, 2) if zero == "weight" else torch.ones(2, 2))
    before = weight.detach().clone()
    optimizer = optim.optimizer([weight], {"optimizer": kind, "lr": 0.1})
    weight.grad = torch.ones(2, 2) if zero == "weight" else torch.zeros(2, 2)
    optimizer.step()
    assert weight.isfinite().all()
    assert torch.equal(weight, before) == (zero == "gradient")
