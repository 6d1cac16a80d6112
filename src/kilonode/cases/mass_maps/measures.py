"""What only this case measures: spectra and peaks of reconstructions, importance against true mass, noise, calibration.

Shape legend: N maps, H rows, W columns, K peaks, F bins, L noise levels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import brentq

from kilonode import intervals
from kilonode.cases.contract import Measured, Trained
from kilonode.cases.mass_maps import importance, sweep
from kilonode.cases.mass_maps.lognormal import ARCMIN
from kilonode.cases.mass_maps.statistics import brightest, power, power_spectrum, smoothed
from kilonode.cases.mass_maps.sweep import SPLITS
from kilonode.errors import DataError
from kilonode.records import Json, figure

MOST = 1500
"""Test maps measured, at most."""
SHOWN = 3
"""Maps whose importance is drawn."""
BINS = 10
"""Bins of predicted probability."""


def measure(trained: Trained) -> Measured:
    """Measure one trained network on test realisations.

    Parameters
    ----------
    trained : Trained
        Of any task of this case. User data get what needs no truth.

    Returns
    -------
    Measured
        autoencoder: questions ``spectrum``, ``histogram``, ``peaks``, ``importance``. classifiers: ``calibration``,
        ``bound``, ``noise``, ``split``, ``importance``.

    Raises
    ------
    DataError
        A classifier beats the exact likelihood ratio, which nothing can: something leaks.
    """
    rows = np.arange(min(MOST, len(trained.raw["test"])))
    groups = trained.stores["test"].take("group", rows)
    report = _Report(groups)
    if trained.settings.get("target"):
        _calibration(trained, rows, report)
        if trained.simulated:
            _bound(trained, rows, report)
            _noise(trained, report)
            _split(trained, report)
    else:
        _reconstruction(trained, rows, report)
    if trained.simulated:
        _importance(trained, rows[:500], _Report(groups[:500], report.rows, report.arrays))
        params = np.concatenate([trained.stores[split].read("truth/params") for split in SPLITS])
        kinds = np.concatenate([trained.stores[split].read("cosmology") for split in SPLITS])
        both = [params[kinds == value][0] for value in (0, 1)]
        report.arrays["setup"] = np.array([*both[0][:2], *both[1][:2], *both[0][2:]], np.float64)
    return Measured(report.rows, arrays=report.arrays)


class _Report:
    """Rows and arrays so far; every value gets its interval over the realisations of the maps behind it."""

    def __init__(self, groups: np.ndarray, rows: list[Json] | None = None, arrays: Any = None) -> None:
        self.rows: list[Json] = [] if rows is None else rows
        self.arrays: dict[str, np.ndarray] = {} if arrays is None else arrays
        self.size = {"n": len(groups), "groups": len(np.unique(groups))}
        self.resampled = intervals.resamples(groups)

    def add(self, question: str, name: str, method: str, metric: intervals.Metric, about: str = "") -> Any:
        """One metric of sample weights."""
        return self.put(question, name, method, intervals.bootstrap(metric, self.resampled), about)

    def put(
        self, question: str, name: str, method: str, estimate: intervals.Estimate, about: str = "", **more: Any
    ) -> Any:
        """One value with its interval; gives the estimate back."""
        role = {"network": "network", "oracle": "oracle"}.get(method, "baseline")
        labels: Json = {"question": question, "about": about, "metric": name, "method": method, "role": role}
        self.rows.append(figure("", estimate.value, "1", estimate.interval, **labels, **{**self.size, **more}))
        return estimate


def _reconstruction(trained: Trained, rows: np.ndarray, report: _Report) -> None:
    """Spectrum, histogram and peaks of reconstructions, beside Gaussian smoothing of equal squared error."""
    scaler = trained.network.scaler
    given = scaler(trained.raw["test"][rows])[:, 0]
    back = {"network": trained.network.outputs(trained.raw["test"][rows])[:, 0]}
    width = equal_error(given, float(((back["network"] - given) ** 2).mean()))
    back["smoothing_of_equal_error"] = smoothed(given, width)
    waves, before = power(given)
    about = f"power of reconstruction over power of input; the smoothing is {width:.1f} pixels"
    arcmin = float(trained.stores["test"].take("truth/params", rows[:1])[0, 3]) if trained.simulated else 0.0
    names = [f"l_{2 * np.pi * k / (arcmin * ARCMIN):05.0f}" if arcmin else f"waves_{k:.4f}" for k in waves]
    ratios = []
    for method, maps in back.items():
        _, after = power(maps)
        ratio = [
            report.add("spectrum", f"power_ratio_{name}", method, _ratio(after[:, k], before[:, k]), about)
            for k, name in enumerate(names)
        ]
        ratios.append([[one.value, *one.interval] for one in ratio])
        distance = np.abs(np.sort(maps.reshape(len(maps), -1)) - np.sort(given.reshape(len(maps), -1))).mean(axis=1)
        report.add("histogram", "distance", method, intervals.mean(distance), "mean shift of ordered pixels, input rms")
        if trained.simulated:
            truth = trained.stores["test"].take("truth/halos", rows)[..., :2]
            report.add("peaks", "recall", method, intervals.mean(recall(maps, truth)), _recall_about(truth.shape[1]))
    report.arrays["multipole"] = 2 * np.pi * waves / (arcmin * ARCMIN) if arcmin else waves
    report.arrays["power_ratio"] = np.array(ratios)


def equal_error(maps: np.ndarray, error: float, most: int = 100) -> float:
    """Width in pixels of the Gaussian smoothing whose mean squared error on maps (N, H, W) is ``error``."""
    some = maps[:most]

    def excess(width: float) -> float:
        return float(((smoothed(some, width) - some) ** 2).mean()) - error

    low, high = 0.05, 30.0
    if excess(high) <= 0:
        return high
    return float(brentq(excess, low, high, xtol=0.02)) if excess(low) < 0 else low


def recall(maps: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Share of the true peaks (N, K, 2) that have one of the K highest peaks of a map near them, (N,)."""
    place, _ = brightest(maps, truth.shape[1])
    apart = np.linalg.norm(truth[:, :, None] - place[:, None], axis=3)
    return np.asarray((apart.min(axis=2) <= importance.NEAR).mean(axis=1))


