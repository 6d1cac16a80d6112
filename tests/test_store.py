"""The store gives out exactly what its index promises, and the truth only to those who ask for it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilonode.data import preprocess, shard
from kilonode.data.split import SPLITS
from kilonode.data.store import Store, inspect
from kilonode.errors import DataError

Json = dict[str, Any]


@pytest.fixture(scope="module")
def many(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Index of a store with several shards in every split."""
    index = tmp_path_factory.mktemp("many") / "singles" / "index.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preprocess, "SHARD_BYTES", 200_000)
        preprocess.run("reactor_neutrinos", "toy", "singles", toy / "raw/index.json", index)
    return index


@pytest.fixture
def copy(toy: Path, tmp_path: Path) -> Path:
    """Index of a store that may be damaged."""
    return Path(shutil.copytree(toy / "store/singles", tmp_path / "singles")) / "index.json"


def problems(action: Callable[[], object]) -> list[str]:
    with pytest.raises(DataError) as caught:
        action()
    return list(caught.value.problems)


def edit(index: Path, change: Callable[[Json], None]) -> None:
    content = json.loads(index.read_text())
    change(content)
    index.write_text(json.dumps(content))


def entry(content: Json, split: str = "train") -> Json:
    return next(item for item in content["shards"] if item["split"] == split)


def test_a_split_holds_the_rows_of_its_index(toy: Path) -> None:
    index = json.loads((toy / "store/pairs/index.json").read_text())
    for split in SPLITS:
        store = Store(toy / "store/pairs/index.json", split)
        assert store.rows == index["rows"][split] == len(store.read("group"))
        assert set(store.read("group").tolist()) == set(index["groups"][split])
        assert store.read("pairs").shape == (store.rows, 4, 8, 24)


def test_the_truth_is_for_those_who_ask(toy: Path) -> None:
    index = toy / "store/singles/index.json"
    blind, seeing = Store(index, "test"), Store(index, "test", truth=True)
    assert "truth/event" not in blind.fields
    for action in (lambda: blind.read("truth/event"), lambda: blind.take("truth/event", np.array([0]))):
        (line,) = problems(action)
        assert line.startswith("expected no truth in training, got 'truth/event' (")
    assert seeing.read("truth/event").shape == (seeing.rows, 6)
    assert {name for name in seeing.fields if name.startswith("truth/")} == {"truth/event"}


def test_the_truth_lies_elsewhere(copy: Path) -> None:
    for split in SPLITS:
        with h5py.File(copy.parent / f"{split}-00000.h5") as file:
            assert not [name for name in file if "truth" in name or name == "event"]
            assert not file.attrs["truth"]
        with h5py.File(copy.parent / f"truth/{split}-00000.h5") as file:
            assert list(file) == ["event"]
            assert file.attrs["truth"]
    shutil.rmtree(copy.parent / "truth")  # what a site may do before others train on the data
    assert Store(copy, "train").read("singles").shape[1:] == (8, 24)
    assert "expected " in problems(lambda: Store(copy, "train", truth=True))[0]


@given(data=st.data())
def test_taken_rows_are_those_of_the_whole(many: Path, data: st.DataObject) -> None:
    split = data.draw(st.sampled_from(SPLITS))
    store = OPEN[split] = OPEN.get(split) or Store(many, split, truth=True)
    assert len(store.entries) >= 2
    rows = np.array(data.draw(st.lists(st.integers(0, store.rows - 1), max_size=30)), dtype=np.int64)
    for name in ("singles", "y_single", "sample_id", "truth/event"):
        taken = store.take(name, rows)
        assert taken.dtype == store.fields[name]["dtype"]
        np.testing.assert_array_equal(taken, store.read(name)[rows])


OPEN: dict[str, Store] = {}
"""Splits of the store with many shards: opening one for every example would take a minute."""


def test_many_shards_hold_the_samples_of_one(many: Path, toy: Path) -> None:
    for split in SPLITS:
        parts, whole = Store(many, split, truth=True), Store(toy / "store/singles/index.json", split, truth=True)
        assert len(whole.entries) == 1
        for name in whole.fields:
            np.testing.assert_array_equal(parts.read(name), whole.read(name))
    np.testing.assert_allclose(
        Store(many, "train").stats["singles"]["log1p"]["mean"], whole.stats["singles"]["log1p"]["mean"], rtol=1e-12
    )


