"""Samples of unequal length: hits of an event, leptons of a collision, nodes and edges of a graph.

Shape legend: N samples, M elements of all samples together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Ragged:
    """Values of all samples one after another, and where each sample begins.

    Attributes
    ----------
    values : ndarray
        (M, ...), the elements.
    offsets : ndarray
        int64 (N + 1,), rising from 0 to M; sample i is ``values[offsets[i]:offsets[i + 1]]``.
    """

    values: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, rows: slice | np.ndarray) -> Ragged:
        """Chosen samples, in the order given."""
        chosen = np.arange(len(self))[rows]
        return Ragged(self.values[elements(self.offsets, chosen)], ends(self.counts[chosen]))

    @property
    def counts(self) -> np.ndarray:
        """Elements of each sample, int64 (N,)."""
        return np.diff(self.offsets)

    @property
    def dtype(self) -> np.dtype:
        """Of the elements."""
        return self.values.dtype

    @property
    def nbytes(self) -> int:
        """Of values and offsets."""
        return self.values.nbytes + self.offsets.nbytes


def ends(counts: np.ndarray) -> np.ndarray:
    """Offsets (N + 1,) of samples of these lengths (N,)."""
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)


def elements(offsets: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Positions of the elements of chosen samples, one sample after another, int64."""
    counts = offsets[rows + 1] - offsets[rows]
    starts = ends(counts)
    return np.arange(starts[-1]) + np.repeat(offsets[rows] - starts[:-1], counts)


def ragged(samples: Sequence[np.ndarray]) -> Ragged:
    """From one array a sample; all of one type, and equal after the first axis."""
    return Ragged(np.concatenate(samples), ends(np.array([len(sample) for sample in samples], np.int64)))


def concatenate(parts: Sequence[Any]) -> Any:
    """Samples of all parts, one part after another; dense or ragged alike."""
    if isinstance(parts[0], Ragged):
        values = np.concatenate([part.values for part in parts])
        return Ragged(values, ends(np.concatenate([part.counts for part in parts])))
    return np.concatenate(parts)
