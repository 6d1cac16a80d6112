"""Training on one rank: stopped, killed or left alone, it ends with the same bits. Many ranks: tests/parallel."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kilonode import cli, comm, config
from kilonode.cases.contract import Batch
from kilonode.data.store import Store
from kilonode.data.transform import Scaler
from kilonode.records import read_json
from kilonode.training import checkpoint
from kilonode.training.build import build
from kilonode.training.loop import Trainer, keys

SMALL = Path(__file__).with_name("small_train.py")
spec = importlib.util.spec_from_file_location("small_train", SMALL)
assert spec is not None
assert spec.loader is not None
small = importlib.util.module_from_spec(spec)
spec.loader.exec_module(small)

STEPS, EPOCHS = 16, 3
TIMES = ("samples_per_s", "input_wait", "communication_wait", "step_ms")


@dataclass
class Here:
    """The toy store, and a command line to train on it in this process or in one of its own."""

    store: Path
    batch: int

    def arguments(self, state: Path, *options: str) -> list[str]:
        named = f"train --case reactor_neutrinos --task autoencoder --data toy --store {self.store} --state {state}"
        return [*named.split(), *options]

    def plan(self, mishaps: Any = (), **settings: Any) -> dict[str, Any]:
        return {
            "settings": {"training": {"batch": self.batch, **settings}},
            "mishaps": [{"at": at, "what": what} for at, what in mishaps],
        }

    def train(self, state: Path, *options: str, mishaps: Any = (), **settings: Any) -> int:
        """Exit code of a training in this process, which is left as it was."""
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
        threads = torch.get_num_threads()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OMP_NUM_THREADS", "1")
            patch.delenv("KILONODE_STOP", raising=False)
            small.plant(self.plan(mishaps, **settings), patch.setattr)
            try:
                return leaves(*self.arguments(state, *options))
            finally:
                os.environ.pop("KILONODE_STOP", None)
                torch.set_num_threads(threads)
                torch.set_flush_denormal(False)
                for number, handler in handlers.items():
                    signal.signal(number, handler)

    def start(self, state: Path, mishaps: Any = (), **settings: Any) -> subprocess.Popen[str]:
        """The same as a process."""
        command = [sys.executable, str(SMALL), json.dumps(self.plan(mishaps, **settings)), *self.arguments(state)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def leaves(*arguments: str) -> int:
    """Exit code of a verb in this process."""
    with pytest.raises(SystemExit) as caught:
        cli.main(list(arguments))
    return int(str(caught.value.code))


def finish(state: Path) -> int:
    return leaves(*f"finish --state {state} --weights {state}/w.safetensors --metrics {state}/m.json".split())


@pytest.fixture(scope="module")
def here(toy: Path) -> Here:
    rows = read_json(toy / "store/pairs/index.json")["rows"]["train"]
    return Here(toy / "store/pairs/index.json", -(-rows // STEPS))


@pytest.fixture(scope="module")
def straight(here: Here, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """State of a run that nothing disturbed."""
    state = tmp_path_factory.mktemp("straight")
    assert here.train(state) == 0
    assert status(state)["step"] == STEPS * EPOCHS
    return state


def status(state: Path) -> dict[str, Any]:
    content: dict[str, Any] = read_json(state / "status.json")
    return content


def last(state: Path) -> dict[str, bytes]:
    """Bits of everything in the newest checkpoint: model, best model, optimiser, random state."""
    found = checkpoint.newest(state, status(state)["identity"])
    assert found is not None
    return {name: tensor.numpy().tobytes() for name, tensor in found[0].items()}


def records(state: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (state / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def assert_same_run(state: Path, other: Path) -> None:
    assert records(state) == records(other)
    assert last(state) == last(other)


def test_the_same_seed_gives_the_same_bits_and_another_does_not(here: Here, straight: Path, tmp_path: Path) -> None:
    assert here.train(tmp_path / "same") == 0
    assert_same_run(tmp_path / "same", straight)
    assert here.train(tmp_path / "other", "--seed", "1") == 0
    mine, other = last(straight), last(tmp_path / "other")
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
    point: str, number: str, step: int, here: Here, straight: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert here.train(tmp_path, mishaps=[(point, number)]) == 0
    found = status(tmp_path)
    assert (found["status"], found["reason"], found["step"]) == ("stopped", number, step)
    assert finish(tmp_path) == 75
    assert not list(tmp_path.glob("[wm].*"))
    assert here.train(tmp_path) == 0
    assert f"continuing from step {step}\n" in capsys.readouterr().out
    assert status(tmp_path)["status"] == "complete"
    assert_same_run(tmp_path, straight)
    assert finish(tmp_path) == 0


@pytest.mark.parametrize("point", [f"step {STEPS * EPOCHS - 1}", f"validation {EPOCHS - 1}", f"save {STEPS * EPOCHS}"])
def test_a_signal_too_late_to_stop_leaves_a_complete_run(
    point: str, here: Here, straight: Path, tmp_path: Path
) -> None:
    assert here.train(tmp_path, mishaps=[(point, "SIGTERM")]) == 0
    assert (status(tmp_path)["status"], status(tmp_path)["reason"]) == ("complete", "")
    assert_same_run(tmp_path, straight)


def test_without_time_it_stops_at_the_first_question(here: Here, straight: Path, tmp_path: Path) -> None:
    for step in (10, STEPS, STEPS + 10):
        assert here.train(tmp_path, "--time-left", "0:10") == 0
        found = status(tmp_path)
        assert (found["status"], found["reason"], found["step"]) == ("stopped", "time limit", step)
        assert (tmp_path / f"checkpoint-{step:09d}.json").is_file()
    assert here.train(tmp_path, "--time-left", "1-00:00:00") == 0
    assert_same_run(tmp_path, straight)


@pytest.mark.slow
def test_a_run_killed_where_it_hurts_continues_to_the_same_bits(here: Here, straight: Path, tmp_path: Path) -> None:
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
    assert_same_run(tmp_path, straight)


@pytest.mark.slow
def test_a_run_killed_at_any_moment_continues_to_the_same_bits(here: Here, tmp_path: Path) -> None:
    assert here.train(tmp_path / "straight", epochs=12) == 0
    moments = []
    for _ in range(3):
        process = here.start(tmp_path / "killed", epochs=12)
        assert process.stdout is not None
        process.stdout.readline()  # an epoch's, or "continuing from"
        moments.append(random.SystemRandom().uniform(0, 0.5))
        time.sleep(moments[-1])
        process.kill()
        assert process.wait() == -signal.SIGKILL, process.communicate()
    assert here.train(tmp_path / "killed", epochs=12) == 0
    assert records(tmp_path / "killed") == records(tmp_path / "straight"), moments
    assert last(tmp_path / "killed") == last(tmp_path / "straight"), moments


@pytest.mark.parametrize("point", ["step 20", "validation 1"])  # the second: the epoch's last step broke the weights
def test_a_loss_that_is_not_a_number_ends_the_run(
    point: str, here: Here, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert here.train(tmp_path, mishaps=[(point, "nan")]) == 0
    assert status(tmp_path)["status"] == "diverged"
    good = checkpoint.newest(tmp_path, status(tmp_path)["identity"])
    assert good is not None
    assert good[1]["step"] == STEPS
    assert all(tensor.isfinite().all() for tensor in good[0].values())
    capsys.readouterr()
    assert finish(tmp_path) == 2
    error = capsys.readouterr().err
    assert error.startswith("kilonode: expected a finite loss, got none by step ")
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("[wm].*"))


def test_after_finish_a_new_run_starts_from_the_beginning(here: Here, straight: Path, tmp_path: Path) -> None:
    assert here.train(tmp_path) == 0
    assert finish(tmp_path) == 0
    assert here.train(tmp_path, mishaps=[("step 3", "SIGTERM")]) == 0
    assert status(tmp_path)["step"] == 10
    assert sorted(path.name for path in tmp_path.glob("checkpoint*.json")) == ["checkpoint-000000010.json"]
    assert here.train(tmp_path) == 0
    assert_same_run(tmp_path, straight)


def test_another_configuration_in_the_folder_is_no_part_of_this_run(
    here: Here, straight: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert here.train(tmp_path, lr=0.02, mishaps=[(f"step {STEPS * 2}", "SIGTERM")]) == 0
    capsys.readouterr()
    assert here.train(tmp_path, mishaps=[("step 3", "SIGTERM")]) == 0
    assert "no checkpoint of this configuration" in capsys.readouterr().out
    assert here.train(tmp_path) == 0
    assert "continuing from step 10\n" in capsys.readouterr().out
    assert_same_run(tmp_path, straight)


def model_of(here: Here, weights: checkpoint.Tensors) -> tuple[Any, Scaler, Store]:
    settings = config.merged(config.task("reactor_neutrinos", "toy", "autoencoder"), small.TINY)
    store = Store(here.store, "validation")
    scaler = Scaler(settings["input"], store.stats)
    model = build("reactor_neutrinos", "autoencoder", settings["model"], (2, 8, 24))
    model.load_state_dict(weights)
    return model, scaler, store


def test_records_say_what_the_weights_do(here: Here, straight: Path) -> None:
    """The last validation loss, worked out again from the last weights, in one batch."""
    found = checkpoint.newest(straight, status(straight)["identity"])
    assert found is not None
    model, scaler, store = model_of(here, checkpoint.under_prefix("model.", found[0]))
    x = torch.from_numpy(scaler(store.read(scaler.field)))
    with torch.no_grad():
        loss = model.eval().losses(Batch(x, None, torch.zeros(len(x), dtype=torch.int64))).double().mean().item()
    lines = records(straight)
    assert lines[-1]["validation_loss"] == pytest.approx(loss, rel=1e-6)
    assert [(line["epoch"], line["step"]) for line in lines] == [(1, STEPS), (2, 2 * STEPS), (3, 3 * STEPS)]
    assert lines[0]["lr"] == pytest.approx(0.01 * STEPS / (STEPS + 1), rel=1e-12)  # the last step of warming up
    assert lines[-1]["train_loss"] < 0.5 * lines[0]["train_loss"]


@pytest.mark.parametrize("backwards", [False, True])
def test_training_stops_when_validation_gets_no_better(
    backwards: bool, here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses 1, 2, 3 ... with patience 2 end after epoch 3; 4, 3, 2, 1 never."""
    monkeypatch.setattr(
        Trainer, "evaluate", lambda self: float(9 - self.progress.epoch if backwards else 1 + self.progress.epoch)
    )
    assert here.train(tmp_path, epochs=4, patience=2) == 0
    found = status(tmp_path)
    assert (found["epoch"], found["best_epoch"]) == ((4, 4) if backwards else (3, 1))
    bits = last(tmp_path)
    same = [bits[name] == bits[name.replace("best.", "model.")] for name in bits if name.startswith("best.")]
    assert set(same) == {backwards}


