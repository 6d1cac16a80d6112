"""Rules that find storms in fields by thresholds, as labels of the original were made (TECA, Prabhat et al. 2012).

The same rules make the labels, on fields without noise and with fixed thresholds, and are the classical rival, on the
fields a user has and with thresholds tuned on training sequences.

Shape legend: C = 16 channels, H rows, W columns, N detections.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, maximum_filter, minimum_filter

from kilonode.cases.extreme_weather import areas
from kilonode.cases.extreme_weather.earth import DEGREE, RADIUS, Grid
from kilonode.cases.extreme_weather.world import INDEX

TD, TC, ETC, AR = range(4)
CLASSES = ("TD", "TC", "ETC", "AR")
VORTICITY_TC, VORTICITY_TD = 3.5e-5, 1.5e-5
"""1/s; the first from earth2studio's TCTrackerVitart."""
PRESSURE_TC, PRESSURE_TD = 100000.0, 100900.0
"""Pa (ours: the surroundings are 10 hPa higher than where TCTrackerVitart's 990 hPa were set)."""
WARM_CORE = 0.5
"""K."""
TRANSPORT = 110.0
"""kg/m/s above the mean of the latitude: a river's moisture transport. Ours: IPART takes any excess."""
LOW_DEPTH = 700.0
"""Pa below the ring around it: an extratropical cyclone."""
LOW_LATITUDE = 25.0
"""Degrees from the equator, from which on a low is one."""


@dataclass(frozen=True)
class Thresholds:
    """What the detector asks for; all may be tuned."""

    vorticity: float = VORTICITY_TD
    vorticity_tc: float = VORTICITY_TC
    drop: float = 150.0
    """Pa that the centre of a tropical storm lies below its ring, at least."""
    pressure_tc: float = PRESSURE_TC
    warm: float = WARM_CORE
    depth: float = LOW_DEPTH
    transport: float = TRANSPORT
    sizes: tuple[float, float, float] = (4.3e5, 5e5, 1.2e6)
    """Half the side of the box of a depression, a cyclone, an extratropical cyclone, m."""


@dataclass(frozen=True)
class Found:
    """Detections: ``boxes`` (N, 4), ``kinds`` (N,) in ``CLASSES``, ``score`` (N,), ``places`` (N, 2) lat, lon."""

    boxes: np.ndarray
    kinds: np.ndarray
    score: np.ndarray
    places: np.ndarray


def vorticity(u: np.ndarray, v: np.ndarray, grid: Grid, periodic: bool = True) -> np.ndarray:
    """Relative vorticity of a wind (H, W), 1/s, by centred differences; positive is cyclonic in either hemisphere."""
    cos = np.maximum(np.cos(grid.lat * DEGREE), 0.1)[:, None]
    if periodic:
        east = (np.roll(v, -1, 1) - np.roll(v, 1, 1)) / (2 * grid.step[1])
    else:
        east = np.gradient(v, grid.step[1], axis=1)
    north = np.gradient(u * cos, grid.step[0], axis=0)
    return np.asarray((east - north) / (RADIUS * DEGREE * cos) * np.sign(grid.lat)[:, None])


def ring(field: np.ndarray, rows: np.ndarray, columns: np.ndarray, grid: Grid, degrees: float) -> np.ndarray:
    """Mean of a field of the globe on the circle of this radius around pixels, (N,)."""
    turn = np.arange(12) * np.pi / 6
    cos = np.maximum(np.cos(grid.lat[rows] * DEGREE), 0.2)[:, None]
    up = np.round(rows[:, None] + degrees * np.sin(turn) / grid.step[0]).astype(int)
    along = np.round(columns[:, None] + degrees * np.cos(turn) / cos / grid.step[1]).astype(int)
    return np.asarray(field[np.clip(up, 0, len(field) - 1), along % field.shape[1]].mean(axis=1))


