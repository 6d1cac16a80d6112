"""From raw shards to the store: the same for any number of ranks and files, and no run in two splits."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from kilonode import config
from kilonode.comm import Comm
from kilonode.data import preprocess, raw
from kilonode.data.split import SPLITS
from kilonode.data.stats import Stats
from kilonode.data.store import Store
from kilonode.errors import DataError
from kilonode.records import file_digest

Run = Callable[..., subprocess.CompletedProcess[str]]
CASE = ("--case", "reactor_neutrinos", "--data", "toy", "--table")

# What a test plants on one rank before the command line starts: "<rank> <arguments ...>".
PLANTED = """
import os, sys
from kilonode import cli
from kilonode.data import preprocess
from kilonode.errors import DataError
rank, *arguments = sys.argv[1:]
make = preprocess._make
def failing(source, folder, attributes, compression, planned, arrays):
    if os.environ.get("PMI_RANK", "0") == rank:
        raise DataError(f"expected no trouble, got some ({folder / planned['file']})")
    return make(source, folder, attributes, compression, planned, arrays)
preprocess._make = failing
cli.main(arguments)
"""


def digests(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in sorted(folder.rglob("*.h5"))}


def index_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "index.json").read_text())
    del content["conditions"]
    return content


def make(raw: Path, store: Path, table: str = "singles", **split: Any) -> Path:
    """Preprocess in this process, perhaps with another split; the store's folder."""
    with pytest.MonkeyPatch.context() as patch:
        resolved = config.resolve("reactor_neutrinos", "toy")
        resolved["split"] = {**resolved["split"], **split}
        patch.setattr(config, "resolve", lambda case, data: resolved)
        preprocess.run("reactor_neutrinos", "toy", table, raw / "index.json", store / "index.json")
    return store


@pytest.fixture
def copy(toy: Path, tmp_path: Path) -> Path:
    """A raw folder that may be damaged."""
    return Path(shutil.copytree(toy / "raw", tmp_path / "raw"))


@pytest.mark.mpi
@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_any_number_of_ranks_writes_the_same_bytes(mpiexec: Run, toy: Path, tmp_path: Path, ranks: int) -> None:
    paths = ("--raw", toy / "raw/index.json", "--output", tmp_path / "index.json")
    done = mpiexec(ranks, "-m", "kilonode", "preprocess", *CASE, "pairs", *paths)
    assert done.returncode == 0, done
    assert digests(tmp_path) == digests(toy / "store/pairs")
    assert index_of(tmp_path) == index_of(toy / "store/pairs")
    assert (tmp_path / "stats.json").read_bytes() == (toy / "store/pairs/stats.json").read_bytes()


@pytest.mark.parametrize("table", ["pairs", "singles"])
def test_every_raw_sample_is_in_the_store_once(toy: Path, table: str) -> None:
    files = [h5py.File(path) for path in sorted((toy / "raw").glob("*.h5"))]
    stores = [Store(toy / f"store/{table}/index.json", split, truth=True) for split in SPLITS]
    raw_ids = np.concatenate([file[f"{table}/sample_id"][()] for file in files])
    assert len(np.unique(raw_ids)) == len(raw_ids)
    ids = np.concatenate([store.read("sample_id") for store in stores])
    where = np.argsort(ids)
    assert np.array_equal(ids[where], np.sort(raw_ids))
    for name in stores[0].fields:
        made = np.concatenate([file[f"{table}/{name}"][()] for file in files])
        kept = np.concatenate([store.read(name) for store in stores])
        assert kept.dtype == made.dtype
        assert np.array_equal(kept[where], made[np.argsort(raw_ids)])  # no field lost its sample in the shuffle


