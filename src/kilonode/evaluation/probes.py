"""The same questions put to every representation: linear and tree probes, each with the same small search.

A probe is fitted on the training groups, its one or two settings chosen on the validation groups, and scored
once on the test groups. Every representation gets exactly ``len(GRID[kind])`` fits, the learned code included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.cluster import KMeans
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import adjusted_mutual_info_score, silhouette_score
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kilonode import intervals

STRENGTHS = (1e-3, 1e-2, 1e-1, 1e0)
TREES = ({"max_leaf_nodes": 7}, {"max_leaf_nodes": 31})


@dataclass(frozen=True)
class Data:
    """One representation of three splits: ``x`` (N, F), ``y`` (N,), ``weight`` (N,), each a dict by split."""

    x: dict[str, np.ndarray]
    y: dict[str, np.ndarray]
    weight: dict[str, np.ndarray]


def _linear_classifier(strength: float) -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, class_weight="balanced", max_iter=2000))


def _linear_regressor(strength: float) -> Any:
    return make_pipeline(StandardScaler(), Ridge(alpha=1 / strength))


def _tree_classifier(choice: dict[str, Any]) -> Any:
    return HistGradientBoostingClassifier(max_iter=100, max_bins=63, random_state=0, **choice)


def _tree_regressor(choice: dict[str, Any]) -> Any:
    return HistGradientBoostingRegressor(max_iter=100, max_bins=63, random_state=0, **choice)


GRID: dict[str, list[Callable[[], Any]]] = {
    "linear_classifier": [lambda s=s: _linear_classifier(s) for s in STRENGTHS],  # type: ignore[misc]
    "tree_classifier": [lambda c=c: _tree_classifier(c) for c in TREES],  # type: ignore[misc]
    "linear_regressor": [lambda s=s: _linear_regressor(s) for s in STRENGTHS],  # type: ignore[misc]
    "tree_regressor": [lambda c=c: _tree_regressor(c) for c in TREES],  # type: ignore[misc]
}


def _fit(make: Callable[[], Any], data: Data) -> Any:
    estimator, weight = make(), data.weight["train"]
    if (weight == weight[0]).all():  # boosted trees bin their inputs 50 times slower with weights
        return estimator.fit(data.x["train"], data.y["train"])
    name = estimator.steps[-1][0] + "__sample_weight" if hasattr(estimator, "steps") else "sample_weight"
    return estimator.fit(data.x["train"], data.y["train"], **{name: weight})


def _ask(kind: str, estimator: Any, x: np.ndarray) -> np.ndarray:
    """Scores of a two-class question, classes of a many-class one, numbers of a regression."""
    if kind.endswith("classifier") and len(estimator.classes_) == 2:
        scores: np.ndarray = estimator.predict_proba(x)[:, 1]
        return scores
    answer: np.ndarray = estimator.predict(x)
    return answer


def metric_of(kind: str, truth: np.ndarray, answer: np.ndarray) -> intervals.Metric:
    """AUC of scores, balanced accuracy of classes, R2 of numbers."""
    if kind.endswith("regressor"):
        return intervals.r2(truth, answer)
    if answer.dtype.kind == "f":
        return intervals.auc(truth, answer)
    return intervals.balanced_accuracy(truth, answer, [int(value) for value in np.unique(truth)])


def best(kind: str, data: Data) -> np.ndarray:
    """The test answers (N,) of the setting that did best on validation."""
    tried = []
    for make in GRID[kind]:
        estimator = _fit(make, data)
        metric = metric_of(kind, data.y["validation"], _ask(kind, estimator, data.x["validation"]))
        tried.append((metric(data.weight["validation"]), estimator))
    winner = max(tried, key=lambda pair: np.nan_to_num(pair[0], nan=-np.inf))[1]
    return _ask(kind, winner, data.x["test"])


def knn_purity(x: np.ndarray, labels: np.ndarray, k: int = 10) -> np.ndarray:
    """Share of each sample's k nearest neighbours with its own label, (N,), features standardised."""
    scaled = StandardScaler().fit_transform(x)
    neighbours = NearestNeighbors(n_neighbors=min(k + 1, len(x))).fit(scaled).kneighbors(return_distance=False)
    share: np.ndarray = (labels[neighbours[:, :k]] == labels[:, None]).mean(axis=1)
    return share


def clusters(x: np.ndarray, labels: np.ndarray, most: int = 2000) -> tuple[float, float]:
    """Silhouette of the labels and adjusted mutual information of 2-means with them, on at most ``most`` samples."""
    scaled = StandardScaler().fit_transform(x)[:most]
    found = KMeans(n_clusters=len(np.unique(labels)), n_init=4, random_state=0).fit_predict(scaled)
    return float(silhouette_score(scaled, labels[:most])), float(adjusted_mutual_info_score(labels[:most], found))
