"""Layers every case may use: periodic padding, counter-based random numbers, denoising corruption.

Not here: whole networks (a case's ``models``), and losses.

Shape legend: B batch, C channels, H rows, W columns, n numbers a sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # int64 has the same bits as the unsigned constants of the source
_MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
_MIX_2 = 0x94D049BB133111EB - 2**64


def pad_periodic(
    x: torch.Tensor, pad: Sequence[int | tuple[int, int]], axes: Sequence[int], mode_other: str = "zero"
) -> torch.Tensor:
    """Pad the last axes of ``x``, going around on those that close on themselves.

    With it a convolution obeys ``f(roll(x, s)) == roll(f(x), s / stride)`` for any shift ``s`` that is a multiple
    of the stride, so an object at the seam is treated as one anywhere else. A halo from a neighbour rank is the
    same operation.

    Parameters
    ----------
    x : Tensor (B, C, ...)
        One, two, three or more axes after the channels.
    pad : sequence of int or (before, after)
        One entry for each of the last ``len(pad)`` axes of ``x``, in their order. May exceed the axis.
    axes : sequence of int
        The axes of ``x`` that are periodic, negative or not.
    mode_other : {"zero", "edge"}
        What stands beyond the end of the other axes: zeros, or the last value again.

    Returns
    -------
    Tensor
        ``x`` with each of those axes longer by before + after.

    Raises
    ------
    ValueError
        "mode_other needs 'zero' or 'edge', got 'wrap'".
    """
    if mode_other not in ("zero", "edge"):
        raise ValueError(f"mode_other needs 'zero' or 'edge', got {mode_other!r}")
    periodic = {axis % x.ndim for axis in axes}
    for axis, amount in enumerate(pad, start=x.ndim - len(pad)):
        before, after = (amount, amount) if isinstance(amount, int) else amount
        if before == after == 0:
            continue
        size = x.shape[axis]
        if axis in periodic and max(before, after) <= size:  # slices are about twice as fast as an index list
            x = _Around.apply(x, axis, before, after)  # type: ignore[no-untyped-call]
        elif axis in periodic or mode_other == "edge":
            index = torch.arange(-before, size + after, device=x.device)
            x = x.index_select(axis, index % size if axis in periodic else index.clamp(0, size - 1))
        else:
            x = functional.pad(x, [0, 0] * (x.ndim - 1 - axis) + [before, after])
    return x


class _Around(torch.autograd.Function):
    """One axis with its ends repeated beyond each other.

    Left to autograd, the gradient of each slice becomes a whole tensor of zeros first: with its own, a bf16 step of a
    128-filter autoencoder takes 83 ms instead of 97 (one thread).
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: torch.Tensor, axis: int, before: int, after: int) -> torch.Tensor:
        size = x.shape[axis]
        return torch.cat([x.narrow(axis, size - before, before), x, x.narrow(axis, 0, after)], axis)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        ctx.axis, ctx.before, ctx.after = inputs[1:]

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        (grad,), axis, before, after = grads, ctx.axis, ctx.before, ctx.after
        size = grad.shape[axis] - before - after
        whole = grad.narrow(axis, before, size).clone(memory_format=_layout(grad))
        whole.narrow(axis, size - before, before).add_(grad.narrow(axis, 0, before))
        whole.narrow(axis, 0, after).add_(grad.narrow(axis, before + size, after))
        return whole, None, None, None


def _layout(x: torch.Tensor) -> torch.memory_format:
    """Channels last if that is how ``x`` lies."""
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.ndim, torch.contiguous_format)
    return last if x.is_contiguous(memory_format=last) else torch.contiguous_format


class PeriodicConv2d(nn.Module):
    """Convolution that keeps the size (stride 1) and may go around the last axis.

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    kernel : int
        Width and height of the kernel; odd.
    stride : int
        As in ``torch.nn.Conv2d``.
    periodic : bool
        True: circular along the last axis, zeros beyond the other. False: zeros beyond both.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, periodic: bool = True) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel needs an odd size to keep the width, got {kernel}")
        self.pad = kernel // 2
        self.periodic = periodic
        # Zeros are left to the convolution, which pads without a copy.
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=(self.pad, 0 if periodic else self.pad))

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """(B, inputs, H, W) -> (B, outputs, ceil(H / stride), ceil(W / stride))."""
        out: torch.Tensor = self.conv(pad_periodic(x_BCHW, (self.pad,), axes=(-1,)) if self.periodic else x_BCHW)
        return out


def uniform(key: torch.Tensor, n: int) -> torch.Tensor:
    """``n`` random numbers for each key, a pure function of the key.

    What a sample gets does not depend on the batch it is in, on the rank, or on what was drawn before; a resumed
    run needs no generator state.

    Parameters
    ----------
    key : int64 (B,)
        Any values; close keys give unrelated numbers.
    n : int
        Numbers for each key.

    Returns
    -------
    float32 (B, n)
        In [0, 1), multiples of 2**-24.

    Source
    ------
    SplitMix64: Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators", OOPSLA, with the
    finalizer of Vigna's public-domain splitmix64.c (prng.di.unimi.it). The state is the mixed key, output i is
    that generator's i-th. Compared with plain Python integers in the tests.
    """
    step = torch.arange(1, n + 1, dtype=torch.int64, device=key.device) * _GOLDEN
    bits = _mix(_mix(key + _GOLDEN)[:, None] + step)
    return (_shift(bits, 40)).to(torch.float32) * 2.0**-24


def _shift(z: torch.Tensor, by: int) -> torch.Tensor:
    """Logical shift right: torch's is arithmetic, and the sign bit must not be copied."""
    return (z >> by) & ((1 << (64 - by)) - 1)


def _mix(z: torch.Tensor) -> torch.Tensor:
    """SplitMix64's finalizer; int64 products wrap, as the unsigned ones of the source do."""
    z = (z ^ _shift(z, 30)) * _MIX_1
    z = (z ^ _shift(z, 27)) * _MIX_2
    return z ^ _shift(z, 31)


class Corruption(nn.Module):
    """Set a share of the pixels to zero in training, for a denoising autoencoder.

    Never rescales by 1 / (1 - rate), as dropout would: kept pixels mean the same in training and at inference.
    Does nothing in evaluation mode. Belongs where zero means "nothing seen": before any shift of the scale.

    Parameters
    ----------
    rate : float
        Probability that a pixel is zeroed, [0, 1).
    per_channel : bool
        True: each channel has its own mask. False: one mask for all channels of a sample.
    """

    def __init__(self, rate: float, per_channel: bool = False) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"corruption rate needs 0 <= rate < 1, got {rate}")
        self.rate = rate
        self.per_channel = per_channel

    def forward(self, x: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        """Corrupt ``x`` (B, C, ...) with a mask that is a pure function of ``key`` (B,)."""
        if not self.training or self.rate == 0:
            return x
        masked = x.shape[1:] if self.per_channel else (1, *x.shape[2:])
        keep = uniform(key, int(torch.Size(masked).numel())) >= self.rate
        return x * keep.view(-1, *masked)
