"""In which order an epoch visits its samples: a pure function of (seed, epoch) that knows nothing of ranks.

Random single rows are slow to read, so rows travel in blocks that lie together on disk. The blocks of an epoch are
shuffled and dealt to streams; a stream walks its blocks, mixing the rows of a few of them; a global batch takes the
next rows of every stream. So the rows of a batch come from as many places of the data set as there are streams, and a
rank, which takes a slice of every batch, reads its own streams' blocks and no others.

Shape legend: N rows, B rows of a global batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from kilonode.cases.ragged import elements, ends
from kilonode.data.columns import chunk_rows


def order(
    extents: Sequence[int], sample_bytes: int, batch: int, window_bytes: int, seed: int, epoch: int
) -> np.ndarray:
    """Rows in the order of one epoch.

    Parameters
    ----------
    extents : sequence of int
        Rows of each file; N is their sum. No block goes beyond a file.
    sample_bytes : int
        Of one row.
    batch : int
        B; batch k is rows ``k*B`` to ``(k+1)*B`` of the result.
    window_bytes : int
        What all ranks together hold at hand. A data set that fits is shuffled perfectly.

    Returns
    -------
    ndarray
        int64 (N,), a permutation; the same for the same arguments.
    """
    rng, rows = np.random.default_rng([seed, epoch]), int(sum(extents))
    if rows * sample_bytes <= window_bytes:
        return rng.permutation(rows)
    block = chunk_rows(sample_bytes)
    # A third of the room, because a stream's window may begin and end inside a block, and what comes is read ahead.
    blocks = max(1, window_bytes // (3 * block * sample_bytes))
    streams = min(blocks, batch)
    dealt, widths = _dealt(rows, batch, streams)
    listed = _listed(extents, block, rng)
    mixed = _mixed(rng, widths, block * (blocks // streams))
    return listed[mixed][dealt]


def _listed(extents: Sequence[int], block: int, rng: np.random.Generator) -> np.ndarray:
    """All rows, (N,): the blocks of all files in random order."""
    first = ends(np.asarray(extents))
    starts = np.concatenate([np.arange(a, b, block) for a, b in pairwise(first)])
    offsets = np.append(starts, first[-1])
    return elements(offsets, rng.permutation(len(starts)))


def _dealt(rows: int, batch: int, streams: int) -> tuple[np.ndarray, np.ndarray]:
    """For each visit the place of its row in the list of streams, (N,), and the rows of each stream (streams,).

    A batch of b rows takes ``b*v//streams`` to ``b*(v+1)//streams`` of its rows from stream v, the short last one too.
    """
    full, rest = divmod(rows, batch)
    cuts, last = (size * np.arange(streams + 1) // streams for size in (batch, rest))
    widths = full * np.diff(cuts) + np.diff(last)
    begins = ends(widths)[:-1]
    stream = np.repeat(np.arange(streams), np.diff(cuts))  # of each row of a batch
    inside = np.arange(batch) - cuts[stream]
    whole = begins[stream] + np.arange(full)[:, None] * np.diff(cuts)[stream] + inside
    tail = np.repeat(np.arange(streams), np.diff(last))
    short = begins[tail] + full * np.diff(cuts)[tail] + np.arange(rest) - last[tail]
    return np.concatenate([whole.reshape(-1), short]), widths


def _mixed(rng: np.random.Generator, widths: np.ndarray, window: int) -> np.ndarray:
    """A permutation (N,) that mixes every stream's rows inside windows of so many rows.

    Streams come to the ends of their windows one after another, so that reading never has to be done in bursts.
    """
    begins, phases = ends(widths), np.arange(len(widths)) * window // len(widths)
    inside = np.arange(begins[-1]) - np.repeat(begins[:-1] - phases, widths)
    windows = ends(-(-(widths + phases) // window))[:-1]
    place = np.repeat(windows, widths) + inside // window
    return np.argsort(place + rng.random(len(place)), kind="stable")
