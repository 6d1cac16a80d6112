"""Ranks that hang, die, or are only slow: nobody waits for ever, nobody is ended too soon, nothing is lost."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.mpi, pytest.mark.slow]
sys.path.append(str(Path(__file__).parents[1]))
small = import_module("small_train")
Start = Callable[..., subprocess.CompletedProcess[str]]
PATIENCE_S = {"checkpoint": "2", "the start": "4"}
"""Of these two a watchdog waits ten times as long."""
STEPS, EPOCHS = small.STEPS, small.EPOCHS


@pytest.fixture(scope="module")
def here(toy: Path) -> Any:
    return small.here(toy)


@pytest.fixture(scope="module")
def straight(here: Any, good: Start, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """State of a run on two ranks that nothing disturbed."""
    state = tmp_path_factory.mktemp("straight")
    good(2, *command(here, state))
    return state


def command(here: Any, state: Path, *mishaps: Any, options: tuple[str, ...] = (), **settings: Any) -> tuple[Any, ...]:
    script, *words = here.command(state, *options, mishaps=mishaps, **settings)
    return Path(script), *words


@pytest.mark.parametrize(
    ("backend", "point", "what"),
    [
        ("horovod", f"step {STEPS + 3}", "step"),
        ("mpi4py", f"step {STEPS + 3}", "step"),
        ("horovod", "validation 1", "validation"),
        ("horovod", f"tensors {STEPS * 2}", "checkpoint"),
        ("horovod", "start", "the start"),
    ],
)
def test_a_rank_that_hangs_ends_all_and_nothing_is_lost(
    backend: str, point: str, what: str, here: Any, ranks: Start, straight: Path, tmp_path: Path
) -> None:
    """Stopped with SIGSTOP, as a node that swaps or a file system that never answers; a checkpoint may take longer."""
    who = 0 if what == "checkpoint" else 1
    options = ("--backend", backend, "--patience-s", PATIENCE_S.get(what, "3"))
    done = ranks(2, *command(here, tmp_path, (point, "SIGSTOP", who), options=options))
    assert done.returncode == 75
    said = [line for line in done.stderr.splitlines() if line.startswith(f"kilonode: expected {what} ")]
    assert len(said) == 1
    assert f"(rank {1 - who}); another rank hangs or is dead" in said[0]
    assert "Traceback" not in done.stderr
    if backend == "horovod":
        done = ranks(2, *command(here, tmp_path, options=("--backend", backend)))
        assert done.returncode == 0
        assert ("train: continuing from step " in done.stdout) == (what != "the start")
        small.assert_same_run(tmp_path, straight)


@pytest.mark.parametrize(("point", "who"), [(f"step {STEPS + 3}", 1), (f"tensors {STEPS * 2}", 0), ("step 2", 0)])
def test_a_rank_that_is_killed_ends_all_and_nothing_is_lost(
    point: str, who: int, here: Any, ranks: Start, straight: Path, tmp_path: Path
) -> None:
    done = ranks(2, *command(here, tmp_path, (point, "SIGKILL", who)))
    assert done.returncode != 0
    assert not (tmp_path / "status.json").exists()
    done = ranks(2, *command(here, tmp_path))
    assert done.returncode == 0
    small.assert_same_run(tmp_path, straight)


def test_a_long_validation_and_a_slow_disk_are_no_hang(here: Any, good: Start, straight: Path, tmp_path: Path) -> None:
    """Seconds of each, several times the patience, on all ranks and on one."""
    mishaps = [("sample", "sleep 1.2"), (f"tensors {STEPS}", "sleep 8", 0)]
    good(2, *command(here, tmp_path, *mishaps, options=("--patience-s", "4")))
    small.assert_same_run(tmp_path, straight)


def test_all_ranks_agree_when_to_stop_early(here: Any, good: Start, tmp_path: Path) -> None:
    """With a rate that makes some epoch worse than the one before; a rank that disagreed would wait for ever."""
    good(3, *command(here, tmp_path, lr=0.3, schedule="constant", patience=1, epochs=20))
    found = small.status(tmp_path)
    assert found["status"] == "complete"
    assert found["epoch"] == found["best_epoch"] + 1
    assert found["epoch"] < 20
