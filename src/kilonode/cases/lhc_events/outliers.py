"""What does not look like background: scores learned from background alone, asked about signals they never saw.

Network, covariance, forest and components are all fitted to training blocks, which hold background alone. The signals
stand in truth, which training cannot open; events of all splits are therefore as good as test events.

Shape legend: N events, F features, U unseen events.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import spearmanr
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.preprocessing import StandardScaler

from kilonode import intervals
from kilonode.cases.contract import Measured, Rows, Trained
from kilonode.cases.lhc_events import jets, rates
from kilonode.cases.lhc_events.samples import Sample, Unseen, names, sample, unseen
from kilonode.records import figure

Json = dict[str, Any]
Scores = dict[str, dict[str, np.ndarray]]
"""Method -> "validation", "test" or "unseen" -> score (N,)."""
RATES = (0.1, 0.01)
"""Shares of background at which the improvement is measured."""
COMPONENTS = 6
AT_ONCE = 256
NETWORK = ("reconstruction_error", "code_distance")


def measure(trained: Trained) -> Measured:
    """Compare the network's scores with the energy, with jet counts and with classical detectors of outliers.

    Parameters
    ----------
    trained : Trained
        The autoencoder.

    Returns
    -------
    Measured
        A question for each signal: weighted AUC, the same within bins of HT, improvement of the significance
        (share of signal / square root of the share of background) at fixed shares of background and at its best.
        Question ``background``: correlation with HT.
    """
    others = unseen(trained.stores)
    if not len(others.process):
        return Measured([])
    scores = _scores(trained, others)
    test, check = sample(trained.stores["test"]), sample(trained.stores["validation"])
    rows = [_correlation(method, score["test"], test.features[:, jets.HT]) for method, score in scores.items()]
    curves: dict[str, dict[str, tuple[np.ndarray, ...]]] = {}
    for number in np.unique(others.process):
        question = names(trained.stores["test"])[int(number)]
        for method in scores:
            found, curve = _rows(question, method, scores[method], (test, check), others, int(number))
            rows += found
            curves.setdefault(question, {})[method] = curve
    return Measured(rows, curves, _arrays(trained, others))


def _scores(trained: Trained, others: Unseen) -> Scores:
    """Scores of every method; large means unusual."""
    features = {split: _features(trained.stores[split]) for split in ("train", "validation", "test")}
    features["unseen"] = others.features
    asked = ("validation", "test", "unseen")

    def images(name: str) -> np.ndarray:  # one split at a time: together they may be larger than memory
        return others.image if name == "unseen" else trained.raw[name]

    codes = {name: trained.network.features(images(name)).astype(np.float64) for name in ("train", *asked)}
    centre, precision = codes["train"].mean(axis=0), np.linalg.pinv(np.atleast_2d(np.cov(codes["train"].T)))
    scaler = StandardScaler().fit(features["train"])
    flat = {name: scaler.transform(features[name]) for name in ("train", *asked)}
    forest = IsolationForest(n_estimators=200, random_state=0).fit(flat["train"])
    components = PCA(min(COMPONENTS, *flat["train"].shape)).fit(flat["train"])
    return {
        "reconstruction_error": {name: reconstruction_error(trained, images(name)) for name in asked},
        "code_distance": {
            name: np.einsum("nf,fg,ng->n", codes[name] - centre, precision, codes[name] - centre) for name in asked
        },
        "HT": {name: features[name][:, jets.HT] for name in asked},
        "fat_jets": {name: features[name][:, jets.COUNT] for name in asked},
        "sum_of_jet_masses": {name: features[name][:, jets.MASS_SUM] for name in asked},
        "total_energy": {name: images(name)[:, 0].sum((1, 2)).astype(np.float64) for name in asked},
        "isolation_forest": {name: -forest.score_samples(flat[name]) for name in asked},
        "pca_of_features": {
            name: ((components.inverse_transform(components.transform(flat[name])) - flat[name]) ** 2).mean(axis=1)
            for name in asked
        },
    }


def _features(rows: Rows) -> np.ndarray:
    found: np.ndarray = rows.read("features").astype(np.float64)
    return found


def reconstruction_error(trained: Trained, raw: np.ndarray) -> np.ndarray:
    """Mean squared error of each image in the network's units, float64 (N,)."""
    parts = []
    for start in range(0, len(raw), AT_ONCE):
        some = raw[start : start + AT_ONCE]
        wrong = trained.network.outputs(some) - trained.network.scaler(some)
        parts.append((wrong.astype(np.float64) ** 2).reshape(len(some), -1).mean(axis=1))
    return np.concatenate(parts) if parts else np.zeros(0)


