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
    "in the last epoch": (f"step {STEPS * 2 + 1}", "SIGUSR1", STEPS * 2 + 10),
}
TOO_LATE = {
    "in the last step": f"step {STEPS * EPOCHS - 1}",
    "in the last validation": f"validation {EPOCHS - 1}",
}


@pytest.fixture(scope="module")
def here(toy: Path) -> Any:
    return small.here(toy)


@pytest.fixture(scope="module")
def states(here: Any, good: Start, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """State folders of many trainings on two ranks, made by one mpiexec: name -> folder."""
    home = tmp_path_factory.mktemp("states")
    scenarios = [("straight", here.plan(), "")]
    for name, (at, what, _) in SIGNALS.items():
        stopped = f"{name}, stopped"
        scenarios += [(stopped, here.plan((at, what, 1)), ""), (f"{name}, continued", here.plan(), stopped)]
    scenarios += [(name, here.plan((at, "SIGTERM", 1)), "") for name, at in TOO_LATE.items()]
    scenarios += [("not a number", here.plan((f"step {STEPS + 4}", "nan", 1)), "")]
    good(2, "stops", home, here.store, "horovod", json.dumps(scenarios))
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


def test_a_loss_that_is_not_a_number_on_one_rank_ends_all(here: Any, states: Callable[[str], Path]) -> None:
    found = small.status(states("not a number"))
    assert (found["status"], found["step"]) == ("diverged", STEPS + 4)  # not a step more, on either rank
    where = found["divergence"]
    assert (where["rank"], where["step"], where["during"]) == (1, STEPS + 4, "training")
    assert where["where"] == "layer encoder.conv_1.conv, whose weights are not finite"
    assert len(where["samples"]) == here.batch - here.batch // 2  # rank 1's
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
    done = good(2, *command(here, tmp_path, ("step 3", "SIGTERM", 1)))
    assert done.stdout.splitlines() == ["train: stopped after epoch 0, step 10"]


@pytest.mark.parametrize(
    ("backend", "point", "rank"),
    [
        ("horovod", f"step {STEPS + 3}", 1),  # the other one waits for its gradients
        ("mpi4py", f"tensors {STEPS * 2}", 0),  # as when the disk is full; the other one is in the next epoch
    ],
)
def test_an_error_on_one_rank_in_a_training_ends_all(
    backend: str, point: str, rank: int, here: Any, ranks: Start, tmp_path: Path
) -> None:
    done = ranks(2, *command(here, tmp_path, (point, "user", rank), backend=backend))
    ended = time.time()
    assert done.returncode == 2
    assert done.stderr.count(f"rank {rank}: expected no test, got a planted error (here); go on\n") == 1
    assert "Traceback" not in done.stderr
    assert ended - (tmp_path / "metrics.jsonl").stat().st_mtime < 15
    assert here.train(tmp_path) == 0
    assert len(small.records(tmp_path)) == EPOCHS


def test_an_error_on_all_ranks_in_a_training_is_said_once(here: Any, ranks: Start, tmp_path: Path) -> None:
    done = ranks(2, *command(here, tmp_path, ("step 2", "user")))
    assert (done.returncode, done.stderr) == (2, "kilonode: expected no test, got a planted error (here); go on\n")


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
