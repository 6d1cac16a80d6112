"""Classical methods: what power spectrum, peaks and one-point moments tell, alone and together.

PCA of the code's width is the engine's. The statistics themselves stand in ``statistics``.

Shape legend: N samples, C channels, H rows, W columns, F features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kilonode.cases.contract import Arrays, Estimator
from kilonode.cases.mass_maps.statistics import STATISTICS

BLOCKS = ("power_spectrum", "peak_counts", "moments")
UNION = "all_statistics"


def features(task: str, x: np.ndarray) -> Arrays:
    """Compute classical statistics of raw maps.

    Parameters
    ----------
    task : str
        ``autoencoder`` or a classifier.
    x : float (N, C, H, W)
        Convergence; statistics of several channels stand one after another.

    Returns
    -------
    Arrays
        ``power_spectrum``, ``peak_counts``, ``moments`` (N, F each); classifiers: also ``all_statistics``, these with
        the histogram of the pixels and the Minkowski functionals.
    """
    wanted = STATISTICS if task.startswith("classifier") else {name: STATISTICS[name] for name in BLOCKS}
    found = {name: np.hstack([count(x[:, k]) for k in range(x.shape[1])]) for name, count in wanted.items()}
    blocks = {name: found[name] for name in BLOCKS}
    if task.startswith("classifier"):
        blocks[UNION] = np.hstack(list(found.values()))
    return blocks


def oracle(task: str, truth: Mapping[str, np.ndarray]) -> Arrays:
    """Give what only the truth knows.

    Parameters
    ----------
    task : str
        Which bound.
    truth : mapping
        ``truth/log_ratio`` (N,), zero where the engine has no likelihood.

    Returns
    -------
    Arrays
        autoencoder: ``oracle`` (N, 1), the exact log-likelihood ratio of the two cosmologies, where it is known.
    """
    ratio = truth.get("truth/log_ratio")
    if task != "autoencoder" or ratio is None or not ratio.any():
        return {}
    return {"oracle": ratio.astype(np.float64)[:, None]}


def estimators(task: str) -> Mapping[str, Estimator]:
    """Give logistic regression and boosted trees, of equal search space, on every block; none to the autoencoder."""
    if not task.startswith("classifier"):
        return {}
    found = {}
    for block in (*BLOCKS, UNION):
        found[f"logistic_{block}"] = Estimator(
            logistic, {"strength": [1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1000.0]}, inputs=block
        )
        found[f"boosted_trees_{block}"] = Estimator(
            boosted_trees,
            {"learning_rate": [0.05, 0.15], "max_leaf_nodes": [4, 15], "max_iter": [60, 150]},
            inputs=block,
        )
    return found


def logistic(strength: float) -> Any:
    """Logistic regression on standardised statistics; ``strength`` is the inverse of the penalty."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))


def boosted_trees(**choice: Any) -> Any:
    """Gradient-boosted trees. Early stopping would hold back samples without regard to realisations."""
    return HistGradientBoostingClassifier(early_stopping=False, max_bins=63, random_state=0, **choice)