def test_an_open_store_keeps_one_file_descriptor_a_shard(many: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    store = Store(many, "train")
    assert len(os.listdir("/proc/self/fd")) - before <= len(store.entries)


def test_what_was_read_cannot_be_written(toy: Path) -> None:
    store = Store(toy / "store/singles/index.json", "train")
    with pytest.raises(ValueError, match="read-only"):
        store.field("singles").series.chunk(0)[0].array[0] = 1


def test_unknown_names_show_the_near_ones(toy: Path) -> None:
    index = toy / "store/singles/index.json"
    assert problems(lambda: Store(index, "valid")) == ["expected a split, got 'valid'; did you mean 'validation'?"]
    (line,) = problems(lambda: Store(index, "test").read("single"))
    assert line == f"expected a field, got 'single' ({index.parent}); did you mean 'singles'?"


def test_an_index_that_is_none_is_refused(copy: Path) -> None:
    for text, have in {"[]": None, "{}": None, '{"kilonode_schema": 2}': 2}.items():
        copy.write_text(text)
        line = f"expected a store of schema 1, got {have} ({copy}); rerun preprocess"
        assert problems(lambda: Store(copy, "train")) == [line]


@pytest.mark.parametrize("key", ["fields", "shards", "rows", "identity"])
@pytest.mark.parametrize("value", [None, 7, {}, [{}], {"x": {}}])
def test_an_index_of_other_shape_is_refused_in_one_line(copy: Path, key: str, value: object) -> None:
    edit(copy, lambda content: content.update({key: value}))
    (line,) = problems(lambda: Store(copy, "train"))
    assert line.startswith("expected ")
    assert line.endswith(f"({copy}); rerun its stage")


def test_an_index_of_other_rows_or_bytes_is_refused(copy: Path) -> None:
    size = (copy.parent / "train-00000.h5").stat().st_size
    edit(copy, lambda content: content["rows"].update(train=7))
    (line,) = problems(lambda: Store(copy, "train"))
    assert "rows of train as its shards have, got 7 (" in line
    edit(copy, lambda content: entry(content)["data"].update(bytes=7))
    edit(copy, lambda content: content["rows"].update(train=entry(content)["rows"]))
    path = copy.parent / "train-00000.h5"
    assert problems(lambda: Store(copy, "train")) == [f"expected 7 bytes, got {size} ({path}); rerun preprocess"]
    path.unlink()
    assert problems(lambda: Store(copy, "train")) == [f"expected 7 bytes, got 0 ({path}); rerun preprocess"]


def test_every_difference_from_the_index_is_listed(copy: Path) -> None:
    def change(content: Json) -> None:
        content["fields"]["singles"]["shape"] = [24, 8]
        content["fields"]["y_single"]["dtype"] = "int64"
        content["fields"]["colour"] = {"shape": [], "dtype": "uint8"}
        del content["fields"]["detector"]

    edit(copy, change)
    found = problems(lambda: Store(copy, "test"))
    assert [line.split(" (")[0].split(" of shape")[0] for line in found] == [
        "expected dataset 'colour', got none",
        "expected dataset 'singles'",
        "expected dataset 'y_single'",
        "expected no dataset 'detector', got one",
    ]


def test_a_shard_of_another_run_is_refused(toy: Path, copy: Path) -> None:
    # A killed preprocess with another split leaves new shards beside the old index: same size, other groups.
    settings = {"fields": json.loads(copy.read_text())["fields"]}
    store = Store(copy, "test")
    arrays = {name: store.read(name) for name in store.fields}
    path = copy.parent / "test-00000.h5"
    with h5py.File(path) as file:
        attributes = {**file.attrs, "identity": b"0" * 64}
    attributes = {key: value.item() if isinstance(value, np.generic) else value for key, value in attributes.items()}
    del attributes["kilonode_schema"], attributes["versions"]
    shard.write(path, arrays, settings["fields"], attributes)
    edit(copy, lambda content: entry(content, "test")["data"].update(bytes=path.stat().st_size))
    line = f"expected a shard of this index, got one of another ({path}); rerun preprocess"
    assert problems(lambda: Store(copy, "test")) == [line]


def test_inspect_says_what_is_in_a_file(copy: Path) -> None:
    found = inspect(copy.parent / "test-00000.h5")
    store = Store(copy, "test")
    assert found["index"] == "as in the index"
    assert found["sha256"] == entry(store.index, "test")["data"]["sha256"]
    assert found["attributes"]["identity"] == store.index["identity"]
    singles = store.read("singles")
    assert found["fields"]["singles"] == {
        "shape": list(singles.shape),
        "dtype": "float32",
        "unit": "pe",
        "long_name": "charge; ring x column",
        "minimum": singles.min(),
        "maximum": singles.max(),
    }
    assert inspect(copy.parent / "truth/test-00000.h5")["index"] == "as in the index"
    moved = copy.parent.parent / "moved.h5"
    shutil.copy(copy.parent / "test-00000.h5", moved)
    assert inspect(moved)["index"] == "no index beside the file"
    shutil.copy(moved, copy.parent / "other.h5")
    assert inspect(copy.parent / "other.h5")["index"] == "not in the index beside the file"
