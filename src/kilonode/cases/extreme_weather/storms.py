"""Storms as objects with truth: births, tracks, growth and decay; and what each of them adds to the fields.

Tropical storms follow the profile of Holland (1980, Monthly Weather Review 108, 1212). The hard negatives look like
storms in one field or another: without them every method would be right always.

Shape legend: H rows, W columns, T steps of ``STEP`` hours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kilonode.cases.extreme_weather import earth
from kilonode.cases.extreme_weather.earth import DEGREE, DENSITY, RADIUS, Grid, coriolis, offsets
from kilonode.cases.extreme_weather.flow import Flow

STEP = 3.0
"""Hours between two frames."""
NONE, CUT_OFF, MONSOON, PLUME, FRONT, HEAT, TROPICAL, LOW, RIVER = range(9)
KINDS = {
    NONE: "random place",
    CUT_OFF: "cut-off low",
    MONSOON: "monsoon depression",
    PLUME: "moist plume",
    FRONT: "dry front",
    HEAT: "heat low",
    TROPICAL: "tropical storm",
    LOW: "extratropical cyclone",
    RIVER: "atmospheric river",
}
BIRTHS = {CUT_OFF: 0.75, MONSOON: 0.9, PLUME: 0.5, FRONT: 0.5, HEAT: 0.45, TROPICAL: 0.75}
"""A day, on the globe (our choice: 1.5 tropical cyclones and 2 depressions a frame)."""
WARM_SEA = 298.5
"""K: over colder water, and over land, tropical storms die in a day."""
DRIFT = 2.0
"""Poleward drift of tropical storms, m/s."""
HURRICANE, DEPRESSION = 17.0, 10.0
"""Largest wind of a tropical cyclone and of a depression, at least, m/s."""


@dataclass(frozen=True)
class Storm:
    """One object at one time.

    ``deficit`` of pressure Pa; ``radius`` m, of the largest wind (tropical) or of a Gaussian; ``shape`` is Holland's B;
    ``core`` K at 500 hPa; ``moist`` kg/m2; ``stretch`` and ``angle`` (rad) of long objects; ``fastest`` wind m/s;
    ``move`` m/s east and north.
    """

    number: int
    kind: int
    lat: float
    lon: float
    deficit: float
    radius: float
    shape: float = 1.0
    core: float = 0.0
    moist: float = 0.0
    stretch: float = 1.0
    angle: float = 0.0
    age: float = 0.0
    fastest: float = 0.0
    move: tuple[float, float] = (0.0, 0.0)

    @property
    def is_cyclone(self) -> bool:
        """A tropical cyclone by its wind."""
        return self.kind == TROPICAL and self.fastest >= HURRICANE

    @property
    def is_depression(self) -> bool:
        """A tropical depression by its wind."""
        return self.kind == TROPICAL and DEPRESSION <= self.fastest < HURRICANE

    @property
    def size(self) -> float:
        """Half the side of its true box, m: grows with the wind."""
        return 4e5 + 6e3 * float(np.clip(self.fastest - DEPRESSION, 0, 50))


def pressure_drop(r: np.ndarray, storm: Storm) -> np.ndarray:
    """How far the pressure is below that of the surroundings, Pa, at distance ``r`` m."""
    return np.asarray(storm.deficit * -np.expm1(-((storm.radius / r) ** storm.shape)) * _end(r))


def wind(r: np.ndarray, storm: Storm) -> np.ndarray:
    """Gradient wind at distance ``r``, m/s (Holland 1980, equation 6)."""
    f = abs(coriolis(storm.lat))
    ratio = (storm.radius / r) ** storm.shape
    push = storm.shape * storm.deficit / DENSITY * ratio * np.exp(-ratio)
    return np.asarray((np.sqrt(push + (r * f / 2) ** 2) - r * f / 2) * _end(r))


def _end(r: np.ndarray) -> np.ndarray:
    """One near the centre, nothing far away: Holland's pressure never ends by itself."""
    return np.exp(-((r / 1.2e6) ** 4))


def add(storm: Storm, grid: Grid, fields: dict[str, np.ndarray]) -> None:
    """Add one object to the fields (H, W) in place: ``psl, u, v, ubot, vbot, t500, t200, z200, tmq, rain, tref``."""
    east, north = offsets(grid, storm.lat, storm.lon)
    r = np.sqrt(east**2 + north**2 + 1.0)
    if storm.kind == TROPICAL:
        _tropical(storm, grid, east, north, r, fields)
        return
    along = east * np.cos(storm.angle) + north * np.sin(storm.angle)
    across = north * np.cos(storm.angle) - east * np.sin(storm.angle)
    shape = np.exp(-((along / storm.stretch) ** 2 + across**2) / (2 * storm.radius**2))
    drop = storm.deficit * shape
    fields["psl"] -= drop
    turn = drop * r / (DENSITY * abs(coriolis(storm.lat)) * storm.radius**2)
    turn = turn / np.sqrt(1 + (turn / FASTEST) ** 2)
    side = np.sign(storm.lat)
    for name, share in (("", 0.3 if storm.kind == HEAT else 1.0), ("bot", 0.7)):
        fields["u" + name] -= side * share * turn * north / r
        fields["v" + name] += side * share * turn * east / r
    fields["tmq"] += storm.moist * shape
    if storm.kind == FRONT:  # cold on one side, with a wind shift along the line
        step = np.tanh(across / 1.5e5) * np.exp(-((along / storm.stretch) ** 2 + (across / 3) ** 2) / storm.radius**2)
        fields["t500"] += storm.core * step
        fields["tref"] += 1.5 * storm.core * step
        fields["v"] -= 6 * step
        fields["vbot"] -= 5 * step
        return
    fields["t500"] += storm.core * shape
    fields["t200"] -= 0.5 * storm.core * shape
    if storm.kind == HEAT:
        fields["tref"] += 5 * shape


