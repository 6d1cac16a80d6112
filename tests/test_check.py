"""``kilonode check``: what is in a file, or one line why not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest

from kilonode.data import check
from kilonode.data.store import Store
from kilonode.errors import DataError
from kilonode.records import file_digest

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_it_prints_fields_shapes_units_and_hash(kilonode: Run, toy: Path) -> None:
    path = toy / "store/singles/test-00000.h5"
    done = kilonode("check", path)
    assert (done.returncode, done.stderr) == (0, "")
    first, *fields, last = done.stdout.splitlines()
    assert first.startswith(f"{path}: reactor_neutrinos, simulated, ")
    singles = Store(toy / "store/singles/index.json", "test").read("singles")
    words = next(line for line in fields if line.split()[0] == "singles").split()
    assert words[:8] == ["singles", str(len(singles)), "x", "8", "x", "24", "float32", "pe"]
    assert words[8:11] == [f"{singles.min():.6g}", "to", f"{singles.max():.6g}"]
    assert " ".join(words[11:]) == "charge; ring x column"
    assert len(fields) == 5
    assert last == f"  sha256 {file_digest(path)} (as in the index)"


def test_json_is_one_object_a_file(kilonode: Run, toy: Path) -> None:
    paths = [toy / "raw/shard_00000.h5", toy / "store/pairs/truth/train-00000.h5"]
    done = kilonode("check", "--json", *paths)
    assert done.returncode == 0, done
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [item["file"] for item in found] == [str(path) for path in paths]
    assert [item["sha256"] for item in found] == [file_digest(path) for path in paths]
    assert [item["index"] for item in found] == ["as in the index"] * 2
    assert found[0]["fields"]["pairs/pairs"]["shape"] == [648, 4, 8, 24]
    assert found[1]["fields"]["event"]["unit"] == "MeV, m, m, m, us, 1"
    assert found[1]["attributes"]["truth"] is True


def test_the_first_bad_file_ends_it(kilonode: Run, toy: Path, tmp_path: Path) -> None:
    good, bad = toy / "store/singles/test-00000.h5", tmp_path / "bad.h5"
    bad.write_text("no")
    done = kilonode("check", good, bad, good)
    assert done.returncode == 2
    assert done.stdout.count("sha256") == 1
    line = f"kilonode: expected a complete HDF5 file, got file signature not found ({bad}); make or copy it again\n"
    assert done.stderr == line


def test_a_file_that_the_index_does_not_know_is_not_blamed(kilonode: Run, toy: Path, tmp_path: Path) -> None:
    for place, text in {"none": None, "list": "[]", "other": '{"shards": []}'}.items():
        (tmp_path / place).mkdir()
        path = shutil.copy(toy / "store/singles/test-00000.h5", tmp_path / place / "test-00000.h5")
        if text:
            (tmp_path / place / "index.json").write_text(text)
        expected = "no index beside the file" if text is None else "not in the index beside the file"
        assert kilonode("check", path).stdout.splitlines()[-1].endswith(f"({expected})")


def test_a_flipped_value_is_a_hash_that_differs(kilonode: Run, toy: Path, tmp_path: Path) -> None:
    store = Path(shutil.copytree(toy / "store/singles", tmp_path / "singles"))
    path = store / "truth/train-00000.h5"
    before = file_digest(path)
    with h5py.File(path, "a") as file:
        file["event"][5, 0] += 1
    done = kilonode("check", "truth/train-00000.h5", cwd=store)
    assert (done.returncode, done.stdout) == (2, "")
    index, after = store / "index.json", file_digest(path)
    reason = f"expected SHA-256 {before} as in {index}, got {after} (truth/train-00000.h5); rerun its stage"
    assert done.stderr == f"kilonode: {reason}\n"


def crash(path: Path) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)  # as a segmentation fault, but pytest does not print the stack


def hang(path: Path) -> Any:
    until = time.monotonic() + 30  # not for ever: nobody would end the child of a failed test
    while time.monotonic() < until:
        pass


@pytest.mark.parametrize("mishap", [crash, hang])
def test_a_crash_or_a_hang_of_hdf5_is_one_line(mishap: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "inspect", mishap)
    monkeypatch.setattr(check, "PATIENCE_S", 1)
    with pytest.raises(DataError) as caught:
        check.run([tmp_path / "a.h5"], json_output=False)
    expected = "expected an HDF5 file, got what HDF5 crashes on or does not end with"
    assert caught.value.problems == (f"{expected} ({tmp_path / 'a.h5'}); make or copy it again",)
