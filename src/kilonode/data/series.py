"""A field over all files of a split: rows count through the files.

Shape legend: N rows of all files, M elements of a ragged field, K chunks of all files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kilonode.cases.ragged import Ragged, elements, ends
from kilonode.data.columns import Column, Jagged, Mapped, Packed, Plain, Runs, gather


class Series:
    """One dense dataset in several files.

    Attributes
    ----------
    shape : tuple of int
        Of one row.
    packed : bool
        Whether some file holds it compressed.
    begins : ndarray
        int64 (K,), the first row of each chunk.
    chunk_rows : int
        Of the largest chunk.
    """

    def __init__(self, columns: Sequence[Plain]) -> None:
        parts = [part for column in columns for part in (column.parts if isinstance(column, Runs) else [column])]
        self._columns: list[Mapped | Packed] = parts
        self._starts = ends(np.array([column.shape[0] for column in parts]))
        self._rows = np.array([column.chunk_rows for column in parts])
        counts = -(-np.diff(self._starts) // self._rows)
        self._first = ends(counts)
        numbers = np.arange(self._first[-1]) - np.repeat(self._first[:-1], counts)
        self.begins = np.repeat(self._starts[:-1], counts) + numbers * np.repeat(self._rows, counts)
        self.shape, self.dtype = columns[0].shape[1:], columns[0].dtype
        self.packed = any(isinstance(column, Packed) for column in parts)
        self.chunk_rows = int(self._rows.max())
        self.row_bytes = self.dtype.itemsize * int(np.prod(self.shape))

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def array(self) -> np.ndarray:
        """All rows (N, ...)."""
        return np.concatenate([column.array for column in self._columns])

    def chunks(self, rows: np.ndarray) -> np.ndarray:
        """The chunk of each of these rows, int64."""
        file = np.searchsorted(self._starts, rows, side="right") - 1
        return self._first[file] + (rows - self._starts[file]) // self._rows[file]

    def chunk(self, number: int) -> tuple[Mapped | Packed, int]:
        """The column of a chunk, and its number there."""
        file = int(np.searchsorted(self._first, number, side="right")) - 1
        return self._columns[file], number - int(self._first[file])

    def gather(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Copy chosen rows, int64 (B,) rising, to ``out`` (B, ...)."""
        if len(self._columns) == 1:
            self._columns[0].gather(rows, out)
        else:
            gather(self._columns, self._starts, rows, out)


class Field:
    """A dense or ragged field: a series of rows or of elements.

    Attributes
    ----------
    series : Series
        Where the numbers lie.
    offsets : ndarray or None
        int64 (N + 1,), where each sample's elements begin in the series; None: a row is a sample.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        jagged = [column for column in columns if isinstance(column, Jagged)]
        self.offsets = ends(np.concatenate([np.diff(column.offsets) for column in jagged])) if jagged else None
        self.series = Series([column.values if isinstance(column, Jagged) else column for column in columns])

    @property
    def sample_bytes(self) -> float:
        """Of one sample; of a ragged field the mean."""
        per_sample = 1.0 if self.offsets is None else len(self.series) / max(1, len(self.offsets) - 1)
        return self.series.row_bytes * per_sample

    @property
    def array(self) -> Any:
        """All samples: ndarray or Ragged."""
        return self.series.array if self.offsets is None else Ragged(self.series.array, self.offsets)

    def take(self, rows: np.ndarray) -> Any:
        """Chosen samples, int64 (B,) rising: ndarray or Ragged."""
        return self.gather(rows, None, self.series)

    def gather(self, rows: np.ndarray, out: np.ndarray | None, source: Any) -> Any:
        """Chosen samples, int64 (B,) rising, from the series or from a window over it; dense ones to ``out``."""
        where = rows if self.offsets is None else elements(self.offsets, rows)
        if out is None:
            out = np.empty((len(where), *self.series.shape), self.series.dtype)
        source.gather(where, out)
        return out if self.offsets is None else Ragged(out, ends(self.offsets[rows + 1] - self.offsets[rows]))

    def visits(self, rows: np.ndarray, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which chunk is needed in which step.

        Parameters
        ----------
        rows, steps : ndarray
            int64 (V,): a sample and the step that needs it, by rising step.

        Returns
        -------
        tuple of ndarray
            int64 (W,) twice: chunk and step, by rising step; a sample may lie in several chunks, or in none.
        """
        if self.offsets is None:
            return self.series.chunks(rows), steps
        start, stop = self.offsets[rows], self.offsets[rows + 1]
        some = stop > start
        first, last = self.series.chunks(start[some]), self.series.chunks(stop[some] - 1)
        counts = last - first + 1
        numbers = np.arange(counts.sum()) + np.repeat(first - ends(counts)[:-1], counts)
        return numbers, np.repeat(steps[some], counts)
