"""The one process that owns the studies: hands out trials, keeps results, and sees to it that nobody waits."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

from kilonode.cases import contract
from kilonode.data.store import Store
from kilonode.errors import EXIT_AGAIN
from kilonode.progress import Meter
from kilonode.records import Json, digest
from kilonode.tuning import outputs, space
from kilonode.tuning.pool import Pool
from kilonode.tuning.study import Study, alone, journal
from kilonode.tuning.trial import NETWORK

AHEAD = 3
"""Trials on their way for each worker: enough that one slow trial leaves nobody idle, few enough to learn from."""


class Manager:
    """Hands out trials until all are done, then what the winners have to show on outer test groups.

    Parameters
    ----------
    plan : dict
        From ``planned``.
    pool : Pool
        The workers.
    """

    def __init__(self, plan: Json, pool: Pool) -> None:
        self.plan, self.pool, self.folder = plan, pool, Path(plan["folder"])
        self._lock = alone(self.folder / "state")
        self._storage = journal(self.folder / "state" / "journal.log")
        self.studies = [self._study(number) for number in range(len(plan["folds"]))]
        self._idle: list[int] = []
        self._busy: set[int] = set()
        self._outer: list[Json] | None = None
        self.outer: list[Json] = []
        self.spent: dict[int, float] = {}
        self.last = 0.0
        self._ready: dict[int, float] = {}
        self._news = self._ask = True

    def _study(self, number: int) -> Study:
        plan, settings = self.plan, self.plan["settings"]
        if plan["method"] == NETWORK:
            dimensions = settings["tuning"]["space"]
            searched: Any = [dimensions, settings["model"], settings["training"]]

            def suggest(trial: Any) -> Json:
                return space.suggest(trial, dimensions)
        else:
            estimators = contract.load(plan["case"]).baseline.estimators(plan["task"])
            searched = {name: [repr(estimator.space), estimator.inputs] for name, estimator in estimators.items()}

            def suggest(trial: Any) -> Json:
                return space.suggest_classical(trial, estimators)

        identity = {
            "space": digest(searched),
            "input": settings["input"],
            "store": Store(Path(plan["store"]), "train").index["identity"],
            "fold": plan["folds"][number],
        }
        higher = "target" in settings
        ahead = AHEAD * self.pool.size
        return Study(
            self._storage, f"fold-{number}", suggest, identity, plan["sampler"], plan["seed"], ahead, higher,
            plan["pruning"],
        )  # fmt: skip

    def run(self) -> int:
        """All of it; 0, or 75 after a stop."""
        total = self.plan["trials"] * len(self.studies)
        done = sum("result" in trial.user_attrs for study in self.studies for trial in study.trials)
        what = f"tune {self.plan['case']}/{self.plan['task']} ({self.plan['method']})"
        stopped = False
        with Meter(total, what, done=min(done, total)) as meter:
            while not self._ended():
                if os.environ.get("KILONODE_STOP") and not stopped:
                    stopped = True
                    self.pool.stop()
                for worker, said in self.pool.answers():
                    stopped = self._take(worker, said, meter) or stopped
                for worker in list(self._idle):
                    job = None if stopped else self._job()
                    if job is not None:
                        self._give(worker, job)
                if stopped and not self._busy and len(self._ready) == self.pool.size:
                    break
                if not stopped:
                    self._prepare()
        for worker in range(self.pool.size):
            self.pool.give(worker, None)
        self.pool.close()
        if stopped:
            print("tune: stopped; run the same command to continue", flush=True)
            return EXIT_AGAIN
        busy = self._busy_share()
        shutil.rmtree(self.folder / "running", ignore_errors=True)
        outputs.write(self.plan, self.studies, self.outer, busy, self.pool.size)
        return 0

    def _ended(self) -> bool:
        """Whether all is done; looked at when something has changed, because that reads every trial."""
        news, self._news = self._news, False
        self._ask = self._ask or news
        return news and self._finished()

    def _finished(self) -> bool:
        searched = sum(study.finish(self.plan["trials"]) for study in self.studies) == len(self.studies)
        if not searched:
            return False
        self.last = self.last or time.monotonic()
        if self._outer is None:
            self._outer = [job for number in range(len(self.studies)) for job in self._outer_jobs(number)]
        if self._outer or self._busy:
            return False
        return len(self._ready) == self.pool.size  # a worker that is still starting must not be left behind

    def _outer_jobs(self, number: int) -> list[Json]:
        """The best configuration of a fold, trained on growing shares of its training groups."""
        best = self.studies[number].best()
        if best is None:
            return []
        shared = {"study": f"fold-{number}", "fold": number, "kind": "outer", "bars": {}}
        choice = best.user_attrs["choice"]
        return [
            {**shared, "number": k, "choice": choice, "fraction": fraction}
            for k, fraction in enumerate(self.plan["fractions"])
        ]

    def _prepare(self) -> None:
        """Ask for a trial while all compute: a sampler may need as long as a short trial."""
        if self._ask and self._outer is None:
            self._ask = any(study.prepare(self.plan["trials"]) for study in self._by_trials())

    def _by_trials(self) -> list[Study]:
        """The study that has had the fewest trials first."""
        return sorted(self.studies, key=lambda study: len(study.trials))

    def _job(self) -> Json | None:
        """The next trial of the study that has had the fewest, else what is left to show."""
        if self._outer is not None:
            return self._outer.pop(0) if self._outer else None
        for study in self._by_trials():
            found = study.next(self.plan["trials"])
            if found is not None:
                if found.pop("hopeless"):
                    reason = "it ended the whole search each time it was tried"
                    lost: Json = {"state": "failed", "values": [], "value": None, "reason": reason, "seconds": 0.0}
                    study.keep(found["number"], {**lost, "cpu_s": 0.0, "ranks": 1, "began": time.time()})
                    self._news = True
                    return self._job()
                return {**found, "fold": self.studies.index(study), "kind": "trial"}
        return None

    def _give(self, worker: int, job: Json) -> None:
        self._idle.remove(worker)
        self._busy.add(worker)
        self.pool.give(worker, job)

    def _take(self, worker: int, said: Json, meter: Meter) -> bool:
        """Remember what a worker said; True if it was stopped from outside."""
        self._news = True
        if said.get("ready"):
            self._ready.setdefault(worker, time.monotonic())
            self._idle.append(worker)
            return False
        self._busy.discard(worker)
        if not said.pop("again", False):
            self._idle.append(worker)
        study = self.studies[int(said.pop("study").removeprefix("fold-"))]
        number, kind = said.pop("number"), said.pop("kind")
        if said["state"] == "stopped":
            if kind == "trial":
                study.release(number)
            return True
        if kind == "outer":
            self.outer.append({"fold": self.studies.index(study), "fraction": self.plan["fractions"][number], **said})
            return False
        study.keep(number, {**said, "worker": worker})
        self.spent[worker] = self.spent.get(worker, 0.0) + said["seconds"]
        meter.advance()
        return False

    def _busy_share(self) -> float | None:
        """Share of the workers' time, from the moment each was ready until the last trial ended, spent in trials."""
        if not self.spent:
            return None
        available = sum(self.last - since for since in self._ready.values())
        return sum(self.spent.values()) / available if available > 0 else None
