"""What a larger batch costs: more epochs to the same quality, by the noise scale or by public trainings."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from kilonode.scaling.curves import SHIPPED

Number = TypeVar("Number", float, np.ndarray)


def epochs(fewest: float, critical: float, batch: Number) -> Number:
    """Epochs to a fixed quality, ``E = E_min (1 + B / B_c)``: at the critical batch twice as many as at a small one.

    Parameters
    ----------
    fewest : float
        E_min, with a small batch.
    critical : float
        B_c in samples, about the gradient noise scale.
    batch : float or ndarray
        B, samples between two optimiser steps.

    Source
    ------
    McCandlish et al. 2018, arXiv:1812.06162: (S / S_min - 1) (E / E_min - 1) = 1 with S = E / B.
    MLPerf HPC's trainings (anchors/epochs.csv) lie within 6 % of it.
    """
    return fewest * (1 + batch / critical)


@dataclass(frozen=True)
class Published:
    """The law fitted to one public task: ``fewest`` epochs, ``critical`` batch, and the worst relative residual."""

    task: str
    fewest: float
    critical: float
    residual: float


def published() -> list[Published]:
    """The law fitted to each task of anchors/epochs.csv, the middle of the logs' range at each batch."""
    lines = (SHIPPED.parent / "anchors" / "epochs.csv").read_text().splitlines()
    points: dict[str, list[tuple[float, float]]] = {}
    for row in csv.DictReader(line for line in lines if not line.startswith("#")):
        middle = (float(row["lowest"]) + float(row["highest"])) / 2
        points.setdefault(row["task"], []).append((float(row["batch"]), middle))
    return [fitted(task, values) for task, values in points.items()]


def fitted(task: str, points: list[tuple[float, float]]) -> Published:
    """Least squares of relative errors of ``E = a + b B``; ``E_min = a``, ``B_c = a / b``.

    Parameters
    ----------
    task : str
        Its name.
    points : list of (float, float)
        Batch and epochs, at least two batches.
    """
    batch, count = np.array(points).T
    terms = np.stack([np.ones_like(batch), batch], axis=1) / count[:, None]
    (fewest, slope), *_ = np.linalg.lstsq(terms, np.ones_like(batch), rcond=None)
    residual = float(abs(terms @ (fewest, slope) - 1).max())
    return Published(task, float(fewest), float(fewest / slope), residual)
