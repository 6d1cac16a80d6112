"""Metrics with 95 % intervals: bootstrap over groups, because samples of one group are not independent.

Shape legend: N samples, G groups, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000
Metric = Callable[[np.ndarray], float]
"""Sample weights (N,) -> value; a resample of groups is a vector of integer weights."""


@dataclass(frozen=True)
class Estimate:
    """A value, its percentile interval and the resampled values behind it (for paired differences)."""

    value: float
    interval: tuple[float, float]
    resampled: np.ndarray


def resamples(groups: np.ndarray, seed: int = 0, count: int = RESAMPLES) -> np.ndarray:
    """How often each sample appears in each resample of groups, float64 (R, N); the same for the same groups."""
    ids, inverse = np.unique(groups, return_inverse=True)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(ids), np.full(len(ids), 1 / len(ids)), size=count)
    return drawn[:, inverse].astype(np.float64)


def bootstrap(metric: Metric, weights: np.ndarray, base: np.ndarray | None = None) -> Estimate:
    """A metric with its interval.

    Parameters
    ----------
    metric : callable
        Of sample weights (N,).
    weights : ndarray
        (R, N) from ``resamples``.
    base : ndarray, optional
        (N,) weights every sample has anyway.
    """
    base = np.ones(weights.shape[1]) if base is None else base
    values = np.array([metric(row * base) for row in weights])
    low, high = np.nanpercentile(values, [2.5, 97.5]) if np.isfinite(values).any() else (np.nan, np.nan)
    return Estimate(metric(base), (float(low), float(high)), values)


def difference(a: Estimate, b: Estimate) -> Estimate:
    """``a - b`` on the same resamples: what the two share cancels."""
    values = a.resampled - b.resampled
    low, high = np.nanpercentile(values, [2.5, 97.5]) if np.isfinite(values).any() else (np.nan, np.nan)
    return Estimate(a.value - b.value, (float(low), float(high)), values)


def student(values: Sequence[float] | np.ndarray) -> tuple[float, float] | None:
    """95 % interval of the mean of independent values: Student's t with n - 1 degrees of freedom; of one, None."""
    from scipy import stats

    if len(values) < 2:
        return None
    mean, spread = float(np.mean(values)), float(np.std(values, ddof=1))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * spread / len(values) ** 0.5
    return mean - half, mean + half


def auc(labels: np.ndarray, scores: np.ndarray) -> Metric:
    """Area under the ROC curve as a function of sample weights; ties count half, NaN if a class has no weight."""
    _, rank = np.unique(scores, return_inverse=True)
    positive = labels.astype(bool)

    def metric(weights: np.ndarray) -> float:
        up = np.bincount(rank, np.where(positive, weights, 0.0))
        down = np.bincount(rank, np.where(positive, 0.0, weights))
        total = up.sum() * down.sum()
        return float((up * (np.cumsum(down) - down / 2)).sum() / total) if total > 0 else float("nan")

    return metric


def r2(truth: np.ndarray, predicted: np.ndarray) -> Metric:
    """Share of variance explained as a function of sample weights; 0 is the mean of the same samples."""

    def metric(weights: np.ndarray) -> float:
        total = weights.sum()
        if total == 0:
            return float("nan")
        mean = (weights * truth).sum() / total
        spread = (weights * (truth - mean) ** 2).sum()
        return float(1 - (weights * (truth - predicted) ** 2).sum() / spread) if spread > 0 else float("nan")

    return metric


def accuracy(truth: np.ndarray, predicted: np.ndarray) -> Metric:
    """Share of right answers."""
    right = (truth == predicted).astype(np.float64)
    return lambda weights: float((weights * right).sum() / weights.sum())


def balanced_accuracy(truth: np.ndarray, predicted: np.ndarray, classes: Sequence[int]) -> Metric:
    """Mean share of right answers over the classes that occur."""

    def metric(weights: np.ndarray) -> float:
        shares = []
        for value in classes:
            here = weights * (truth == value)
            if here.sum() > 0:
                shares.append((here * (predicted == value)).sum() / here.sum())
        return float(np.mean(shares)) if shares else float("nan")

    return metric


def f1(truth: np.ndarray, predicted: np.ndarray, value: int) -> Metric:
    """Harmonic mean of precision and recall of one class; NaN where the class neither occurs nor is predicted."""
    hit, said, true = (truth == value) & (predicted == value), predicted == value, truth == value

    def metric(weights: np.ndarray) -> float:
        total = (weights * said).sum() + (weights * true).sum()
        return float(2 * (weights * hit).sum() / total) if total > 0 else float("nan")

    return metric


def mean(values: np.ndarray) -> Metric:
    """The weighted mean."""
    return lambda weights: float((weights * values).sum() / weights.sum()) if weights.sum() > 0 else float("nan")


def effective(weights: np.ndarray) -> float:
    """Effective number of samples, (sum w)^2 / sum w^2."""
    return float(weights.sum() ** 2 / (weights**2).sum()) if weights.any() else 0.0
