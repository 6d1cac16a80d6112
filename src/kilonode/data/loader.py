"""Shuffled batches for every rank, read ahead by a thread.

The visiting order is a pure function of (seed, epoch): it knows nothing of ranks. Global batch k is rows
``k*B .. (k+1)*B`` of that order and every rank takes its own slice, so one rank or a thousand see the same
batches, and a position is two numbers: epoch and step.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np

from kilonode.data.store import Store

BLOCK_BYTES = 1 << 20
"""Rows are visited in blocks of about this size, read at the speed of the disk ..."""
WINDOW_BYTES = 256 << 20
"""... and mixed inside windows of about this size. A data set smaller than one window is shuffled perfectly."""
AHEAD = 2
"""Batches prepared in advance."""


@dataclass(frozen=True)
class Share:
    """One rank's part of one global batch: ``rows`` (B,) in the split, the fields there, and the batch's full size."""

    rows: np.ndarray
    fields: dict[str, np.ndarray]
    global_size: int


def order(rows: int, sample_bytes: int, seed: int, epoch: int) -> np.ndarray:
    """Rows in the order of one epoch: random blocks, mixed inside windows of many blocks.

    Returns
    -------
    ndarray
        int64 (rows,), a permutation; the same for the same arguments.
    """
    rng = np.random.default_rng([seed, epoch])
    block = max(64, BLOCK_BYTES // max(sample_bytes, 1))
    starts = rng.permutation(np.arange(0, rows, block))
    per_window = max(1, WINDOW_BYTES // (block * max(sample_bytes, 1)))
    windows = [
        np.concatenate([np.arange(start, min(start + block, rows)) for start in starts[k : k + per_window]])
        for k in range(0, len(starts), per_window)
    ]
    return np.concatenate([rng.permutation(window) for window in windows])


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
    """

    def __init__(
        self, store: Store, fields: list[str], batch: int, seed: int, rank: int = 0, size: int = 1, shuffle: bool = True
    ) -> None:
        self._store, self._fields, self._batch, self._seed = store, fields, batch, seed
        self._rank, self._size, self._shuffle = rank, size, shuffle
        self._sample_bytes = sum(
            int(np.prod(store.fields[name]["shape"])) * np.dtype(store.fields[name]["dtype"]).itemsize
            for name in fields
        )

    @property
    def steps(self) -> int:
        """Global batches an epoch, the last one perhaps short; the same on every rank."""
        return -(-self._store.rows // self._batch)

    def shares(self, epoch: int, start: int = 0) -> Iterator[tuple[np.ndarray, int]]:
        """Rows of this rank in each global batch from ``start`` on, with the batch's full size. Reads nothing."""
        rows = self._store.rows
        visits = order(rows, self._sample_bytes, self._seed, epoch) if self._shuffle else np.arange(rows)
        for step in range(start, self.steps):
            whole = visits[step * self._batch : (step + 1) * self._batch]
            first, last = (len(whole) * k // self._size for k in (self._rank, self._rank + 1))
            yield whole[first:last], len(whole)

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
                for rows, whole in self.shares(epoch, start):
                    share = Share(rows, {name: self._store.take(name, rows) for name in self._fields}, whole)
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
