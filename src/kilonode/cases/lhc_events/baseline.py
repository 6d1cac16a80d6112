"""Classical methods on images, and the shallow methods on high-level features that ``measures`` compares.

The engine hands images to ``features``; the published variables need jets, which the simulation found in the towers and
stored. What is compared on those is in ``rivals``.

Shape legend: N samples, C channels, H rows (eta), W columns (phi), F features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kilonode.cases.contract import Arrays, Estimator

HOT_GEV = (1.0, 5.0, 20.0, 100.0)
AT_ONCE = 2048


def features(task: str, x: np.ndarray) -> Arrays:
    """Summarise raw images.

    Parameters
    ----------
    task : {"classifier", "anomaly"}
        The same for both.
    x : float (N, C, H, W)
        Transverse energy, its electromagnetic part (GeV), tracks.

    Returns
    -------
    Arrays
        ``summary`` (N, 3 C + 4): log(1 + sum), log(1 + largest pixel) and spread over eta of each channel, and how many
        pixels of the first channel hold more than 1, 5, 20 and 100 GeV. All are 0 for an empty image.
    """
    parts = [_summary(x[start : start + AT_ONCE]) for start in range(0, max(len(x), 1), AT_ONCE)]
    return {"summary": np.concatenate(parts)}


def _summary(x: np.ndarray) -> np.ndarray:
    """``summary`` of some images; not of all at once, in double precision they are larger than memory."""
    x = np.maximum(x, 0).astype(np.float64)
    total, largest = x.sum(axis=(2, 3)), x.max(axis=(2, 3))
    eta = np.linspace(-1, 1, x.shape[2])
    across = x.sum(axis=3)
    mean = (across * eta).sum(axis=2) / np.where(total > 0, total, 1)
    spread = np.sqrt((across * (eta - mean[..., None]) ** 2).sum(axis=2) / np.where(total > 0, total, 1))
    hot = [(x[:, 0] > least).sum(axis=(1, 2)) for least in HOT_GEV]
    return np.concatenate([np.log1p(total), np.log1p(largest), spread, np.stack(hot, axis=1)], axis=1)


def oracle(task: str, truth: Mapping[str, np.ndarray]) -> Arrays:
    """Give what only the truth knows: the hard process, (N, 3).

    Parameters
    ----------
    task : {"classifier", "anomaly"}
        The same for both.
    truth : mapping
        ``truth/event`` float (N, 5).

    Returns
    -------
    Arrays
        ``oracle``: largest pT of the hard process, sum of the partons' pT (GeV), partons above 20 GeV. A reference,
        not a bound.
    """
    event = truth.get("truth/event")
    return {} if event is None else {"oracle": event[:, [0, 3, 4]]}


def estimators(task: str) -> Mapping[str, Estimator]:
    """Give boosted trees and logistic regression on ``summary``, to tell processes apart; none for the anomaly task."""
    if task != "classifier":
        return {}
    return {
        "boosted_trees": Estimator(boosted_trees, TREES, inputs="summary"),
        "logistic_regression": Estimator(_logistic, {"C": [0.03, 0.3, 3.0, 30.0]}, inputs="summary"),
    }


TREES: dict[str, list[Any]] = {"learning_rate": [0.05, 0.1], "max_leaf_nodes": [4, 15], "max_iter": [60, 120]}
SHALLOW: dict[str, list[Any]] = {
    "hidden_layer_sizes": [(16,), (64,)],
    "alpha": [1e-4, 1e-2],
    "learning_rate_init": [1e-3, 5e-3],
}


def rivals() -> Mapping[str, Estimator]:
    """Methods on the 24 features that the published cuts are made of: eight settings each, chosen on validation."""
    return {"boosted_trees": Estimator(boosted_trees, TREES), "shallow_network": Estimator(_shallow, SHALLOW)}


def boosted_trees(**choice: Any) -> Any:
    """Boosted trees without early stopping, which would hold back samples without regard to blocks."""
    return HistGradientBoostingClassifier(early_stopping=False, max_bins=63, random_state=0, **choice)


def _logistic(**choice: Any) -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, **choice))


def _shallow(**choice: Any) -> Any:
    return make_pipeline(StandardScaler(), MLPClassifier(max_iter=60, random_state=0, **choice))
