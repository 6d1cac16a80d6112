"""Average precision of boxes on the globe: greedy matching by confidence, classes apart, weights of frames.

Shape legend: F frames, N detections, M boxes of a reference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kilonode.cases.extreme_weather import areas
from kilonode.cases.extreme_weather.labels import SECTOR
from kilonode.cases.extreme_weather.rules import AR, CLASSES, Found

OVERLAPS = (0.1, 0.3, 0.5)
"""All three are reported: 0.1 hides bad boxes."""


@dataclass(frozen=True)
class Matched:
    """Detections of one class, best first: ``frame`` (N,), ``score`` (N,), ``hit`` bool (N,); ``boxes`` (F,) to find.

    ``found`` (M, 3): frame, box number in its frame, and whether it was found, of every box of the reference.
    """

    frame: np.ndarray
    score: np.ndarray
    hit: np.ndarray
    boxes: np.ndarray
    found: np.ndarray


def match(
    detections: Sequence[Found], reference: np.ndarray, kind: int, overlap: float, shape: tuple[int, int], sector: bool
) -> Matched:
    """Match detections of one class with boxes of a reference.

    Every detection, best first, takes the box it overlaps most, if that is enough and no better one took it.

    Parameters
    ----------
    detections : sequence of Found
        Of each frame.
    reference : int (F, R, 5)
        Boxes of each frame; negative class: none.
    kind : int
        The class.
    overlap : float
        Intersection over union on the sphere, at least.
    shape : (int, int)
        H, W of the globe.
    sector : bool
        Whether rivers outside the labelled sector are ignored, as against labels they must.
    """
    rows: list[tuple[int, float, bool]] = []
    found: list[tuple[int, int, bool]] = []
    count = np.zeros(len(reference))
    for frame, (said, boxes) in enumerate(zip(detections, reference, strict=True)):
        numbers = np.flatnonzero(boxes[:, 4] == kind)
        chosen = np.flatnonzero(said.kinds == kind)
        if sector and kind == AR:
            middle = said.boxes[chosen][:, (1, 3)].mean(axis=1) * 360 / shape[1] % 360
            chosen = chosen[(middle >= SECTOR[0]) & (middle < SECTOR[1])]
        chosen = chosen[np.argsort(-said.score[chosen], kind="stable")]
        shared = areas.iou(said.boxes[chosen], boxes[numbers, :4].astype(np.float64), *shape)
        taken = np.zeros(len(numbers), bool)
        for row, number in enumerate(chosen):
            best = int(np.where(taken, -1, shared[row]).argmax()) if len(numbers) else 0
            is_hit = bool(len(numbers)) and not taken[best] and shared[row, best] >= overlap
            if is_hit:
                taken[best] = True
            rows.append((frame, float(said.score[number]), is_hit))
        found += [(frame, int(number), bool(hit)) for number, hit in zip(numbers, taken, strict=True)]
        count[frame] = len(numbers)
    table = np.array(rows, np.float64).reshape(-1, 3)
    table = table[np.argsort(-table[:, 1], kind="stable")]
    return Matched(
        table[:, 0].astype(int), table[:, 1], table[:, 2] > 0, count, np.array(found, np.int64).reshape(-1, 3)
    )


def curve(matched: Matched, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision after each detection, (N,) each, of frames with weights (F,)."""
    weights = np.ones(len(matched.boxes)) if weights is None else weights
    each = weights[matched.frame]
    hits, all_said = np.cumsum(each * matched.hit), np.cumsum(each)
    total = (weights * matched.boxes).sum()
    return hits / max(total, 1e-12), hits / np.maximum(all_said, 1e-12)


def average_precision(matched: Matched) -> Callable[[np.ndarray], float]:
    """Area under the curve of the best precision at each recall or above, of weights of frames; NaN without a box."""

    def metric(weights: np.ndarray) -> float:
        if (weights * matched.boxes).sum() == 0:
            return float("nan")
        recall, precision = curve(matched, weights)
        best = np.maximum.accumulate(precision[::-1])[::-1]
        return float((np.diff(recall, prepend=0.0) * best).sum())

    return metric


def mean_of(metrics: Sequence[Callable[[np.ndarray], float]]) -> Callable[[np.ndarray], float]:
    """Mean over the classes that occur; NaN where none does."""

    def metric(weights: np.ndarray) -> float:
        values = np.array([one(weights) for one in metrics])
        return float(values[np.isfinite(values)].mean()) if np.isfinite(values).any() else float("nan")

    return metric


def mean_average_precision(
    detections: Sequence[Found], reference: np.ndarray, overlap: float, shape: tuple[int, int], sector: bool
) -> float:
    """Mean over the classes of the average precision of all frames."""
    found = [match(detections, reference, kind, overlap, shape, sector) for kind in range(len(CLASSES))]
    return mean_of([average_precision(one) for one in found])(np.ones(len(reference)))


def best_confidence(
    detections: Sequence[Found], reference: np.ndarray, overlap: float, shape: tuple[int, int], sector: bool
) -> float:
    """Confidence from which on boxes of all classes together have the best F1; 1 where there is none."""
    found = [match(detections, reference, kind, overlap, shape, sector) for kind in range(len(CLASSES))]
    score, hit = (np.concatenate([getattr(one, name) for one in found]) for name in ("score", "hit"))
    if not len(score):
        return 1.0
    order = np.argsort(-score, kind="stable")
    f1 = 2 * np.cumsum(hit[order]) / (np.arange(len(score)) + 1 + sum(one.boxes.sum() for one in found))
    return float(score[order][int(f1.argmax())])
