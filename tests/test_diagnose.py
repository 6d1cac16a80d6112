"""The first value that is not finite is found where it was planted."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from kilonode.cases.contract import Batch
from kilonode.comm import Comm
from kilonode.training.batch_norm import BatchNorm, synchronise
from kilonode.training.diagnose import Finding, find

ROWS = np.array([40, 7, 13, 99])


class Network(nn.Module):
    """Two layers, something between them, and a root at the end."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 1)
        self.between, self.power = 1.0, 1.0

    def losses(self, batch: Batch) -> torch.Tensor:
        out: torch.Tensor = self.last(self.first(batch.x).tanh() * self.between)
        return out[:, 0].abs() ** self.power


def look(model: Network, x: torch.Tensor | None = None) -> Finding | None:
    x = torch.arange(12.0).view(4, 3) / 12 if x is None else x
    return find(model, Batch(x, None, torch.zeros(4, dtype=torch.int64)), ROWS)


def test_where_all_is_well_nothing_is_found() -> None:
    assert look(Network()) is None


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_bad_samples_are_named(value: float) -> None:
    x = torch.ones(4, 3)
    x[2, 1] = value
    found = look(Network(), x)
    assert found is not None
    assert (found.where, found.rows.tolist()) == ("the input", [13])


def test_a_layer_that_overflows_is_named_with_the_samples_that_made_it() -> None:
    model = Network()
    model.first.weight.data.fill_(1e38)
    x = torch.tensor([[0.0] * 3, [4.0] * 3, [0.5, -0.5, 0.0], [-4.0] * 3])
    found = look(model, x)
    assert found is not None
    assert found.where == "layer first"
    assert found.rows.tolist() == ROWS.tolist()  # tanh makes the losses finite again


def test_weights_that_are_not_finite_are_to_blame_themselves() -> None:
    model = Network()
    model.last.bias.data.fill_(math.nan)
    found = look(model)
    assert found is not None
    assert (found.where, found.rows.tolist()) == ("layer last, whose weights are not finite", ROWS.tolist())


def test_what_happens_between_layers_is_said_to_enter_the_next() -> None:
    model = Network()
    model.between = math.inf
    found = look(model)
    assert found is not None
    assert found.where == "what enters layer last"


def test_a_loss_with_finite_layers_is_the_loss() -> None:
    model = Network()
    model.power = 1e4
    model.last.bias.data.fill_(9.0)
    found = look(model)
    assert found is not None
    assert found.where == "the loss"


def test_a_gradient_with_a_finite_loss_is_found_by_its_weight() -> None:
    """The square root of |0| is 0, its slope is not."""
    model = Network()
    model.power = 0.5
    for weight in model.last.parameters():
        weight.data.zero_()
    found = look(model)
    assert found is not None
    assert (found.where, found.rows.tolist()) == ("the gradient of last.bias", ROWS.tolist())
    assert all(weight.grad is None for weight in model.parameters())


def test_the_network_is_left_as_it_was() -> None:
    """No hook stays, and batch normalisation belongs to all ranks again, though this rank looked alone."""

    class Others(Comm):
        def add(self, array: np.ndarray) -> None:
            raise AssertionError("waits for other ranks")

    model, others = Network(), Others()
    model.first = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))  # type: ignore[assignment]
    (layer,) = synchronise(model, others)
    model.last.bias.data.fill_(math.nan)
    assert look(model) is not None
    assert isinstance(layer, BatchNorm)
    assert layer.comm is others
    assert not any(part._forward_hooks for part in model.modules())
