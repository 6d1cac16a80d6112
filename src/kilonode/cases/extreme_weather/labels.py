"""Boxes of a frame: those of the truth, and those of the rules, with the errors that heuristic labels have.

Shape legend: H rows, W columns, N boxes (at most ``ROWS``).
"""

from __future__ import annotations

import numpy as np

from kilonode.cases.extreme_weather import areas, rules, storms
from kilonode.cases.extreme_weather.earth import DEGREE, DENSITY, SEA_LEVEL, Grid, offsets
from kilonode.cases.extreme_weather.flow import LOW_SIGMA, level
from kilonode.cases.extreme_weather.rules import AR, ETC, TC, TD
from kilonode.cases.extreme_weather.storms import STEP, Storm
from kilonode.cases.extreme_weather.world import INDEX, World

ROWS = 15
"""Boxes a frame, at most, as in the files of the original."""
UNUSED, UNLABELLED = -1, -2
"""What stands in a row without box, and in all rows of a frame that nobody looked at."""
SECTOR = (180.0, 300.0)
"""Longitudes in which rivers are labelled, degrees; the original labels them near the United States alone."""
MISSED, FALSE, JITTER = 0.05, 0.02, 1
"""Share of boxes that labels miss, of false ones that they add, and their error of place in pixels."""
RIVER = 2.0e6
"""Length of a true river, m, at least; the rule takes shorter ones."""
LOW_STRENGTH = 8e6
"""Stream function of a true extratropical cyclone, m2/s, at least."""


def rule(storm: Storm, surroundings: float) -> int | None:
    """Class that the rules give a vortex from its own profile, or None.

    Parameters
    ----------
    storm : Storm
        Any object.
    surroundings : float
        Pressure at sea level around it, Pa.
    """
    curl, pressure = storms.circulation(storm), surroundings - storm.deficit
    if abs(storm.lat) >= 60 or storm.deficit <= 0:
        return None
    if curl > rules.VORTICITY_TC and pressure < rules.PRESSURE_TC and storm.warmth > rules.WARM_CORE:
        return TC
    if curl > rules.VORTICITY_TD and pressure < rules.PRESSURE_TD and storm.warmth > 0 and abs(storm.lat) < 40:
        return TD
    return None


def surroundings(world: World, step: int, storm: Storm) -> float:
    """Pressure at sea level where the storm is, without it, Pa."""
    if storm.deficit <= 0:
        return SEA_LEVEL  # no rule will ask
    here = Grid(np.array([storm.lat]), np.array([storm.lon]))
    ground = world.flow.air(step * STEP, here, level(1000))
    return SEA_LEVEL + DENSITY * float(ground.phi[0, 0])


def truth(world: World, step: int, fields: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (N, 5) and class mask uint8 (H, W; 0 nothing, class + 1) of one frame, from the objects themselves."""
    grid = world.grid
    boxes: list[tuple[int, ...]] = []
    mask = np.zeros(grid.shape, np.uint8)
    for region in rules.rivers(rules.transport(fields), grid, longest_least=RIVER):
        boxes.append((*region.box, AR))
        mask[region.rows, region.columns % len(grid.lon)] = AR + 1
    for _, lat, lon, psi, _ in world.flow.alive(step * STEP):
        if abs(psi) >= LOW_STRENGTH:
            boxes.append((*areas.around(lat, lon, 1.2 * LOW_SIGMA, grid), ETC))
            _disc(mask, grid, lat, lon, LOW_SIGMA, ETC)
    for storm in world.storms[step]:
        kind = named(storm)
        if kind is not None:
            size = 1.2 * LOW_SIGMA if kind == ETC else storm.size
            boxes.append((*areas.around(storm.lat, storm.lon, size, grid), kind))
            _disc(mask, grid, storm.lat, storm.lon, size, kind)
    return np.array(boxes, np.int32).reshape(-1, 5), mask


def named(storm: Storm) -> int | None:
    """True class of an object: of tropical ones by their wind, of other lows outside the tropics by their depth."""
    if storm.is_cyclone or storm.is_depression:
        return TC if storm.is_cyclone else TD
    is_low = storm.kind in (storms.CUT_OFF, storms.HYBRID) and storm.deficit >= rules.LOW_DEPTH
    return ETC if is_low and abs(storm.lat) > rules.LOW_LATITUDE else None


def _disc(mask: np.ndarray, grid: Grid, lat: float, lon: float, size: float, kind: int) -> None:
    east, north = offsets(grid, lat, lon)
    mask[east**2 + north**2 < size**2] = kind + 1


def heuristic(world: World, step: int, fields: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Boxes (N, 5) that the rules give on the fields without noise, with their errors; rivers in ``SECTOR`` alone."""
    grid = world.grid
    boxes: list[tuple[int, ...]] = []
    taken: list[tuple[float, float]] = []
    for storm in world.storms[step]:
        kind = rule(storm, surroundings(world, step, storm))
        if kind is not None:
            boxes.append((*areas.around(storm.lat, storm.lon, storm.size, grid), kind))
            taken.append((storm.lat, storm.lon))
    rows, columns, _ = rules.lows(fields[INDEX["PSL"]], grid)
    for lat, lon in zip(grid.lat[rows], grid.lon[columns], strict=True):
        if all(_apart(lat, lon, *other) > 6 for other in taken):
            boxes.append((*areas.around(lat, lon, 1.2 * LOW_SIGMA, grid), ETC))
    for region in rules.rivers(rules.transport(fields), grid):
        middle = region.columns.mean() * grid.step[1] % 360
        if SECTOR[0] <= middle < SECTOR[1]:
            boxes.append((*region.box, AR))
    return _spoiled(np.array(boxes, np.int32).reshape(-1, 5), grid, rng)


def _apart(lat: float, lon: float, other_lat: float, other_lon: float) -> float:
    east = ((lon - other_lon + 180) % 360 - 180) * np.cos(lat * DEGREE)
    return float(np.hypot(lat - other_lat, east))


def _spoiled(boxes: np.ndarray, grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """Some boxes missed, some moved by a pixel, some that are not there."""
    kept = boxes[rng.random(len(boxes)) >= MISSED]
    moved = kept.copy()
    shift = rng.integers(-JITTER, JITTER + 1, (len(kept), 2))
    moved[:, (0, 2)] = np.clip(moved[:, (0, 2)] + shift[:, :1], 0, len(grid.lat))
    moved[:, (1, 3)] += shift[:, 1:]
    moved[:, (1, 3)] -= (moved[:, 1] // len(grid.lon) * len(grid.lon))[:, None]
    moved = moved[moved[:, 2] > moved[:, 0]]
    false = [
        (*areas.around(rng.uniform(-50, 50), rng.uniform(0, 360), 5e5, grid), rng.integers(TD, ETC + 1))
        for _ in range(rng.binomial(max(len(boxes), 1), FALSE))
    ]
    return np.concatenate([moved, np.array(false, np.int32).reshape(-1, 5)])


def padded(boxes: np.ndarray) -> np.ndarray:
    """Boxes in ``ROWS`` rows, int32, the largest first; what does not fit is left out."""
    size = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    out = np.full((ROWS, 5), UNUSED, np.int32)
    chosen = boxes[np.argsort(-size, kind="stable")][:ROWS]
    out[: len(chosen)] = chosen
    return out
