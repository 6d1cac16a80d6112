"""Somebody's own file becomes raw shards; mistakes in the mapping are all told before anything is written."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import small_ingest
import yaml
from small_ingest import real, write_mapping

from kilonode import cli, config
from kilonode.data import ingest, preprocess
from kilonode.data.ingest._fields import group_id
from kilonode.data.split import SPLITS
from kilonode.data.store import Store
from kilonode.records import file_digest

EXAMPLE = Path(__file__).parents[1] / "examples/muon_images"
SOURCE = EXAMPLE / "muon_images.h5"
Run = Callable[..., subprocess.CompletedProcess[str]]
Refuse = Callable[..., list[str]]
Json = dict[str, Any]


def ingested(folder: Path, mapping: Path = EXAMPLE / "mapping.yaml", source: Path = SOURCE) -> Json:
    """The index of a raw folder made in this process, and its arrays, all shards joined."""
    ingest.run("reactor_neutrinos", str(mapping), source, folder / "index.json")
    index: Json = json.loads((folder / "index.json").read_text())
    files = [h5py.File(folder / entry["file"]) for entry in index["shards"]]
    arrays = {
        name: np.concatenate([file[f"events/{name}"][()] for file in files]) for name in index["tables"]["events"]
    }
    return {**index, "arrays": arrays}


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Json:
    return ingested(tmp_path_factory.mktemp("example"))


@pytest.fixture
def mapping(tmp_path: Path) -> Callable[[Json], Path]:
    """Write a mapping with these columns beside the group instead of the example's."""

    def write(columns: Json, **more: Any) -> Path:
        content = yaml.safe_load((EXAMPLE / "mapping.yaml").read_text())
        described = {
            name: {
                **({"dataset": spec} if isinstance(spec, str) else {"datasets": spec}),
                "unit": "m",
                "long_name": "x",
            }
            for name, spec in {"images": "images", "group": "run", **columns}.items()
        }
        content["tables"] = {"events": described}
        task = content["tasks"]["autoencoder"]
        del task["read_outs"], task["columns"]
        path = tmp_path / "mapping.yaml"
        path.write_text(yaml.safe_dump({**content, **more}))
        return path

    return write


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A scientist's file with a bit of everything."""
    path = tmp_path / "mine.h5"
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file["images"] = rng.random((12, 2, 4, 4)).astype(">f4")
        file["run"] = np.repeat(np.arange(6, dtype=np.int16), 2)
        file["half"] = rng.random(12).astype(np.float16)
        file["long"] = rng.random(12).astype(np.longdouble)
        file["flag"] = rng.random(12) > 0.5
        file["byte"] = np.arange(12, dtype=np.uint8)
        file["count"] = np.arange(12, dtype=np.uint32)
        file["big"] = np.arange(12, dtype=np.uint64)
        file["day"] = rng.random(12)
        file["deep/energy"] = rng.random(12)
        file["packed"] = file["images"][()]
        file["short"] = np.zeros(11)
        file["name"] = np.array([b"a"] * 12)
        file["text"] = ["a"] * 12
        file["scalar"] = 3.5
        file["key2d"] = np.zeros((12, 2), int)
        file["empty"] = np.zeros((0, 4))
        file["complex"] = np.zeros(12, complex)
        file["huge"] = np.full(12, 2**63, np.uint64)
        file["nan"] = np.where(np.arange(12) == 7, np.nan, 1.0)
        file.create_dataset("zipped", data=file["images"][()], compression="gzip", chunks=(5, 2, 4, 4))
    return path


