"""Classical methods: what one gets from total charge and light centroids, and the label rule of the original data.

PCA of the code's width is the engine's; these are the features only this case knows.

Shape legend: N samples, C channels (flashes), H rings, W columns, F features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from kilonode.cases.contract import Arrays, Estimator
from kilonode.cases.reactor_neutrinos.detector import TUBES_M

MUON_PE = 3000.0
MOST_IN_ONE_TUBE = 0.45  # scale of the largest tube's share in the flasher rule
MUON, FLASHER = 2, 3  # values of y_single the rule gives by itself
TOTAL, MOST, QUADRANT = range(3)  # columns of charge_rule


def features(task: str, x: np.ndarray) -> Arrays:
    """Compute classical features of raw inputs.

    Parameters
    ----------
    task : {"autoencoder", "classifier"}
        Which features.
    x : float (N, C, H, W)
        Charges, pe.

    Returns
    -------
    Arrays
        ``total_charge`` (N, C), log(1 + pe). autoencoder: for pairs of this detector also ``centroid_distance``
        (N, 1), m. classifier: also ``charge_rule`` (N, 3), see there.
    """
    blocks = {"total_charge": np.log1p(np.maximum(x.sum(axis=(2, 3), dtype=np.float64), 0))}
    if task == "classifier":
        blocks["charge_rule"] = charge_rule(x)
    elif x.shape[1:] == (2, *TUBES_M.shape[:2]):
        blocks["centroid_distance"] = np.linalg.norm(centroid(x[:, 0]) - centroid(x[:, 1]), axis=1)[:, None]
    return blocks


def centroid(charge: np.ndarray) -> np.ndarray:
    """Mean tube position, weighted by the squared charge: (N, 8, 24) pe -> float64 (N, 3) m; dark flashes give 0."""
    weight = np.square(charge, dtype=np.float64)
    total = weight.sum(axis=(1, 2))
    return np.asarray(np.tensordot(weight, TUBES_M, axes=2) / np.where(total > 0, total, 1)[:, None])


def charge_rule(x: np.ndarray) -> np.ndarray:
    """Compute the charge variables of the original flasher rule.

    Parameters
    ----------
    x : float (N, C, H, W)
        Charges, pe; columns go around the detector.

    Returns
    -------
    float64 (N, 3)
        Total charge in pe; largest tube's share of it; light opposite the largest tube over light at its sides,
        each a quarter of the columns (half a column is counted half).
    """
    charge = np.maximum(x, 0).sum(axis=1, dtype=np.float64)
    count, height, width = charge.shape
    total = charge.sum(axis=(1, 2))
    flat = charge.reshape(count, height * width)
    hottest = flat.argmax(axis=1)
    columns = charge.sum(axis=1)
    turned = np.take_along_axis(columns, (hottest[:, None] + np.arange(width)) % width, axis=1)
    offset = np.arange(width)
    quarters = []
    for middle in (1, 2, 3):
        away = np.abs((offset - middle * width / 4 + width / 2) % width - width / 2)
        quarters.append(turned @ np.clip(width / 8 + 0.5 - away, 0, 1))
    tiny = 1e-9
    most = flat[np.arange(count), hottest] / np.maximum(total, tiny)
    return np.stack([total, most, quarters[1] / np.maximum(quarters[0] + quarters[2], tiny)], axis=1)


def oracle(task: str, truth: Mapping[str, np.ndarray]) -> Arrays:
    """Give what only the truth knows.

    Parameters
    ----------
    task : {"autoencoder", "classifier"}
        Which bound.
    truth : mapping
        ``truth/event`` float (N, 2, 6): energy MeV, x, y, z m, time, process of both flashes.

    Returns
    -------
    Arrays
        autoencoder: ``oracle`` (N, 3), distance of the vertices in m and both energies in MeV. classifier: none,
        the labels are the truth.
    """
    event = truth.get("truth/event")
    if task != "autoencoder" or event is None:
        return {}
    distance = np.linalg.norm(event[:, 0, 1:4] - event[:, 1, 1:4], axis=1)
    return {"oracle": np.stack([distance, event[:, 0, 0], event[:, 1, 0]], axis=1)}


class LabelRule(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn publishes no types
    """The charge part of the rule that labelled the original singles; the rest by total charge.

    A muon has more than 3000 pe. A flasher has log10(quadrant^2 + (most / 0.45)^2) >= 0. The rule's timing and
    2-inch-tube parts have no counterpart here. What is left is cut into the other classes by thresholds on the
    total charge, fitted to training data.

    Where labels come from such a rule, a network that learns them has learned the rule: its accuracy belongs beside
    the network's.
    """

    def fit(self, x: np.ndarray, y: np.ndarray) -> LabelRule:
        """Fit the charge thresholds to ``charge_rule`` features (N, 3) and classes (N,)."""
        self.classes_ = np.unique(y)
        rest = self._rule(x) < 0
        rest &= ~np.isin(y, (MUON, FLASHER))
        leaves = max(2, len(np.unique(y[rest])))
        if not rest.any():
            raise ValueError("expected training samples below the muon and flasher cuts, got none")
        self.cuts_ = DecisionTreeClassifier(max_leaf_nodes=leaves, random_state=0).fit(x[rest, :1], y[rest])
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Give the classes (N,) of ``charge_rule`` features (N, 3)."""
        ruled = self._rule(x)
        return np.where(ruled >= 0, ruled, self.cuts_.predict(x[:, :1]))

    @staticmethod
    def _rule(x: np.ndarray) -> np.ndarray:
        """2 muon, 3 flasher, -1 neither."""
        oddness = np.log10(x[:, QUADRANT] ** 2 + (x[:, MOST] / MOST_IN_ONE_TUBE) ** 2 + 1e-12)
        return np.select([x[:, TOTAL] > MUON_PE, oddness >= 0], [MUON, FLASHER], -1)


def estimators(task: str) -> Mapping[str, Estimator]:
    """Give boosted trees, support vectors, nearest neighbours and the label rule to the classifier; none to others."""
    if task != "classifier":
        return {}
    return {
        "boosted_trees": Estimator(
            _boosted_trees,
            {
                "learning_rate": [0.05, 0.1, 0.2],
                "max_leaf_nodes": [7, 15, 31],
                "max_iter": [50, 100],
                "l2_regularization": [0.0, 1.0],
            },
        ),
        "knn": Estimator(_nearest, {"n_neighbors": [1, 3, 5, 10, 20, 40], "weights": ["uniform", "distance"]}),
        "svm": Estimator(_svm, {"C": [0.3, 1.0, 10.0, 100.0], "gamma": ["scale", 0.001, 0.01]}),
        "label_rule": Estimator(LabelRule, {}, inputs="charge_rule"),
    }


def _boosted_trees(**choice: Any) -> Any:
    # Early stopping would hold back samples without regard to runs.
    return HistGradientBoostingClassifier(early_stopping=False, random_state=0, **choice)


def _nearest(**choice: Any) -> Any:
    return KNeighborsClassifier(n_jobs=1, **choice)


def _svm(**choice: Any) -> Any:
    return make_pipeline(StandardScaler(), SVC(kernel="rbf", random_state=0, **choice))