def _tropical(
    storm: Storm, grid: Grid, east: np.ndarray, north: np.ndarray, r: np.ndarray, fields: dict[str, np.ndarray]
) -> None:
    drawn = _resolved(storm, grid)
    fields["psl"] -= pressure_drop(r, drawn)
    speed, side = wind(r, drawn), np.sign(storm.lat)
    ring = np.exp(-((r / 5e5) ** 2))
    for name, share, inflow in (("", 1.0, 0.0), ("bot", 0.8, 20 * DEGREE)):
        around, inward = share * speed * np.cos(inflow), share * speed * np.sin(inflow)
        fields["u" + name] += (-side * around * north - inward * east) / r + 0.5 * storm.move[0] * ring
        fields["v" + name] += (side * around * east - inward * north) / r + 0.5 * storm.move[1] * ring
    width = max(2.5e5, 1.2 * grid.pixel)
    core = storm.core * np.exp(-((r / width) ** 2) / 2)
    fields["t500"] += core
    fields["t200"] += 1.3 * core
    fields["z200"] += 8 * storm.deficit / 100 * 0.25 * np.exp(-((r / (1.5 * width)) ** 2) / 2)
    annulus = np.exp(-(((r - 1.5 * drawn.radius) / max(1.5e5, drawn.radius)) ** 2))
    fields["tmq"] += storm.moist * np.exp(-((r / 3.5e5) ** 2) / 2)
    fields["rain"] += 4e-9 * storm.deficit**0.5 * annulus


def _resolved(storm: Storm, grid: Grid) -> Storm:
    """The same storm no smaller than the pixels can show."""
    return Storm(**{**storm.__dict__, "radius": max(storm.radius, 0.75 * grid.pixel)})


def circulation(storm: Storm, within: float = 3e5) -> float:
    """Mean vorticity within a distance (m) at 850 hPa, 1/s: of the profile, so it does not depend on a grid."""
    if storm.kind == TROPICAL:
        return float(2 * wind(np.array([within]), storm)[0] / within)
    slope = storm.deficit * np.exp(-(within**2) / (2 * storm.radius**2)) / storm.radius**2
    return float(2 * min(slope * within / (DENSITY * abs(coriolis(storm.lat))), FASTEST) / within)


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


Track = list[tuple[float, dict[str, Any]]]


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
        grown = {"deficit": drop, "core": core, "moist": 8 + drop / 400, "fastest": fastest, "age": k * STEP}
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


FASTEST = 24.0
"""Wind of a hard negative, m/s: friction ends what balance would ask for near the equator."""
PLACES = {CUT_OFF: (22, 42), MONSOON: (8, 24), PLUME: (10, 45), FRONT: (25, 55), HEAT: (12, 38)}
"""Degrees from the equator."""
DEFICITS = {CUT_OFF: (800, 3200), MONSOON: (600, 2400), PLUME: (0, 0), FRONT: (0, 0), HEAT: (400, 1600)}
"""Pa."""
SIZES = {CUT_OFF: (1.5e5, 4e5), MONSOON: (1.5e5, 3.5e5), PLUME: (2e5, 4e5), FRONT: (2e5, 3e5), HEAT: (2.5e5, 5e5)}
"""m."""
CORES = {CUT_OFF: (-5, -1), MONSOON: (-0.6, 0.45), PLUME: (0, 4), FRONT: (-5, -2), HEAT: (-0.3, 2.5)}
"""K at 500 hPa."""
MOISTURE = {CUT_OFF: (-2, 14), MONSOON: (8, 22), PLUME: (10, 26), FRONT: (-6, -2), HEAT: (-8, -3)}
"""kg/m2."""


def _other_track(rng: np.random.Generator, kind: int, birth: float, shift: float) -> Track:
    """A hard negative: comes and goes in place, drifting slowly."""
    start = np.ceil(birth / STEP) * STEP
    side = rng.choice([-1.0, 1.0])
    lat, lon = side * rng.uniform(*PLACES[kind]) + shift / 2, rng.uniform(0, 360)
    for _ in range(200):  # a heat low needs land
        if kind != HEAT or not _is_sea(lat, lon):
            break
        lat, lon = rng.choice([-1.0, 1.0]) * rng.uniform(*PLACES[kind]), rng.uniform(0, 360)
    life, deepest = rng.uniform(36, 96), rng.uniform(*DEFICITS[kind])
    stretch = rng.uniform(2, 4) if kind in (PLUME, FRONT) else 1.0
    parts = {"radius": rng.uniform(*SIZES[kind]), "stretch": stretch, "angle": rng.uniform(0, np.pi)}
    core, moist, east = rng.uniform(*CORES[kind]), rng.uniform(*MOISTURE[kind]), rng.uniform(-4, 4)
    count = int(life / STEP)
    grown = np.sin(np.pi * (np.arange(count) + 1) / (count + 1))
    strong = {"deficit": deepest, "core": core, "moist": moist}
    track = []
    for k in range(count):
        where = {"lat": lat, "lon": (lon + east * k * STEP * 3600 / RADIUS / DEGREE) % 360, "age": k * STEP}
        track.append((start + k * STEP, {**parts, **where, **{name: top * grown[k] for name, top in strong.items()}}))
    return track
