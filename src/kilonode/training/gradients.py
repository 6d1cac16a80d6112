"""Gradients of one global batch: shares of any size, in any number of pieces, are as good as one rank with all.

Shape legend: B samples of this rank, P of one of its pieces.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from kilonode.cases.contract import Batch
from kilonode.comm import Comm
from kilonode.data.loader import Share
from kilonode.training.batch_norm import BatchNorm
from kilonode.training.noise import LocalNorm, NoiseSums
from kilonode.training.timing import Timing

ToBatch = Callable[[Share], Batch]


def keys(seed: int, epoch: int, rows: np.ndarray) -> np.ndarray:
    """A 64-bit key of each sample in each epoch, int64 (B,): the same on whichever rank the sample falls."""
    base = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0]
    with np.errstate(over="ignore"):
        mixed = base + rows.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)  # odd: a bijection of 64 bits
    return mixed.view(np.int64)


def pieces(share: Share, count: int) -> list[Share]:
    """A rank's share in ``count`` pieces whose sizes differ by one at most; some are empty where there are too few."""
    ends = [len(share.rows) * k // count for k in range(count + 1)]
    return [
        Share(share.rows[a:b], {name: values[a:b] for name, values in share.fields.items()}, share.global_size)
        for a, b in pairwise(ends)
    ]


class Gradients:
    """Computes the gradient of the mean loss of a global batch, the same on every rank.

    The loss is divided by the samples of all ranks and gradients are added, so N ranks with b samples each give the
    gradient of one rank with N*b, however unequal the shares; pieces are added before ranks are.

    Parameters
    ----------
    model : contract.Model
        The network.
    optimizer : torch.optim.Optimizer
        As ``comm.distribute`` made it, with ``accumulate`` passes.
    comm : Comm
        The ranks.
    layers : list of BatchNorm
        What in the network adds over ranks.
    accumulate : int
        Pieces of each rank's share, one forward and backward pass each.
    """

    def __init__(
        self, model: Any, optimizer: torch.optim.Optimizer, comm: Comm, layers: list[BatchNorm], accumulate: int
    ) -> None:
        self._model, self._optimizer, self._comm = model, optimizer, comm
        self._layers, self._accumulate = layers, accumulate

    def compute(self, share: Share, to_batch: ToBatch, timing: Timing, noise: NoiseSums | None) -> tuple[float, float]:
        """Fill every ``.grad``.

        Parameters
        ----------
        share : Share
            This rank's samples.
        to_batch : function
            From a share to tensors.
        timing : Timing
            Told how long it waited for other ranks.
        noise : NoiseSums, optional
            Filled, if given.

        Returns
        -------
        (float, float)
            Sum of the losses of this rank's samples; norm of the gradient, the same bits on every rank.
        """
        self._optimizer.zero_grad()
        total = 0.0
        for piece in pieces(share, self._accumulate):
            losses = self._loss(piece, to_batch)
            local = LocalNorm(self._model.parameters()) if noise is not None and len(piece.rows) else None
            with local or contextlib.nullcontext():
                (losses / share.global_size).backward()  # type: ignore[no-untyped-call]
            if local is not None and noise is not None:
                noise.part(local.square * (share.global_size / len(piece.rows)) ** 2, len(piece.rows))
            total += losses.item()
        before = time.perf_counter()
        self._comm.synchronise(self._optimizer)
        timing.communication += time.perf_counter() - before
        grads = [weight.grad for weight in self._model.parameters() if weight.grad is not None]
        norm = torch.nn.utils.get_total_norm(grads).item()
        if noise is not None and self._comm.is_root:
            noise.whole(norm**2, share.global_size)
        return total, norm

    def clip(self, norm: float, limit: float) -> None:
        """Shorten the gradient, whose norm is known, to at most ``limit``."""
        if norm + 1e-6 > limit:  # else torch would multiply by one
            torch.nn.utils.clip_grads_with_norm_(self._model.parameters(), limit, torch.tensor(norm))

    def _loss(self, piece: Share, to_batch: ToBatch) -> torch.Tensor:
        """Sum of the losses of a piece; a zero with zero gradients where there is nothing (a short last batch)."""
        if len(piece.rows):
            return self._model.losses(to_batch(piece)).sum()
        if not self._layers:  # torch has layers that do not run on nothing
            return torch.stack([weight.sum() for weight in self._model.parameters()]).sum() * 0.0
        ghost = Share(
            np.zeros(1, np.int64), {name: _one(values) for name, values in piece.fields.items()}, piece.global_size
        )
        for layer in self._layers:
            layer.ghost = True
        try:
            return self._model.losses(to_batch(ghost)).sum() * 0.0
        finally:
            for layer in self._layers:
                layer.ghost = False


def _one(values: np.ndarray) -> np.ndarray:
    """One sample of zeros, of the shape of these (0, ...)."""
    return np.zeros((1, *values.shape[1:]), values.dtype)
