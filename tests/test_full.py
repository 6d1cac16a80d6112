"""A machine that fails in a training: disk full, nothing to write to, no memory. One line, and nothing is lost."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kilonode.errors import UserError
from kilonode.training.device import memory_for
from kilonode.training.records import Records

sys.path.append(str(Path(__file__).parent))
small = import_module("small_train")
STEPS, EPOCHS = small.STEPS, small.EPOCHS


@pytest.fixture(scope="module")
def here(toy: Path) -> Any:
    return small.here(toy)


@pytest.fixture(scope="module")
def straight(here: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    state = tmp_path_factory.mktemp("straight")
    assert here.train(state) == 0
    return state


def mount(folder: Path, options: str) -> None:
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"needs to mount a file system of its own: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount(folder, "size=512k")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def assert_one_line(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("kilonode: expected "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert not [part for part in parts if part not in done.stderr], done.stderr


def train(here: Any, state: Path, *options: str, **more: Any) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, *here.command(state, *options, **more)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_checkpoint_before_it_continues(here: Any, straight: Path, disk: Path) -> None:
    """A neighbour fills what is left before the second epoch's checkpoint."""
    state = disk / "state"
    done = train(here, state, mishaps=[(f"save {STEPS * 2}", f"fill {disk / 'neighbour'}")])
    assert_one_line(done, "got No space left on device", "checkpoint-")
    assert small.checkpoints(state) == [STEPS]
    (disk / "neighbour").unlink()
    done = train(here, state)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"train: continuing from step {STEPS}\n" in done.stdout
    small.assert_same_run(state, straight)


def test_a_full_disk_is_one_line_where_records_are_written_too(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.start(0)
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"^expected to write, got No space left on device \(.*/metrics.jsonl\); "):
        records.add({"epoch": 1, "step": 16})


@pytest.mark.slow
def test_a_folder_that_becomes_read_only_is_one_line(here: Any, straight: Path, disk: Path) -> None:
    state = disk / "state"
    done = train(here, state, mishaps=[(f"step {STEPS + 3}", f"seal {disk}")])
    assert_one_line(done, "got Read-only file system", str(state))
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    assert small.checkpoints(state) == [STEPS]
    assert here.train(state) == 0
    small.assert_same_run(state, straight)


def test_a_folder_that_cannot_be_made_is_one_line(here: Any, disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    assert here.train(disk / "state") == 2
    error = capsys.readouterr().err
    assert error.startswith("kilonode: expected to ")
    assert "Read-only file system" in error
    assert error.count("\n") == 1


def test_without_memory_it_says_how_to_need_less(
    here: Any, straight: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert here.train(tmp_path, accumulate=1, mishaps=[(f"step {STEPS + 3}", "hog")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"kilonode: expected memory for {here.batch} samples of a rank at once, got ")
    assert "use more nodes, raise training.accumulate or lower training.batch" in error
    assert error.count("\n") == 1
    assert small.checkpoints(tmp_path) == [STEPS]
    assert here.train(tmp_path) == 0
    small.assert_same_run(tmp_path, straight)


@pytest.mark.parametrize("hog", [lambda: torch.empty(1 << 50), lambda: np.empty(1 << 50)])
def test_all_libraries_run_out_of_memory_in_the_same_words(hog: Any) -> None:
    rules = {"batch": 100, "accumulate": 4}
    with (
        pytest.raises(UserError, match=r"^expected memory for 9 samples of a rank at once, got "),
        memory_for(rules, 3),
    ):
        hog()


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="size"), memory_for({}, 1):
        torch.ones(2) @ torch.ones(3)
