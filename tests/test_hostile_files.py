"""Bad files, by accident or on purpose: one line and exit code 2, whatever HDF5 makes of them."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from kilonode.data import shard

NAME = "train-00000.h5"
ROWS = 9
FIELDS: dict[str, Any] = {
    "x": {"unit": "pe", "long_name": "charge", "shape": [2, 4], "dtype": "float32"},
    "group": {"unit": "1", "long_name": "run", "shape": [], "dtype": "int64"},
}
IDENTITY = "0" * 64
Change = Callable[[h5py.File], None]
Said = dict[str, tuple[int, str]]


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


def edited(path: Path, change: Change) -> bytes:
    with h5py.File(path, "a") as file:
        change(file)
    return path.read_bytes()


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
    "null": (replaced("x", h5py.Empty("f4")), "expected a complete HDF5 file", "float32, got None, float32"),
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
    "huge": (huge, "expected a complete HDF5 file, got Unable to allocate 32.0 TiB", "got (1099511627776, 2, 4)"),
}  # fmt: skip
STRANGERS = {"text_file": b"x,y\n1,2\n", "empty_file": b"", "zeros": b"\0" * 6000}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Said]:
    """What the three ways in say of every bad file."""
    home = tmp_path_factory.mktemp("hostile")
    original = good(home / "good.h5")
    contents: dict[str, bytes | None] = {"good": original, "gone": None, **STRANGERS}
    for name, (change, _, _) in CHANGES.items():
        shutil.copy(home / "good.h5", home / "changed.h5")
        contents[name] = edited(home / "changed.h5", change)
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
    assert said["good"] == {"check": [0, ""], "lone": [0, ""], "store": [0, ""]}


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
