"""Births and tracks of storms, and of what looks like them: every object that is not part of the flow.

The hard negatives share with tropical cyclones all signs but one, each kind lacking another: wind without a warm core,
a core that is warm below alone (Monthly Weather Review 131, 585, 2003), a deep low without wind aloft, warm and
moist air without a low. Without them one threshold would be right always.

Shape legend: T steps of ``STEP`` hours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kilonode.cases.extreme_weather import earth
from kilonode.cases.extreme_weather.earth import DEGREE, RADIUS, Grid
from kilonode.cases.extreme_weather.flow import Flow
from kilonode.cases.extreme_weather.storms import (
    CUT_OFF,
    FRONT,
    HEAT,
    HYBRID,
    MONSOON,
    PLUME,
    STEP,
    TROPICAL,
    Storm,
    wind,
)

Range = tuple[float, float]


@dataclass(frozen=True)
class Look:
    """How objects of one kind that is no tropical storm look at the height of their lives.

    ``births`` a day on the globe; ``places`` degrees from the equator; ``deficit`` Pa; ``radius`` m; ``core`` K at 500
    hPa, and ``aloft``, its multiple at 200 hPa; ``moist`` kg/m2; ``fastest`` wind m/s that friction allows, and
    ``share`` of it at 850 hPa; ``stretch`` of long ones.
    """

    births: float
    places: Range
    deficit: Range
    radius: Range
    core: Range
    aloft: float
    moist: Range
    fastest: float = 0.0
    share: float = 1.0
    stretch: Range = (1, 1)


LOOKS = {
    CUT_OFF: Look(0.5, (22, 42), (1500, 5000), (1e5, 3e5), (-5, -1), -0.5, (-2, 16), 38),
    MONSOON: Look(0.9, (8, 24), (600, 2400), (1.5e5, 3.5e5), (-0.6, 0.45), 0.5, (8, 24), 18),
    PLUME: Look(0.5, (10, 45), (0, 0), (1.5e5, 4e5), (0.5, 4.5), 1.0, (10, 28), stretch=(1, 4)),
    FRONT: Look(0.5, (25, 55), (0, 0), (2e5, 3e5), (-5, -2), 0.0, (-6, -2), stretch=(2, 4)),
    HEAT: Look(0.45, (12, 38), (800, 2000), (1.5e5, 5e5), (0.3, 2.5), -1.0, (-8, -3), 14, 0.3),
    HYBRID: Look(0.3, (20, 45), (2000, 6000), (1e5, 3e5), (0.5, 3.5), -1.0, (2, 22), 42),
}
"""Our choice, by what such weather is called for; rates as seen on weather maps, not fitted."""
TROPICAL_BIRTHS = 0.75
"""A day, on the globe (our choice: 1.5 tropical cyclones and 2 depressions a frame)."""
BIRTHS = {**{kind: look.births for kind, look in LOOKS.items()}, TROPICAL: TROPICAL_BIRTHS}
WARM_SEA = 298.5
"""K: over colder water, and over land, tropical storms die in a day."""
DRIFT = 2.0
"""Poleward drift of tropical storms, m/s."""
Track = list[tuple[float, dict[str, Any]]]


def draw(
    rng: np.random.Generator, steps: int, flow: Flow, shift: float, rates: Mapping[int, float]
) -> list[list[Storm]]:
    """All objects but extratropical cyclones and rivers at every step.

    Parameters
    ----------
    rng : Generator
        Its stream.
    steps : int
        T, from hour 0 on.
    flow : Flow
        Steers the tropical storms.
    shift : float
        Season, degrees.
    rates : Mapping
        Births of each kind a day.

    Returns
    -------
    list of list of Storm
        The objects of each step.
    """
    found: list[list[Storm]] = [[] for _ in range(steps)]
    number = 0
    for kind, rate in rates.items():
        longest = 240.0 if kind == TROPICAL else 96.0
        for birth in np.sort(rng.uniform(-longest, steps * STEP, rng.poisson(rate * (steps * STEP + longest) / 24))):
            track = (
                _tropical_track(rng, birth, flow, shift) if kind == TROPICAL else _other_track(rng, kind, birth, shift)
            )
            for hours, storm in track:
                step = round(hours / STEP)
                if 0 <= step < steps:
                    found[step].append(Storm(**{**storm, "number": number, "kind": kind}))
            number += 1
    return found


def _tropical_track(rng: np.random.Generator, birth: float, flow: Flow, shift: float) -> Track:
    """Born over warm sea, steered by the flow, strongest in the middle of its life."""
    start = np.ceil(birth / STEP) * STEP
    lat, lon = _warm_sea(rng, shift)
    life, deepest = rng.uniform(96, 240), 100 * min(4 + rng.exponential(22), 90)
    shape, radius = rng.uniform(1.0, 2.0), rng.uniform(3e4, 1e5)
    track: Track = []
    health = 1.0
    for k in range(int(life / STEP)):
        here = Grid(np.array([lat]), np.array([lon]))
        air = flow.air(start + k * STEP, here, 0.4)
        east, north = float(0.8 * air.u[0, 0]), float(0.8 * air.v[0, 0] + np.sign(lat) * DRIFT)
        is_fed = _is_sea(lat, lon) and earth.sea_temperature(lat, shift) > WARM_SEA
        health = min(1.0, health + 0.05) if is_fed else health * np.exp(-STEP / 24)
        drop = deepest * np.sin(np.pi * (k + 1) / (life / STEP + 1)) * health
        if health < 0.1:
            break
        core = 3.0 * drop / 5000
        draft = Storm(0, TROPICAL, lat, lon, drop, radius, shape)
        fastest = float(wind(np.array([radius]), draft)[0])
        warm = {"core": core, "aloft": 1.3 * core}
        grown = {**warm, "deficit": drop, "moist": 8 + drop / 400, "fastest": fastest, "age": k * STEP}
        place = {"lat": lat, "lon": lon, "radius": radius, "shape": shape, "move": (east, north)}
        track.append((start + k * STEP, {**place, **grown}))
        lat += north * STEP * 3600 / RADIUS / DEGREE
        lon = (lon + east * STEP * 3600 / RADIUS / DEGREE / np.cos(lat * DEGREE)) % 360
        if not 2 < abs(lat) < 55:
            break
    return track


def _warm_sea(rng: np.random.Generator, shift: float) -> tuple[float, float]:
    """A place where tropical storms are born: 5 to 25 degrees from the equator, more often in the summer half."""
    while True:
        side = 1.0 if rng.random() < 0.5 + shift / 20 else -1.0
        lat, lon = side * rng.uniform(5, 22), rng.uniform(0, 360)
        if _is_sea(lat, lon) and earth.sea_temperature(lat, shift) > WARM_SEA:
            return lat, lon


def _is_sea(lat: float, lon: float) -> bool:
    return bool(earth.relief(np.array([lat]), np.array([lon]))[0, 0] < 0)


def _other_track(rng: np.random.Generator, kind: int, birth: float, shift: float) -> Track:
    """A hard negative: comes and goes in place, drifting slowly; for most of its life it is near its height."""
    start, look = np.ceil(birth / STEP) * STEP, LOOKS[kind]
    lat, lon = rng.choice([-1.0, 1.0]) * rng.uniform(*look.places) + shift / 2, rng.uniform(0, 360)
    for _ in range(200):  # a heat low needs land
        if kind != HEAT or not _is_sea(lat, lon):
            break
        lat, lon = rng.choice([-1.0, 1.0]) * rng.uniform(*look.places), rng.uniform(0, 360)
    life, core = rng.uniform(36, 96), rng.uniform(*look.core)
    fixed = {"radius": rng.uniform(*look.radius), "stretch": rng.uniform(*look.stretch), "share": look.share}
    fixed |= {"angle": rng.uniform(0, np.pi), "fastest": look.fastest}
    top = {"deficit": rng.uniform(*look.deficit), "core": core, "aloft": look.aloft * core}
    top["moist"] = rng.uniform(*look.moist)
    east, count = rng.uniform(-4, 4), int(life / STEP)
    grown = np.sqrt(np.sin(np.pi * (np.arange(count) + 1) / (count + 1)))
    track = []
    for k in range(count):
        where = {"lat": lat, "lon": (lon + east * k * STEP * 3600 / RADIUS / DEGREE) % 360, "age": k * STEP}
        track.append((start + k * STEP, {**fixed, **where, **{name: value * grown[k] for name, value in top.items()}}))
    return track