def test_raw_shards_may_have_any_size(tmp_path: Path) -> None:
    def rows(start: int, stop: int) -> dict[str, dict[str, np.ndarray]]:
        return {"t": {"group": np.arange(start, stop) // 2, "x": np.arange(start, stop) * 1.5}}

    words = {"unit": "1", "long_name": "x"}
    tables, attributes = {"t": {"group": words, "x": words}}, {"case": "c", "simulated": False, "source": "s"}
    extents = [(0, 5), (5, 6), (6, 6), (6, 30)]
    raw.write(tmp_path / "raw/index.json", "test", extents, rows, tables, attributes, Comm())
    make(tmp_path / "raw", tmp_path / "store", "t")
    stores = [Store(tmp_path / "store/index.json", split) for split in SPLITS]
    x = np.concatenate([store.read("x") for store in stores])
    assert sorted(x.tolist()) == [1.5 * k for k in range(30)]
    assert np.array_equal(np.concatenate([store.read("group") for store in stores]), x // 3)
    assert {name: sorted(set(s.read("group").tolist())) for name, s in zip(SPLITS, stores, strict=True)} == (
        stores[0].index["groups"]
    )


def test_no_run_is_in_two_splits_and_both_tables_agree(toy: Path) -> None:
    groups = [
        [set(Store(toy / f"store/{table}/index.json", split).read("group").tolist()) for split in SPLITS]
        for table in ("pairs", "singles")
    ]
    assert groups[0] == groups[1]  # a run in training for one task is no test for the other
    for one in groups:
        assert sorted(group for part in one for group in part) == list(range(40))
        assert [len(part) for part in one] == [24, 6, 10]


def test_the_samples_of_a_split_are_shuffled(toy: Path) -> None:
    groups = Store(toy / "store/pairs/index.json", "train").read("group")
    assert (np.diff(groups) == 0).mean() < 0.1  # 1 in 24 by chance, nearly all in simulated order


def test_statistics_equal_a_naive_pass_over_the_training_split(toy: Path) -> None:
    store = Store(toy / "store/pairs/index.json", "train")
    assert set(store.stats) == {"pairs", "dt", "dt_muon"}  # no labels, no truth
    for name, kinds in store.stats.items():
        x = store.read(name).astype(np.float64)
        x = x if x.ndim > 1 else x[:, None]
        for transform, values in {"none": x, "log1p": np.log1p(np.maximum(x, 0))}.items():
            found = Stats.from_json(kinds[transform])
            axes = tuple(k for k in range(x.ndim) if k != 1)
            assert found.count == x.size // x.shape[1]
            rtol = 1e-12 if transform == "none" else 1e-6  # log1p is taken of float32
            np.testing.assert_allclose(found.mean, values.mean(axis=axes), rtol=rtol)
            np.testing.assert_allclose(found.std, values.std(axis=axes), rtol=rtol)
            np.testing.assert_allclose(found.minimum, values.min(axis=axes), rtol=1e-6)
            np.testing.assert_allclose(found.maximum, values.max(axis=axes), rtol=1e-6)


@pytest.mark.parametrize("size", [150_000, 700_000])
def test_the_shard_size_changes_no_split_and_no_order(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(preprocess, "SHARD_BYTES", size)
    store, whole = make(toy / "raw", tmp_path), toy / "store/singles"
    found, expected = index_of(store), index_of(whole)
    assert len(found["shards"]) > len(expected["shards"])
    for key in ("groups", "split_sha256", "rows", "identity", "fields"):
        assert found[key] == expected[key]
    for split in SPLITS:
        ids = [Store(folder / "index.json", split).read("sample_id") for folder in (store, whole)]
        assert np.array_equal(*ids)
    for entry in found["shards"]:
        assert (store / entry["file"]).stat().st_size < size * 1.2 + 10_000


def test_a_sample_bigger_than_a_shard_gets_its_own(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preprocess, "_make", lambda source, folder, attributes, compression, planned, arrays: planned)
    monkeypatch.setattr(preprocess, "SHARD_BYTES", 1)
    monkeypatch.setattr(preprocess, "SHARDS_AT_ONCE", 1000)
    planned: list[Any] = []
    monkeypatch.setattr(preprocess, "_write_index", lambda output, source, plan, *more: planned.extend(plan))
    make(toy / "raw", tmp_path)
    assert {len(item["rows"]) for item in planned} == {1}
    assert len(planned) == 40 * 60  # runs times singles of a run


def test_another_seed_of_the_split_is_another_store(toy: Path, tmp_path: Path) -> None:
    other = index_of(make(toy / "raw", tmp_path, seed=1))
    same = index_of(toy / "store/singles")
    assert other["groups"]["test"] != same["groups"]["test"]
    assert other["identity"] != same["identity"]
    assert other["split_sha256"] != same["split_sha256"]


def test_a_mixed_class_cannot_stratify_and_an_unknown_one_is_named(toy: Path, tmp_path: Path) -> None:
    mixed = index_of(make(toy / "raw", tmp_path, stratify="y_single"))
    assert mixed["groups"] == index_of(toy / "store/singles")["groups"]
    with pytest.raises(
        DataError, match=r"expected a field, got 'y_singel' \(split.stratify\); did you mean 'y_single'"
    ):
        make(toy / "raw", tmp_path, stratify="y_singel")


def test_integer_images_are_measured(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [{"singles": np.full((2000, 2, 2), 3, np.uint8)} for _ in SPLITS]
    monkeypatch.setattr(preprocess, "_take", lambda source, wanted: images)
    stats = json.loads((make(toy / "raw", tmp_path) / "stats.json").read_text())
    assert stats["singles"]["none"]["mean"] == [3.0]
    assert stats["singles"]["log1p"]["mean"] == pytest.approx([np.log(4)], rel=1e-7)


@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing", "swapped"])
def test_a_raw_shard_that_is_not_the_indexed_one_is_refused(copy: Path, tmp_path: Path, damage: str) -> None:
    path = copy / "shard_00003.h5"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    if damage == "missing":
        path.unlink()
    elif damage == "swapped":  # a sound file with the wrong runs
        shutil.copy(copy / "shard_00002.h5", path)
    else:
        path.write_bytes(content if damage == "flipped" else content[:-1])
    with pytest.raises(DataError) as caught:
        make(copy, tmp_path / "store")
    (line,) = caught.value.problems
    assert line.startswith("expected SHA-256 ")
    assert line.endswith(f" ({path}); rerun simulate or ingest")
    assert not (tmp_path / "store").exists()


def test_a_wrong_index_or_table_is_refused(toy: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected a table, got 'single' .*; did you mean 'singles'\?"):
        make(toy / "raw", tmp_path, table="single")
    with pytest.raises(DataError, match=r"expected the index of a raw folder, got another file \(.*singles/index.json"):
        make(toy / "store/singles", tmp_path)


@pytest.mark.mpi
def test_trouble_on_one_rank_ends_all_with_one_message(mpiexec: Run, toy: Path, tmp_path: Path) -> None:
    start = time.monotonic()
    paths = ("--raw", toy / "raw/index.json", "--output", tmp_path / "index.json")
    done = mpiexec(3, "-c", PLANTED, "2", "preprocess", *CASE, "singles", *paths)
    assert time.monotonic() - start < 30
    assert done.returncode == 2, done
    said = [line for line in done.stderr.splitlines() if not line.endswith(" left")]  # a slow machine shows progress
    assert said == [f"kilonode: expected no trouble, got some ({tmp_path / 'test-00000.h5'})"]
    assert not (tmp_path / "index.json").exists()
