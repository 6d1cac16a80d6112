"""Saliency held against the known truth of a simulation, and against two rivals that know nothing.

One rival is the same network with random weights: what its maps show is the architecture (Adebayo et al. 2018,
arXiv:1810.03292). The other is the brightness of the input itself, which needs no network.

Shape legend: N samples, C channels, H rows, W columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata

from kilonode import intervals
from kilonode.cases import contract
from kilonode.data.store import Store
from kilonode.evaluation.network import Network
from kilonode.explain import attribute
from kilonode.intervals import Estimate
from kilonode.records import Json, figure
from kilonode.training.build import build

SAMPLES = 64
"""Samples scored where the case says nothing."""
CANDIDATES = 4
"""So many times as many are looked at, for those in which the truth names some pixels and not all."""
UNTRAINED = 4
"""Networks of random weights where the case says nothing: their scores scatter more than intervals over groups tell."""
BRIGHTNESS, RANDOM = "input_brightness", "_random_weights"


@dataclass(frozen=True)
class Scored:
    """Rows for the record, and what was scored, for a look."""

    rows: list[Json]
    inputs: np.ndarray
    """float32 (N, C, H, W)."""
    truth: np.ndarray
    """bool (N, C, H, W)."""
    maps: dict[str, np.ndarray]
    """Method -> (N, C, H, W), absolute."""
    about: str


def scored(case: str, task: str, settings: Json, network: Network, store: Store, rows: np.ndarray) -> Scored:
    """How well each map of each method ranks the true pixels above all others.

    Parameters
    ----------
    case, task, settings
        What was trained; ``settings`` has ``explain.saliency``.
    network : Network
        With its weights.
    store : Store
        Test samples, truth open.
    rows : ndarray
        int64, samples that may be used; the first that have a truth are.
    """
    asked = settings["explain"]["saliency"]
    wanted = asked.get("samples", SAMPLES)
    rows = rows[: CANDIDATES * wanted]
    fields = {name: store.take(name, rows) for name in asked["fields"]}
    truth = contract.load(case).truth.pixels(task, fields, network.shape)
    truth = np.broadcast_to(truth, (len(rows), *network.shape))
    flat = truth.reshape(len(rows), -1)
    usable = np.flatnonzero(flat.any(axis=1) & ~flat.all(axis=1))[:wanted]
    rows, truth = rows[usable], truth[usable]
    x = network.scaler(store.take(network.scaler.field, rows))
    of_code, patch = not settings.get("target"), asked.get("patch")
    found = attribute.maps(attribute.answer(network.model, of_code), x, patch)
    score = {method: truth_auc(values, truth) for method, values in found.items()}
    score[BRIGHTNESS] = truth_auc(np.abs(x), truth)
    rivals = [
        attribute.maps(attribute.answer(model, of_code), x, patch)
        for model in _untrained(case, task, settings, network)
    ]
    for method in found:
        score[method + RANDOM] = np.stack([truth_auc(values[method], truth) for values in rivals])
    about = asked.get("about", "")
    made = compared(score, store.take("group", rows), f"how well a map ranks the true pixels: {about}")
    return Scored(made, x, truth, {**found, "gradients" + RANDOM: rivals[0]["gradients"]}, about)


def truth_auc(attribution: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each map for the true pixels of its sample; 0.5 is chance, ties count half.

    Parameters
    ----------
    attribution : ndarray
        (N, C, H, W).
    truth : ndarray
        bool (N, C, H, W); in every sample some and not all.

    Returns
    -------
    ndarray
        float64 (N,).
    """
    hit = truth.reshape(len(truth), -1)
    ranks = rankdata(attribution.reshape(len(truth), -1), axis=1)
    up = hit.sum(axis=1)
    wins = (ranks * hit).sum(axis=1) - up * (up + 1) / 2
    return np.asarray(wins / (up * (hit.shape[1] - up)))


def compared(score: dict[str, np.ndarray], groups: np.ndarray, about: str) -> list[Json]:
    """Mean score of every method with its interval, and paired differences to both rivals.

    Parameters
    ----------
    score : dict
        Method -> (N,); a method ``x`` is the network's if ``x_random_weights`` stands beside it, (networks, N).
    groups : ndarray
        (N,), resampled whole.
    about : str
        Of the question, in words.
    """
    resampled = intervals.resamples(groups)
    labels: Json = {"question": "saliency", "about": about, "n": len(groups), "groups": len(np.unique(groups))}
    mean = {
        method: untrained(values, resampled)
        if method.endswith(RANDOM)
        else intervals.bootstrap(intervals.mean(values), resampled)
        for method, values in score.items()
    }

    def row(metric: str, method: str, role: str, estimate: Estimate, **more: Any) -> Json:
        return figure(
            "", estimate.value, "1", estimate.interval, metric=metric, method=method, role=role, **labels, **more
        )

    found = []
    for method, estimate in mean.items():
        role = "baseline" if method == BRIGHTNESS else "control" if method.endswith(RANDOM) else "network"
        found.append(row("truth_auc", method, role, estimate))
    for method in score:
        if method + RANDOM in score:
            for rival, name in ((method + RANDOM, "random_weights"), (BRIGHTNESS, BRIGHTNESS)):
                gain = intervals.difference(mean[method], mean[rival])
                found.append(row(f"truth_auc_over_{name}", method, "network", gain, against=rival))
    return found


def untrained(values: np.ndarray, resampled: np.ndarray) -> Estimate:
    """Score of a network of random weights, whichever: resampled over groups and over networks.

    The few that were made tell how much such networks scatter; one more of them lies within Student's t of their mean.
    With an interval over groups alone, a network that has learned nothing beats two others as often as not.

    Parameters
    ----------
    values : ndarray
        (networks, N) scores.
    resampled : ndarray
        (R, N) from ``intervals.resamples``.
    """
    mean = intervals.bootstrap(intervals.mean(values.mean(axis=0)), resampled)
    count = len(values)
    spread = values.mean(axis=1).std(ddof=1) * np.sqrt(1 + 1 / count)
    drawn = mean.resampled + spread * np.random.default_rng(0).standard_t(count - 1, len(resampled))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(mean.value, (float(low), float(high)), drawn)


def said(rows: list[Json]) -> str:
    """In words: which methods of the network are above chance, random weights and brightness, interval and all."""
    words = []
    rivals = {"chance": ("truth_auc", 0.5), "random weights": ("truth_auc_over_random_weights", 0.0)}
    rivals["the brightness of the input"] = (f"truth_auc_over_{BRIGHTNESS}", 0.0)
    for rival, (metric, least) in rivals.items():
        mine = [row for row in rows if row["metric"] == metric and row["role"] == "network"]
        above = [row["method"].replace("_", " ") for row in mine if row["interval"][0] > least]
        words.append(f"{', '.join(above) if above else 'no method'} above {rival}")
    return "; ".join(words)


def _untrained(case: str, task: str, settings: Json, network: Network) -> list[Any]:
    """Models of the same shape that have learned nothing."""
    made = []
    with torch.random.fork_rng(devices=[]):
        for seed in range(settings["explain"]["saliency"].get("untrained", UNTRAINED)):
            torch.manual_seed(seed)
            made.append(build(case, task, settings["model"], network.shape).eval())
    return made
