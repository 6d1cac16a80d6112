"""One trial: train a network or fit a classical method on the training groups of a fold, judge it on validation groups.

What it gives back is a plain dictionary: it travels between processes.
"""

from __future__ import annotations

import importlib
import json
import shutil
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from kilonode.cases import contract
from kilonode.comm import Comm
from kilonode.errors import UserError
from kilonode.records import Json, digest
from kilonode.tuning import space
from kilonode.tuning.folds import Fold
from kilonode.tuning.study import missed

SAVE_EVERY_S = 60.0
"""A trial that is shorter is not worth a checkpoint: it begins anew after a kill."""
NETWORK, BASELINE = "network", "baseline"


class Runner:
    """Runs trials in one worker; data stay in memory between them.

    Parameters
    ----------
    plan : dict
        What all trials share: ``case``, ``task``, ``settings``, ``store``, ``method``, ``folds``, ``seed``, ``folder``,
        ``time_left``.
    comm : Comm
        The ranks of this worker.
    """

    def __init__(self, plan: Json, comm: Comm) -> None:
        self.plan, self.comm = plan, comm
        self._folds: dict[int, Fold] = {}
        self._blocks: dict[int, dict[str, dict[str, np.ndarray]]] = {}
        if plan["method"] == NETWORK:  # torch takes seconds: before the worker says that it is ready
            importlib.import_module("kilonode.tuning.network")

    def fold(self, number: int) -> Fold:
        """A fold's data, opened once."""
        if number not in self._folds:
            groups = self.plan["folds"][number]
            self._folds[number] = Fold(Path(self.plan["store"]), number, groups, self.plan["settings"])
        return self._folds[number]

    def run(self, job: Json) -> Json:
        """Do a job; a failure becomes a result with its reason."""
        began, cpu = time.time(), time.process_time()
        try:
            result = self._network(job) if self.plan["method"] == NETWORK else self._baseline(job)
        except Exception as error:
            reason = str(error) if isinstance(error, UserError) else traceback.format_exc(limit=-3)
            result = {"state": "failed", "values": [], "value": None, "reason": reason}
        spent = {"seconds": time.time() - began, "cpu_s": time.process_time() - cpu, "ranks": self.comm.size}
        return {**result, **spent, "began": began, "study": job["study"], "number": job["number"], "kind": job["kind"]}

    def _network(self, job: Json) -> Json:
        import torch

        from kilonode.training.build import build
        from kilonode.training.rules import complete
        from kilonode.training.stop import Watch
        from kilonode.tuning.network import TrialTrainer, predict

        fold, fraction = self.fold(job["fold"]), float(job.get("fraction", 1.0))
        settings = space.applied(self.plan["settings"], job["choice"])
        settings["training"] = rules = complete(settings["training"], "trial")
        torch.set_num_threads(rules["threads"])
        torch.set_flush_denormal(True)
        torch.manual_seed(self.plan["seed"])
        loaders = fold.loaders(rules, self.plan["seed"], self.comm, fraction)
        if self.comm.size > rules["batch"]:
            raise UserError(f"expected at most {rules['batch']} ranks a trial, got {self.comm.size} (training.batch)")
        shape = fold.scaler(next(loaders[1].epoch(0)).fields[fold.scaler.field][:1]).shape[1:]
        model = build(self.plan["case"], self.plan["task"], settings["model"], shape)
        state = Path(self.plan["folder"]) / "running" / f"{job['study']}-{job['kind']}-{job['number']}"
        state.mkdir(parents=True, exist_ok=True)
        identity = digest([job["choice"], job["fold"], fraction, self.plan["seed"]])
        trainer = TrialTrainer(
            model, settings, loaders, fold.scaler, self.comm, state, self.plan["seed"], identity, job["bars"]
        )
        status = trainer.fit(Watch(self.comm, self.plan["time_left"], self.plan["since"], None))
        if status == "stopped":
            return {"state": "stopped", "values": [], "value": None, "reason": ""}
        values = trainer.values
        self.comm.barrier()
        if self.comm.is_root:
            shutil.rmtree(state, ignore_errors=True)
        if status == "diverged":
            return {"state": "failed", "values": values, "value": None, "reason": "the loss is not finite"}
        best = trainer.progress.best_epoch
        cut = missed(values, job["bars"], higher="target" in settings)
        found: Json = {"state": "pruned" if cut else "complete", "values": values, "value": values[best], "reason": ""}
        if job["kind"] == "outer":
            test = fold.read("test")
            model.load_state_dict(trainer.best_weights)
            found["outer"] = _outer(test, settings, predict(model, fold.scaler(test[fold.scaler.field])))
        return {**found, "best_epoch": best + 1}

    def _baseline(self, job: Json) -> Json:
        settings, choice = self.plan["settings"], dict(job["choice"])
        name = choice.pop(space.METHOD)
        estimator = contract.load(self.plan["case"]).baseline.estimators(self.plan["task"])[name]
        train = self._features(job["fold"], "train", estimator.inputs, float(job.get("fraction", 1.0)))
        fitted = estimator.make(**choice).fit(*train)
        x, y = self._features(job["fold"], "validation", estimator.inputs)
        value = float((fitted.predict(x) == y).mean())
        found: Json = {"state": "complete", "values": [], "value": value, "reason": ""}
        if job["kind"] == "outer":
            x, _ = self._features(job["fold"], "test", estimator.inputs)
            found["outer"] = _outer(self.fold(job["fold"]).read("test"), settings, _probabilities(fitted, x))
        return found

    def _features(self, number: int, split: str, inputs: str, fraction: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        """Rows (N, F) for a classical method and their classes."""
        fold = self.fold(number)
        held = fold.subset(fraction) if split == "train" else fold.read(split)
        raw, y = held[fold.scaler.field], held[self.plan["settings"]["target"]].astype(np.int64)
        if fraction < 1:
            return self._block(fold, raw, inputs), y
        known = self._blocks.setdefault(number, {}).setdefault(split, {})
        if inputs not in known:
            known[inputs] = self._block(fold, raw, inputs)
        return known[inputs], y

    def _block(self, fold: Fold, raw: np.ndarray, inputs: str) -> np.ndarray:
        if inputs == "pixels":
            return fold.scaler(raw).reshape(len(raw), -1)
        features = contract.load(self.plan["case"]).baseline.features(self.plan["task"], fold.scaler.select(raw))
        return np.asarray(features[inputs])


def _outer(test: dict[str, np.ndarray], settings: Json, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    return {"y": test[settings["target"]].astype(np.int64), "group": test["group"], "probabilities": probabilities}


def _probabilities(fitted: Any, x: np.ndarray) -> np.ndarray:
    """Probability of each class number, float32 (N, K); where a method gives only answers, 1 for its answer."""
    classes = np.asarray(fitted.classes_, dtype=np.int64)
    found = np.zeros((len(x), int(classes.max()) + 1), np.float32)
    if hasattr(fitted, "predict_proba"):
        found[:, classes] = fitted.predict_proba(x)
    else:
        found[np.arange(len(x)), fitted.predict(x)] = 1
    return found


def history(path: Path) -> list[float]:
    """Values of the epochs that a trial's records hold."""
    return [json.loads(line)["value"] for line in path.read_text().splitlines()] if path.exists() else []
