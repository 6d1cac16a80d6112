"""Storms as objects with truth: what each of them adds to the fields. ``tracks`` has their births and lives.

Tropical storms follow the profile of Holland (1980, Monthly Weather Review 108, 1212).

Shape legend: H rows, W columns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from kilonode.cases.extreme_weather.earth import DEGREE, DENSITY, Grid, coriolis, offsets

STEP = 3.0
"""Hours between two frames."""
NONE, CUT_OFF, MONSOON, PLUME, FRONT, HEAT, TROPICAL, LOW, RIVER, HYBRID = range(10)
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
    HYBRID: "hybrid cyclone",
}
HURRICANE, DEPRESSION = 17.0, 10.0
"""Largest wind of a tropical cyclone and of a depression, at least, m/s."""


@dataclass(frozen=True)
class Storm:
    """One object at one time.

    ``deficit`` of pressure Pa; ``radius`` m, of the largest wind (tropical) or of a Gaussian; ``shape`` is Holland's B;
    ``core`` and ``aloft`` K at 500 and at 200 hPa; ``moist`` kg/m2; ``stretch`` and ``angle`` (rad) of long objects;
    ``fastest`` wind m/s, and its ``share`` at 850 hPa; ``move`` m/s east and north.
    """

    number: int
    kind: int
    lat: float
    lon: float
    deficit: float
    radius: float
    shape: float = 1.0
    core: float = 0.0
    aloft: float = 0.0
    moist: float = 0.0
    stretch: float = 1.0
    angle: float = 0.0
    age: float = 0.0
    fastest: float = 0.0
    share: float = 1.0
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
    def warmth(self) -> float:
        """How warm the core is over its whole depth, K: tropical storms are warm up to 200 hPa, hybrid ones are not."""
        return (self.core + self.aloft) / 2

    @property
    def reach(self) -> float:
        """Distance in latitude or longitude, m, beyond which it changes no field by more than 1e-5 of its strength."""
        return 2.2e6 if self.kind == TROPICAL else 5 * self.radius * max(self.stretch, 3 if self.kind == FRONT else 1)

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
    rows, columns = (np.flatnonzero(np.abs(part.ravel()) < storm.reach) for part in (north, east))
    if not len(rows) or not len(columns):
        return
    east, north = east[:, columns], north[rows]
    parts = _tropical(storm, grid.pixel, east, north) if storm.kind == TROPICAL else _other(storm, east, north)
    for name, part in parts.items():
        fields[name][np.ix_(rows, columns)] += part


def _other(storm: Storm, east: np.ndarray, north: np.ndarray) -> dict[str, np.ndarray]:
    r = np.sqrt(east**2 + north**2 + 1.0)
    along = east * np.cos(storm.angle) + north * np.sin(storm.angle)
    across = north * np.cos(storm.angle) - east * np.sin(storm.angle)
    shape = np.exp(-((along / storm.stretch) ** 2 + across**2) / (2 * storm.radius**2))
    drop, side = storm.deficit * shape, np.sign(storm.lat)
    turn = _held(drop * r / (DENSITY * abs(coriolis(storm.lat)) * storm.radius**2), storm) / r
    parts = {"psl": -drop, "tmq": storm.moist * shape}
    for name, share in (("", storm.share), ("bot", 0.7)):
        parts["u" + name], parts["v" + name] = -side * share * turn * north, side * share * turn * east
    if storm.kind == FRONT:  # cold on one side, with a wind shift along the line
        step = np.tanh(across / 1.5e5) * np.exp(-((along / storm.stretch) ** 2 + (across / 3) ** 2) / storm.radius**2)
        parts["t500"], parts["tref"] = storm.core * step, 1.5 * storm.core * step
        return {**parts, "v": parts["v"] - 6 * step, "vbot": parts["vbot"] - 5 * step}
    heat = {"tref": 5 * shape} if storm.kind == HEAT else {}
    return {**parts, **heat, "t500": storm.core * shape, "t200": storm.aloft * shape}


def _held(speed: np.ndarray, storm: Storm) -> np.ndarray:
    """Wind no faster than ``fastest``: friction ends what balance would ask for near the equator."""
    return np.asarray(speed * storm.fastest / np.hypot(speed, storm.fastest + 1e-9))


def _tropical(storm: Storm, pixel: float, east: np.ndarray, north: np.ndarray) -> dict[str, np.ndarray]:
    r = np.sqrt(east**2 + north**2 + 1.0)
    drawn = replace(storm, radius=max(storm.radius, 0.75 * pixel))  # no smaller than the pixels can show
    speed, side = wind(r, drawn), np.sign(storm.lat)
    ring = np.exp(-((r / 5e5) ** 2)) / 2
    width = max(2.5e5, 1.2 * pixel)
    core = np.exp(-((r / width) ** 2) / 2)
    annulus = np.exp(-(((r - 1.5 * drawn.radius) / max(1.5e5, drawn.radius)) ** 2))
    parts = {
        "psl": -pressure_drop(r, drawn),
        "t500": storm.core * core,
        "t200": storm.aloft * core,
        "z200": 8 * storm.deficit / 100 * 0.25 * np.exp(-((r / (1.5 * width)) ** 2) / 2),
        "tmq": storm.moist * np.exp(-((r / 3.5e5) ** 2) / 2),
        "rain": 4e-9 * storm.deficit**0.5 * annulus,
    }
    for name, share, inflow in (("", 1.0, 0.0), ("bot", 0.8, 20 * DEGREE)):
        around, inward = share * speed * np.cos(inflow) / r, share * speed * np.sin(inflow) / r
        parts["u" + name] = -side * around * north - inward * east + storm.move[0] * ring
        parts["v" + name] = side * around * east - inward * north + storm.move[1] * ring
    return parts


def circulation(storm: Storm, within: float = 3e5) -> float:
    """Mean vorticity within a distance (m) at 850 hPa, 1/s: of the profile, so it does not depend on a grid."""
    if storm.kind == TROPICAL:
        return float(2 * wind(np.array([within]), storm)[0] / within)
    slope = storm.deficit * np.exp(-(within**2) / (2 * storm.radius**2)) / storm.radius**2
    speed = np.asarray(slope * within / (DENSITY * abs(coriolis(storm.lat))))
    return float(2 * storm.share * _held(speed, storm) / within)
