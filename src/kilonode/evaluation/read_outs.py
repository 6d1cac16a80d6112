"""Read-outs: what a frozen code knows, asked of it and of every rival representation on the same test samples.

Questions come from ``read_outs`` in the case or mapping file; no question is written in code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kilonode import intervals
from kilonode.data.split import SPLITS
from kilonode.data.store import Store
from kilonode.errors import DataError
from kilonode.evaluation import probes
from kilonode.records import Json, figure

REFERENCE = "pca"
"""The representation every difference is taken against."""
FAMILIES = {"separate": ("linear", "tree"), "regress": ("linear", "tree"), "classes": ("linear",)}
"""Probes of each kind of question; trees of many classes cost more than they tell."""
Blocks = Mapping[str, dict[str, np.ndarray]]
"""Representation -> split -> (N, F)."""
Curves = dict[str, dict[str, tuple[np.ndarray, ...]]]
"""Question -> method -> (label, score, weight): what a ROC curve or a scatter needs."""


@dataclass(frozen=True)
class Question:
    """One read-out with its samples chosen: rows, answers and weights by split, and the groups of the test rows."""

    name: str
    asked: str
    kind: str
    nuisance: bool
    about: str
    rows: dict[str, np.ndarray]
    y: dict[str, np.ndarray]
    weight: dict[str, np.ndarray]
    groups: np.ndarray


def column(store: Store, field: str, index: list[int] | None = None) -> np.ndarray:
    """One number a sample, (N,): a field, or one element of it."""
    values = store.read(field)
    for position in index or []:
        values = values[:, position]
    if values.ndim != 1:
        raise DataError(
            f"expected one number a sample, got shape {values.shape[1:]} ({field} in {store.folder}); give its index"
        )
    return values


def _matches(store: Store, wanted: Json) -> np.ndarray:
    """Which samples have one of the wanted values in every named field, bool (N,)."""
    chosen = np.ones(store.rows, bool)
    for field, values in wanted.items():
        chosen &= np.isin(column(store, field), values)
    return chosen


def ask(name: str, settings: Json, stores: Mapping[str, Store], blocks: Blocks) -> Question:
    """Choose the samples of a read-out in every split.

    Raises
    ------
    DataError
        A split has no sample of one side: the question cannot be put.
    """
    rows, y, weight = {}, {}, {}
    for split in SPLITS:
        store = stores[split]
        if settings["kind"] == "separate":
            positive, negative = (_matches(store, settings[side]) for side in ("positive", "negative"))
            if not positive.any() or not negative.any():
                raise DataError(
                    f"expected samples of both sides of {name!r} in {split}, got {positive.sum()} and {negative.sum()}"
                )
            rows[split] = np.flatnonzero(positive | negative)
            y[split] = positive[rows[split]].astype(np.int64)
        else:
            rows[split] = np.flatnonzero(_matches(store, settings.get("where", {})))
            y[split] = column(store, settings["field"], settings.get("index"))[rows[split]]
        weight[split] = np.ones(len(rows[split]))
        if "match" in settings:  # else equal weights: an AUC does not depend on how common the classes are
            weight[split] = balanced(y[split], blocks[settings["match"]][split][rows[split]])
    groups = stores["test"].read("group")[rows["test"]]
    kind = "regressor" if settings["kind"] == "regress" else "classifier"
    nuisance = bool(settings.get("nuisance", False))
    return Question(name, settings["kind"], kind, nuisance, settings.get("about", ""), rows, y, weight, groups)


def balanced(y: np.ndarray, nuisance: np.ndarray, bins: int = 8) -> np.ndarray:
    """Weights (N,) that give both classes (0, 1) the same total and, in cells of the nuisance (N, F), the same density.

    Cells are quantiles of each nuisance column of all samples; a cell where one class is absent gets no weight.
    """
    cell = np.zeros(len(y), np.int64)
    for values in nuisance.T:
        edges = np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1])
        cell = cell * bins + np.searchsorted(edges, values)
    _, cell = np.unique(cell, return_inverse=True)
    share = [np.bincount(cell[y == value], minlength=cell.max() + 1) / max((y == value).sum(), 1) for value in (0, 1)]
    common = np.minimum(share[0], share[1])
    weight = np.zeros(len(y))
    for value in (0, 1):
        here = y == value
        weight[here] = (common / np.maximum(share[value], 1e-300) / max(here.sum(), 1))[cell[here]]
    total = weight.sum()
    return weight * len(y) / total if total > 0 else weight


def answer(question: Question, blocks: Blocks) -> tuple[list[Json], Curves]:
    """Put one question to every representation.

    Returns
    -------
    list of dict
        Rows of the metric table (``records.figure``), each with ``question``, ``metric``, ``method``, ``role``.
    dict
        Scores of the linear probe.
    """
    resampled = intervals.resamples(question.groups)
    base = question.weight["test"]
    size = {"n": len(base), "groups": len(np.unique(question.groups)), "n_effective": intervals.effective(base)}
    found: list[Json] = []
    curves: Curves = {question.name: {}}
    for family in FAMILIES[question.asked]:
        kind = f"{family}_{question.kind}"
        estimates = {}
        for method, splits in blocks.items():
            if method == "oracle" and question.asked != "separate":
                continue  # what the truth knows of the pair does not bound a regression of one of its parts
            x = {split: splits[split][question.rows[split]] for split in SPLITS}
            said = probes.best(kind, probes.Data(x, question.y, question.weight))
            metric = probes.metric_of(kind, question.y["test"], said)
            estimates[method] = intervals.bootstrap(metric, resampled, base)
            if family == "linear":
                curves[question.name][method] = (question.y["test"], said, base)
        name = {"classifier": "auc" if said.dtype.kind == "f" else "balanced_accuracy", "regressor": "r2"}[
            question.kind
        ]
        for method, estimate in estimates.items():
            found.append(_row(question, f"{family}_{name}", method, estimate, **size))
        if not question.nuisance:
            gain = intervals.difference(estimates["code"], estimates[REFERENCE])
            found.append(_row(question, f"{family}_{name}_gain", "code", gain, against=REFERENCE, **size))
    return found + _neighbourhood(question, blocks, resampled, size), curves


def _neighbourhood(question: Question, blocks: Blocks, resampled: np.ndarray, size: Json) -> list[Json]:
    """Purity, silhouette and clusters of a two-class question; unweighted, so not at matched nuisances."""
    if question.kind != "classifier" or len(np.unique(question.weight["test"])) > 1 or question.y["test"].max() > 1:
        return []
    found = []
    for method in ("code", REFERENCE):
        x = blocks[method]["test"][question.rows["test"]]
        purity = intervals.bootstrap(intervals.mean(probes.knn_purity(x, question.y["test"])), resampled)
        found.append(_row(question, "knn_purity", method, purity, **size))
        for name, value in zip(
            ("silhouette", "cluster_information"), probes.clusters(x, question.y["test"]), strict=True
        ):
            found.append(figure("", value, **_labels(question, name, method), **size))
    return found


def _row(question: Question, metric: str, method: str, estimate: intervals.Estimate, **more: Any) -> Json:
    return figure("", estimate.value, "1", estimate.interval, **_labels(question, metric, method), **more)


def _labels(question: Question, metric: str, method: str) -> Json:
    role = {"code": "network", "oracle": "oracle"}.get(method, "baseline")
    return {"question": question.name, "about": question.about, "metric": metric, "method": method, "role": role}
