"""Classical methods on patches: pixels, physical summaries, and two controls; what thresholds see.

The threshold detector of whole frames stands in ``rules`` and is tuned in ``scores``.

Shape legend: N samples, C channels, h rows, w columns, F features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.ndimage import uniform_filter
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from kilonode.cases.contract import Arrays, Estimator
from kilonode.cases.extreme_weather.patches import CYCLONE_CHANNELS
from kilonode.cases.extreme_weather.patches import PIXEL as DEGREES

PIXEL = DEGREES[0] * 111.2e3
"""Height of a pixel, m."""

Space = dict[str, list[Any]]


def features(task: str, x: np.ndarray) -> Arrays:
    """Compute classical features of raw inputs.

    Parameters
    ----------
    task : str
        ``patches...`` or ``boxes...``.
    x : float (N, C, h, w)
        Fields in their units; boxes in time (N, C, T, H, W).

    Returns
    -------
    Arrays
        ``summaries`` (N, F) of physical numbers; for patches also ``coarse`` (N, F) block means, ``per_patch``, these
        after each patch was standardised by itself, and ``middle`` (N, C), the middle pixel.
    """
    if not task.startswith("patches"):
        return {
            "summaries": np.concatenate([x.mean(axis=tuple(range(2, x.ndim))), x.std(axis=tuple(range(2, x.ndim)))], 1)
        }
    flat = x.reshape(*x.shape[:2], -1)
    alone = (x - flat.mean(axis=2)[..., None, None]) / (flat.std(axis=2)[..., None, None] + 1e-9)
    summaries = cyclone_summaries(x) if x.shape[1] == len(CYCLONE_CHANNELS) else moisture_summaries(x)
    middle = x[:, :, x.shape[2] // 2, x.shape[3] // 2]
    return {
        "summaries": summaries,
        "coarse": _blocks(x),
        "per_patch": _blocks(alone),
        "middle": middle.astype(np.float64),
    }


def _blocks(x: np.ndarray, side: int = 8) -> np.ndarray:
    """Means of about 8 x 8 blocks of each channel, (N, C * 64)."""
    rows, columns = (np.linspace(0, size, side + 1).astype(int) for size in x.shape[2:])
    sums = np.add.reduceat(np.add.reduceat(x, rows[:-1], axis=2), columns[:-1], axis=3)
    return np.asarray((sums / np.diff(rows)[:, None] / np.diff(columns)).reshape(len(x), -1))


def cyclone_summaries(x: np.ndarray) -> np.ndarray:
    """Twelve physical numbers of cyclone patches (N, 8, h, w), (N, 12).

    Lowest pressure; its depth below the patch's mean; largest vorticity of either sign at 850 hPa, smoothed; warm core
    at 500 and 200 hPa above the patch's mean; 95 % quantile and mean of water vapour; largest wind at 850 hPa and near
    the surface; moisture transport; shear of the means; mean pressure; mean temperature at 500 hPa.
    """
    field = {name: x[:, k].astype(np.float64) for k, name in enumerate(CYCLONE_CHANNELS)}
    low, ground = np.hypot(field["U850"], field["V850"]), np.hypot(field["UBOT"], field["VBOT"])
    curl = np.gradient(field["V850"], PIXEL, axis=2) - np.gradient(field["U850"], PIXEL, axis=1)
    curl = np.abs(uniform_filter(curl, (0, 5, 5)))
    core = {name: uniform_filter(field[name], (0, 5, 5)) for name in ("T500", "T200")}
    flat = (1, 2)
    numbers = [
        field["PSL"].min(axis=flat),
        field["PSL"].mean(axis=flat) - field["PSL"].min(axis=flat),
        curl.max(axis=flat),
        core["T500"].max(axis=flat) - core["T500"].mean(axis=flat),
        core["T200"].max(axis=flat) - core["T200"].mean(axis=flat),
        np.quantile(field["TMQ"], 0.95, axis=flat),
        field["TMQ"].mean(axis=flat),
        low.max(axis=flat),
        ground.max(axis=flat),
        (field["TMQ"] * low).mean(axis=flat),
        field["PSL"].mean(axis=flat),
        field["T500"].mean(axis=flat),
    ]
    return np.stack(numbers, axis=1)


def moisture_summaries(x: np.ndarray) -> np.ndarray:
    """Numbers of river patches (N, 2, h, w), (N, 12): water vapour, its share above the rows' means, land."""
    water = x[:, 0].astype(np.float64)
    excess = water - np.median(water, axis=2, keepdims=True)
    core = excess[:, 37:111, 56:168]
    parts = [np.quantile(water, q, axis=(1, 2)) for q in (0.5, 0.95)]
    parts += [water.max(axis=(1, 2)), water.std(axis=(1, 2))]
    parts += [np.quantile(core, q, axis=(1, 2)) for q in (0.75, 0.9, 0.99)]
    parts += [(core > limit).mean(axis=(1, 2)) for limit in (3.0, 6.0, 10.0)]
    parts += [np.abs(np.gradient(water, axis=1)).mean(axis=(1, 2)), x[:, 1].mean(axis=(1, 2))]
    return np.stack(parts, axis=1)


