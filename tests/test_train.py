"""Training on one rank: stopped, killed or left alone, it ends with the same bits. Many ranks: tests/parallel."""

from __future__ import annotations

import random
import signal
import sys
import threading
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from kilonode import comm
from kilonode.cases.reactor_neutrinos import models
from kilonode.data.store import Store
from kilonode.training import loop
from kilonode.training.loop import Trainer

sys.path.append(str(Path(__file__).parent))
small = import_module("small_train")
STEPS, EPOCHS = small.STEPS, small.EPOCHS


@pytest.fixture(scope="module")
def here(toy: Path) -> Any:
    return small.here(toy)


@pytest.fixture(scope="module")
def straight(here: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """State of a run that nothing disturbed."""
    state = tmp_path_factory.mktemp("straight")
    assert here.train(state) == 0
    assert small.status(state)["step"] == STEPS * EPOCHS
    return state


def test_the_same_seed_gives_the_same_bits_and_another_does_not(here: Any, straight: Path, tmp_path: Path) -> None:
    assert here.train(tmp_path / "same") == 0
    small.assert_same_run(tmp_path / "same", straight)
    assert here.train(tmp_path / "other", "--seed", "1") == 0
    mine, other = small.last(straight), small.last(tmp_path / "other")
    assert mine.keys() == other.keys()
    weights = [name for name in mine if name.startswith("model.")]
    assert weights
    assert not [name for name in weights if mine[name] == other[name]]


@pytest.mark.parametrize(
    ("point", "number", "step"),
    [
        ("step 0", "SIGUSR1", 10),  # before the first
        ("step 9", "SIGTERM", 10),
        ("step 10", "SIGTERM", STEPS),  # nobody asks before the end of the epoch
        (f"step {STEPS - 1}", "SIGUSR1", STEPS),
        ("validation 0", "SIGTERM", STEPS),
        (f"save {STEPS}", "SIGUSR1", STEPS),
        (f"step {STEPS * 2 + 5}", "SIGTERM", STEPS * 2 + 10),
    ],
)
def test_a_stopped_run_continues_to_the_same_bits(
    point: str, number: str, step: int, here: Any, straight: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert here.train(tmp_path, mishaps=[(point, number)]) == 0
    found = small.status(tmp_path)
    assert (found["status"], found["reason"], found["step"]) == ("stopped", number, step)
    assert small.finish(tmp_path) == 75
    assert not list(tmp_path.glob("[wm].*"))
    assert here.train(tmp_path) == 0
    assert f"continuing from step {step}\n" in capsys.readouterr().out
    assert small.status(tmp_path)["status"] == "complete"
    small.assert_same_run(tmp_path, straight)
    assert small.finish(tmp_path) == 0


@pytest.mark.parametrize("point", [f"step {STEPS * EPOCHS - 1}", f"validation {EPOCHS - 1}", f"save {STEPS * EPOCHS}"])
def test_a_signal_too_late_to_stop_leaves_a_complete_run(point: str, here: Any, straight: Path, tmp_path: Path) -> None:
    assert here.train(tmp_path, mishaps=[(point, "SIGTERM")]) == 0
    assert (small.status(tmp_path)["status"], small.status(tmp_path)["reason"]) == ("complete", "")
    small.assert_same_run(tmp_path, straight)


def test_without_time_it_stops_at_the_first_question(here: Any, straight: Path, tmp_path: Path) -> None:
    for step in (10, STEPS, STEPS + 10):
        assert here.train(tmp_path, "--time-left", "0:10") == 0
        found = small.status(tmp_path)
        assert (found["status"], found["reason"], found["step"]) == ("stopped", "time limit", step)
        assert (tmp_path / f"checkpoint-{step:09d}.json").is_file()
    assert here.train(tmp_path, "--time-left", "1-00:00:00") == 0
    small.assert_same_run(tmp_path, straight)


@pytest.mark.slow
def test_a_run_killed_where_it_hurts_continues_to_the_same_bits(here: Any, straight: Path, tmp_path: Path) -> None:
    points = [
        f"save {STEPS}",  # the record is written, the first checkpoint is not
        f"tensors {STEPS}",  # half of the first checkpoint
        f"step {STEPS + 12}",
        f"tensors {STEPS * EPOCHS}",  # half of the last
    ]
    for point in points:
        process = here.start(tmp_path, mishaps=[(point, "SIGKILL")])
        assert process.wait() == -signal.SIGKILL, process.communicate()
    assert here.train(tmp_path) == 0
    small.assert_same_run(tmp_path, straight)


@pytest.mark.slow
def test_a_run_killed_at_any_moment_continues_to_the_same_bits(here: Any, tmp_path: Path) -> None:
    assert here.train(tmp_path / "straight", epochs=12) == 0
    moments = []
    for _ in range(3):
        process = here.start(tmp_path / "killed", epochs=12)
        assert process.stdout is not None
        process.stdout.readline()  # an epoch's, or "continuing from"
        moments.append(random.SystemRandom().uniform(0, 0.3))
        time.sleep(moments[-1])
        process.kill()
        assert process.wait() == -signal.SIGKILL, process.communicate()
    assert here.train(tmp_path / "killed", epochs=12) == 0
    assert small.records(tmp_path / "killed") == small.records(tmp_path / "straight"), moments
    assert small.last(tmp_path / "killed") == small.last(tmp_path / "straight"), moments


def test_checkpoints_between_epochs_change_nothing_and_save_the_steps_before_them(
    here: Any, straight: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every 0.6 ms means at each question, every 7 steps at 21 and 28; how often is no part of what is trained."""
    for saving, step in (({"minutes": 1e-5}, STEPS + 10), ({"steps": 7, "minutes": None}, 28)):
        state = tmp_path / str(step)
        assert here.train(state, checkpoint=saving, mishaps=[(f"step {step + 3}", "defect")]) == 1
        assert here.train(state) == 0
        assert f"continuing from step {step}\n" in capsys.readouterr().out
        small.assert_same_run(state, straight)


@pytest.mark.parametrize("keep", [1, 3])
def test_as_many_checkpoints_stay_as_were_asked_for(keep: int, here: Any, tmp_path: Path) -> None:
    assert here.train(tmp_path, checkpoint={"steps": 6, "keep": keep}) == 0
    steps = sorted({*range(6, STEPS * EPOCHS, 6), *range(STEPS, STEPS * EPOCHS + 1, STEPS)})
    assert [path.stem for path in sorted(tmp_path.glob("checkpoint-*.json"))] == [
        f"checkpoint-{step:09d}" for step in steps[-keep:]
    ]


def test_slow_steps_are_asked_after_each(
    here: Any, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten of them would outlast what a scheduler grants after its signal."""
    monkeypatch.setattr(loop, "SLOW_STEP_S", 0.0)
    assert here.train(tmp_path, mishaps=[("step 3", "SIGTERM")]) == 0
    assert small.status(tmp_path)["step"] == 4
    assert here.train(tmp_path) == 0
    small.assert_same_run(tmp_path, straight)


def test_no_checkpoint_is_written_after_a_loss_that_is_not_finite(
    here: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the gradient still was: nobody could continue from it. Found by the layer after the fact."""
    losses = models.Denoiser.losses

    def spoilt(self: Any, batch: Any) -> Any:
        found = losses(self, batch)
        return torch.where(torch.arange(len(found)) == 3, found.detach() + float("inf"), found) if armed else found

    armed: list[int] = []
    step = Trainer.step

    def arm(self: Trainer, share: Any, timing: Any) -> bool:
        armed[:] = [1] if self.progress.step == STEPS + 4 else []
        return step(self, share, timing)

    monkeypatch.setattr(models.Denoiser, "losses", spoilt)
    monkeypatch.setattr(Trainer, "step", arm)
    assert here.train(tmp_path, checkpoint={"steps": STEPS + 6}) == 0
    assert small.checkpoints(tmp_path) == [STEPS]
    found = small.status(tmp_path)
    assert (found["status"], found["step"]) == ("diverged", STEPS + 6)
    assert (found["divergence"]["step"], found["divergence"]["where"]) == (STEPS + 4, "the loss")
    assert len(found["divergence"]["samples"]) == 1


def test_the_best_weights_survive_a_stop(here: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "evaluate", lambda self: 1.0 + self.progress.epoch)  # the first epoch is the best
    assert here.train(tmp_path / "straight", epochs=2) == 0
    assert here.train(tmp_path / "stopped", epochs=2, mishaps=[(f"step {STEPS + 4}", "SIGTERM")]) == 0
    assert here.train(tmp_path / "stopped", epochs=2) == 0
    small.assert_same_run(tmp_path / "stopped", tmp_path / "straight")
    bits = small.last(tmp_path / "stopped")
    assert not [name for name in bits if name.startswith("best.") and bits[name] == bits[f"model.{name[5:]}"]]


def test_a_network_that_draws_from_torch_itself_continues_to_the_same_bits(
    here: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours do not; dropout would."""
    losses = models.Denoiser.losses
    monkeypatch.setattr(models.Denoiser, "losses", lambda self, batch: losses(self, batch) * torch.rand(len(batch.x)))
    assert here.train(tmp_path / "straight", epochs=1) == 0
    assert here.train(tmp_path / "stopped", epochs=1, mishaps=[("step 4", "SIGTERM")]) == 0
    torch.rand(1)
    assert here.train(tmp_path / "stopped", epochs=1) == 0
    small.assert_same_run(tmp_path / "stopped", tmp_path / "straight")


@pytest.mark.parametrize(
    ("point", "said"),
    [
        ("step 20", "at step 20"),
        ("validation 1", f"in validation after step {STEPS * 2}"),  # the epoch's last step broke the weights
    ],
)
def test_a_loss_that_is_not_a_number_ends_the_run(
    point: str, said: str, here: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At that step, with the weights of the checkpoint before it, and a line that says where to look."""
    assert here.train(tmp_path, mishaps=[(point, "nan")]) == 0
    status = small.status(tmp_path)
    assert (status["status"], status["step"]) == ("diverged", int(said.split()[-1]))
    tensors, state = small.newest(tmp_path)
    assert state["step"] == STEPS
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    split = Store(here.store, "validation" if "validation" in said else "train")
    batch = len(status["divergence"]["samples"])
    assert batch == min(here.batch, split.rows)
    assert set(status["divergence"]["samples"]) <= set(split.read("sample_id").tolist())
    capsys.readouterr()
    assert small.finish(tmp_path) == 2
    ids = ", ".join(str(number) for number in status["divergence"]["samples"][:8])
    assert capsys.readouterr().err == (
        f"kilonode: expected a finite loss, got none {said} on rank 0: first in layer encoder.conv_1.conv, whose "
        f"weights are not finite, samples {ids} and {batch - 8} more ({tmp_path}); "
        "lower training.lr or training.clip in case.yaml; the last good checkpoint is kept\n"
    )
    assert not list(tmp_path.glob("[wm].*"))


def test_after_finish_a_new_run_starts_from_the_beginning(here: Any, straight: Path, tmp_path: Path) -> None:
    assert here.train(tmp_path) == 0
    assert small.finish(tmp_path) == 0
    assert here.train(tmp_path, mishaps=[("step 3", "SIGTERM")]) == 0
    assert small.status(tmp_path)["step"] == 10
    assert sorted(path.name for path in tmp_path.glob("checkpoint*.json")) == ["checkpoint-000000010.json"]
    assert here.train(tmp_path) == 0
    small.assert_same_run(tmp_path, straight)


def test_another_configuration_in_the_folder_is_no_part_of_this_run(
    here: Any, straight: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert here.train(tmp_path, lr=0.02, mishaps=[(f"step {STEPS * 2}", "SIGTERM")]) == 0
    capsys.readouterr()
    assert here.train(tmp_path, mishaps=[("step 3", "SIGTERM")]) == 0
    assert "no checkpoint of this configuration" in capsys.readouterr().out
    assert here.train(tmp_path) == 0
    assert "continuing from step 10\n" in capsys.readouterr().out
    small.assert_same_run(tmp_path, straight)


def test_a_defect_ends_the_reader_at_once(here: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not when the traceback is forgotten, which may be while Python is closing down."""
    readers: list[int] = []

    def count(lines: Any, code: int) -> Any:
        readers.append(sum(thread.name == "loader" for thread in threading.enumerate()))
        return lines

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comm, "failed", count)
        assert here.train(tmp_path, mishaps=[("step 5", "defect")]) == 1
    assert readers == [0]
    assert capsys.readouterr().err.endswith("ZeroDivisionError: planted\n")


def assert_one_line(code: int, start: str, capsys: pytest.CaptureFixture[str]) -> None:
    error = capsys.readouterr().err
    assert (code, error.count("\n")) == (2, 1), error
    assert error.startswith(f"kilonode: {start}"), error


def test_more_ranks_than_samples_in_a_batch_are_refused(
    here: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    crowd = comm.Comm()
    crowd.size = here.batch + 1
    monkeypatch.setattr(comm, "start", lambda backend: crowd)
    assert_one_line(
        here.train(tmp_path),
        f"expected at most {here.batch} ranks, one for each sample of a global batch, got {here.batch + 1}; ",
        capsys,
    )


def test_what_is_missing_or_broken_is_one_line(here: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nowhere = small.Here(tmp_path / "no/index.json", here.batch)
    assert_one_line(nowhere.train(tmp_path), "expected a file, got nothing (", capsys)
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"\x80\x04 not safetensors")
    command = f"evaluate --case reactor_neutrinos --task autoencoder --data toy --store {here.store}"
    files = f"--weights {weights} --output {tmp_path}/r.json --curves {tmp_path}/c.h5"
    assert_one_line(
        small.leaves(*command.split(), *files.split()), "expected weights of reactor_neutrinos/auto", capsys
    )
    assert_one_line(here.train(tmp_path, "--time-left", "soon"), "expected [days-]", capsys)
    assert_one_line(small.finish(tmp_path / "nothing"), "expected a file, got nothing (", capsys)
