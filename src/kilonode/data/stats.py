"""Mean and spread of a field in one pass, mergeable in any grouping.

Shape legend: N samples, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from kilonode.errors import DataError

BLOCK_BYTES = 512 << 10
"""As float64 a block is twice as much: what a core keeps in its level-2 cache."""


@dataclass(frozen=True)
class Stats:
    """Sums of one field over some samples; all arrays float64 (C,).

    ``count`` values a channel, their ``mean``, ``m2`` = sum of squared deviations, ``minimum``, ``maximum``.
    """

    count: int
    mean: np.ndarray
    m2: np.ndarray
    minimum: np.ndarray
    maximum: np.ndarray

    @property
    def std(self) -> np.ndarray:
        """Population standard deviation, (C,)."""
        return np.sqrt(self.m2 / max(self.count, 1))

    @property
    def rms(self) -> np.ndarray:
        """Root mean square, (C,): the scale that keeps zero at zero."""
        return np.sqrt(self.m2 / max(self.count, 1) + self.mean**2)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers; Python's floats keep every bit through JSON."""
        arrays = {name: getattr(self, name).tolist() for name in ("mean", "m2", "minimum", "maximum")}
        return {"count": self.count, **arrays}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Stats:
        """What ``to_json`` gave."""
        arrays = {name: np.asarray(content[name], np.float64) for name in ("mean", "m2", "minimum", "maximum")}
        return cls(count=int(content["count"]), **arrays)


def measure(values: np.ndarray) -> Stats:
    """Statistics of one block.

    Parameters
    ----------
    values : ndarray
        (N, C, ...); (N,) and images (N, H, W) have one channel. N may be 0.
    """
    channels = 1 if values.ndim in (1, 3) else values.shape[1]
    if values.size == 0:
        nothing = np.zeros(channels)
        return Stats(0, nothing, nothing, np.full(channels, np.inf), np.full(channels, -np.inf))
    x = np.moveaxis(values.reshape(len(values), channels, -1), 1, 0).reshape(channels, -1).astype(np.float64)
    mean = x.mean(axis=1)
    return Stats(x.shape[1], mean, ((x - mean[:, None]) ** 2).sum(axis=1), x.min(axis=1), x.max(axis=1))


def measure_all(values: np.ndarray, transform: Callable[[np.ndarray], np.ndarray]) -> Stats:
    """Statistics of ``transform(values)``, in one pass over blocks of rows that stay in the processor's cache.

    The blocks depend on the shape alone, so the bits do, too.
    """
    rows = max(1, BLOCK_BYTES // max(values[:1].nbytes, 1))
    blocks = (values[start : start + rows] for start in range(0, max(len(values), 1), rows))
    return reduce(merge, (measure(transform(block)) for block in blocks))


def merge(a: Stats, b: Stats) -> Stats:
    """Combine the statistics of two disjoint sets of samples.

    Exact up to rounding: merging in any order or grouping gives the same result within 1e-12 relative, so
    shards may be reduced as they come. A count of 0 is the identity.

    Raises
    ------
    DataError
        The channel counts differ: "expected 3 channels, got 5 ...".

    Source
    ------
    Chan, Golub, LeVeque 1983, The American Statistician 37, 242, eq. 2.1; compared with a two-pass sum in tests.
    """
    if len(a.mean) != len(b.mean):
        raise DataError(f"expected {len(a.mean)} channels, got {len(b.mean)} (statistics of two shards)")
    if a.count == 0 or b.count == 0:
        return b if a.count == 0 else a
    count = a.count + b.count
    delta = b.mean - a.mean
    return Stats(
        count=count,
        mean=a.mean + delta * (b.count / count),
        m2=a.m2 + b.m2 + delta**2 * (a.count * b.count / count),
        minimum=np.minimum(a.minimum, b.minimum),
        maximum=np.maximum(a.maximum, b.maximum),
    )
