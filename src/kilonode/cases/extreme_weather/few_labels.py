"""The label-fraction curve: how many labels the reconstruction of unlabelled frames is worth.

Shape legend: F labelled frames of the test, N training frames, S seeds.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from kilonode import intervals
from kilonode.cases.contract import Trained
from kilonode.cases.extreme_weather import detector, rivals, scores, trainings
from kilonode.cases.extreme_weather.labels import UNLABELLED
from kilonode.cases.extreme_weather.reports import Report
from kilonode.cases.extreme_weather.rules import CLASSES

OVERLAP = 0.1
ABOUT = "mean average precision at 0.1 against the truth, mean over seeds; same steps, same labelled frames"


def measure(trained: Trained, report: Report, test: Any, reference: np.ndarray) -> None:
    """Train with and without the reconstruction on shares of the labelled frames, several seeds, equal steps.

    Parameters
    ----------
    trained : Trained
        ``measures`` of its settings has ``fractions`` (none: nothing is done), ``seeds``, ``epochs``, and ``by``: what
        loses its labels as one, ``frames`` or whole ``sequences``, as when somebody labels one year and no other.
    report : Report
        Of the labelled test frames.
    test : box_measures.Frames
        Those frames.
    reference : ndarray
        Boxes of those frames, (F, N, 5).
    """
    asked = trained.settings.get("measures", {})
    if not asked.get("fractions"):
        return
    labels = trained.stores["train"].read(trained.settings["target"])
    groups = trained.stores["train"].read("group") if asked.get("by") == "sequences" else None
    x = trained.network.scaler(trained.raw["train"])
    rules = trained.settings["training"]
    steps = max(1, asked["epochs"] * len(x) // rules["batch"])
    weight = trained.settings["model"]["reconstruction"]
    curves: dict[float, list[list[float]]] = {0.0: [], weight: []}
    number, total = itertools.count(1), len(asked["fractions"]) * asked["seeds"] * len(curves)
    for share in asked["fractions"]:
        found: dict[float, list[Any]] = {0.0: [], weight: []}
        for seed in range(asked["seeds"]):
            y, pool = hidden(labels, share, seed, groups)
            for lam in found:
                torch.manual_seed(seed)
                settings = {**detector.DEFAULTS, **trained.settings["model"], "reconstruction": lam}
                model = detector.build(settings, x.shape[1:])
                what = f"few labels, training {next(number)} of {total}, step"
                trainings.fit(model, x, y, steps, rules, seed, pool, what)
                found[lam].append(_metric(model, trained, test, reference))
        estimates = {}
        for lam, metrics in found.items():
            method = "with reconstruction" if lam else "labels alone"
            name, extra = f"map_{share:.0%}_labels", {"seeds": asked["seeds"], "labelled_frames": len(pool)}
            estimates[lam] = report.add("few_labels", name, method, _mean(metrics), ABOUT, role="network", **extra)
            spread = [metric(np.ones(len(reference))) for metric in metrics]
            curves[lam].append([share, estimates[lam].value, *estimates[lam].interval, min(spread), max(spread)])
        gain = intervals.difference(estimates[weight], estimates[0.0])
        report.put("few_labels", f"gain_{share:.0%}_labels", "with reconstruction", gain, ABOUT, role="network")
    report.arrays["few_labels"] = np.array([curves[weight], curves[0.0]])
    worth = worth_of(report.arrays["few_labels"])
    about = "labels that training without reconstruction needs for what reconstruction has at 10 %, as a multiple"
    report.plain("few_labels", "worth_at_10%", "with reconstruction", worth, about, role="network")


def hidden(
    labels: np.ndarray, share: float, seed: int, groups: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Labels (N, R, 5) of a share of the labelled frames, or of the sequences (N,), at least one; and their rows."""
    rows, rng = np.flatnonzero(rivals.looked_at(labels)), np.random.default_rng(seed)
    if groups is None:
        kept = rng.permutation(rows)[: max(1, round(share * len(rows)))]
    else:
        ids = rng.permutation(np.unique(groups[rows]))
        kept = rows[np.isin(groups[rows], ids[: max(1, round(share * len(ids)))])]
    y = np.full_like(labels, UNLABELLED)
    y[kept] = labels[kept]
    return y, np.sort(kept)


def worth_of(curves: np.ndarray, share: float = 0.1) -> float:
    """Share of labels at which the second curve reaches the first one's value at ``share``, over ``share``.

    ``curves`` (2, K, ...) with the share of labels and the value first; NaN where it is not reached or not asked.
    """
    shares, first = curves[0, :, 0], curves[0, :, 1]
    here = np.flatnonzero(np.isclose(shares, share))
    if not len(here):
        return float("nan")
    best = np.maximum.accumulate(curves[1, :, 1])
    wanted = first[here[0]]
    if wanted > best[-1] or wanted <= best[0]:
        return float("nan")
    return float(np.exp(np.interp(wanted, best, np.log(shares))) / share)


def _metric(model: Any, trained: Trained, test: Any, reference: np.ndarray) -> intervals.Metric:
    said = model.found(rivals.outputs(model, trained.network.scaler, test.fields))
    shape = (test.fields.shape[-2], test.fields.shape[-1])
    found = [scores.match(said, reference, kind, OVERLAP, shape, test.truth is None) for kind in range(len(CLASSES))]
    return scores.mean_of([scores.average_precision(one) for one in found])


def _mean(metrics: Sequence[intervals.Metric]) -> intervals.Metric:
    return lambda weights: float(np.mean([metric(weights) for metric in metrics]))