def oracle(task: str, truth: Mapping[str, np.ndarray]) -> Arrays:
    """Give what only the truth knows: nothing here that a linear probe could read; see ``measures``."""
    return {}


def estimators(task: str) -> Mapping[str, Estimator]:
    """Give the classical methods of patches, eight settings each; none for boxes, whose rival is ``rules.detect``."""
    if not task.startswith("patches"):
        return {}
    strength: Space = {"strength": [1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1000.0]}
    neighbours: Space = {"n_neighbors": [1, 2, 3, 4, 6, 8, 12, 16], "weights": ["distance"]}
    support: Space = {"C": [0.1, 1.0, 10.0, 100.0], "gamma": ["scale", 0.01]}
    forest: Space = {"n_estimators": [100], "max_features": ["sqrt"], "criterion": ["entropy"],
              "min_samples_leaf": [1, 2, 5, 10], "max_depth": [None, 10]}  # fmt: skip
    return {
        "threshold": Estimator(threshold, {"min_samples_leaf": [1, 2, 5, 10, 20, 50, 100, 200]}, inputs="summaries"),
        "logistic_pixels": Estimator(logistic, strength, inputs="coarse"),
        "logistic_summaries": Estimator(logistic, strength, inputs="summaries"),
        "neighbours_pixels": Estimator(neighbors, neighbours, inputs="coarse"),
        "neighbours_summaries": Estimator(neighbors, neighbours, inputs="summaries"),
        "support_vectors_pixels": Estimator(support_vectors, support, inputs="coarse"),
        "support_vectors_summaries": Estimator(support_vectors, support, inputs="summaries"),
        "forest_pixels": Estimator(random_forest, forest, inputs="coarse"),
        "forest_summaries": Estimator(random_forest, forest, inputs="summaries"),
        "forest_each_patch_standardised": Estimator(random_forest, forest, inputs="per_patch"),
        "forest_middle_pixel": Estimator(random_forest, forest, inputs="middle"),
    }


def threshold(**choice: Any) -> Any:
    """The best threshold on one number: what a heuristic with a single criterion can do."""
    return DecisionTreeClassifier(max_depth=1, random_state=0, **choice)


def logistic(strength: float) -> Any:
    """Logistic regression on standardised features; ``strength`` is the inverse of the penalty."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=500))


def neighbors(**choice: Any) -> Any:
    """Nearest neighbours, as few as there are samples for."""
    return make_pipeline(StandardScaler(), _reduced(), KNeighborsClassifier(**choice))


def support_vectors(**choice: Any) -> Any:
    """Support vectors with a Gaussian kernel."""
    return make_pipeline(StandardScaler(), _reduced(), SVC(kernel="rbf", random_state=0, **choice))


def random_forest(**choice: Any) -> Any:
    """Random forest of entropy trees."""
    return RandomForestClassifier(random_state=0, n_jobs=1, **choice)


def _reduced() -> Any:
    """The principal components that hold 99.9 % of the variance: a fifth of the numbers, the same distances."""
    return PCA(n_components=0.999, svd_solver="full")
