"""Where a number first stopped being finite: the batch run again, with an eye on every layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kilonode.cases.contract import Batch
from kilonode.comm import Comm
from kilonode.training.batch_norm import BatchNorm


@dataclass(frozen=True)
class Finding:
    """What one rank found.

    ``where``: the layer, or what else was first. ``rows``: int64, rows in the split of the samples whose loss is not
    finite, or of the whole batch where no loss tells.
    """

    where: str
    rows: np.ndarray


def find(model: Any, batch: Batch, rows: np.ndarray) -> Finding | None:
    """The first value that is not finite when this rank's batch runs once more.

    Ranks do not wait for one another in it: batch normalisation takes this rank's samples alone.

    Parameters
    ----------
    model : contract.Model
        As it was in the bad step.
    batch : Batch
        This rank's samples.
    rows : int64 (B,)
        Their rows in the split.

    Returns
    -------
    Finding or None
        None if everything of this rank is finite, gradients included: the trouble came from another.
    """
    if not torch.isfinite(batch.x).all():
        bad = ~torch.isfinite(batch.x).flatten(1).all(1)
        return Finding("the input", rows[bad.cpu().numpy()])
    first: list[str] = []
    hooks = [part.register_forward_hook(_look(name, first)) for name, part in model.named_modules() if name]
    layers = [part for part in model.modules() if isinstance(part, BatchNorm)]
    ranks = [layer.comm for layer in layers]
    for layer in layers:
        layer.comm = Comm()
    try:
        losses = model.losses(batch)
        bad = ~torch.isfinite(losses.detach())
        where = first[0] if first else "the loss" if bad.any() else _gradient(model, losses)
    finally:
        for hook in hooks:
            hook.remove()
        for layer, comm in zip(layers, ranks, strict=True):
            layer.comm = comm
    if not where:
        return None
    return Finding(where, rows[bad.cpu().numpy()] if bad.any() else rows)


def _look(name: str, first: list[str]) -> Any:
    """A hook that notes the first layer with a value that is not finite, and whether it was to blame."""

    def hook(layer: torch.nn.Module, inputs: Any, output: Any) -> None:
        if first or _finite(output):
            return
        if not _finite(inputs):
            first.append(f"what enters layer {name}")
        elif not _finite(tuple(layer.parameters(recurse=False))):
            first.append(f"layer {name}, whose weights are not finite")
        else:
            first.append(f"layer {name}")

    return hook


def _finite(values: Any) -> bool:
    """Whether every number of a tensor, or of a tuple, list or mapping of them, is finite."""
    if torch.is_tensor(values):
        return bool(torch.isfinite(values.detach()).all())
    if isinstance(values, dict):
        values = tuple(values.values())
    return all(_finite(value) for value in values) if isinstance(values, tuple | list) else True


def _gradient(model: Any, losses: torch.Tensor) -> str:
    """The weight nearest to the loss whose gradient is not finite, or nothing."""
    named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    # Not backward(): that would start Horovod's hooks.
    grads = torch.autograd.grad(losses.sum(), [weight for _, weight in named], allow_unused=True)
    bad = [name for (name, _), grad in zip(named, grads, strict=True) if grad is not None and not _finite(grad)]
    return f"the gradient of {bad[-1]}" if bad else ""
