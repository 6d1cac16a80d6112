"""Signals, errors and defects that reach one rank of many: nobody waits for ever, and nothing is lost."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = [pytest.mark.mpi, pytest.mark.slow]
sys.path.append(str(Path(__file__).parents[1]))
small = import_module("small_train")
Start = Callable[..., subprocess.CompletedProcess[str]]
STEPS, EPOCHS = small.STEPS, small.EPOCHS
SIGNALS = {  # scenario: where a signal reaches rank 1 alone, and the step at which all stop
    "before the first step": ("step 0", "SIGUSR1", 10),
    "in the last step of an epoch": (f"step {STEPS - 1}", "SIGTERM", STEPS),
    "in validation": ("validation 0", "SIGUSR1", STEPS),
    "before a checkpoint": (f"save {STEPS}", "SIGTERM", STEPS),
    "in the last epoch": (f"step {STEPS * 2 + 1}", "SIGUSR1", STEPS * 2 + 10),
}
TOO_LATE = {
    "in the last step": f"step {STEPS * EPOCHS - 1}",
    "in the last validation": f"validation {EPOCHS - 1}",
    "at the end": f"save {STEPS * EPOCHS}",
}


@pytest.fixture(scope="module")
def here(toy: Path) -> Any:
    return small.here(toy)


@pytest.fixture(scope="module", params=["horovod", "mpi4py"])
def states(
    request: pytest.FixtureRequest, here: Any, good: Start, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """State folders of many trainings on two ranks, made by one mpiexec: name -> folder."""
    home = tmp_path_factory.mktemp("states")
    scenarios = [("straight", here.plan())]
    for name, (at, what, _) in SIGNALS.items():
        scenarios += [(f"{name}, stopped", here.plan((at, what, 1)))]
        scenarios += [(f"{name}, continued", here.plan((at, what, 1))), (f"{name}, continued", here.plan())]
    scenarios += [(name, here.plan((at, "SIGTERM", 1))) for name, at in TOO_LATE.items()]
    scenarios += [("not a number", here.plan((f"step {STEPS + 4}", "nan", 1)))]
    good(2, "stops", home, here.store, request.param, json.dumps(scenarios))
    return lambda name: home / name


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_on_one_rank_stops_all_at_the_same_step(name: str, states: Callable[[str], Path]) -> None:
    found = small.status(states(f"{name}, stopped"))
    assert (found["status"], found["reason"], found["step"]) == ("stopped", *SIGNALS[name][1:])
    assert small.newest(states(f"{name}, stopped"))[1]["step"] == found["step"]
    assert small.finish(states(f"{name}, stopped")) == 75


@pytest.mark.parametrize("name", SIGNALS)
def test_stopped_ranks_continue_to_the_same_bits(name: str, states: Callable[[str], Path]) -> None:
    small.assert_same_run(states(f"{name}, continued"), states("straight"))


@pytest.mark.parametrize("name", TOO_LATE)
def test_a_signal_too_late_to_stop_leaves_a_complete_run(name: str, states: Callable[[str], Path]) -> None:
    assert small.status(states(name))["status"] == "complete"
    small.assert_same_run(states(name), states("straight"))


def test_a_loss_that_is_not_a_number_on_one_rank_ends_all(states: Callable[[str], Path]) -> None:
    found = small.status(states("not a number"))
    assert (found["status"], found["step"]) == ("diverged", STEPS + 10)
    tensors, state = small.newest(states("not a number"))
    assert state["step"] == STEPS
    assert all(tensor.isfinite().all() for tensor in tensors.values())


def test_fewer_ranks_continue_what_more_began(
    states: Callable[[str], Path], here: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """With other rounding, but the same samples: losses of each epoch agree."""
    state = states("in the last epoch, stopped")
    assert here.train(state) == 0
    assert "; it had 2 ranks, now 1: same samples, other rounding\n" in capsys.readouterr().out
    mine, straight = small.records(state), small.records(states("straight"))
    assert len(mine) == len(straight) == EPOCHS
    for name in ("train_loss", "validation_loss", "lr", "step"):
        np.testing.assert_allclose([line[name] for line in mine], [line[name] for line in straight], rtol=1e-4)


def test_a_signal_on_one_rank_is_no_failure_of_the_command(here: Any, good: Start, tmp_path: Path) -> None:
    """Exit code 0 on every rank, and not a word on stderr while Horovod and MPI close."""
    done = good(2, *command(here, tmp_path, (f"step {STEPS * EPOCHS - 20}", "SIGTERM", 1)))
    assert done.stdout.splitlines()[-1] == f"train: stopped after epoch 1, step {STEPS * EPOCHS - 16}"


@pytest.mark.parametrize("backend", ["horovod", "mpi4py"])
def test_an_error_on_one_rank_inside_a_step_ends_all(backend: str, here: Any, ranks: Start, tmp_path: Path) -> None:
    """While the other one waits for its gradients."""
    done = ranks(2, *command(here, tmp_path, (f"step {STEPS + 3}", "user", 1), backend=backend))
    ended = time.time()
    assert done.returncode == 2
    assert done.stderr.count("rank 1: expected no test, got a planted error (here); go on\n") == 1
    assert "Traceback" not in done.stderr
    assert ended - (tmp_path / f"checkpoint-{STEPS:09d}.json").stat().st_mtime < 15


def test_an_error_of_rank_0_alone_in_a_checkpoint_ends_all(here: Any, ranks: Start, tmp_path: Path) -> None:
    """As when its disk is full; the others are on their way into the next epoch."""
    done = ranks(2, *command(here, tmp_path, (f"tensors {STEPS * 2}", "user", 0)))
    assert done.returncode == 2
    assert done.stderr.count("rank 0: expected no test, got a planted error (here); go on\n") == 1
    assert here.train(tmp_path) == 0
    assert len(small.records(tmp_path)) == EPOCHS


def test_without_horovod_there_is_one_line_and_the_other_way(here: Any, ranks: Start, tmp_path: Path) -> None:
    shadow = tmp_path / "shadow/horovod/__init__.py"
    shadow.parent.mkdir(parents=True)
    shadow.write_text("raise ImportError('no Horovod in this test')\n")
    env = {"PYTHONPATH": str(shadow.parents[1])}
    done = ranks(2, *command(here, tmp_path / "state"), env=env)
    assert done.returncode == 2
    assert done.stderr == (
        "kilonode: expected Horovod, got no Horovod in this test (--backend horovod); "
        "run `make env`, or use --backend mpi4py\n"
    )
    done = ranks(2, *command(here, tmp_path / "state", (f"step {STEPS}", "SIGTERM"), backend="mpi4py"), env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert small.status(tmp_path / "state")["step"] == STEPS + 10
    assert small.status(tmp_path / "state")["conditions"]["backend"] == "mpi4py"


def command(here: Any, state: Path, *mishaps: Any, backend: str = "horovod") -> tuple[Any, ...]:
    script, *words = here.command(state, "--backend", backend, mishaps=mishaps)
    return Path(script), *words
