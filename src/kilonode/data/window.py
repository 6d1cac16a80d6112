"""Chunks at hand: read and decoded by a few threads ahead of their use, within a number of bytes."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from kilonode.data.columns import Mapped, Packed

T = TypeVar("T")
Chunk = tuple[Mapped | Packed, int]
"""A chunk: its column and its number there."""
FARTHEST = 1024
"""Steps that are looked ahead at most."""


class Window:
    """Holds chunks from before their first use until the room is needed.

    Parameters
    ----------
    budget : int
        Bytes to hold. What the present step needs is held in any case.
    threads : int
        Chunks decoded at once.
    """

    def __init__(self, budget: int, threads: int = 2) -> None:
        self._budget = budget
        self._held: OrderedDict[Chunk, Future[np.ndarray] | None] = OrderedDict()
        self._last: dict[Chunk, int] = {}  # the last step that is known to need a chunk
        self._bytes = self._needed = 0
        self._admitted = self._used = 0  # steps; those in between are pending
        self._pool = ThreadPoolExecutor(threads, "decoder")

    def __enter__(self) -> Window:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def fetch(self, column: Mapped | Packed, number: int) -> np.ndarray | None:
        """A chunk of the present step."""
        waiting = self._held[column, number]
        return waiting.result() if waiting is not None else None

    def ahead(self, steps: Iterable[tuple[list[Chunk], T]]) -> Iterator[T]:
        """Every step in its order; by then its chunks are asked for, and those of later steps as there is room."""
        source, pending = iter(steps), deque[tuple[list[Chunk], T]]()
        while True:
            while len(pending) < FARTHEST and (not pending or self._needed < self._budget):
                if (found := next(source, None)) is None:
                    break
                self._admit(found[0])
                pending.append(found)
            if not pending:
                return
            chunks, step = pending.popleft()
            yield step
            self._needed -= sum(chunk[0].chunk_bytes for chunk in chunks if self._last[chunk] == self._used)
            self._used += 1

    def _admit(self, chunks: list[Chunk]) -> None:
        for chunk in chunks:
            column, number = chunk
            if self._last.get(chunk, -1) < self._used:
                self._needed += column.chunk_bytes
            self._last[chunk] = self._admitted
            if chunk in self._held:
                self._held.move_to_end(chunk)
                continue
            if isinstance(column, Packed):
                self._held[chunk] = self._pool.submit(column.fetch, number)
            else:
                column.fetch(number)
                self._held[chunk] = None
            self._bytes += column.chunk_bytes
        self._admitted += 1
        self._make_room()

    def _make_room(self) -> None:
        while self._bytes > self._budget:
            oldest = next(iter(self._held))
            if self._last[oldest] >= self._used:
                return
            del self._held[oldest], self._last[oldest]
            oldest[0].release(oldest[1])
            self._bytes -= oldest[0].chunk_bytes
