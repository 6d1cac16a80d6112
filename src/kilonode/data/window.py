"""The part of a field that is at hand: what the next steps need is read, or decoded, before they ask.

The steps of an epoch are known in advance, so for every chunk its first and its last use are too. Bare data stay in
the map: the system is asked to read ahead. Compressed chunks are decoded by a few threads into one array whose places
are used again.

Shape legend: K chunks, S places.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from kilonode.data.columns import Mapped, aligned, opaque
from kilonode.data.series import Field


class Window:
    """A field, seen step by step.

    Parameters
    ----------
    field : Field
        The field.
    rows, steps : ndarray
        int64 (V,): every sample that will be asked for, and in which step, by rising step.
    budget : int
        Bytes to have at hand; what the present step needs is at hand in any case.
    pool : ThreadPoolExecutor
        Who decodes.
    """

    def __init__(
        self, field: Field, rows: np.ndarray, steps: np.ndarray, budget: int, pool: ThreadPoolExecutor
    ) -> None:
        self._series, self._pool = field.series, pool
        chunks, when = field.visits(rows, steps)
        self._chunks, first = np.unique(chunks, return_index=True)
        _, last = np.unique(chunks[::-1], return_index=True)
        self._first, self._last = when[first], when[::-1][last]
        self._coming, self._going = np.argsort(self._first, kind="stable"), np.argsort(self._last, kind="stable")
        self._come = self._gone = 0
        chunk_bytes = max(1, self._series.chunk_rows * self._series.row_bytes)
        self._places = min(len(self._chunks), max(self._most(), budget // chunk_bytes))
        if self._series.packed:
            self._make_arena()

    def _most(self) -> int:
        """Chunks that are needed at a time."""
        come = np.searchsorted(np.sort(self._first), self._first, side="right")
        gone = np.searchsorted(np.sort(self._last), self._first)
        return int((come - gone).max(initial=1))

    def _make_arena(self) -> None:
        series = self._series
        self._arena = aligned((self._places, series.chunk_rows, *series.shape), series.dtype)
        self._items = opaque(self._arena.reshape(-1, *series.shape))
        self._free = list(range(self._places))
        self._place = np.full(len(series.begins), -1)
        self._waiting: dict[int, Future[None]] = {}

    def advance(self, step: int) -> None:
        """Let go of what no step from this one on needs, and ask for what comes, as far as there is room."""
        while self._gone < self._come and self._last[self._going[self._gone]] < step:
            if self._series.packed:
                self._free.append(int(self._place[self._chunks[self._going[self._gone]]]))
            self._gone += 1
        while self._come < len(self._chunks) and self._come - self._gone < self._places:
            self._fetch(int(self._chunks[self._coming[self._come]]))
            self._come += 1

    def _fetch(self, chunk: int) -> None:
        column, number = self._series.chunk(chunk)
        if not self._series.packed:
            assert isinstance(column, Mapped)
            column.fetch(number)
            return
        place = self._free.pop()
        self._place[chunk] = place
        self._waiting[chunk] = self._pool.submit(column.decode, number, self._arena[place, : column.chunk_rows])

    def gather(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Copy rows of the series, int64 (B,) rising and of the present step, to ``out`` (B, ...)."""
        if not self._series.packed:
            self._series.gather(rows, out)
            return
        chunks = self._series.chunks(rows)
        for chunk in np.unique(chunks).tolist():
            if chunk in self._waiting:
                self._waiting.pop(chunk).result()
        places = self._place[chunks] * self._series.chunk_rows + rows - self._series.begins[chunks]
        np.take(self._items, places, out=opaque(out), mode="clip")
