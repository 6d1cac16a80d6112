"""Bad files, by accident or on purpose: one line and exit code 2, whatever HDF5 makes of them."""

from __future__ import annotations

import copy
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from small_hostile import DENSE, INDEX, JAGGED, PACKED, cut, edited, flipped, positions, texts, valid

from kilonode.data import check, shard
from kilonode.errors import DataError

NAME = "train-00000.h5"
ROWS = 9
FIELDS: dict[str, Any] = {
    "x": {"unit": "pe", "long_name": "charge", "shape": [2, 4], "dtype": "float32"},
    "group": {"unit": "1", "long_name": "run", "shape": [], "dtype": "int64"},
}
IDENTITY = "0" * 64
Change = Callable[[h5py.File], None]
Said = dict[str, Any]


def good(path: Path) -> bytes:
    arrays = {"x": np.random.default_rng(0).random((ROWS, 2, 4)).astype(np.float32), "group": np.arange(ROWS)}
    shard.write(path, arrays, FIELDS, {"case": "c", "source": "s", "simulated": True, "identity": IDENTITY.encode()})
    return path.read_bytes()


def lay(folder: Path, content: bytes | None, original: bytes) -> None:
    """A store whose index knows the size of what lies there, and the hash of what should; and the file alone."""
    for place in (folder, folder / "lone"):
        place.mkdir(parents=True)
        if content is not None:
            (place / NAME).write_bytes(content)
    promised = {"bytes": len(original if content is None else content), "sha256": hashlib.sha256(original).hexdigest()}
    shards = [{"file": NAME, "split": "train", "rows": ROWS, "data": promised}]
    index = {"kilonode_schema": 1, "identity": IDENTITY, "fields": FIELDS, "rows": {"train": ROWS}, "shards": shards}
    (folder / "index.json").write_text(json.dumps(index))


def replaced(name: str, array: np.ndarray) -> Change:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = array

    return change


def linked(name: str, link: object) -> Change:
    def change(file: h5py.File) -> None:
        del file["x"]
        file[name] = link

    return change


def hard_cycle(file: h5py.File) -> None:
    inner = file.create_group("a/b")
    inner["c"] = file["a"]


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((ROWS, 2, 4), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (ROWS, 2, 4))
    del file["x"]
    file.create_virtual_dataset("x", layout)


def external(file: h5py.File) -> None:
    del file["x"]
    file.create_dataset("x", (ROWS, 2, 4), "f4", external=[("/etc/passwd", 0, 288)])


def spoiled(file: h5py.File) -> None:
    file["x"][3, 1, 2] = np.nan


def other_schema(file: h5py.File) -> None:
    file.attrs["kilonode_schema"] = 99


def odd_attributes(file: h5py.File) -> None:
    file["x"].attrs["unit"] = np.arange(3)
    file.attrs["source"] = h5py.Empty("f4")
    file.attrs["case"] = file.ref


def huge(file: h5py.File) -> None:
    del file["x"]
    file.create_dataset("x", (2**40, 2, 4), "f4", chunks=(1, 2, 4))


