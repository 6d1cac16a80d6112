"""Patches cut around storms and around what looks like them, drawn at the full detail of the objects.

Shape legend: N patches, C channels, h rows, w columns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kilonode.cases.contract import Arrays
from kilonode.cases.extreme_weather import earth, labels, rules, storms, world
from kilonode.cases.extreme_weather.earth import Grid
from kilonode.cases.extreme_weather.storms import NONE, RIVER, TROPICAL, Storm
from kilonode.cases.extreme_weather.world import INDEX, World

PIXEL = (0.234, 0.3125)
"""Degrees, of the original."""
CYCLONE_CHANNELS = ("TMQ", "V850", "PSL", "U850", "T500", "UBOT", "T200", "VBOT")
CYCLONE_SHAPE, RIVER_SHAPE = (32, 32), (148, 224)
JITTER = 0.25
"""Of the window: how far from its middle the storm may stand, so that the middle pixel does not give it away."""
HARD = 0.75
"""Share of negatives that look like storms, at least."""
MISSED, FALSE = 0.05, 0.02
"""Errors of the labels."""
SMOOTH = 2.0
"""Pixels of the noise."""


@dataclass(frozen=True)
class Spot:
    """What a patch is cut around: a step, a place, and the object there."""

    step: int
    lat: float
    lon: float
    label: int
    true: int
    kind: int
    storm: Storm | None = None


def cyclones(whole: World, count: int, seed: int, group: int) -> Arrays:
    """Patches for tropical cyclones, half of them positive where there are so many.

    Parameters
    ----------
    whole : World
        The sequence.
    count : int
        Patches, at most.
    seed, group : int
        Whose random numbers.
    """
    rng, errors = (world.stream(seed, kind, group, 1) for kind in (world.PHYSICS, world.LABELS))
    spots = _cyclone_spots(whole, count, rng)
    x = np.zeros((len(spots), len(CYCLONE_CHANNELS), *CYCLONE_SHAPE), np.float32)
    channels = [INDEX[name] for name in CYCLONE_CHANNELS]
    offset = np.zeros((len(spots), 2))
    for number, spot in enumerate(spots):
        offset[number], grid = _jittered(spot, CYCLONE_SHAPE, rng)
        noise = world.noise(world.stream(seed, world.NOISE, group, 1, number), CYCLONE_SHAPE, SMOOTH, False)
        x[number] = world.observed(world.clean(whole, spot.step, grid), noise)[channels]
    return {"x": x, **_described(spots, offset, group, errors)}


def rivers(whole: World, count: int, seed: int, group: int) -> Arrays:
    """Patches for atmospheric rivers: water vapour and land; windows may hold other parts of other rivers."""
    rng, errors = (world.stream(seed, kind, group, 2) for kind in (world.PHYSICS, world.LABELS))
    spots = _river_spots(whole, count, rng)
    x = np.zeros((len(spots), 2, *RIVER_SHAPE), np.float32)
    offset = np.zeros((len(spots), 2))
    for number, spot in enumerate(spots):
        offset[number], grid = _jittered(spot, RIVER_SHAPE, rng)
        noise = world.stream(seed, world.NOISE, group, 2, number).standard_normal(RIVER_SHAPE, dtype=np.float32)
        water = world.vapour(whole, spot.step, grid) + world.NOISE_SHARE * world.CHANNELS["TMQ"][2] * noise
        x[number] = np.maximum(water, 0), world.drawn(whole.height, whole.grid, grid) > 0
    return {"x": x, **_described(spots, offset, group, errors)}


def _cyclone_spots(whole: World, count: int, rng: np.random.Generator) -> list[Spot]:
    """Where to cut: around storms that the rules call cyclones, around the hard negatives, and at random places."""
    positive: list[Spot] = []
    hard: list[Spot] = []
    for step, found in enumerate(whole.storms):
        for storm in found:
            if abs(storm.lat) > 55:
                continue
            kind = labels.rule(storm, labels.surroundings(whole, step, storm))
            is_true, is_one = int(storm.is_cyclone), int(kind == rules.TC)
            spot = Spot(step, storm.lat, storm.lon, is_one, is_true, storm.kind, storm)
            (positive if is_one else hard).append(spot)
    positive = _some(positive, count // 2, rng)
    hard = _of_all_kinds(hard, round(count / 2 * HARD) + 1, rng)
    lats = [spot.lat for spot in positive + hard]
    while len(hard) < count // 2:  # as far from the equator as the others
        lat, lon = float(rng.choice(lats)) if lats else 15.0, float(rng.uniform(0, 360))
        step = int(rng.integers(whole.steps))
        if all(_far(lat, lon, storm) for storm in whole.storms[step] if storm.kind == TROPICAL):
            hard.append(Spot(step, lat, lon, 0, 0, NONE))
    return positive + hard


def _far(lat: float, lon: float, storm: Storm) -> bool:
    return abs(lat - storm.lat) > 10 or abs((lon - storm.lon + 180) % 360 - 180) > 12


def _river_spots(whole: World, count: int, rng: np.random.Generator) -> list[Spot]:
    """Around regions that the rule calls rivers, and places without one in the middle half, hard ones first."""
    positive: list[Spot] = []
    hard: list[Spot] = []
    easy: list[Spot] = []
    grid = whole.grid
    for step in range(0, whole.steps, max(1, whole.steps * 4 // (3 * max(count, 1)))):
        flux = rules.transport(world.clean(whole, step))
        mask = np.zeros(grid.shape, bool)
        for region in rules.rivers(flux, grid):
            mask[region.rows, region.columns % len(grid.lon)] = True
            lat = float(grid.lat[0] + region.rows.mean() * grid.step[0])
            lon = float((grid.lon[0] + region.columns.mean() * grid.step[1]) % 360)
            positive.append(Spot(step, lat, lon, 1, int(region.length >= labels.RIVER), RIVER))
        tries = [(s.lat, s.lon, s.kind) for s in whole.storms[step] if 15 < abs(s.lat) < 60]
        tries += [(*_moist(flux, mask, grid, rng), NONE) for _ in range(2)]
        tries += [(float(rng.choice([-1, 1]) * rng.uniform(20, 60)), float(rng.uniform(0, 360)), NONE)]
        for number, (lat, lon, kind) in enumerate(tries):
            if not _inside(mask, grid, lat, lon):
                (easy if number == len(tries) - 1 else hard).append(Spot(step, lat, lon, 0, 0, kind))
    chosen = _some(hard, count // 2 - count // 6, rng)
    return _some(positive, count // 2, rng) + chosen + _some(easy, count // 2 - len(chosen), rng)


def _moist(flux: np.ndarray, mask: np.ndarray, grid: Grid, rng: np.random.Generator) -> tuple[float, float]:
    """A place where moisture is carried, but not in a river."""
    rows = np.flatnonzero((np.abs(grid.lat) > 20) & (np.abs(grid.lat) < 60))
    row, column = rng.choice(rows, 40), rng.integers(0, len(grid.lon), 40)
    best = int(np.argmax(np.where(mask[row, column], 0, flux[row, column])))
    return float(grid.lat[row[best]]), float(grid.lon[column[best]])


def _inside(mask: np.ndarray, grid: Grid, lat: float, lon: float) -> bool:
    """Whether a river stands in the middle half of the window here."""
    high, wide = (PIXEL[k] * RIVER_SHAPE[k] / 4 for k in (0, 1))
    rows = np.abs(grid.lat - lat) < high
    columns = np.abs((grid.lon - lon + 180) % 360 - 180) < wide
    return bool(mask[np.ix_(rows, columns)].any())


def _some(spots: Sequence[Spot], count: int, rng: np.random.Generator) -> list[Spot]:
    """So many of them at random, all where there are fewer."""
    return [spots[k] for k in rng.permutation(len(spots))[: max(count, 0)]]


def _of_all_kinds(spots: Sequence[Spot], count: int, rng: np.random.Generator) -> list[Spot]:
    """So many of them, every kind as often as the others while there are any: each lacks another sign of a storm."""
    mixed = _some(spots, len(spots), rng)
    seen: Counter[int] = Counter()
    turns = []
    for spot in mixed:
        turns.append(seen[spot.kind])
        seen[spot.kind] += 1
    return [mixed[k] for k in np.argsort(turns, kind="stable")[: max(count, 0)]]


def _jittered(spot: Spot, shape: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, Grid]:
    """How far the object stands from the window's middle, pixels (up, right), and the window."""
    moved = rng.uniform(-JITTER, JITTER, 2) * shape
    most = 89 - PIXEL[0] * shape[0] / 2
    lat = float(np.clip(spot.lat - moved[0] * PIXEL[0], -most, most))
    grid = earth.window(lat, spot.lon - moved[1] * PIXEL[1], *shape, PIXEL)
    return np.array([(spot.lat - lat) / PIXEL[0], moved[1]]), grid


def _described(spots: list[Spot], offset: np.ndarray, group: int, errors: np.random.Generator) -> Arrays:
    """Labels with their errors, and the truth beside them."""
    label = np.array([spot.label for spot in spots], np.int64)
    chance = errors.random(len(spots))
    wrong = chance < np.where(label == 1, MISSED, FALSE)
    storm = [(s.number, s.fastest, s.deficit, s.radius) if (s := spot.storm) else (-1, 0, 0, 0) for spot in spots]
    place = [(spot.lat, spot.lon, spot.step * storms.STEP) for spot in spots]
    parts = [np.reshape(storm, (-1, 4)), np.reshape(place, (-1, 3)), offset]
    return {
        "y": (label ^ wrong).astype(np.uint8),
        "group": np.full(len(spots), group, np.int64),
        "sample_id": group * 100_000 + np.arange(len(spots), dtype=np.int64),
        "truth/y": np.array([spot.true for spot in spots], np.uint8),
        "truth/rule": label.astype(np.uint8),
        "truth/kind": np.array([spot.kind for spot in spots], np.uint8),
        "truth/storm": np.concatenate(parts, axis=1).astype(np.float32),
    }
