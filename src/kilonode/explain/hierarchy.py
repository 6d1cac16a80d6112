"""Which classes a network takes for one another, as a tree.

Shape legend: N samples, K classes, k classes that occur.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from scipy.cluster import hierarchy
from scipy.special import softmax

LEAST = 4
"""Classes of a tree that says more than a table."""


def confusion(logits: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean probability that samples of each class give to every class.

    Parameters
    ----------
    logits : ndarray
        (N, K).
    truth : ndarray
        int (N,), the class of each sample.

    Returns
    -------
    rows : ndarray
        float64 (k, K), each sums to one.
    classes : ndarray
        (k,), the true class of each row.
    """
    probability = softmax(logits.astype(np.float64), axis=1)
    classes = np.unique(truth)
    return np.stack([probability[truth == value].mean(axis=0) for value in classes]), classes


def dendrogram(rows: np.ndarray, classes: np.ndarray, names: Mapping[int, str]) -> Figure:
    """Ward's tree of the rows of a confusion matrix (k, K): classes with the same mistakes stand together."""
    words = [names.get(int(value), str(value)) for value in classes]
    figure = Figure(figsize=(6.0, 0.8 + 0.26 * len(classes)), layout="constrained")
    axes = figure.subplots()
    hierarchy.dendrogram(
        hierarchy.linkage(rows, "ward"),
        labels=words,
        ax=axes,
        orientation="left",
        color_threshold=0,
        above_threshold_color="#0072B2",
        leaf_font_size=9 if len(words) < 30 else 6,
    )
    axes.set_xlabel("distance of the rows of mean probabilities (Ward)")
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure
