"""Batch normalisation over the samples of all ranks, as if they were one batch on one rank.

A case uses ``torch.nn.BatchNorm1d``, ``2d`` or ``3d``; the engine replaces them before it trains. At inference both
are the same. Shape legend: B batch, C channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from kilonode.comm import Comm


class BatchNorm(_BatchNorm):
    """``torch.nn.BatchNormNd`` whose mean and variance are those of the samples of all ranks.

    Every rank must run it equally often: it adds over ranks in both directions. A rank without samples runs a
    ``ghost``: one sample of any values that counts as none.

    Attributes
    ----------
    comm : Comm
        The ranks.
    ghost : bool
        The batch is there to take part only; neither its values nor its gradients count.

    Source
    ------
    Ioffe, Szegedy 2015, arXiv:1502.03167, with sums over all ranks; compared with torch's on the whole batch.
    """

    comm: Comm = Comm()
    ghost: bool = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, ...) -> the same shape."""
        if not self.training and self.running_mean is not None:
            return super().forward(x)
        out, mean_C, variance_C, count = _Normalise.apply(x, self.weight, self.bias, self)  # type: ignore[no-untyped-call]
        if self.training and self.running_mean is not None and self.running_var is not None:
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
            part = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            unbiased_C = variance_C * (count / (count - 1).clamp(min=1))
            self.running_mean.lerp_(mean_C.to(self.running_mean.dtype), part)
            self.running_var.lerp_(unbiased_C.to(self.running_var.dtype), part)
        return out

    def _check_input_dim(self, input: torch.Tensor) -> None:
        """Any number of axes after the channels."""


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps) * weight + bias, and its gradient; sums in float64, one message each way."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, layer: BatchNorm
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        axes = [axis for axis in range(x.ndim) if axis != 1]
        wide = x if x.dtype == torch.float64 else x.float()
        variance_C, mean_C = (part.double() for part in torch.var_mean(wide, axes, correction=0))
        own = 0 if layer.ghost else x.numel() // x.shape[1]
        # Chan et al. 1983: squares about each rank's own mean, so that a large mean costs no digits twice.
        sums = _added(layer.comm, own, mean_C * own, (variance_C + mean_C**2) * own, drop=layer.ghost)
        count = sums[0][0]
        mean_C = sums[1] / count
        spread_C = (sums[2] / count - mean_C**2).clamp(min=0)
        scale_C = (spread_C + layer.eps).rsqrt()
        seen = [1, -1] + [1] * (x.ndim - 2)
        normal = (wide - mean_C.to(wide.dtype).view(seen)) * scale_C.to(wide.dtype).view(seen)
        ctx.save_for_backward(normal, scale_C, weight)
        ctx.axes, ctx.seen, ctx.count, ctx.layer, ctx.ghost = axes, seen, count, layer, layer.ghost
        out = normal if weight is None else normal * weight.view(seen)
        out = out if bias is None else out + bias.view(seen)
        ctx.mark_non_differentiable(mean_C, spread_C, count)
        return out.to(x.dtype), mean_C, spread_C, count

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor, *others: Any) -> tuple[torch.Tensor | None, ...]:
        normal, scale_C, weight = ctx.saved_tensors
        narrow = grad.dtype
        grad = grad.to(normal.dtype)
        own_bias_C = grad.sum(ctx.axes)
        own_weight_C = (grad * normal).sum(ctx.axes)
        _, bias_C, weight_C = _added(ctx.layer.comm, 0, own_bias_C.double(), own_weight_C.double(), drop=ctx.ghost)
        through = grad
        if not ctx.ghost:
            mean = (bias_C / ctx.count).to(grad.dtype).view(ctx.seen)
            slope = (weight_C / ctx.count).to(grad.dtype).view(ctx.seen)
            through = grad - mean - normal * slope
        through = through * scale_C.to(grad.dtype).view(ctx.seen)
        through = through if weight is None else through * weight.view(ctx.seen)
        own = (None, None) if weight is None else (own_weight_C, own_bias_C)
        return through.to(narrow), *own, None


def _added(
    comm: Comm, count: int, first: torch.Tensor, second: torch.Tensor, drop: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A count (1,) and two rows (C,), float64, summed over ranks; with ``drop`` this rank's are zeros."""
    sums = np.concatenate([[float(count)], first.cpu().numpy(), second.cpu().numpy()])
    if drop:
        sums[:] = 0.0
    comm.add(sums)
    total = torch.from_numpy(sums).to(first.device)
    return total[:1], total[1 : 1 + len(first)], total[1 + len(first) :]


def synchronise(model: torch.nn.Module, comm: Comm) -> list[BatchNorm]:
    """Replace every batch normalisation below ``model``; weights, running values and their names stay.

    Returns
    -------
    list of BatchNorm
        Those now in the model, in its order; empty for most networks.
    """
    found = []
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm) and not isinstance(child, BatchNorm):
                layer = BatchNorm(
                    child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats
                )
                layer._parameters, layer._buffers = child._parameters, child._buffers
                layer.train(child.training)
                setattr(parent, name, layer)
                child = layer
            if isinstance(child, BatchNorm):
                child.comm = comm
                found.append(child)
    return found