def _recall_about(count: int) -> str:
    return f"share of the {count} highest true peaks within {importance.NEAR:.0f} pixels of as many of the map"


def _importance(trained: Trained, rows: np.ndarray, report: _Report) -> None:
    """Share of the most important pixels that lie at true peaks, with both controls."""
    x = trained.network.scaler(trained.raw["test"][rows])
    place = trained.stores["test"].take("truth/halos", rows)[..., :2]
    near = importance.near_peaks(place, x.shape[2:])
    found = importance.maps(trained.task, trained.settings, trained.network, x)
    about = f"share of the top {importance.TOP:.0%} of pixels within {importance.NEAR:.0f} pixels of a true peak"
    shares = {method: importance.on_peaks(maps, near) for method, maps in found.items()}
    shares["chance"] = near.mean(axis=(1, 2))
    estimates = {
        method: report.add("importance", "on_peaks", method, intervals.mean(share), about)
        for method, share in shares.items()
    }
    for rival in ("convergence", "random_weights"):
        gain = intervals.difference(estimates["network"], estimates[rival])
        report.put("importance", f"on_peaks_gain_on_{rival}", "network", gain, against=rival)
    report.arrays["importance"] = found["network"][:SHOWN]
    report.arrays["importance_peaks"] = place[:SHOWN]
    report.arrays["importance_input"] = trained.raw["test"][rows[:SHOWN]]


def _calibration(trained: Trained, rows: np.ndarray, report: _Report) -> None:
    """Whether probabilities mean what they say."""
    logits = trained.network.outputs(trained.raw["test"][rows]).astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    chance = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    y = trained.stores["test"].take(trained.settings["target"], rows).astype(int)
    given = np.maximum(chance[np.arange(len(y)), y], 1e-12)
    sure, hit = chance.max(axis=1), (chance.argmax(axis=1) == y).astype(float)
    report.add(
        "calibration", "expected_error", "network", expected_error(sure, hit), "probability given against share right"
    )
    report.add("calibration", "negative_log_likelihood", "network", intervals.mean(-np.log(given)), "nats a map")
    if chance.shape[1] == 2:
        report.add("class", "auc", "network", intervals.auc(y, chance[:, 1]), "which class a sample belongs to")
        number = np.minimum((chance[:, 1] * BINS).astype(int), BINS - 1)
        count = np.bincount(number, minlength=BINS)
        sums = [np.bincount(number, values, BINS) / np.maximum(count, 1) for values in (chance[:, 1], y)]
        report.arrays["reliability"] = np.stack([*sums, count], axis=1)


