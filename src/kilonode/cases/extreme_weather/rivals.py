"""Boxes of a frame by network and by thresholds, and the search for the thresholds.

Shape legend: F frames, C = 16 channels, H rows, W columns; h, w cells; N boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from kilonode.cases.extreme_weather import detector, rules, scores, unet
from kilonode.cases.extreme_weather.earth import DEGREE, RADIUS, Grid
from kilonode.cases.extreme_weather.labels import UNLABELLED
from kilonode.cases.extreme_weather.rules import Found, Thresholds

CHUNK = 8
"""Frames or days at once."""
TRIALS = 24
"""Settings of the threshold detector that are tried on training sequences."""


def outputs(model: Any, scaler: Any, raw: np.ndarray) -> np.ndarray:
    """What a network says of all labelled frames of raw inputs, one row a frame: (F, 10, h, w) or (F, 5, H, W)."""
    parts = []
    with torch.no_grad():
        for start in range(0, len(raw), CHUNK):
            said = model(torch.from_numpy(scaler(raw[start : start + CHUNK])))
            parts.append((said if said.ndim == 4 else said.movedim(2, 1).flatten(0, 1)).numpy())
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
    return detector.found(said.numpy(), cell), int(lost.sum())


def through_masks(reference: np.ndarray, fields: np.ndarray) -> tuple[list[Found], int]:
    """True boxes after masks of the frames (F, C, H, W): what a perfect U-Net could say; how many are fewer."""
    mask = unet.painted(torch.from_numpy(reference.astype(np.int64)), torch.from_numpy(fields))
    said = torch.nn.functional.one_hot(mask, 5).movedim(-1, 1) * 40.0
    found = unet.found(said.numpy())
    return found, int((reference[..., 4] >= 0).sum() - sum(len(one.score) for one in found))


def subset(found: Sequence[Found], rows: np.ndarray) -> list[Found]:
    """Those of some frames."""
    return [found[row] for row in rows]
