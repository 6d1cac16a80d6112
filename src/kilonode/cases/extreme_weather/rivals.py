"""Boxes of a frame by network and by thresholds, and the search for the thresholds.

Shape legend: F frames, C = 16 channels, H rows, W columns; h, w cells; N boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from kilonode.cases.extreme_weather import areas, detector, rules, scores
from kilonode.cases.extreme_weather.earth import DEGREE, RADIUS, Grid
from kilonode.cases.extreme_weather.labels import UNLABELLED
from kilonode.cases.extreme_weather.rules import Found, Thresholds

SURE = 0.02
"""Confidence of the boxes that curves are drawn from, at least."""
CHUNK = 8
"""Frames or days at once."""
TRIALS = 24
"""Settings of the threshold detector that are tried on training sequences."""


def boxes(heads: np.ndarray, cell: int) -> list[Found]:
    """Boxes of every frame after suppression within each class, from head channels (F, 10, h, w)."""
    shape = (heads.shape[-2] * cell, heads.shape[-1] * cell)
    decoded = detector.decoded(torch.from_numpy(heads), cell).numpy()
    return [_kept(frame[frame[:, 5] >= SURE], shape) for frame in decoded]


def _kept(found: np.ndarray, shape: tuple[int, int]) -> Found:
    chosen: list[int] = []
    for kind in np.unique(found[:, 4]):
        here = np.flatnonzero(found[:, 4] == kind)
        chosen += here[areas.suppressed(found[here, :4], found[here, 5], *shape)].tolist()
    one = found[chosen]
    middle = np.stack(
        [(one[:, 0] + one[:, 2]) / 2 * 180 / shape[0] - 90, one[:, (1, 3)].mean(1) * 360 / shape[1] % 360], 1
    )
    return Found(one[:, :4].astype(np.float64), one[:, 4].astype(np.int64), one[:, 5].astype(np.float64), middle)


def heads(model: Any, scaler: Any, raw: np.ndarray) -> np.ndarray:
    """Head channels of all labelled frames of raw inputs, one row a frame, (F, 10, h, w)."""
    parts = []
    with torch.no_grad():
        for start in range(0, len(raw), CHUNK):
            found = model(torch.from_numpy(scaler(raw[start : start + CHUNK])))
            parts.append((found if found.ndim == 4 else found.movedim(2, 1).flatten(0, 1)).numpy())
    return np.concatenate(parts)


def looked_at(boxes: np.ndarray) -> np.ndarray:
    """Which frames somebody looked at, of boxes (F, N, 5), bool (F,)."""
    return np.asarray(boxes[:, 0, 4] != UNLABELLED)


def tuned(fields: np.ndarray, labels: np.ndarray, grid: Grid, seed: int = 0) -> tuple[Thresholds, list[float]]:
    """Thresholds with the best mean average precision at 0.1 on training frames (F, C, H, W), by random search.

    Sizes of boxes are the medians of the labelled boxes.
    """
    rng = np.random.default_rng(seed)
    plain = replace(Thresholds(), sizes=_sizes(labels, grid))
    values, best, top = [], plain, -1.0
    asked = [rules.candidates(frame, grid) for frame in fields]
    for trial in range(TRIALS):
        limits = plain if trial == 0 else _drawn(plain, rng)
        found = [rules.chosen(one, limits) for one in asked]
        score = scores.mean_average_precision(found, labels, 0.1, grid.shape, True)
        values.append(score)
        if score > top:
            best, top = limits, score
    return best, values


def _drawn(plain: Thresholds, rng: np.random.Generator) -> Thresholds:
    return replace(
        plain,
        vorticity=float(np.exp(rng.uniform(np.log(5e-6), np.log(4e-5)))),
        vorticity_tc=float(np.exp(rng.uniform(np.log(8e-6), np.log(6e-5)))),
        drop=float(rng.uniform(50, 500)),
        pressure_tc=float(rng.uniform(99500, 101200)),
        warm=float(rng.uniform(0.1, 1.0)),
        depth=float(rng.uniform(400, 1200)),
        transport=float(rng.uniform(80, 160)),
    )


def _sizes(labels: np.ndarray, grid: Grid) -> tuple[float, float, float]:
    """Half the height of the usual box of each round class, m."""
    found = []
    for kind, other in zip((rules.TD, rules.TC, rules.ETC), Thresholds().sizes, strict=True):
        rows = labels[labels[:, :, 4] == kind]
        tall = np.median(rows[:, 2] - rows[:, 0]) * grid.step[0] * DEGREE * RADIUS / 2 if len(rows) else other
        found.append(float(tall) - grid.pixel / 2 if len(rows) else other)
    return found[0], found[1], found[2]


def as_found(reference: np.ndarray) -> list[Found]:
    """Boxes (F, N, 5) as if somebody had said them, each with confidence 1: labels scored against the truth."""
    out = []
    for frame in reference:
        here = frame[frame[:, 4] >= 0]
        out.append(Found(here[:, :4].astype(float), here[:, 4].astype(np.int64), np.ones(len(here)), here[:, :2] * 0.0))
    return out


def through_cells(reference: np.ndarray, cell: int, shape: tuple[int, int]) -> tuple[list[Found], int]:
    """True boxes after one box a cell: what a perfect network could say; and how many boxes are lost."""
    grid = (shape[0] // cell, shape[1] // cell)
    target, kind, lost = detector.encoded(torch.from_numpy(reference.astype(np.int64)), cell, grid)
    said = torch.zeros(len(reference), 10, *grid)
    said[:, :4] = target
    said[:, 5] = torch.where(kind >= 0, 20.0, -20.0)
    said[:, 6:] = torch.nn.functional.one_hot(kind.clamp(min=0), 4).movedim(-1, 1) * 40.0
    return boxes(said.numpy(), cell), int(lost.sum())


def subset(found: Sequence[Found], rows: np.ndarray) -> list[Found]:
    """Those of some frames."""
    return [found[row] for row in rows]
