"""``kilonode`` with a tiny network, and with the mishaps a test plants: ``python small_train.py PLAN VERB ...``.

PLAN is JSON: ``settings`` lie over the task's own, ``mishaps`` is a list of ``{at, what, rank}``.

``at``: ``early`` (before MPI), ``start``; ``step K``, ``validation E`` (before the optimiser step or the epoch of that
number, from 0); ``save K`` (before the checkpoint of step K), ``tensors K`` (between its two files).
``what``: a signal's name, ``user``, ``defect`` or ``nan``. ``rank``: on which; left out: on all.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Patch = Callable[[Any, str, Any], None]
Json = dict[str, Any]
TINY: Json = {
    "model": {"filters": 4, "code": 4},
    "training": {"batch": 256, "epochs": 3, "lr": 0.01, "schedule": "cosine", "warmup_epochs": 1, "patience": 3},
}
STEPS = 16
"""Optimiser steps an epoch of ``TINY`` on the toy tier's 3,888 training pairs."""


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
        if mishap["what"] == "nan":
            next(trainer.model.parameters()).data.fill_(float("nan"))
        else:
            os.kill(os.getpid(), signal.Signals[mishap["what"]])


if __name__ == "__main__":
    from kilonode import cli

    plant(json.loads(sys.argv.pop(1)))
    cli.main()