def test_a_step_is_the_step_plain_torch_takes(here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """First step: the gradient is that of the mean loss over the batch, clipped to the norm asked for."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def watched(self: comm.Comm, optimizer: torch.optim.Optimizer) -> None:
        got = [parameter.grad.clone() for group in optimizer.param_groups for parameter in group["params"]]
        model.zero_grad()
        model.losses(batches[len(seen)]).mean().backward()
        wanted = [parameter.grad.clone() for parameter in model.parameters()]
        seen.append(tuple(torch.cat([part.flatten() for part in parts]) for parts in (got, wanted)))
        raise KeyboardInterrupt

    batches: list[Batch] = []
    step = Trainer.step

    def remember(self: Trainer, share: Any, timing: Any) -> None:
        nonlocal model
        model = self.model
        batches.append(self.batch(share, 0))
        step(self, share, timing)

    model: Any = None
    monkeypatch.setattr(comm.Comm, "step", watched)
    monkeypatch.setattr(Trainer, "step", remember)
    assert here.train(tmp_path / "free", clip=None) == 130
    assert here.train(tmp_path / "clipped", clip=0.01) == 130
    (free, plain), (clipped, _) = seen
    assert torch.allclose(free, plain, rtol=1e-5, atol=1e-7)
    assert plain.norm() > 0.02
    assert torch.allclose(clipped, plain * 0.01 / plain.norm(), rtol=1e-4, atol=1e-8)


def test_keys_differ_between_samples_epochs_and_seeds_and_ignore_the_order() -> None:
    rows = np.arange(10_000)
    some = [keys(seed, epoch, rows) for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(np.concatenate(some).tolist())) == 40_000
    assert keys(0, 1, rows[::-1]).tolist() == some[1][::-1].tolist()


@pytest.fixture
def loaders() -> Iterator[Callable[[], int]]:
    yield lambda: sum(thread.name == "loader" for thread in threading.enumerate())


def test_a_defect_ends_the_reader_at_once(
    here: Here, tmp_path: Path, loaders: Callable[[], int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Not when the traceback is forgotten, which may be while Python is closing down."""
    alive: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comm, "failed", lambda lines, code: alive.append(loaders()) or lines)
        assert here.train(tmp_path, mishaps=[("step 5", "defect")]) == 1
    assert alive == [0]
    assert capsys.readouterr().err.endswith("ZeroDivisionError: planted\n")


