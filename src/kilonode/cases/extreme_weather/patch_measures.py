"""Patches: right by the labels and right by the truth, other networks, and which storms and negatives are mistaken.

Shape legend: N patches, C channels, h rows, w columns.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch

from kilonode import intervals
from kilonode.cases.contract import Model, Trained
from kilonode.cases.extreme_weather import models, trainings
from kilonode.cases.extreme_weather.reports import Report
from kilonode.cases.extreme_weather.storms import KINDS

WINDS = (0.0, 17.0, 25.0, 33.0, 200.0)
"""Bins of the largest wind, m/s."""
OTHERS = {
    "pyramid": ("pyramid", False),
    "residual": ("residual", False),
    "each patch standardised": ("published", True),
}
"""Networks beside the main one: their variant, and whether absolute pressure and moisture are taken from them."""
SHOWN = 6
"""Patches of each sort that are drawn."""


def measure(trained: Trained, report: Report) -> None:
    """Fill the report with everything that patches tell."""
    test = trained.stores["test"]
    y = test.read(trained.settings["target"]).astype(int)
    logits = trained.network.outputs(trained.raw["test"]).astype(np.float64)
    margin, said = logits[:, 1] - logits[:, 0], logits.argmax(axis=1)
    report.add("class", "auc", "network", intervals.auc(y, margin), "which class a sample belongs to")
    _examples(trained, report, y, said, margin)
    _networks(trained, report, y, said)
    known = [y, test.read("truth/y").astype(int)] if trained.simulated else [y]
    report.arrays["confusion"] = np.array([np.bincount(2 * what + said, minlength=4).reshape(2, 2) for what in known])
    if trained.simulated:
        _truth(trained, report, y, said)


def _truth(trained: Trained, report: Report, y: np.ndarray, said: np.ndarray) -> None:
    """Labels are heuristics: how right is the network by the truth, and how right are they."""
    test = trained.stores["test"]
    true, kind, storm = (test.read(f"truth/{name}") for name in ("y", "kind", "storm"))
    rule = test.read("truth/rule").astype(int)
    about = "against the true class: by the wind of the storm, or the length of the river"
    report.add("truth", "accuracy", "network", intervals.accuracy(true, said), about)
    report.add("truth", "accuracy", "labels", intervals.accuracy(true, y), about)
    about = "labels with their errors against the rule without them: nothing can be right more often"
    report.add("class", "accuracy", "labels", intervals.accuracy(y, rule), about)
    for number in np.unique(kind):
        here = (kind == number).astype(float) * (y == 0)
        if here.sum():
            wrong = _share(said == 1, here)
            about = f"share of negatives called positive; {int(here.sum())} patches"
            report.add("kinds", f"false_alarms_{KINDS[int(number)].replace(' ', '_')}", "network", wrong, about)
    for low, high in pairwise(WINDS):
        here = ((storm[:, 1] >= low) & (storm[:, 1] < high) & (true == 1)).astype(float)
        if low and here.sum():
            name = f"recall_{low:.0f}_m_s" if high > 100 else f"recall_{low:.0f}_to_{high:.0f}_m_s"
            about = f"share of true cyclones of this largest wind called positive; {int(here.sum())} patches"
            for method, answer in (("network", said), ("labels", y)):
                report.add("strength", name, method, _share(answer == 1, here), about)
    apart = test.read("truth/storm")[kind > 0][:, 7:]
    about = "standard deviation of the storm's distance from the middle, pixels"
    report.plain("controls", "jitter", "simulation", float(apart.std()), about)


def _share(hit: np.ndarray, here: np.ndarray) -> intervals.Metric:
    """Weighted share of hits among some samples; NaN without one."""

    def metric(weights: np.ndarray) -> float:
        total = (weights * here).sum()
        return float((weights * here * hit).sum() / total) if total > 0 else float("nan")

    return metric


def _networks(trained: Trained, report: Report, y: np.ndarray, said: np.ndarray) -> None:
    """Those of ``OTHERS`` that the settings ask for, after as many steps."""
    scaler, rules = trained.network.scaler, trained.settings["training"]
    x = {split: scaler(trained.raw[split]) for split in ("train", "test")}
    labels = trained.stores["train"].read(trained.settings["target"])
    steps = max(1, rules["epochs"] * len(labels) // rules["batch"])
    base = report.add("networks", "accuracy", "network", intervals.accuracy(y, said), "networks with the same steps")
    for method in trained.settings.get("measures", {}).get("networks", ()):
        variant, alone = OTHERS[method]
        torch.manual_seed(0)
        given = {split: _alone(values) if alone else values for split, values in x.items()}
        model = models.build(trained.task, {**trained.settings["model"], "variant": variant}, given["train"].shape[1:])
        trainings.fit(model, given["train"], labels, steps, rules, 0, what=f"{method}, step")
        answer = _answers(model, given["test"])
        other = report.add("networks", "accuracy", method, intervals.accuracy(y, answer), "", role="network")
        gain = intervals.difference(base, other)
        report.put("networks", f"accuracy_gain_on_{method.replace(' ', '_')}", "network", gain, against=method)


def _alone(x: np.ndarray) -> np.ndarray:
    """Each patch and channel with mean zero and deviation one: absolute pressure and moisture are gone."""
    mean, std = x.mean(axis=(2, 3), keepdims=True), x.std(axis=(2, 3), keepdims=True)
    return ((x - mean) / (std + 1e-6)).astype(np.float32)


def _answers(model: Model, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return np.concatenate(
            [model(torch.from_numpy(x[k : k + 256])).argmax(1).numpy() for k in range(0, len(x), 256)]
        )


def _examples(trained: Trained, report: Report, y: np.ndarray, said: np.ndarray, margin: np.ndarray) -> None:
    """Patches for the figures: right ones of both classes, and those the network is most wrong about."""
    wrong = np.flatnonzero(said != y)
    wrong = wrong[np.argsort(-np.abs(margin[wrong]), kind="stable")][:SHOWN]
    rows = [np.flatnonzero((said == y) & (y == value))[:SHOWN] for value in (1, 0)]
    for name, chosen in (("positive", rows[0]), ("negative", rows[1]), ("mistaken", wrong)):
        report.arrays[f"patches_{name}"] = trained.raw["test"][chosen]
        kind = trained.stores["test"].take("truth/kind", chosen) if trained.simulated else np.full(len(chosen), 255)
        report.arrays[f"patches_{name}_about"] = np.stack([y[chosen], said[chosen], kind], axis=1)