def expected_error(sure: np.ndarray, hit: np.ndarray) -> intervals.Metric:
    """Mean distance between probability and share of right answers over bins of probability, by weight."""
    number = np.minimum((sure * BINS).astype(int), BINS - 1)

    def metric(weights: np.ndarray) -> float:
        gap = np.bincount(number, weights * (sure - hit), BINS)
        return float(np.abs(gap).sum() / weights.sum()) if weights.sum() > 0 else float("nan")

    return metric


def _bound(trained: Trained, rows: np.ndarray, report: _Report) -> None:
    """The exact likelihood ratio of the noise-free maps, where the engine knows it: nothing may beat it."""
    ratio = trained.stores["test"].take("truth/log_ratio", rows)
    if not ratio.any():
        return
    y = trained.stores["test"].take(trained.settings["target"], rows).astype(int)
    said = trained.network.outputs(trained.raw["test"][rows]).argmax(axis=1)
    best = (ratio > 0).astype(int)
    refuse_leak(said == y, best == y)
    estimate = report.add("class", "accuracy", "oracle", intervals.accuracy(y, best), "which class a sample belongs to")
    gain = intervals.difference(sweep.right(said == y, trained.stores["test"].take("group", rows)), estimate)
    report.put("class", "accuracy_gain_on_oracle", "network", gain, against="oracle")


def refuse_leak(network: np.ndarray, oracle: np.ndarray) -> None:
    """Refuse right answers (N,) that beat those of the exact likelihood ratio by more than 3 standard errors.

    Paired by map (McNemar): only maps that one of both answers rightly count.
    """
    more, less = int((network & ~oracle).sum()), int((oracle & ~network).sum())
    if more - less > 3 * np.sqrt(more + less):
        raise DataError(
            f"expected at most the accuracy of the exact likelihood ratio, {oracle.mean():.3f}, "
            f"got {network.mean():.3f}; something leaks from training to test"
        )


def _noise(trained: Trained, report: _Report) -> None:
    """Accuracy at every noise level."""
    levels, groups = sweep.noise(trained)
    part = _Report(groups, report.rows)
    found: dict[str, list[list[float]]] = {}
    for level, answers in levels.items():
        name = f"accuracy_{level:03.0f}_galaxies" if level else "accuracy_no_noise"
        for method, hit in answers.items():
            about = "galaxies a square arcminute; the network is as trained, the others are fitted anew at each level"
            estimate = part.add("noise", name, method, intervals.mean(hit.astype(float)), about)
            found.setdefault(method, []).append([estimate.value, *estimate.interval])
    report.arrays["noise_levels"] = np.array([level or 0.0 for level in levels])
    for method, values in found.items():
        report.arrays[f"noise_{method}"] = np.array(values)


def _split(trained: Trained, report: _Report) -> None:
    """The power spectrum's accuracy with the split along realisations, and with the forbidden one across them."""
    rows = {split: np.arange(min(sweep.MOST[split], trained.stores[split].rows)) for split in SPLITS}
    x = {split: power_spectrum(trained.raw[split][rows[split]]) for split in SPLITS}
    y = {split: trained.stores[split].take(trained.settings["target"], rows[split]).astype(int) for split in SPLITS}
    hit = sweep.fitted(x, y) == y["test"]
    part = _Report(trained.stores["test"].take("group", rows["test"]), report.rows)
    about = "power spectrum and logistic regression; a split across realisations is forbidden, and shown for its leak"
    part.add("split", "accuracy_along_realisations", "power_spectrum", intervals.mean(hit.astype(float)), about)
    sizes = {split: len(rows[split]) for split in SPLITS}
    leaked = sweep.random_split(np.concatenate([x[s] for s in SPLITS]), np.concatenate([y[s] for s in SPLITS]), sizes)
    alone = _Report(np.arange(len(leaked)), report.rows)
    alone.add("split", "accuracy_across_realisations", "power_spectrum", intervals.mean(leaked.astype(float)), about)


def _ratio(after: np.ndarray, before: np.ndarray) -> intervals.Metric:
    """Ratio of weighted sums."""
    return lambda weights: float((weights * after).sum() / (weights * before).sum())