def assert_one_line(code: int, start: str, capsys: pytest.CaptureFixture[str]) -> None:
    error = capsys.readouterr().err
    assert (code, error.count("\n")) == (2, 1), error
    assert error.startswith(f"kilonode: {start}"), error


def test_more_ranks_than_samples_in_a_batch_are_refused(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    crowd = comm.Comm()
    crowd.size = here.batch + 1
    monkeypatch.setattr(comm, "start", lambda backend: crowd)
    assert_one_line(
        here.train(tmp_path),
        f"expected at most {here.batch} ranks, one for each sample of a global batch, got {here.batch + 1}; ",
        capsys,
    )


def test_what_is_missing_or_broken_is_one_line(
    here: Here, straight: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = Here(tmp_path / "no/index.json", here.batch)
    assert_one_line(nowhere.train(tmp_path), "expected a file, got nothing (", capsys)
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"\x80\x04 not safetensors")
    command = f"evaluate --case reactor_neutrinos --task autoencoder --data toy --store {here.store}"
    files = f"--weights {weights} --output {tmp_path}/r.json --curves {tmp_path}/c.h5"
    assert_one_line(leaves(*command.split(), *files.split()), "expected weights of reactor_neutrinos/auto", capsys)
    assert_one_line(here.train(tmp_path, "--time-left", "soon"), "expected [days-]", capsys)
    (straight / "copy").mkdir()
    assert_one_line(finish(straight / "copy"), "expected a file, got nothing (", capsys)