# What the file becomes; how the file alone is refused (None: it is a fine file); how the store is.
CHANGES: dict[str, tuple[Change, str | None, str | None]] = {
    "wrong_dtype": (replaced("x", np.zeros((ROWS, 2, 4))), None, "float32, got (9, 2, 4), float64"),
    "wrong_shape": (replaced("x", np.zeros((ROWS, 4, 2), "f4")), None, "shape (9, 2, 4), float32, got (9, 4, 2)"),
    "too_short": (replaced("x", np.zeros((ROWS - 1, 2, 4), "f4")), None, "shape (9, 2, 4), float32, got (8, 2, 4)"),
    "text": (replaced("x", np.array(["a"] * ROWS, "S1")), "expected numbers in 'x', got |S1", "float32, got (9,), |S1"),
    "null": (replaced("x", h5py.Empty("f4")), "numbers in dataset 'x', got none", "float32, got None, float32"),
    "missing": (lambda file: file.pop("x"), None, "expected dataset 'x', got none"),
    "extra": (lambda file: file.create_dataset("g/y", data=1.5), None, "expected no dataset 'g/y', got one"),
    "nan": (spoiled, "expected finite values in 'x', got nan at (3, 1, 2) and 0 more", None),
    "external_link": (linked("x", h5py.ExternalLink("/etc/passwd", "/x")), "external links", "external links"),
    "soft_cycle": (linked("x", h5py.SoftLink("/x")), "a broken link (dataset 'x'", "a broken link (dataset 'x'"),
    "dangling": (linked("x", h5py.SoftLink("/z")), "a broken link (dataset 'x'", "a broken link (dataset 'x'"),
    "hard_cycle": (hard_cycle, "got a cycle (group 'a/b/c'", "got a cycle (group 'a/b/c'"),
    "virtual": (virtual, "virtual or external dataset (dataset 'x'", "virtual or external dataset (dataset 'x'"),
    "external_storage": (external, "virtual or external dataset (dataset 'x'", "virtual or external dataset"),
    "other_schema": (other_schema, "of schema 1, got 99", "of schema 1, got 99"),
    "no_schema": (lambda file: file.attrs.pop("kilonode_schema"), "of schema 1, got None", "of schema 1, got None"),
    "odd_attributes": (odd_attributes, None, None),
    "huge": (huge, "expected 35184372088832 bytes in dataset 'x', got 0", "got (1099511627776, 2, 4)"),
}  # fmt: skip
STRANGERS = {"text_file": b"x,y\n1,2\n", "empty_file": b"", "zeros": b"\0" * 6000}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Said]:
    """What the three ways in say of every bad file."""
    home = tmp_path_factory.mktemp("hostile")
    original = good(home / "good.h5")
    contents: dict[str, bytes | None] = {"good": original, "gone": None, **STRANGERS}
    for name, (change, _, _) in CHANGES.items():
        contents[name] = edited(home / "changed.h5", original, change)
    contents |= {f"cut_{k:02d}": original[: len(original) * k // 20] for k in range(1, 20)}
    contents |= {"cut_20": original[:-1]}
    for position in (*range(0, 96, 7), *range(97, len(original), len(original) // 24)):
        flipped = bytearray(original)
        flipped[position] ^= 1 << (position % 8)
        contents[f"flip_{position}"] = bytes(flipped)
    for name, content in contents.items():
        lay(home / name, content, original)
        if name[-1] in "2468" and name.startswith(("flip_", "cut_")):
            (home / name / "quick").touch()
    (home / "folder").mkdir()
    lay(home / "folder" / "in", None, original)
    for place in ("in", "in/lone"):
        (home / "folder" / place / NAME).mkdir()
    folders = [str(home / name) for name in contents] + [str(home / "folder/in")]
    return asked(home, folders)


def asked(home: Path, folders: list[str]) -> dict[str, Said]:
    """What is said of each folder, by its path below home."""
    script = Path(__file__).with_name("hostile.py")
    done = subprocess.run([sys.executable, script, *folders], capture_output=True, text=True, timeout=300, check=True)
    return {Path(folder).relative_to(home).as_posix(): found for folder, found in json.loads(done.stdout).items()}


def assert_refused(said: tuple[int, str], part: str = "") -> None:
    code, text = said
    assert code == 2, text
    assert len(text.splitlines()) == 1, text
    assert NAME in text
    assert part in text


def test_a_good_file_is_fine(said: dict[str, Said]) -> None:
    for way in ("check", "lone", "store"):
        assert said["good"][way] == [0, ""]


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_file_is_refused(said: dict[str, Said], name: str) -> None:
    _, lone, store = CHANGES[name]
    assert_refused(said[name]["check"], "kilonode: expected SHA-256 ")
    for way, part in (("lone", lone), ("store", store)):
        if part is None:
            assert said[name][way] == [0, ""]
        else:
            assert_refused(said[name][way], part)


@pytest.mark.parametrize("name", STRANGERS)
def test_what_is_no_hdf5_file_is_refused(said: dict[str, Said], name: str) -> None:
    assert_refused(said[name]["check"], "expected SHA-256 ")
    for way in ("lone", "store"):
        assert_refused(said[name][way], "expected a complete HDF5 file, got file signature not found")


@pytest.mark.parametrize(("name", "found"), [("gone", "nothing"), ("folder/in", "something else")])
def test_what_is_no_file_is_refused(said: dict[str, Said], name: str, found: str) -> None:
    for way in ("check", "lone"):
        assert_refused(said[name][way], f"expected an HDF5 file, got {found} (")
    assert_refused(said[name]["store"], " bytes, got 0 (")


def test_a_truncated_file_is_refused(said: dict[str, Said]) -> None:
    cuts = {name: found for name, found in said.items() if name.startswith("cut_")}
    assert len(cuts) == 20
    for found in cuts.values():
        if "check" in found:
            assert_refused(found["check"], "expected SHA-256 ")
        for way in ("lone", "store"):
            assert_refused(found[way], "expected a complete HDF5 file, got ")


def test_a_flipped_bit_never_passes_the_hash_and_never_crashes(said: dict[str, Said]) -> None:
    flips = {name: found for name, found in said.items() if name.startswith("flip_")}
    assert len(flips) > 30
    for found in flips.values():
        if "check" in found:
            assert_refused(found["check"], "expected SHA-256 ")
        for way in ("lone", "store"):
            if found[way] != [0, ""]:  # without its index a flip in the data cannot be seen
                assert_refused(found[way])
    for way in ("lone", "store"):
        assert sum(found[way][0] == 2 for found in flips.values()) >= 5


def assert_told(said: tuple[int, str], part: str) -> None:
    """One line for each problem, each with its file."""
    code, text = said
    assert code == 2, text
    for line in text.splitlines():
        assert line.startswith("kilonode: expected ")
        assert "/index.json)" in line or NAME in line
    assert len(text.splitlines()) <= 3
    assert part in text


EDITS = {"dense": DENSE, "packed": PACKED, "jagged": JAGGED}
SECONDS, BYTES = 5, 400 << 20


def spread(folder: Path, content: bytes, index: bytes) -> Path:
    """A store that only ``check`` looks at."""
    folder.mkdir(parents=True)
    (folder / NAME).write_bytes(content)
    (folder / "index.json").write_bytes(index)
    (folder / "unopened").touch()
    return folder


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Said]:
    """What ``check`` says of files that are wrong though the index was made for them, and of wrong indexes."""
    home = tmp_path_factory.mktemp("more")
    folders = []
    for kind, changes in EDITS.items():
        good = valid(home / "good.h5", kind)
        folders.append(spread(home / kind / "good", good.content, json.dumps(good.index).encode()))
        for name, (change, _) in changes.items():
            content = edited(home / "changed.h5", good.content, change)
            index = json.dumps(good.indexed(content, forged=True)).encode()
            folders.append(spread(home / kind / "edit" / name, content, index))
        places = positions(home / "good.h5", 8)
        for name, content in (*cut(good.content, 8), *flipped(good.content, places)):
            index, forged = (json.dumps(good.indexed(content, forged)).encode() for forged in (False, True))
            folders.append(spread(home / kind / "bytes" / name, content, index))
            spread(home / kind / "bytes" / name / "forged", content, forged)
        if kind == "dense":
            for name, (wrong, _) in INDEX.items():
                content = copy.deepcopy(good.index)
                wrong(content)
                folders.append(spread(home / "index/edit" / name, good.content, json.dumps(content).encode()))
            for name, text in texts(good.index).items():
                folders.append(spread(home / "index/text" / name, good.content, text))
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*")}
    said = asked(home, [str(folder) for folder in folders])
    left = {path for path in home.rglob("*") if before.get(path) != path.stat().st_mtime_ns} - {home}
    assert left <= {home / "dense/stderr.txt", home / "dense"}  # nothing written, nothing half-written
    return said


def test_valid_stores_of_every_kind_are_fine(checked: dict[str, Said]) -> None:
    for kind in EDITS:
        assert checked[f"{kind}/good"]["check"] == [0, ""]


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_many_zeros_are_no_bomb(tmp_path: Path, compression: str) -> None:
    zeros = np.zeros((5000, 1000), np.float32)
    shard.write(tmp_path / NAME, {"x": zeros}, FIELDS, {"identity": b"0"}, compression)
    with shard.opened(tmp_path / NAME) as file:
        assert file["x"].id.get_storage_size() < zeros.nbytes / 200
        assert shard.unsound(file["x"]) == ""
        assert shard.extremes(file["x"], tmp_path / NAME) == (0, 0)


@pytest.mark.parametrize("compression", ["none", "lz4"])
def test_every_value_is_seen_in_blocks(tmp_path: Path, compression: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard, "BLOCK_BYTES", 1 << 20)
    values = np.arange(1_500_000, dtype=np.float32).reshape(300_000, 5)
    shard.write(tmp_path / NAME, {"x": values}, FIELDS, {"identity": b"0"}, compression)
    with h5py.File(tmp_path / NAME, "r+") as file:
        assert shard.extremes(file["x"], tmp_path / NAME) == (0, 1_499_999)
        if compression == "none":
            file["x"][299_999, 4] = np.nan
            with pytest.raises(DataError, match=r"got nan at \(299999, 4\) and 0 more"):
                shard.extremes(file["x"], tmp_path / NAME)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, changes in EDITS.items() for name in changes])
def test_an_index_that_was_made_for_a_bad_file_does_not_save_it(checked: dict[str, Said], kind: str, name: str) -> None:
    assert_told(checked[f"{kind}/edit/{name}"]["check"], EDITS[kind][name][1])


@pytest.mark.parametrize("name", INDEX)
def test_a_wrong_index_is_refused(checked: dict[str, Said], name: str) -> None:
    assert_told(checked[f"index/edit/{name}"]["check"], INDEX[name][1])


def test_an_index_that_is_no_json_is_refused(checked: dict[str, Said]) -> None:
    found = [each["check"] for name, each in checked.items() if name.startswith("index/text/")]
    assert len(found) == 10
    for code, text in found:
        assert (code, len(text.splitlines())) == (2, 1), text
        assert "expected JSON, got " in text
        assert "index.json" in text


def test_no_byte_of_any_kind_of_file_changes_unseen(checked: dict[str, Said]) -> None:
    found = {name: each for name, each in checked.items() if "/bytes/" in name}
    assert len(found) >= 80
    for each in found.values():
        assert_refused(each["check"], "expected SHA-256 ")
        if each["forged"] != [0, ""]:  # a flip in the data, or in what HDF5 does not look at
            assert_refused(each["forged"])
    cuts = [each for name, each in found.items() if "/cut_" in name]
    assert len(cuts) == 24
    for each in cuts:
        assert_refused(each["forged"], "expected a complete HDF5 file, got ")


def test_there_are_more_than_two_hundred_and_each_is_quick_and_small(
    said: dict[str, Said], checked: dict[str, Said]
) -> None:
    everything = {**said, **checked}
    bad = {
        name: each
        for name, each in everything.items()
        if "check" in each and name.rsplit("/", 1)[-1] not in ("good", "gone", "in")
    }
    assert [name for name, each in bad.items() if each["check"][0] != 2] == []
    assert len(bad) == 324
    assert max(each["cost"][0] for each in everything.values()) < SECONDS
    assert max(each["cost"][1] for each in everything.values()) < BYTES


def test_what_never_ends_is_ended_in_time(tmp_path: Path, kilonode: Callable[..., Any]) -> None:
    good = valid(tmp_path / "good.h5", "dense")
    (tmp_path / NAME).write_bytes(edited(tmp_path / "changed.h5", good.content, DENSE["lattice"][0]))
    assert check.PATIENCE_S + 1 <= SECONDS  # of processor time: a busy machine may take longer
    done = kilonode("check", tmp_path / NAME)
    assert_refused((done.returncode, done.stderr), "does not end with (")