def extremes(field: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the local minima of a field of the globe within ``size`` pixels."""
    lowest = minimum_filter(field, 2 * size + 1, mode=("nearest", "wrap"))
    rows, columns = np.nonzero(field == lowest)
    return rows, columns


def lows(psl: np.ndarray, grid: Grid, depth: float = LOW_DEPTH) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, columns and depth (Pa) of minima of pressure below their 10-degree ring, poleward of 25 degrees."""
    rows, columns = extremes(psl, max(1, round(4 / grid.step[0])))
    below = ring(psl, rows, columns, grid, 10.0) - psl[rows, columns]
    kept = (below > depth) & (np.abs(grid.lat[rows]) > LOW_LATITUDE) & (np.abs(grid.lat[rows]) < 80)
    return rows[kept], columns[kept], below[kept]


def transport(fields: np.ndarray) -> np.ndarray:
    """Stand-in for moisture transport of fields (C, H, W): water vapour times wind at 850 hPa, kg/m/s."""
    wind = np.hypot(fields[INDEX["U850"]], fields[INDEX["V850"]])
    return np.asarray(fields[INDEX["TMQ"]] * wind)


def rivers(
    flux: np.ndarray, grid: Grid, threshold: float = TRANSPORT, longest_least: float = 1.5e6
) -> list[areas.Region]:
    """Long, narrow regions of strong moisture transport (H, W) between 20 and 70 degrees (after IPART)."""
    excess = flux - flux.mean(axis=1, keepdims=True) > threshold
    inside = (np.abs(grid.lat) > 20) & (np.abs(grid.lat) < 70)
    found = areas.regions(excess & inside[:, None], grid, 5e11)
    return [
        one
        for one in found
        if one.area < 1.8e13 and one.length >= longest_least and (one.length / one.width >= 2 or one.length > 4e6)
    ]


@dataclass(frozen=True)
class Candidates:
    """What the rules ask thresholds about in one frame; thresholds can be tried many times on the same candidates.

    ``vortices`` (K, 6): row, column, vorticity, lowest pressure, its drop below the ring, and warmth of the core.
    ``dips`` (K, 3): row, column, depth below the ring. ``flux`` (H, W): moisture transport, smoothed.
    """

    grid: Grid
    vortices: np.ndarray
    dips: np.ndarray
    flux: np.ndarray


def candidates(fields: np.ndarray, grid: Grid) -> Candidates:
    """Vortices, dips of pressure and moisture transport of one frame (C, H, W) of the globe."""
    curl = vorticity(fields[INDEX["U850"]], fields[INDEX["V850"]], grid)
    psl, warm = fields[INDEX["PSL"]], fields[INDEX["T500"]] + fields[INDEX["T200"]]
    rows, columns = extremes(-curl, max(1, round(4 / grid.step[0])))
    kept = (curl[rows, columns] > 0) & (np.abs(grid.lat[rows]) < 40)
    rows, columns = rows[kept], columns[kept]
    lowest = minimum_filter(psl, 3, mode=("nearest", "wrap"))[rows, columns]
    warmest = maximum_filter(warm, 3, mode=("nearest", "wrap"))[rows, columns]
    drop = ring(psl, rows, columns, grid, 6.0) - lowest
    core = (warmest - ring(warm, rows, columns, grid, 6.0)) / 2
    smooth = gaussian_filter(psl, 0.7, mode=("nearest", "wrap"))
    flux = gaussian_filter(transport(fields), 0.7, mode=("nearest", "wrap"))
    vortices = np.stack([rows, columns, curl[rows, columns], lowest, drop, core], axis=1)
    return Candidates(grid, vortices, np.stack(lows(smooth, grid, 0.0), axis=1), flux)


def detect(fields: np.ndarray, grid: Grid, limits: Thresholds) -> Found:
    """Everything the rules find in one frame (C, H, W) of the globe."""
    return chosen(candidates(fields, grid), limits)


def chosen(asked: Candidates, limits: Thresholds) -> Found:
    """The candidates that pass the thresholds, with their boxes."""
    grid = asked.grid
    places, kinds, score = _tropical(asked, limits)
    row, column, depth = asked.dips[asked.dips[:, 2] > limits.depth].T
    places = np.concatenate([places, np.stack([row, column], axis=1)]).astype(int)
    kinds, score = np.r_[kinds, np.full(len(depth), ETC)], np.r_[score, depth / 1000]
    middles = np.stack([grid.lat[places[:, 0]], grid.lon[places[:, 1]]], axis=1)
    boxes = [areas.around(lat, lon, limits.sizes[kind], grid) for (lat, lon), kind in zip(middles, kinds, strict=True)]
    long = rivers(asked.flux, grid, limits.transport)
    ways = [(grid.lat[0] + r.rows.mean() * grid.step[0], r.columns.mean() * grid.step[1] % 360) for r in long]
    return Found(
        np.array([*boxes, *(region.box for region in long)], np.float64).reshape(-1, 4),
        np.r_[kinds, np.full(len(long), AR)].astype(np.int64),
        np.r_[score, [region.length / 1e7 for region in long]],
        np.concatenate([middles, np.array(ways).reshape(-1, 2)]),
    )


def _tropical(asked: Candidates, limits: Thresholds) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows and columns (K, 2), class and strength of tropical storms: a vortex over a dip of pressure, warm aloft."""
    _, _, curl, lowest, drop, core = asked.vortices.T
    is_storm = (curl > limits.vorticity) & (drop > limits.drop) & (core > limits.warm / 3)
    is_cyclone = (lowest < limits.pressure_tc) & (core > limits.warm) & (curl > limits.vorticity_tc)
    strength = np.where(is_cyclone, drop, 1 / (1 + np.abs(drop - 400) / 400) * 1000) / 1000
    return asked.vortices[is_storm, :2], np.where(is_cyclone, TC, TD)[is_storm], strength[is_storm]


def warm_lows(pressure: np.ndarray, warm: np.ndarray, grid: Grid, drop: float = 1000.0, core: float = 2.0) -> Found:
    """Tropical cyclones in a window (H, W) of a region, by pressure and temperature aloft alone.

    Parameters
    ----------
    pressure : ndarray
        At sea level or at the surface of the sea, Pa.
    warm : ndarray
        Temperature somewhere between 300 and 500 hPa, K.
    grid : Grid
        Of the window; it does not go around.
    drop, core : float
        How far the centre lies below the window's median pressure within 5 degrees, Pa, and how much warmer it is, K.
    """
    size = max(1, round(2.5 / grid.step[0]))
    near = minimum_filter(pressure, 2 * size + 1, mode="nearest")
    boxes, places, depths = [], [], []
    for row, column in zip(*np.nonzero(pressure == near), strict=True):
        here = tuple(slice(max(0, k - 2 * size), k + 2 * size + 1) for k in (row, column))
        depth = float(np.median(pressure[here]) - pressure[row, column])
        close = tuple(slice(max(0, k - size // 2), k + size // 2 + 1) for k in (row, column))
        if depth > drop and warm[close].max() - np.median(warm[here]) > core:
            boxes.append((row - size, column - size, row + size + 1, column + size + 1))
            places.append((grid.lat[row], grid.lon[column]))
            depths.append(depth / 1000)
    count = len(places)
    return Found(
        np.array(boxes, np.float64).reshape(-1, 4),
        np.full(count, TC, np.int64),
        np.array(depths),
        np.array(places, np.float64).reshape(-1, 2),
    )