def _rows(
    question: str, method: str, score: dict[str, np.ndarray], splits: tuple[Sample, Sample], others: Unseen, number: int
) -> tuple[list[Json], tuple[np.ndarray, ...]]:
    """All numbers of one method for one signal, and the curve behind them."""
    test, check = splits
    chosen = others.process == number
    label = np.repeat([0, 1], [len(test.group), chosen.sum()])
    values = np.concatenate([score["test"], score["unseen"][chosen]])
    weight = np.concatenate([test.weight, np.ones(chosen.sum())])
    group = np.concatenate([test.group, others.group[chosen]])
    energy = np.concatenate([test.features[:, jets.HT], others.features[chosen, jets.HT]])
    labels = _labels(question, method, "an unseen process against QCD weighted by cross section", len(label))
    auc = intervals.bootstrap(intervals.auc(label, values), intervals.resamples(group), weight)
    flat = rates.auc_in_bins(label, values, weight, energy)
    found = [
        figure("", auc.value, "1", auc.interval, metric="weighted_auc", **labels),
        figure("", flat, metric="weighted_auc_in_bins_of_HT", **labels),
    ]
    for rate in RATES:
        cut = rates.threshold(score["validation"], check.weight, rate)
        false = rates.passing(score["test"] >= cut, test.weight, test.group)
        true = rates.counted(score["unseen"][chosen] >= cut)
        found.append(_improvement(f"significance_improvement_at_{rate:g}", true, false, labels))
    curve = rates.curve(label, values, weight)
    usable = (curve.effective >= rates.MEASURABLE) & (curve.false < 1)
    best = int(np.argmax(np.where(usable, curve.true / np.sqrt(np.maximum(curve.false, 1e-300)), -1)))
    top = float(curve.true[best] / np.sqrt(curve.false[best])) if usable.any() else None
    more: Json = {
        "at_background_kept": float(curve.false[best]),
        "chosen_on": "test",
        "n_effective": curve.effective[best],
    }
    found.append(figure("", top, metric="best_significance_improvement", **labels, **more))
    return found, (label, values, weight)


def _improvement(metric: str, true: rates.Rate, false: rates.Rate, labels: Json) -> Json:
    """Improvement of the significance, with the interval of the share of signal; None where background is thin."""
    more: Json = {"n_effective": false.effective, "at_background_kept": false.value}
    if true.value is None or true.interval is None or not false.value:
        return figure("", None, metric=metric, **labels, **more)
    root = float(np.sqrt(false.value))
    interval = (true.interval[0] / root, true.interval[1] / root)
    return figure("", true.value / root, "1", interval, metric=metric, **labels, **more)


def _correlation(method: str, score: np.ndarray, energy: np.ndarray) -> Json:
    """Rank correlation with HT over test background."""
    value = float(spearmanr(score, energy).statistic) if np.ptp(score) > 0 else float("nan")
    labels = _labels("background", method, "does the score only say how much energy there was", len(score))
    return figure("", value, metric="rank_correlation_with_HT", **labels)


def _labels(question: str, method: str, about: str, n: int) -> Json:
    role = "network" if method in NETWORK else "baseline"
    return {"question": question, "about": about, "method": method, "role": role, "n": n}


def _arrays(trained: Trained, others: Unseen) -> dict[str, np.ndarray]:
    """Two unseen events for the figures, as the network sees them and as it gives them back."""
    shown = np.flatnonzero(others.process == others.process.min())[:2]
    return {
        "unseen_image": trained.network.scaler(others.image[shown]),
        "unseen_output": trained.network.outputs(others.image[shown]),
    }
