"""Batch normalisation on one rank equals torch's; on many: tests/parallel/test_batch_norm.py."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from kilonode.comm import Comm
from kilonode.training.batch_norm import BatchNorm, synchronise

SHAPES = {1: (6, 5), 2: (6, 5, 4, 3), 3: (4, 5, 2, 3, 2)}


def pair(dimension: int, **options: Any) -> tuple[Any, Any]:
    """Torch's layer with weights of its own inside a network, and the same network with ours."""
    torch.manual_seed(dimension)
    kind = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dimension]
    plain = nn.Sequential(kind(5, **options), nn.Tanh())
    for weight in plain.parameters():
        nn.init.normal_(weight)
    ours = copy.deepcopy(plain)
    layers = synchronise(ours, Comm())
    assert [type(layer) for layer in layers] == [BatchNorm]
    assert layers[0] is ours[0]
    return plain, ours


@pytest.mark.parametrize("options", [{}, {"momentum": None}, {"affine": False}, {"track_running_stats": False}])
@pytest.mark.parametrize("dimension", SHAPES)
def test_alone_it_is_torchs(dimension: int, options: dict[str, Any]) -> None:
    plain, ours = pair(dimension, **options)
    for number in range(3):
        x = (torch.randn(SHAPES[dimension]) * 3 + 100 * number).requires_grad_()
        other = x.detach().clone().requires_grad_()
        (plain(x) ** 3).sum().backward()
        (ours(other) ** 3).sum().backward()
        assert x.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(other.grad, x.grad, rtol=1e-3, atol=1e-5)
    for (name, weight), mine in zip(plain.named_parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, weight.grad, rtol=1e-4, atol=1e-4, msg=name)
    assert plain.state_dict().keys() == ours.state_dict().keys()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-5, atol=1e-6, msg=name)
    x = torch.randn(SHAPES[dimension])
    torch.testing.assert_close(ours.eval()(x), plain.eval()(x), rtol=1e-5, atol=1e-6)


def test_its_gradient_is_the_slope_of_its_loss() -> None:
    _, ours = pair(2)
    x = torch.randn(3, 5, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(ours.double(), (x,))


def test_a_large_mean_costs_no_digits() -> None:
    """Sums of squares in float32 would lose all of a spread of 1 about a mean of 10,000."""
    _, ours = pair(1, affine=False)
    x = torch.randn(1000, 5) + 1e4
    out = ours[0](x)
    assert out.std(0, correction=0).tolist() == pytest.approx([1.0] * 5, rel=1e-3)


def test_a_ghost_changes_no_running_value_and_passes_no_gradient_of_its_own() -> None:
    """Alone it would divide by zero samples; beside 6 it must be as if it were not there."""

    class Beside(Comm):
        def add(self, array: Any) -> None:
            array += self.others.pop(0)

    torch.manual_seed(0)
    x, plain = torch.randn(6, 5), nn.BatchNorm1d(5)
    mean, square = x.mean(0), (x**2).mean(0)
    comm = Beside()
    comm.others = [  # type: ignore[attr-defined]
        torch.cat([torch.tensor([6.0]), 6 * mean, 6 * square]).double().numpy(),
        torch.zeros(11, dtype=torch.float64).numpy(),
    ]
    model = nn.Sequential(nn.BatchNorm1d(5))
    (layer,) = synchronise(model, comm)
    layer.ghost = True
    ghost = torch.full((1, 5), 1e6, requires_grad=True)
    (model(ghost).sum() * 0.0).backward()
    plain(x)
    torch.testing.assert_close(layer.running_mean, plain.running_mean)
    torch.testing.assert_close(layer.running_var, plain.running_var)
    assert ghost.grad is not None
    assert not ghost.grad.any()
    assert not any(weight.grad.any() for weight in layer.parameters())


def test_networks_without_it_are_left_alone() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nn.GroupNorm(1, 3), nn.InstanceNorm1d(3))
    kinds = [type(part) for part in model]
    assert synchronise(model, Comm()) == []
    assert [type(part) for part in model] == kinds
