"""One measured training: what is trained, on how many ranks and threads, with which batch; and the file it ends in."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from kilonode import config
from kilonode.errors import UserError
from kilonode.records import Json

MODES = ("weak", "strong")
"""Every rank keeps its batch; all ranks share one batch."""
INPUTS = ("real", "dummy")
"""From the store; the same first batch again and again, from memory."""


@dataclass(frozen=True)
class Plan:
    """A short training on some ranks.

    Attributes
    ----------
    case, task, tier : str
        What is trained, on which simulation.
    store : str
        Index of its store.
    ranks, threads : int
        MPI ranks in all, and OpenMP threads of each.
    batch : int
        Samples between two optimiser steps, all ranks together.
    precision : str
        fp32, bf16 or auto.
    epochs : int
        The first warms up and gives no rate.
    nodes : int
        Over which the ranks are spread evenly; 0: this machine, without a scheduler.
    mode, input : str
        Of ``MODES`` (or ``node``) and ``INPUTS``.
    repeat : int
        Which of several equal runs.
    seed : int
        Of weights, order and noise.
    """

    case: str
    task: str
    tier: str
    store: str
    ranks: int
    threads: int
    batch: int
    precision: str
    epochs: int
    nodes: int = 0
    mode: str = "node"
    input: str = "real"
    repeat: int = 0
    seed: int = 0

    @property
    def name(self) -> str:
        """Of its record: whatever makes two runs differ within a folder of one task."""
        place = f"n{self.nodes}-" if self.nodes else ""
        size = f"r{self.ranks}-t{self.threads}-b{self.batch}-{self.precision}-e{self.epochs}"
        return f"{self.mode}-{self.input}-{place}{size}-s{self.seed}-{self.repeat}"

    def record(self, folder: Path) -> Path:
        """Where its record stands when it has been measured."""
        return folder / "runs" / f"{self.name}.json"

    def to_json(self) -> str:
        """One line, for the ranks."""
        return json.dumps(asdict(self))


def of_json(text: str) -> Plan:
    """The plan that ``to_json`` wrote."""
    return Plan(**json.loads(text))


def settings(plan: Plan) -> Json:
    """The task as the training stage completes it, with the plan's rules."""
    from kilonode.bench._steps import settings_of

    changed = {name: getattr(plan, name) for name in ("batch", "threads", "precision", "epochs")}
    return settings_of(plan.case, plan.tier, plan.task, **changed, patience=plan.epochs)


def task_of(case: str, tier: str, task: str | None) -> tuple[str, Json]:
    """The task that is asked for, or the case's first; and its settings."""
    name = task or next(iter(config.resolve(case, tier)["tasks"]))
    return name, config.task(case, tier, name)


def tasks(case: str, tier: str) -> list[str]:
    """All tasks of a case."""
    return list(config.resolve(case, tier)["tasks"])


def counts(text: str) -> tuple[int, ...]:
    """``1,2,4``: rising.

    Raises
    ------
    UserError
        Something else.
    """
    words = text.split(",")
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise UserError(f"expected counts, got {text!r} (--ranks, --nodes or --batch); write 1,2,4")
    return tuple(sorted({int(word) for word in words}))
