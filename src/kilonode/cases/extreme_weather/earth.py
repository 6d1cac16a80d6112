"""The planet: grids, distances, rotation, seasons, land and mountains. Everything is a function of place alone.

Shape legend: H rows, rising from south to north; W columns, rising eastwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

RADIUS = 6.371e6
"""m."""
GRAVITY = 9.81
"""m/s2."""
GAS = 287.05
"""Gas constant of dry air, J/kg/K."""
DENSITY = 1.15
"""Air near the surface, kg/m3."""
SEA_LEVEL = 101000.0
"""Mean pressure at sea level, Pa."""
OMEGA = 7.292e-5
"""1/s."""
DEGREE = np.pi / 180
LAND_SHARE = 0.3


@dataclass(frozen=True)
class Grid:
    """A regular piece of the globe: ``lat`` (H,) and ``lon`` (W,) of its pixels, degrees; rows rise northwards."""

    lat: np.ndarray
    lon: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return len(self.lat), len(self.lon)

    @property
    def step(self) -> tuple[float, float]:
        """Height and width of a pixel, degrees."""
        return float(self.lat[1] - self.lat[0]), float(self.lon[1] - self.lon[0])

    @property
    def pixel(self) -> float:
        """Height of a pixel, m."""
        return self.step[0] * DEGREE * RADIUS


def globe(rows: int, columns: int) -> Grid:
    """The whole globe in pixels whose outer edges are the poles and the meridian of Greenwich."""
    return Grid((np.arange(rows) + 0.5) * 180 / rows - 90, (np.arange(columns) + 0.5) * 360 / columns)


def window(lat: float, lon: float, rows: int, columns: int, step: tuple[float, float]) -> Grid:
    """A window around a place; its longitudes may leave 0-360."""
    return Grid(
        lat + (np.arange(rows) - (rows - 1) / 2) * step[0], lon + (np.arange(columns) - (columns - 1) / 2) * step[1]
    )


def coriolis(lat: np.ndarray | float, floor: float = 10.0) -> np.ndarray:
    """Coriolis parameter, 1/s, signed; no closer to zero than at ``floor`` degrees, where balance would end."""
    held = np.sign(lat) * np.maximum(np.abs(lat), floor)
    return np.asarray(2 * OMEGA * np.sin(held * DEGREE))


def offsets(grid: Grid, lat: float, lon: float) -> tuple[np.ndarray, np.ndarray]:
    """Distance eastwards (1, W) and northwards (H, 1) of every pixel from a place, m, the short way around."""
    east = (grid.lon - lon + 180) % 360 - 180
    return RADIUS * np.cos(lat * DEGREE) * east[None] * DEGREE, RADIUS * (grid.lat - lat)[:, None] * DEGREE


def season_shift(day: float) -> float:
    """How far north the warmest latitude stands on this day of the year, degrees."""
    return float(8 * np.sin(2 * np.pi * (day - 105) / 365))


def sea_temperature(lat: np.ndarray | float, shift: float) -> np.ndarray:
    """Surface temperature of the sea, K: 300 at the warmest latitude, 255 at the poles."""
    return np.asarray(300 - 45 * np.sin((lat - shift) * DEGREE) ** 2)


def saturation(lat: np.ndarray | float, shift: float) -> np.ndarray:
    """Water that the air column holds, kg/m2."""
    return np.asarray(60 * np.exp(-(((lat - shift) / 27) ** 2)) + 4)


@cache
def _waves() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Wave vectors (K, 3), phases and weights of the one planet all simulations share."""
    rng = np.random.default_rng(20170)
    direction = rng.standard_normal((40, 3))
    number = rng.uniform(1.5, 6.0, 40)
    vectors = direction / np.linalg.norm(direction, axis=1, keepdims=True) * number[:, None]
    return vectors, rng.uniform(0, 2 * np.pi, 40), number**-0.7


def relief(lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
    """Smooth random field, (H, W): above zero is land, a share ``LAND_SHARE`` of the globe."""
    return _field(lat, lon) - _shore()


def _field(lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
    vectors, phase, weight = _waves()
    up, along = lat[:, None] * DEGREE, lon[None] * DEGREE
    place = np.stack([np.cos(up) * np.cos(along), np.cos(up) * np.sin(along), np.sin(up) + 0 * along])
    return np.asarray(np.tensordot(weight, np.cos(np.tensordot(vectors, place, 1) + phase[:, None, None]), 1))


@cache
def _shore() -> float:
    """Height of the sea in the random field."""
    lat = np.arcsin((np.arange(90) + 0.5) / 45 - 1) / DEGREE  # rows of equal area
    return float(np.quantile(_field(lat, np.arange(0, 360, 3.0)), 1 - LAND_SHARE))


def orography(height: np.ndarray) -> np.ndarray:
    """Surface height over the sea, m, of relief (H, W)."""
    return np.asarray(350 * np.maximum(height, 0) ** 1.5)
