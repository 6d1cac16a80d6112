"""How large a batch pays: the gradient noise scale, from norms that a data-parallel step has anyway."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields

import torch


def measured_every(steps: int) -> int:
    """Steps between two measurements in an epoch of so many: about 20 an epoch, and no more than each tenth step.

    One costs the norm of a gradient on each rank, and no message.
    """
    return max(1, min(10, steps // 20))


@dataclass
class NoiseSums:
    """Sums over measured steps. ``small_*`` are this rank's parts and add over ranks; ``big_*`` are rank 0's.

    A part is what one rank gave in one backward pass: b samples whose mean gradient has norm |g|.
    """

    small_square: float = 0.0
    small_inverse: float = 0.0
    small_count: float = 0.0
    big_square: float = 0.0
    big_inverse: float = 0.0
    big_count: float = 0.0

    def part(self, square: float, samples: int) -> None:
        """A part of ``samples`` samples whose mean gradient has this squared norm."""
        self.small_square += square
        self.small_inverse += 1 / samples
        self.small_count += 1

    def whole(self, square: float, samples: int) -> None:
        """A global batch of ``samples`` samples whose mean gradient has this squared norm."""
        self.big_square += square
        self.big_inverse += 1 / samples
        self.big_count += 1

    def values(self) -> list[float]:
        """All sums, to be added over ranks."""
        return [getattr(self, item.name) for item in fields(self)]

    def scale(self) -> float | None:
        """The noise scale, see ``noise_scale``; None without parts smaller than the batch, or without a signal.

        Uneven parts are exact: averages over parts, of |g|^2 and of 1/b, stand for the paper's norm and 1/B_small.
        """
        if not self.small_count or not self.big_count:
            return None
        found = noise_scale(
            self.small_square / self.small_count,
            self.big_square / self.big_count,
            self.small_inverse / self.small_count,
            self.big_inverse / self.big_count,
        )
        return found


def noise_scale(small_square: float, big_square: float, small_inverse: float, big_inverse: float) -> float | None:
    """Simple noise scale tr(Sigma) / |G|^2, in samples: beyond it a larger batch brings little.

    With mean squared norms of mean gradients over b and over B samples,
    ``S = (|g_b|^2 - |g_B|^2) / (1/b - 1/B)`` estimates tr(Sigma) and ``G2 = |g_B|^2 - S / B`` estimates |G|^2,
    both without bias; their ratio is biased unless both are averaged over many steps first.

    Parameters
    ----------
    small_square, big_square : float
        Mean squared norms.
    small_inverse, big_inverse : float
        1/b and 1/B.

    Returns
    -------
    float or None
        None where b = B, or where |G|^2 is lost in noise (estimate not positive).

    Source
    ------
    McCandlish et al. 2018, "An empirical model of large-batch training", arXiv:1812.06162, appendix A.1; tested on a
    quadratic with known noise.
    """
    if math.isclose(small_inverse, big_inverse, rel_tol=1e-9):
        return None
    variance = (small_square - big_square) / (small_inverse - big_inverse)
    signal = big_square - variance * big_inverse
    return max(variance, 0.0) / signal if signal > 0 and math.isfinite(variance) else None


def too_large(batch: int, scale: float) -> str:
    """What to tell somebody whose batch is above the noise scale."""
    return (
        f"a batch of {batch} is above the gradient noise scale of {scale:.3g} samples: "
        "a smaller one would learn as much from fewer samples"
    )


class LocalNorm:
    """Squared norm of what one backward pass on this rank adds to the gradients, before anybody reduces them.

    A context around ``backward``; torch calls a hook on each weight with the pass's whole gradient, before it is
    added to ``.grad``.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        self._parameters = list(parameters)
        self._squares: list[torch.Tensor] = []

    def __enter__(self) -> LocalNorm:
        wanted = [weight for weight in self._parameters if weight.requires_grad]
        self._hooks = [weight.register_hook(self._see) for weight in wanted]  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _see(self, grad: torch.Tensor) -> None:
        self._squares.append(grad.detach().double().square().sum())

    @property
    def square(self) -> float:
        """Squared norm, of the pass that ended."""
        return float(torch.stack(self._squares).sum()) if self._squares else 0.0
