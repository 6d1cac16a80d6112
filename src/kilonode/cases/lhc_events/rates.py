"""Rates of weighted events in the tail: thresholds, intervals, effective numbers, expected significance.

A share of one in five thousand of events whose weights differ a thousandfold is a statement about a few events: every
rate of background stands beside the effective number of events above its threshold, and below ten there is no rate.

Shape legend: N events, T distinct thresholds, R resamples, G groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from kilonode import intervals

MEASURABLE = 10.0
"""Effective background events above a threshold, at least: below, "not measurable" (value None)."""
REGULARISER = 10.0
"""Background events added in the significance, as the original analysis did."""


@dataclass(frozen=True)
class Curve:
    """All distinct thresholds of a score, falling; an event passes if its score is at least the threshold.

    ``threshold``, ``false``, ``true`` (weighted shares of background and signal) and ``effective`` (background events
    above), all (T,).
    """

    threshold: np.ndarray
    false: np.ndarray
    true: np.ndarray
    effective: np.ndarray


def curve(label: np.ndarray, score: np.ndarray, weight: np.ndarray) -> Curve:
    """Weighted ROC curve; equal scores share one point.

    Parameters
    ----------
    label : (N,)
        1 signal, 0 background.
    score, weight : float (N,)
        Large for signal-like; positive.
    """
    values, rank = np.unique(-score, return_inverse=True)
    up, down, squares = (
        np.cumsum(np.bincount(rank, part, len(values)))
        for part in (weight * (label == 1), weight * (label == 0), weight**2 * (label == 0))
    )
    effective = np.where(squares > 0, down**2 / np.where(squares > 0, squares, 1), 0.0)
    return Curve(-values, down / max(down[-1], 1e-300), up / max(up[-1], 1e-300), effective)


def threshold(score: np.ndarray, weight: np.ndarray, rate: float) -> float:
    """Smallest score at which at most this weighted share of background (N,) passes; infinite if none does.

    Of validation events: a threshold must not be chosen on those it is applied to.
    """
    found = curve(np.zeros(len(score)), score, weight)
    allowed = np.flatnonzero(found.false <= rate * (1 + 1e-9))
    return float(found.threshold[allowed[-1]]) if len(allowed) else float("inf")


@dataclass(frozen=True)
class Rate:
    """A share with its 95 % interval, or None where it is not measurable; and the effective number behind it."""

    value: float | None
    interval: tuple[float, float] | None
    effective: float


def passing(passed: np.ndarray, weight: np.ndarray, groups: np.ndarray) -> Rate:
    """Weighted share that passes, bool (N,), with a bootstrap over groups; None below ``MEASURABLE`` events."""
    effective = intervals.effective(weight[passed])
    if effective < MEASURABLE:
        return Rate(None, None, effective)
    above, all_ = by_group(weight * passed, groups), by_group(weight, groups)
    drawn = intervals.resamples(np.arange(len(all_)))
    low, high = np.nanpercentile((drawn @ above) / np.maximum(drawn @ all_, 1e-300), [2.5, 97.5])
    return Rate(float(above.sum() / all_.sum()), (float(low), float(high)), effective)


def counted(passed: np.ndarray) -> Rate:
    """Share of equally weighted events that passes, with Clopper and Pearson's interval."""
    n, k = len(passed), int(passed.sum())
    if n == 0:
        return Rate(None, None, 0.0)
    return Rate(k / n, clopper_pearson(k, n), float(k))


def clopper_pearson(k: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a share of which k of n were seen.

    Source
    ------
    Clopper and Pearson 1934, Biometrika 26, 404; with quantiles of the beta distribution.
    """
    tail = (1 - level) / 2
    low = 0.0 if k == 0 else float(stats.beta.ppf(tail, k, n - k + 1))
    high = 1.0 if k == n else float(stats.beta.ppf(1 - tail, k + 1, n - k))
    return low, high


def by_group(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Sums of each group, (G,)."""
    _, inverse = np.unique(groups, return_inverse=True)
    return np.bincount(inverse, values)


def significance(signal: float, background: float) -> float:
    """Approximate median significance of an excess, in standard deviations.

    Parameters
    ----------
    signal, background : float
        Events expected above the threshold.

    Source
    ------
    Cowan, Cranmer, Gross, Vitells 2011, arXiv:1007.1727, eq. 97, with ``REGULARISER`` added to the background.
    """
    background = background + REGULARISER
    return float(np.sqrt(max(2 * ((signal + background) * np.log1p(signal / background) - signal), 0.0)))


def auc_in_bins(label: np.ndarray, score: np.ndarray, weight: np.ndarray, nuisance: np.ndarray, bins: int = 4) -> float:
    """Mean AUC within quantile bins of a nuisance (N,) of the signal, weighted by the signal in each.

    What is left of a score once it can no longer say how much energy there was. NaN if no bin has both classes.
    """
    edges = np.quantile(nuisance[label == 1], np.linspace(0, 1, bins + 1)[1:-1])
    cell = np.searchsorted(edges, nuisance)
    found = [(intervals.auc(label[c], score[c])(weight[c]), float((label[c] == 1).sum())) for c in _cells(cell, bins)]
    kept = [(value, size) for value, size in found if np.isfinite(value)]
    total = sum(size for _, size in kept)
    return sum(value * size for value, size in kept) / total if total else float("nan")


def _cells(cell: np.ndarray, bins: int) -> list[np.ndarray]:
    return [cell == number for number in range(bins)]


def band(
    label: np.ndarray, score: np.ndarray, weight: np.ndarray, groups: np.ndarray, grid: np.ndarray, count: int = 200
) -> tuple[np.ndarray, np.ndarray]:
    """95 % band of the share of signal kept at shares of background ``grid`` (T,), over resampled blocks.

    Returns
    -------
    (ndarray, ndarray)
        Lower and upper edge, (T,).
    """
    drawn = []
    for times in intervals.resamples(groups, count=count):
        here = times > 0
        found = curve(label[here], score[here], (weight * times)[here])
        drawn.append(np.interp(grid, found.false, found.true))
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    return low, high
