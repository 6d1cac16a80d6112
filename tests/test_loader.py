"""Batches: every sample once an epoch, whoever reads it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kilonode.cases.ragged import ragged
from kilonode.data import columns, shard
from kilonode.data.columns import Mapped
from kilonode.data.loader import AHEAD, Loader, Share
from kilonode.data.order import order
from kilonode.data.series import Field
from kilonode.data.store import Store
from kilonode.data.window import Window
from kilonode.errors import DataError
from kilonode.records import file_digest, write_json

pytestmark = pytest.mark.timeout(60)  # a reader that does not end
sizes = st.integers(1, 700)
batches = st.integers(1, 200)
ranks = st.integers(1, 9)
epochs = st.integers(0, 1000)


class Counted(Field):
    """A field that counts what was taken, and may break."""

    def __init__(self, rows: int, broken: int | None) -> None:
        super().__init__([Mapped(np.repeat(np.arange(rows)[:, None], 3, axis=1).astype(np.float32))])
        self.taken, self.broken = 0, broken

    def gather(self, rows: np.ndarray, out: np.ndarray | None, source: Any) -> Any:
        if self.taken == self.broken:
            raise OSError("the disk is gone")
        self.taken += 1
        return super().gather(rows, out, source)


class Rows:
    """As much of a store as a loader asks for; the value of a row is its number."""

    def __init__(self, rows: int, broken: int | None = None) -> None:
        self.rows, self.extents, self.x = rows, [rows], Counted(rows, broken)

    def field(self, name: str) -> Field:
        assert name == "x"
        return self.x

    @property
    def taken(self) -> int:
        return self.x.taken


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


@pytest.mark.parametrize("start", [0, 3, 8])
def test_epochs_follow_each_other_without_a_pause(start: int) -> None:
    part = load(100, 14, rank=1, size=3)
    expected = [share for epoch in (2, 3, 4) for share in part.shares(epoch, start if epoch == 2 else 0)]
    found = [share.rows.copy() for share in part.epochs(2, start, 5)]
    assert [rows.tolist() for rows in found] == [rows.tolist() for rows, _ in expected]
    endless = part.epochs(2, start)
    ahead = [next(endless).rows.tolist() for _ in range(30)]
    endless.close()
    assert ahead[: len(found)] == [rows.tolist() for rows in found]


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


FIELDS = {
    "x": {"shape": [5, 3], "dtype": "float32", "unit": "1", "long_name": "images"},
    "y": {"shape": [], "dtype": "int64", "unit": "1", "long_name": "row"},
    "hits": {"shape": [2], "dtype": "float32", "unit": "1", "long_name": "hits", "layout": "ragged"},
}


def stored(home: Path, counts: list[int], compression: str) -> Path:
    """The index of a store whose training split has files of these lengths; every value tells its row."""
    entries, first = [], 0
    for number, rows in enumerate([*counts, 3, 3]):
        split = "train" if number < len(counts) else ("validation", "test")[number - len(counts)]
        y = np.arange(first, first + rows)
        hits = ragged([np.full((row % 4, 2), row, np.float32) for row in y])
        path, arrays = (
            home / f"{split}-{number:05d}.h5",
            {"x": np.tile(y[:, None, None], (1, 5, 3)), "y": y, "hits": hits},
        )
        arrays["x"] = arrays["x"].astype(np.float32)
        shard.write(path, arrays, FIELDS, {"identity": b"store"}, compression)
        data = {"bytes": path.stat().st_size, "sha256": file_digest(path)}
        entries.append({"split": split, "file": path.name, "rows": rows, "data": data})
        first += rows if split == "train" else 0
    content = {"kilonode_schema": shard.SCHEMA, "identity": "store", "fields": FIELDS, "shards": entries}
    write_json(home / "index.json", {**content, "rows": {"train": sum(counts), "validation": 3, "test": 3}})
    return home / "index.json"


@pytest.mark.parametrize("compression", ["none", "lz4", "zstd"])
@given(
    counts=st.lists(st.integers(1, 60), min_size=1, max_size=4),
    chunk=st.sampled_from([60, 200, 1000, 1 << 20]),
    window=st.sampled_from([1, 2_000, 1 << 20]),
    batch=st.integers(1, 40),
    size=st.integers(1, 4),
    data=st.data(),
)
@settings(max_examples=25)
def test_files_chunks_and_ranks_of_any_number_give_every_sample_once(
    compression: str, counts: list[int], chunk: int, window: int, batch: int, size: int, data: st.DataObject
) -> None:
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as home:
        patch.setattr(columns, "CHUNK_BYTES", chunk)
        patch.setattr(shard, "COMPRESSED_BYTES", 1)
        store = Store(stored(Path(home), counts, compression), "train")
        assert (compression == "none") != store.field("x").series.packed
        start, seen = data.draw(st.integers(0, -(-sum(counts) // batch))), []
        for rank in range(size):
            part = Loader(store, list(FIELDS), batch, 5, rank, size, window_bytes=window)
            whole = [rows for rows, _ in part.shares(1)]
            for share, rows in zip(part.epoch(1, start), whole[start:], strict=True):  # resumed: the rest, no more
                assert np.array_equal(share.rows, rows)
                assert np.array_equal(share.fields["y"], rows)
                assert np.array_equal(share.fields["x"][:, 4, 2], rows)
                assert np.array_equal(share.fields["hits"].counts, rows % 4)
                assert np.array_equal(share.fields["hits"].values[:, 1], np.repeat(rows, rows % 4))
            seen += whole
        assert np.array_equal(np.sort(np.concatenate(seen)), np.arange(sum(counts)))  # disjoint and covering
        taken = store.take("hits", np.arange(sum(counts))[::-1])
        assert np.array_equal(taken.counts, np.arange(sum(counts))[::-1] % 4)


def test_compressed_data_stay_within_the_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "CHUNK_BYTES", 600)  # ten rows
    monkeypatch.setattr(shard, "COMPRESSED_BYTES", 1)
    part = Store(stored(tmp_path, [2000], "lz4"), "train").field("x")
    rows = order([2000], 60, 8, 24_000, 0, 0)
    with ThreadPoolExecutor(1) as pool:
        window = Window(part, rows, np.arange(2000) // 8, 24_000, pool)
        assert window._arena.nbytes <= 24_000
        for step in range(250):
            window.advance(step)
            own = np.sort(rows[step * 8 : step * 8 + 8])
            assert np.array_equal(part.gather(own, None, window)[:, 0, 0], own)


def test_a_broken_chunk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard, "COMPRESSED_BYTES", 1)
    index = stored(tmp_path, [2000], "zstd")
    path = tmp_path / "train-00000.h5"
    with h5py.File(path) as file:
        info = file["x"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[info.byte_offset + 4 : info.byte_offset + 40] = b"\xff" * 36
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"expected chunk 0 as it was written, got .*train-00000\.h5"):
        list(Loader(Store(index, "train"), ["x"], 10, 0).epoch(0))


def test_ordinary_chunks_are_mapped_where_they_lie(tmp_path: Path) -> None:
    path, x = tmp_path / "x.h5", np.arange(3001 * 4, dtype=np.float32).reshape(3001, 4)
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=x, chunks=(10, 4))
        file.create_dataset("zip", data=x, chunks=(10, 4), compression="gzip")
        file.create_dataset("cut", data=x, chunks=(10, 2))
    with h5py.File(path) as file:
        found = columns.columns(file, path, {"x": {}, "zip": {}, "cut": {}})
    assert isinstance(found["x"], columns.Runs)  # HDF5 put its index in between
    assert 1 < len(found["x"].parts) < 50
    assert all(not part.array.flags.owndata for part in found["x"].parts)
    rows = np.sort(np.random.default_rng(0).choice(3001, 500, replace=False))
    for column in found.values():
        assert np.array_equal(column.array, x)
        assert np.array_equal(columns.take(column, rows), x[rows])
        assert np.array_equal(Field([column, column]).take(rows + 3001), x[rows])
