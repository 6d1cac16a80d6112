"""The order of an epoch: a permutation, as good as a perfect shuffle, that reads block by block and knows no ranks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from kilonode.data import columns
from kilonode.data.order import order

extents = st.lists(st.integers(1, 300), min_size=1, max_size=6)
MB = 1 << 20
BLOCK_ROWS = 16
SAMPLE = MB // BLOCK_ROWS


@given(
    extents, st.sampled_from([1, 12, 40_000, 2_000_000]), st.integers(1, 200), st.integers(0, 30), st.integers(0, 99)
)
def test_the_order_is_a_permutation(files: list[int], sample_bytes: int, batch: int, window: int, seed: int) -> None:
    what = (files, sample_bytes, batch, window * sample_bytes, seed)
    found = order(*what, 3)
    assert np.array_equal(found, order(*what, 3))
    assert np.array_equal(np.sort(found), np.arange(sum(files)))


def test_epochs_and_seeds_differ() -> None:
    for window in (1 << 30, MB * 4):
        orders = [order([4000], SAMPLE, 8, window, seed, epoch) for seed in range(3) for epoch in range(3)]
        for k, one in enumerate(orders):
            for other in orders[:k]:
                assert (one == other).mean() < 0.01


def test_a_small_set_is_shuffled_perfectly() -> None:
    # The mean distance of rows that were neighbours is a third of the set, as for any random permutation.
    where = np.argsort(order([20_000], 4_000, 64, 1 << 30, 0, 0))
    assert np.abs(np.diff(where)).mean() == pytest.approx(20_000 / 3, rel=0.05)


def test_a_large_set_has_no_memory_of_its_file() -> None:
    # Rank correlation between place in the file and time of the visit: below three standard errors of a perfect
    # shuffle (1/sqrt(N)). Within a batch, rows of one block are as rare as there are streams.
    visits = order([16_000] * 2, SAMPLE, 64, 192 * MB, 0, 0)
    blocks = visits // BLOCK_ROWS
    # A block is one draw, not sixteen: the error is that of the number of blocks.
    assert abs(spearmanr(np.arange(len(visits)), visits).statistic) < 3 / np.sqrt(len(visits) / BLOCK_ROWS)
    for batch in blocks.reshape(-1, 64):
        assert len(set(batch.tolist())) >= 60
    # Files sorted by label, the worst case: runs of one label are as short as a perfect shuffle makes them.
    label = visits < 16_000
    assert np.mean(label[1:] == label[:-1]) == pytest.approx(0.5, abs=0.03)
    share = label.reshape(-1, 64).mean(axis=1)
    assert share.std() < 1.5 * np.sqrt(0.25 / 64)  # of batches, as dice would have it: 0.0625


@given(st.integers(1, 16), st.integers(64, 200), st.integers(0, 9))
def test_a_rank_reads_its_own_blocks(size: int, files: int, seed: int) -> None:
    batch = 32
    visits = order([files] * 20, SAMPLE, batch, 2 * batch * MB, seed, 0)
    firsts = np.arange(20) * files
    file = np.searchsorted(firsts, visits, side="right") - 1
    block = file * 1000 + (visits - firsts[file]) // BLOCK_ROWS
    slot = np.arange(len(visits)) % batch
    seen = [set(block[(slot >= batch * r // size) & (slot < batch * (r + 1) // size)].tolist()) for r in range(size)]
    # Streams meet inside a block; and the last, short batch gives its rows to other slots.
    assert sum(len(one) for one in seen) <= len(set(block.tolist())) + 2 * batch + batch * size


def test_a_window_is_read_once() -> None:
    """The blocks between first and last use are never more than the window holds."""
    visits, window = order([64_000], SAMPLE, 64, 128 * MB, 1, 0), 128
    block = visits // BLOCK_ROWS
    first = np.unique(block, return_index=True)[1]
    last = len(block) - 1 - np.unique(block[::-1], return_index=True)[1]
    alive = np.zeros(len(block) + 1, np.int64)
    np.add.at(alive, first, 1)
    np.add.at(alive, last + 1, -1)
    assert np.cumsum(alive).max() <= window
    assert columns.CHUNK_BYTES == MB
