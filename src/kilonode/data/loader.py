"""Shuffled batches for every rank, read ahead by a thread.

Global batch k is rows ``k*B .. (k+1)*B`` of the epoch's order and every rank takes its own slice, so one rank or a
thousand see the same batches, and a position is two numbers: epoch and step.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from kilonode.data.order import order
from kilonode.data.store import Store
from kilonode.data.window import Chunk, Window

WINDOW_BYTES = 256 << 20
"""Held at hand by all ranks together, unless ``training.window_mb`` says otherwise."""
AHEAD = 2
"""Batches prepared in advance."""


@dataclass(frozen=True)
class Share:
    """One rank's part of one global batch.

    ``rows`` (B,) in the split, rising; the ``fields`` there, arrays or ``Ragged``, which are valid until the next
    share is asked for; and the batch's full size.
    """

    rows: np.ndarray
    fields: dict[str, Any]
    global_size: int


class Loader:
    """Batches of one split for one rank.

    Parameters
    ----------
    store : Store
        The split.
    fields : list of str
        Fields to read.
    batch : int
        Samples of a global batch, all ranks together.
    seed : int
        Of the order.
    rank, size : int
        Which share: ranks get equal slices, or sizes that differ by one.
    shuffle : bool
        False: store order.
    window_bytes : int
        What all ranks together may hold at hand; the order depends on it.
    """

    def __init__(
        self,
        store: Store,
        fields: list[str],
        batch: int,
        seed: int,
        rank: int = 0,
        size: int = 1,
        shuffle: bool = True,
        window_bytes: int = WINDOW_BYTES,
    ) -> None:
        self._store, self._fields, self._batch, self._seed = store, fields, batch, seed
        self._rank, self._size, self._shuffle, self._window_bytes = rank, size, shuffle, window_bytes
        self._sample_bytes = store.sample_bytes(fields)
        self._dense = {name: store.fields[name] for name in fields if store.fields[name].get("layout") != "ragged"}

    @property
    def steps(self) -> int:
        """Global batches an epoch, the last one perhaps short; the same on every rank."""
        return -(-self._store.rows // self._batch)

    def shares(self, epoch: int, start: int = 0) -> Iterator[tuple[np.ndarray, int]]:
        """Rows of this rank in each global batch from ``start`` on, with the batch's full size. Reads nothing."""
        visits = np.arange(self._store.rows)
        if self._shuffle:
            extents, window = self._store.extents, self._window_bytes
            visits = order(extents, self._sample_bytes, self._batch, window, self._seed, epoch)
        for step in range(start, self.steps):
            whole = visits[step * self._batch : (step + 1) * self._batch]
            first, last = (len(whole) * k // self._size for k in (self._rank, self._rank + 1))
            yield np.sort(whole[first:last]), len(whole)  # their order means nothing to a batch, much to a disk

    def epoch(self, epoch: int, start: int = 0) -> Generator[Share, None, None]:
        """Batches of one epoch from step ``start`` on, read ahead by a thread that ends with the loop."""
        ready: queue.Queue[Share | BaseException | None] = queue.Queue(maxsize=AHEAD)
        ended = threading.Event()

        def offer(item: Share | BaseException | None) -> bool:
            while not ended.is_set():
                try:
                    ready.put(item, timeout=0.1)
                except queue.Full:
                    continue
                return True
            return False

        def fill() -> None:
            try:
                with closing(self._read(epoch, start)) as shares:
                    for share in shares:
                        if not offer(share):
                            return
                offer(None)
            except BaseException as error:  # handed to the consumer, which raises it
                offer(error)

        reader = threading.Thread(target=fill, name="loader", daemon=True)
        reader.start()
        try:
            while (item := ready.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            ended.set()
            reader.join()

    def _read(self, epoch: int, start: int) -> Generator[Share, None, None]:
        """The shares with their fields. Buffers are used in turn: given out, waiting in the queue, being filled."""
        largest = -(-self._batch // self._size)
        turns = [
            {name: np.empty((largest, *spec["shape"]), spec["dtype"]) for name, spec in self._dense.items()}
            for _ in range(AHEAD + 2)
        ]
        with Window(self._window_bytes // self._size) as window:
            for number, (rows, whole) in enumerate(window.ahead(self._chunks(epoch, start))):
                turn = {name: buffer[: len(rows)] for name, buffer in turns[number % len(turns)].items()}
                fields = {name: self._store.gather(name, rows, turn.get(name), window.fetch) for name in self._fields}
                yield Share(rows, fields, whole)

    def _chunks(self, epoch: int, start: int) -> Iterator[tuple[list[Chunk], tuple[np.ndarray, int]]]:
        for rows, whole in self.shares(epoch, start):
            yield [chunk for name in self._fields for chunk in self._store.chunks(name, rows)], (rows, whole)