@pytest.fixture
def refuse(mapping: Callable[..., Path], source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Refuse:
    """What the command line says of a mapping of these columns, with the source as F; nothing may be written."""

    def run(columns: Json, input: Path = source, **more: Any) -> list[str]:
        arguments = ["--case", "reactor_neutrinos", "--data", str(mapping(columns, **more)), "--input", str(input)]
        with pytest.raises(SystemExit) as ended:
            cli.main(["ingest", *arguments, "--output", str(tmp_path / "raw/index.json")])
        assert ended.value.code == 2
        assert not (tmp_path / "raw").exists()
        return [line.replace(str(input), "F") for line in capsys.readouterr().err.splitlines()]

    return run


def test_the_example_keeps_values_units_and_words(example: Json) -> None:
    columns = config.resolve("reactor_neutrinos", str(EXAMPLE / "mapping.yaml"))["ingest"]["tables"]["events"]
    with h5py.File(SOURCE) as file:
        rows = len(file["images"])
        for name, spec in columns.items():
            described = example["tables"]["events"][name]
            assert (described["unit"], described["long_name"]) == (spec["unit"], spec["long_name"])
            if name != "group":
                found, expected = example["arrays"][name], file[spec["dataset"]][()]
                assert np.array_equal(found, expected)
                assert found.dtype == expected.dtype or expected.dtype.kind in "iu"
                assert described["shape"] == list(expected.shape[1:])
    assert example["arrays"]["sample_id"].tolist() == list(range(rows))
    assert example["sha256_of_input"] == file_digest(SOURCE)
    assert example["simulated"] is True
    assert "km3net-testdata" in example["source"]


def test_a_group_is_a_file_and_an_event(example: Json) -> None:
    with h5py.File(SOURCE) as file:
        keys = list(zip(file["file"][()].tolist(), file["event"][()].tolist(), strict=True))
    groups = example["arrays"]["group"].tolist()
    assert len(set(groups)) == len(set(keys)) == len(set(zip(keys, groups, strict=True)))
    assert min(groups) >= 0


def test_group_ids_are_for_ever() -> None:
    # Literal: another id would move events between training and test.
    assert group_id((np.int64(1), np.int64(23))) == GROUP_1_23
    assert group_id((12, 3)) != group_id((1, 23))


GROUP_1_23 = 2789486647863845813


def test_many_shards_hold_the_samples_of_one(example: Json, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "SHARD_BYTES", 100_000)
    many = ingested(tmp_path)
    assert len(many["shards"]) > 2 > len(example["shards"])
    for name, array in example["arrays"].items():
        assert np.array_equal(many["arrays"][name], array)
    monkeypatch.undo()
    assert len(ingested(tmp_path)["shards"]) == 1  # cut anew, though a file of that name was there
    assert ingested(tmp_path)["arrays"]["sample_id"].tolist() == example["arrays"]["sample_id"].tolist()


def test_a_short_table_beside_a_long_one(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "SHARD_BYTES", 300)  # more files than the short table has rows
    content = yaml.safe_load((EXAMPLE / "mapping.yaml").read_text())
    column = {"unit": "1", "long_name": "x"}
    content["tables"] = {
        "events": {"images": {"dataset": "images", **column}, "group": {"dataset": "run", **column}},
        "runs": {"x": {"dataset": "three", **column}, "group": {"dataset": "three", **column}},
    }
    del content["tasks"]["autoencoder"]["read_outs"], content["tasks"]["autoencoder"]["columns"]
    path = tmp_path / "two.yaml"
    path.write_text(yaml.safe_dump(content))
    with h5py.File(source, "a") as file:
        file["three"] = np.array([5, 6, 7])
    assert len(ingested(tmp_path / "raw", path, source)["shards"]) > 3
    what = ("reactor_neutrinos", str(path), "runs", tmp_path / "raw/index.json", tmp_path / "runs/index.json")
    preprocess.run(*what)
    found = [Store(tmp_path / "runs/index.json", split).read("x").tolist() for split in SPLITS]
    assert sorted(found) == [[5], [6], [7]]


@pytest.mark.mpi
def test_ranks_write_the_same_bytes_and_preprocess_reads_them(
    kilonode: Run, mpiexec: Run, example: Json, tmp_path: Path
) -> None:
    what = ("--case", "reactor_neutrinos", "--data", EXAMPLE / "mapping.yaml")
    raw, index = tmp_path / "raw/index.json", tmp_path / "store/events/index.json"
    done = mpiexec(2, "-m", "kilonode", "ingest", *what, "--input", SOURCE, "--output", raw)
    assert done.returncode == 0, done
    assert json.loads(raw.read_text())["shards"] == example["shards"]
    done = kilonode("preprocess", *what, "--table", "events", "--raw", raw, "--output", index)
    assert done.returncode == 0, done
    test = Store(index, "test", truth=True)
    rows = test.read("sample_id")
    for name in ("images", "group", "truth/dir_z"):
        assert np.array_equal(test.read(name), example["arrays"][name][rows])
    assert test.index["simulated"] is True


def test_numbers_of_every_kind_are_read(mapping: Callable[..., Path], source: Path, tmp_path: Path) -> None:
    columns = {name: name for name in ("half", "long", "flag", "byte", "count", "big", "day", "zipped")}
    path = mapping({**columns, "energy": "deep/energy"})
    found = ingested(tmp_path / "raw", path, source)["arrays"]
    types = {"images": "f4", "half": "f4", "long": "f8", "flag": "u1", "byte": "u1", "count": "i8", "big": "i8"}
    with h5py.File(source) as file:
        for name, kind in {**types, "day": "f8", "zipped": "f4"}.items():
            assert found[name].dtype == kind, name
            assert np.array_equal(found[name], file[name][()].astype(kind)), name
        assert np.array_equal(found["energy"], file["deep/energy"][()])
    assert found["group"].tolist() == np.repeat(np.arange(6), 2).tolist()  # one integer key is its own id


@pytest.mark.parametrize(
    ("columns", "lines"),
    [
        ({"images": "imags"}, ["expected dataset 'imags', got none (F); did you mean 'images'?"]),
        ({"images": "/images"}, ["expected dataset '/images', got none (F); did you mean 'images'?"]),
        (
            {"x": "short"},
            [
                "expected one length for table 'events', got {'group': 12, 'images': 12, 'x': 11} (F); "
                "map fields of one length"
            ],
        ),
        ({"x": "name"}, ["expected numbers in 'name', got |S1 (F); map another dataset"]),
        ({"x": "text"}, ["expected numbers in 'text', got object (F); map another dataset"]),
        ({"x": "complex"}, ["expected numbers in 'complex', got complex128 (F); map another dataset"]),
        ({"x": "scalar"}, ["expected samples along the first axis of 'scalar', got a single value (F)"]),
        (
            {"group": "key2d"},
            ["expected one value a sample in group key 'key2d', got shape (12, 2) (F); map datasets of one axis"],
        ),
        (
            {"images": "empty", "group": "empty"},
            [
                "expected at least one sample in table 'events', got none (F); map other data",
                "expected one value a sample in group key 'empty', got shape (0, 4) (F); map datasets of one axis",
            ],
        ),
        ({"x": "huge"}, ["expected integers below 2**63 in 'huge', got 9223372036854775808 (F); shift them"]),
        (
            {"x": "nan"},
            [
                "expected finite values in 'nan', got nan at (7,) and 0 more (F); "
                "declare `fill: <number>` for the field, or mend them at the source"
            ],
        ),
        (
            {"images": "imags", "a": "name", "b": "scalar", "c": "short", "d": "big", "group": ["run", "key2d", "rum"]},
            [
                "expected dataset 'imags', got none (F); did you mean 'images'?",
                "expected dataset 'rum', got none (F); did you mean 'run'?",
                "expected numbers in 'name', got |S1 (F); map another dataset",
                "expected samples along the first axis of 'scalar', got a single value (F)",
                "expected one length for table 'events', got {'c': 11, 'd': 12} (F); map fields of one length",
                "expected one value a sample in group key 'key2d', got shape (12, 2) (F); map datasets of one axis",
            ],
        ),
    ],
)
def test_every_mistake_in_a_mapping_is_a_line(refuse: Refuse, columns: Json, lines: list[str]) -> None:
    assert sorted(refuse(columns)) == sorted(f"kilonode: {line}" for line in lines)


@pytest.mark.parametrize("kind", ["missing", "text", "folder", "truncated"])
def test_a_source_that_is_no_hdf5_file_is_a_line(refuse: Refuse, source: Path, tmp_path: Path, kind: str) -> None:
    bad = tmp_path / "bad.h5"
    if kind == "text":
        bad.write_text("x,y\n")
    elif kind == "folder":
        bad.mkdir()
    elif kind == "truncated":
        bad.write_bytes(source.read_bytes()[:-1])
    (line,) = refuse({}, input=bad)
    expected = {"missing": "an HDF5 file, got nothing", "folder": "an HDF5 file, got something else"}
    assert line.startswith(f"kilonode: expected {expected.get(kind, 'a complete HDF5 file, got')} ")
    assert "(F)" in line


def test_a_changed_source_is_read_again(example: Json, tmp_path: Path) -> None:
    copy = Path(shutil.copy(SOURCE, tmp_path / "copy.h5"))
    ingested(tmp_path / "raw", source=copy)
    with h5py.File(copy, "a") as file:
        file["images"][0] += 1
    found = ingested(tmp_path / "raw", source=copy)["arrays"]["images"]
    assert np.array_equal(found[0], example["arrays"]["images"][0] + 1)
    assert np.array_equal(found[1:], example["arrays"]["images"][1:])


GUIDE = Path(__file__).parents[1] / "docs/ingest.md"
BLOCKS = [
    yaml.safe_load(text) | {"text": text} for text in re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(), re.DOTALL)
]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: str(block["format"]))
def test_the_guide_is_true(block: Json, tmp_path: Path) -> None:
    found = re.match(r"# (\S+)\n", block["text"])
    ((_, columns),) = block["tables"].items()
    path = write_mapping(tmp_path, block["format"], columns)
    resolved = config.resolve("reactor_neutrinos", str(path))
    assert resolved["ingest"]["format"] in config.formats()
    if found:
        index = small_ingest.ingested(tmp_path, block["format"], real(found[1]), columns)["index"]
        assert set(columns) < set(index["tables"]["samples"])


def test_the_guide_names_every_format_and_key() -> None:
    assert sorted({block["format"] for block in BLOCKS}) == config.formats()
    table = config.schema("mapping")["properties"]["tables"]["additionalProperties"]
    keys = {*table["additionalProperties"]["properties"], *table["properties"]["group"]["properties"]}
    missing = [key for key in keys if f"`{key}" not in GUIDE.read_text() and f"{key}:" not in GUIDE.read_text()]
    assert missing == []
