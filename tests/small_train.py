"""``kilonode`` with a tiny network, and with the mishaps a test plants: ``python small_train.py PLAN VERB ...``.

PLAN is JSON: ``settings`` lie over the task's own, ``mishaps`` is a list of ``{at, what, rank}``.

``at``: ``early`` (before MPI), ``start``; ``step K``, ``validation E`` (before the optimiser step or the epoch of that
number, from 0), ``sample`` (before each batch of a validation); ``save K`` (before the checkpoint of step K),
``tensors K`` (between its two files).
``what``: a signal's name, ``user``, ``defect``, ``nan``, ``sleep SECONDS``, ``fill FILE`` (with all that the disk
holds), ``seal MOUNT`` (read-only), ``hog`` (memory). ``rank``: on which; left out: on all.

Tests import it too: ``Here`` trains in their own process.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Patch = Callable[[Any, str, Any], None]
Json = dict[str, Any]
STEPS, EPOCHS = 16, 3
"""Optimiser steps an epoch, with the batch that ``Here`` chooses, and epochs."""
TINY: Json = {
    "model": {"filters": 4, "code": 4},
    "training": {"epochs": EPOCHS, "lr": 0.01, "schedule": "cosine", "warmup_epochs": 1, "patience": 99, "clip": 5.0},
}
TIMES = ("time", "samples_per_s", "input_wait", "communication_wait", "step_ms")


def plant(plan: Json, patch: Patch = setattr) -> None:
    """Make the settings small and arm the mishaps; ``patch`` is ``setattr`` or ``monkeypatch.setattr``."""
    from kilonode import comm, config

    task, start = config.task, comm.start
    small = config.merged(TINY, plan.get("settings", {}))

    def small_task(*names: str) -> Json:
        happen(plan, "early", int(os.environ.get("PMI_RANK", "0")))
        return config.merged(task(*names), small)

    def armed_start(backend: str) -> comm.Comm:
        ranks = start(backend)
        arm(lambda point, trainer=None: happen(plan, point, ranks.rank, trainer), patch)  # torch may come now
        happen(plan, "start", ranks.rank)
        return ranks

    patch(config, "task", small_task)
    patch(comm, "start", armed_start)


def arm(at: Callable[..., None], patch: Patch) -> None:
    """Call ``at`` at every point of a training."""
    from kilonode.training import checkpoint
    from kilonode.training.loop import Trainer

    def before(name: str, point: Callable[[Trainer], str]) -> None:
        method = getattr(Trainer, name)

        def watched(self: Trainer, *arguments: Any) -> Any:
            at(point(self), self)
            return method(self, *arguments)

        patch(Trainer, name, watched)

    before("step", lambda trainer: f"step {trainer.progress.step}")
    before("evaluate", lambda trainer: f"validation {trainer.progress.epoch}")
    before("batch", lambda trainer: "none" if trainer.model.training else "sample")
    before("_save", lambda trainer: f"save {trainer.progress.step}")
    write_json = checkpoint.write_json

    def watched_write(path: Path, content: Json) -> None:
        at(f"tensors {content['step']}")
        write_json(path, content)

    patch(checkpoint, "write_json", watched_write)


def happen(plan: Json, point: str, rank: int, trainer: Any = None) -> None:
    """What the plan has for this point and this rank."""
    from kilonode.errors import UserError

    for mishap in plan.get("mishaps", []):
        if mishap["at"] != point or mishap.get("rank", rank) != rank:
            continue
        if mishap["what"] == "user":
            raise UserError("expected no test, got a planted error (here); go on")
        if mishap["what"] == "defect":
            raise ZeroDivisionError("planted")
        what, _, argument = mishap["what"].partition(" ")
        if what in SPECIAL:
            SPECIAL[what](argument)
        elif mishap["what"] == "nan":
            next(trainer.model.parameters()).data.fill_(float("nan"))
        else:
            os.kill(os.getpid(), signal.Signals[mishap["what"]])


def fill(path: str) -> None:
    """Until nothing fits."""
    with contextlib.suppress(OSError), open(path, "wb", buffering=0) as stream:
        while True:
            stream.write(bytes(4096))


def hog(_: str) -> None:
    """More memory than any machine has."""
    import torch

    torch.empty(1 << 50, dtype=torch.uint8)


SPECIAL: dict[str, Callable[[str], Any]] = {
    "sleep": lambda seconds: time.sleep(float(seconds)),
    "fill": fill,
    "seal": lambda mount: subprocess.run(["mount", "-o", "remount,ro", mount], check=True),
    "hog": hog,
}


@dataclass
class Here:
    """A store of pairs, and a command line to train on it in this process or in one of its own."""

    store: Path
    batch: int

    def arguments(self, state: Path, *options: str) -> list[str]:
        named = ["train", "--case", "reactor_neutrinos", "--task", "autoencoder", "--data", "toy"]
        return [*named, "--store", str(self.store), "--state", str(state), *options]

    def plan(self, *mishaps: tuple[Any, ...], **settings: Any) -> Json:
        """Mishaps are (at, what) or (at, what, rank)."""
        names = ("at", "what", "rank")
        return {
            "settings": {"training": {"batch": self.batch, **settings}},
            "mishaps": [dict(zip(names, mishap, strict=False)) for mishap in mishaps],
        }

    def command(self, state: Path, *options: str, mishaps: Any = (), **settings: Any) -> list[str]:
        """What ``python`` is given for a training in a process of its own."""
        return [__file__, json.dumps(self.plan(*mishaps, **settings)), *self.arguments(state, *options)]

    def start(self, state: Path, **more: Any) -> subprocess.Popen[str]:
        words = [sys.executable, *self.command(state, **more)]
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def train(self, state: Path, *options: str, mishaps: Any = (), **settings: Any) -> int:
        """Exit code of a training in this process; of that only the one thread stays."""
        import pytest
        import torch

        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OMP_NUM_THREADS", "1")
            patch.delenv("KILONODE_STOP", raising=False)
            plant(self.plan(*mishaps, **settings), patch.setattr)
            try:
                return leaves(*self.arguments(state, *options))
            finally:
                os.environ.pop("KILONODE_STOP", None)
                torch.set_flush_denormal(False)
                for number, handler in handlers.items():
                    signal.signal(number, handler)


def here(toy: Path) -> Here:
    """On the toy tier, with a batch that makes ``STEPS`` steps an epoch."""
    index = toy / "store/pairs/index.json"
    return Here(index, -(-json.loads(index.read_text())["rows"]["train"] // STEPS))


def leaves(*arguments: str) -> int:
    """Exit code of a verb in this process."""
    from kilonode import cli

    try:
        cli.main(list(arguments))
    except SystemExit as end:
        return int(end.code or 0)
    raise AssertionError("main returned")


def finish(state: Path) -> int:
    return leaves("finish", f"--state={state}", f"--weights={state}/w.safetensors", f"--metrics={state}/m.json")


def status(state: Path) -> Json:
    content: Json = json.loads((state / "status.json").read_text())
    return content


def checkpoints(state: Path) -> list[int]:
    """Steps of the checkpoints that are complete."""
    return sorted(int(path.stem.split("-")[1]) for path in state.glob("checkpoint-*.json"))


def newest(state: Path) -> tuple[dict[str, Any], Json]:
    from kilonode.training import checkpoint

    found = checkpoint.newest(state, status(state)["identity"])
    assert found is not None
    return found


def last(state: Path) -> dict[str, bytes]:
    """Bits of everything in the newest checkpoint: model, best model, optimiser, random state."""
    return {name: tensor.numpy().tobytes() for name, tensor in newest(state)[0].items()}


def records(state: Path) -> list[Json]:
    """What each epoch left in ``metrics.jsonl``, without the times."""
    lines = [json.loads(line) for line in (state / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def assert_same_run(state: Path, other: Path) -> None:
    assert records(state) == records(other)
    assert last(state) == last(other)


if __name__ == "__main__":
    from kilonode import cli

    plant(json.loads(sys.argv.pop(1)))
    cli.main()
