"""Water vapour as a tracer: the flow draws it out into filaments, which nobody paints.

Shape legend: T steps, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from scipy.ndimage import map_coordinates

from kilonode.cases.extreme_weather.earth import DEGREE, RADIUS, Grid, saturation
from kilonode.cases.extreme_weather.storms import STEP

HOUR = 3600.0
MARGIN = 12
"""Columns repeated beyond either end, so that going around costs nothing."""


def sweep(
    winds: Iterable[tuple[np.ndarray, np.ndarray]], grid: Grid, shift: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Water vapour (kg/m2) and rain (m/s) at the end of every step of ``STEP`` hours, (H, W) each.

    Semi-Lagrangian steps of one hour; sources and sinks: it becomes moister by evaporation in 3 days where drier than
    0.8 of saturation, rains out in 2 hours what is above 1.15 of it, and loses 18 % a day of what is above half of it.

    Parameters
    ----------
    winds : iterable of (u, v)
        m/s, (H, W), for each step.
    grid : Grid
        The whole globe.
    shift : float
        Season, degrees.
    """
    full = saturation(grid.lat, shift)[:, None]
    water = 0.7 * full + np.zeros(grid.shape)
    for u, v in winds:
        rows, columns = departures(u, v, grid)
        rain = np.zeros(grid.shape)
        for _ in range(round(STEP)):
            around = np.concatenate([water[:, -MARGIN:], water, water[:, :MARGIN]], axis=1)
            water = map_coordinates(around, [rows, columns + MARGIN], order=1, mode="nearest")
            water = water + np.maximum(0.8 * full - water, 0) / 72
            fallen = np.maximum(water - 1.15 * full - 6, 0) * 0.4
            water = water - fallen - 0.18 / 24 * np.maximum(water - 0.5 * full, 0)
            rain += fallen / HOUR / 1000 / round(STEP)
        yield water, rain


def departures(u: np.ndarray, v: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Row and column from which the air of each pixel came an hour before, within ``MARGIN`` columns."""
    across = RADIUS * DEGREE * np.maximum(np.cos(grid.lat * DEGREE), 0.1)[:, None] * grid.step[1]
    rows = np.arange(len(grid.lat))[:, None] - v * HOUR / grid.pixel
    columns = np.arange(len(grid.lon))[None] - np.clip(u * HOUR / across, -MARGIN + 2, MARGIN - 2)
    return rows, columns
