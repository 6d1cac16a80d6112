"""Shuffled batches for every rank, read ahead by a thread.

Global batch k is rows ``k*B .. (k+1)*B`` of the epoch's order and every rank takes its own slice, so one rank or a
thousand see the same batches, and a position is two numbers: epoch and step.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from kilonode.data.columns import aligned
from kilonode.data.order import order
from kilonode.data.shares import part
from kilonode.data.store import Store
from kilonode.data.window import Window

WINDOW_BYTES = 256 << 20
"""Held at hand by all ranks together; ``training.window_mb`` says otherwise."""
AHEAD = 2
"""Batches prepared in advance."""
DECODERS = min(4, len(os.sched_getaffinity(0)))
"""Threads that decompress."""


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
        self._parts = {name: store.field(name) for name in fields}
        self._sample_bytes = max(1, int(sum(part.sample_bytes for part in self._parts.values())))

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
            first, last = part(len(whole), self._rank, self._size)
            yield np.sort(whole[first:last]), len(whole)  # their order means nothing to a batch, much to a disk

    def epoch(self, epoch: int, start: int = 0) -> Generator[Share, None, None]:
        """Batches of one epoch from step ``start`` on, read ahead by a thread that ends with the loop."""
        yield from self.epochs(epoch, start, epoch + 1)

    def epochs(self, first: int, start: int = 0, end: int | None = None) -> Generator[Share, None, None]:
        """Batches of epoch ``first`` from step ``start`` on, and of all before ``end``; no pause between epochs."""
        numbers = count(first) if end is None else range(first, end)
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
                for number in numbers:
                    with closing(self._read(number, start if number == first else 0)) as shares:
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
        shares = list(self.shares(epoch, start))
        if not shares:
            return
        rows = np.concatenate([share for share, _ in shares])
        steps = np.repeat(np.arange(len(shares)), [len(share) for share, _ in shares])
        most = max(len(share) for share, _ in shares)
        turns = [self._buffers(most) for _ in range(AHEAD + 2)]
        with ThreadPoolExecutor(DECODERS, "decoder") as pool:
            windows = {}
            for name, part in self._parts.items():
                budget = int(self._window_bytes / self._size * part.sample_bytes / self._sample_bytes)
                windows[name] = Window(part, rows, steps, budget, pool)
            for step, (own, whole) in enumerate(shares):
                fields = {}
                for name, part in self._parts.items():
                    windows[name].advance(step)
                    out = turns[step % len(turns)].get(name)
                    fields[name] = part.gather(own, None if out is None else out[: len(own)], windows[name])
                yield Share(own, fields, whole)

    def _buffers(self, most: int) -> dict[str, np.ndarray]:
        """Room for the dense fields of one share."""
        return {
            name: aligned((most, *part.series.shape), part.series.dtype)
            for name, part in self._parts.items()
            if part.offsets is None
        }
