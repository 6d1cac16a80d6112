"""Supervised tasks: the network's classes against tuned classical methods on the same split."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kilonode import intervals
from kilonode.cases.contract import Case, Estimator
from kilonode.data.split import SPLITS
from kilonode.data.store import Store
from kilonode.evaluation.network import Network
from kilonode.evaluation.read_outs import Curves
from kilonode.progress import progress
from kilonode.records import Json, figure, read_json

BUDGET = 8
"""Settings tried for each classical method, at most; the network has the settings of ``case.yaml``."""


def compare(
    case: Case,
    task: str,
    settings: Json,
    network: Network,
    raw: Mapping[str, np.ndarray],
    stores: dict[str, Store],
    tuned: Path | None = None,
) -> tuple[list[Json], Curves]:
    """Accuracy and F1 of the network and of every classical method, on test groups, with paired differences.

    Classical methods are fitted on training groups and chosen on validation groups, like the network's epochs.
    """
    y = {split: stores[split].read(settings["target"]).astype(np.int64) for split in SPLITS}
    names = stores["test"].fields[settings["target"]].get("labels", {})
    estimators: dict[str, Estimator] = case.baseline.estimators(task)
    blocks: dict[str, dict[str, np.ndarray]] = {}
    if any(estimator.inputs == "pixels" for estimator in estimators.values()):  # as large as the data
        blocks["pixels"] = {split: network.scaler(raw[split]).reshape(len(raw[split]), -1) for split in SPLITS}
    for split in SPLITS:
        for name, block in case.baseline.features(task, network.scaler.select(raw[split])).items():
            blocks.setdefault(name, {})[split] = block
    said = {"network": network.outputs(raw["test"]).argmax(axis=1)}
    searches = {method: _search(tuned, method) for method in ("network", "baseline")}
    tried: dict[str, Json] = {"network": {"trials": n} if (n := searches["network"].get("trials")) else {}}
    searched: Json = searches["baseline"].get("methods", {})
    for name in progress(estimators, len(estimators), f"evaluate {case.name}/{task}: classical methods"):
        said[name], tried[name] = _tuned(estimators[name], blocks, y, searched.get(name))
    rows = _rows(said, tried, y["test"], stores["test"].read("group"), names)
    return rows, {
        settings["target"]: {name: (y["test"], answer, np.ones(len(answer))) for name, answer in said.items()}
    }


def _search(tuned: Path | None, method: str) -> Json:
    """What ``tune`` found for a method, with the number of its trials; nothing where it did not search."""
    path = tuned / method / "best.json" if tuned is not None else None
    found: Json = read_json(path) if path is not None and path.exists() else {}
    return {**found, "trials": found["conditions"]["trials"]} if found else {}


def choices(space: Any) -> list[dict[str, Any]]:
    """Every combination of a search space, thinned evenly to the budget."""
    combinations = [dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())]
    keep = np.unique(np.linspace(0, len(combinations) - 1, min(BUDGET, len(combinations))).round().astype(int))
    return [combinations[k] for k in keep]


def _tuned(
    estimator: Estimator, blocks: dict[str, dict[str, np.ndarray]], y: dict[str, np.ndarray], searched: Json | None
) -> tuple[np.ndarray, Json]:
    """Test answers of the setting best on validation, and what was tried; ``tune`` may have searched before."""
    x, trials = blocks[estimator.inputs], []
    for choice in choices(estimator.space) if searched is None else [searched["choice"]]:
        fitted = estimator.make(**choice).fit(x["train"], y["train"])
        trials.append((float((fitted.predict(x["validation"]) == y["validation"]).mean()), choice, fitted))
    score, choice, winner = max(trials, key=lambda trial: trial[0])
    answer: np.ndarray = winner.predict(x["test"])
    return answer, {
        "trials": searched["trials"] if searched else len(trials),
        "chosen": choice,
        "validation_accuracy": score,
    }


def _rows(
    said: dict[str, np.ndarray], tried: dict[str, Json], truth: np.ndarray, groups: np.ndarray, names: Json
) -> list[Json]:
    resampled = intervals.resamples(groups)
    found: list[Json] = []
    accuracies = {}
    values = [int(value) for value in np.unique(truth)]
    for method, answer in said.items():
        labels: Json = {
            "question": "class",
            "about": "which class a sample belongs to",
            "method": method,
            "role": "network" if method == "network" else "baseline",
            "n": len(truth),
            "groups": len(np.unique(groups)),
        }
        accuracies[method] = intervals.bootstrap(intervals.accuracy(truth, answer), resampled)
        metrics = {"accuracy": accuracies[method]}
        for value in values:
            name = names.get(str(value), str(value))
            metrics[f"f1_{name}"] = intervals.bootstrap(intervals.f1(truth, answer, value), resampled)
        for metric, estimate in metrics.items():
            found.append(figure("", estimate.value, "1", estimate.interval, metric=metric, **labels, **tried[method]))
    for method in said:
        if method != "network":
            gain = intervals.difference(accuracies["network"], accuracies[method])
            labels = {
                "question": "class",
                "about": "",
                "method": "network",
                "role": "network",
                "against": method,
                "n": len(truth),
            }
            found.append(figure("", gain.value, "1", gain.interval, metric=f"accuracy_gain_on_{method}", **labels))
    return found
