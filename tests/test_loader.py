"""Batches: every sample once an epoch, whoever reads it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilonode.data.loader import AHEAD, Loader, Share

pytestmark = pytest.mark.timeout(60)  # a reader that does not end
sizes = st.integers(1, 700)
batches = st.integers(1, 200)
ranks = st.integers(1, 9)
epochs = st.integers(0, 1000)


class Rows:
    """As much of a store as a loader asks for; the value of a row is its number."""

    def __init__(self, rows: int, broken: int | None = None) -> None:
        self.rows, self.broken, self.taken = rows, broken, 0
        self.fields: dict[str, dict[str, Any]] = {"x": {"shape": [3], "dtype": "float32"}}

        self.extents = [rows]

    def sample_bytes(self, names: list[str]) -> int:
        assert names == ["x"]
        return 12

    def chunks(self, name: str, rows: np.ndarray) -> list[Any]:
        return []

    def gather(self, name: str, rows: np.ndarray, out: np.ndarray, fetch: Any) -> np.ndarray:
        assert name == "x"
        if self.taken == self.broken:
            raise OSError("the disk is gone")
        self.taken += 1
        out[:] = rows[:, None]
        return out


def load(rows: int, batch: int, rank: int = 0, size: int = 1, **more: Any) -> Loader:
    return Loader(Rows(rows), ["x"], batch, 5, rank, size, **more)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def no_reader_is_left() -> Iterator[None]:
    yield
    assert [thread for thread in threading.enumerate() if thread.name == "loader"] == []


@given(sizes, batches, ranks, epochs, st.booleans())
def test_shares_of_all_ranks_are_disjoint_and_covering(
    rows: int, batch: int, size: int, epoch: int, shuffle: bool
) -> None:
    alone = list(load(rows, batch, shuffle=shuffle).shares(epoch))
    parts = [list(load(rows, batch, rank, size, shuffle=shuffle).shares(epoch)) for rank in range(size)]
    assert {len(part) for part in parts} == {len(alone)} == {-(-rows // batch)}
    for step, (whole, count) in enumerate(alone):
        assert count == len(whole) == min(batch, rows - step * batch)
        mine = [part[step] for part in parts]
        assert np.array_equal(np.sort(np.concatenate([share for share, _ in mine])), whole)  # the batch knows no ranks
        assert {full for _, full in mine} == {count}
        lengths = [len(share) for share, _ in mine]
        assert max(lengths) - min(lengths) <= 1
    visited = np.concatenate([whole for whole, _ in alone])
    assert np.array_equal(np.sort(visited), np.arange(rows))
    assert shuffle or np.array_equal(visited, np.arange(rows))


@given(sizes, batches, ranks, epochs, st.data())
def test_starting_in_the_middle_gives_the_rest(
    rows: int, batch: int, size: int, epoch: int, data: st.DataObject
) -> None:
    part = load(rows, batch, data.draw(st.integers(0, size - 1)), size)
    start = data.draw(st.integers(0, part.steps))
    whole, rest = list(part.shares(epoch)), list(part.shares(epoch, start))
    assert len(rest) == part.steps - start
    for (a, full), (b, also_full) in zip(whole[start:], rest, strict=True):
        assert np.array_equal(a, b)
        assert full == also_full


@pytest.mark.parametrize("start", [0, 3, 7])
def test_an_epoch_reads_its_shares(start: int) -> None:
    part = load(100, 14, rank=1, size=3)
    expected = list(part.shares(2, start))
    assert len(expected) == 8 - start
    for share, (rows, full) in zip(part.epoch(2, start), expected, strict=True):
        assert isinstance(share, Share)
        assert np.array_equal(share.rows, rows)
        assert share.global_size == full
        assert share.fields["x"].dtype == np.float32
        assert np.array_equal(share.fields["x"], np.repeat(rows[:, None], 3, axis=1))


def test_the_reader_is_only_a_little_ahead() -> None:
    store = Rows(1000)
    epoch = Loader(store, ["x"], 10, 0).epoch(0)  # type: ignore[arg-type]
    assert store.taken == 0  # nothing before the first is asked for
    next(epoch)
    most, until = 1 + AHEAD + 1, time.monotonic() + 20  # given out, waiting, in the reader's hand
    while store.taken < most and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.2)
    assert store.taken == most
    epoch.close()  # type: ignore[attr-defined]


def test_the_reader_ends_when_the_consumer_breaks() -> None:
    for _ in load(1000, 10).epoch(0):
        assert any(thread.name == "loader" for thread in threading.enumerate())
        break


def test_the_reader_ends_when_the_consumer_raises() -> None:
    def consume() -> None:
        for _ in load(1000, 10).epoch(0):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        consume()


@pytest.mark.parametrize("broken", [0, 1, 5])
def test_an_error_of_the_reader_reaches_the_consumer(broken: int) -> None:
    part = Loader(Rows(100, broken), ["x"], 10, 0)  # type: ignore[arg-type]
    got = []

    def consume() -> None:
        for share in part.epoch(0):
            got.append(share)

    with pytest.raises(OSError, match="the disk is gone"):
        consume()
    assert len(got) == broken


def test_two_epochs_at_a_time_do_not_mix() -> None:
    part = load(60, 7)
    pairs = list(zip(part.epoch(0), part.epoch(1), strict=True))
    for epoch in (0, 1):
        found = np.concatenate([pair[epoch].rows for pair in pairs])
        assert np.array_equal(np.sort(found), np.arange(60))
