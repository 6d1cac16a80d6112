"""The air that storms swim in: jets in thermal wind balance, waves that lean west with height, extratropical cyclones.

A level is L = ln(850 hPa / p): 0 at 850 hPa, 1.45 at 200 hPa. Everything is analytic in place, time and level, so it
can be drawn on any grid. Geopotential and stream function are in local balance, Phi = f psi (for the jets exactly,
by an integral over latitude), and temperature follows from the hydrostatic equation, R T = dPhi/dL.

Shape legend: H rows, W columns, K waves, S lows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kilonode.cases.extreme_weather.earth import DEGREE, GAS, RADIUS, Grid, coriolis

GROWTH = 1.2
"""Relative growth of the wind with L: 2.7 times as strong at 200 hPa."""
JET, JET_LAT, JET_WIDTH = 12.0, 42.0, 12.0
"""m/s at 850 hPa (33 at 200 hPa), degrees, degrees."""
TRADES, TRADES_WIDTH = -5.0, 16.0
"""m/s, degrees."""
WAVE = 4.5e6
"""Standard deviation of a wave's amplitude at zonal wave number 6, m2/s."""
WAVE_LAT, WAVE_WIDTH = 43.0, 14.0
LEAN = 0.5
"""Phase by which a wave leans west over one unit of L, rad."""
LOW_SIGMA = 9e5
"""Size of an extratropical cyclone, m."""
LOW_LEAN = 6e5 / np.log(850 / 200)
"""How far its axis leans west over one unit of L, m."""


def level(pressure: float) -> float:
    """L of a pressure in hPa."""
    return float(np.log(850 / pressure))


@dataclass(frozen=True)
class Air:
    """One level on one grid, (H, W) each: ``u``, ``v`` m/s; ``phi`` m2/s2 and ``temperature`` K are anomalies."""

    u: np.ndarray
    v: np.ndarray
    phi: np.ndarray
    temperature: np.ndarray


@dataclass(frozen=True)
class Flow:
    """The flow of one sequence.

    ``jets`` (2,): strength of the southern and northern jet. ``waves`` (K, 5): zonal wave number, hemisphere (+-1),
    amplitude m2/s, speed degrees/day, phase rad. ``lows`` (S, 7): birth h, life h, latitude and longitude at birth,
    stream function m2/s (positive; the sign is the hemisphere's), drift degrees/day eastwards, and poleward over life.
    """

    jets: np.ndarray
    waves: np.ndarray
    lows: np.ndarray

    def air(self, hours: float, grid: Grid, at: float) -> Air:
        """Sum of all parts at level ``at``."""
        parts = [self._zonal(grid, at), self._undulating(hours, grid, at), _lows(self.alive(hours), grid, at)]
        return Air(*(sum(getattr(part, name) for part in parts) for name in ("u", "v", "phi", "temperature")))

    def alive(self, hours: float) -> np.ndarray:
        """Lows at this time, (S', 5): number, latitude, longitude, stream function m2/s (signed), age h."""
        birth, life, lat, lon, strength, east, pole = self.lows.T
        age = (hours - birth) / life
        now = (age > 0) & (age < 1)
        side = np.sign(lat)
        psi = -side * strength * np.sin(np.pi * np.clip(age, 0, 1)) ** 1.2
        place = [lat + side * pole * age, (lon + east * (hours - birth) / 24) % 360]
        return np.stack([np.arange(len(now)), *place, psi, hours - birth], axis=1)[now]

    def zonal_wind(self, lat: np.ndarray) -> np.ndarray:
        """Wind of jets and trades at 850 hPa, (H,)."""
        wind = TRADES * np.exp(-((lat / TRADES_WIDTH) ** 2))
        for side, strength in zip((-1, 1), self.jets, strict=True):
            wind = wind + strength * np.exp(-(((lat - side * JET_LAT) / JET_WIDTH) ** 2))
        return np.asarray(wind)

    @cached_property
    def _balanced(self) -> tuple[np.ndarray, np.ndarray]:
        """Latitudes and the geopotential there, m2/s2, that balances the zonal wind at 850 hPa; its mean is zero."""
        fine = np.linspace(-90, 90, 721)
        slope = -RADIUS * coriolis(fine, 0.0) * self.zonal_wind(fine) * (fine[1] - fine[0]) * DEGREE
        phi = np.concatenate([[0], np.cumsum((slope[1:] + slope[:-1]) / 2)])
        return fine, phi - (phi * np.cos(fine * DEGREE)).sum() / np.cos(fine * DEGREE).sum()

    def _zonal(self, grid: Grid, at: float) -> Air:
        here = np.interp(grid.lat, *self._balanced)[:, None] + np.zeros(grid.shape)
        u = self.zonal_wind(grid.lat)[:, None] + np.zeros(grid.shape)
        return Air((1 + GROWTH * at) * u, 0 * u, (1 + GROWTH * at) * here, GROWTH * here / GAS)

    def _undulating(self, hours: float, grid: Grid, at: float) -> Air:
        """Psi = (1 + GROWTH L) A envelope(lat) cos(theta + LEAN L), and its derivatives."""
        number, side, amplitude, speed, phase = self.waves.T
        centre = side[:, None] * WAVE_LAT
        envelope = amplitude[:, None] * np.exp(-(((grid.lat - centre) / WAVE_WIDTH) ** 2))  # (K, H)
        slope = envelope * -2 * (grid.lat - centre) / WAVE_WIDTH**2 / DEGREE / RADIUS
        theta = number[:, None] * (grid.lon - (speed * hours / 24)[:, None]) * DEGREE + phase[:, None] + LEAN * at
        cos, sin = np.cos(theta), np.sin(theta)  # (K, W)
        grown = 1 + GROWTH * at
        across = RADIUS * np.maximum(np.cos(grid.lat * DEGREE), 0.1)[:, None]
        f = coriolis(grid.lat)[:, None]
        return Air(
            u=-grown * slope.T @ cos,
            v=-grown * envelope.T @ (number[:, None] * sin) / across,
            phi=f * grown * (envelope.T @ cos),
            temperature=f / GAS * (envelope.T @ (GROWTH * cos - grown * LEAN * sin)),
        )


def _lows(alive: np.ndarray, grid: Grid, at: float) -> Air:
    """Extratropical cyclones (``Flow.alive``) as Gaussians whose axes lean west with height.

    A Gaussian is a product of one function of latitude and one of longitude, so their sum is a product of matrices.
    """
    lat, lon, strength = alive[:, 1:4].T[..., None]  # (S, 1) each
    east = RADIUS * np.cos(lat * DEGREE) * ((grid.lon - lon + 180) % 360 - 180) * DEGREE + LOW_LEAN * at  # (S, W)
    north = RADIUS * (grid.lat - lat) * DEGREE  # (S, H)
    along, tall = np.exp(-(east**2) / (2 * LOW_SIGMA**2)), strength * np.exp(-(north**2) / (2 * LOW_SIGMA**2))
    slope = along * east / LOW_SIGMA**2
    stretch = np.cos(lat * DEGREE) / np.maximum(np.cos(grid.lat * DEGREE), 0.1)
    grown = 1 + GROWTH / 2 * at
    f = coriolis(grid.lat)[:, None]
    return Air(
        u=grown * (tall * north / LOW_SIGMA**2).T @ along,
        v=-grown * (tall * stretch).T @ slope,
        phi=f * grown * (tall.T @ along),
        temperature=f / GAS * (GROWTH / 2 * tall.T @ along - grown * LOW_LEAN * tall.T @ slope),
    )


def draw(rng: np.random.Generator, first: float, last: float, shift: float) -> Flow:
    """Random flow between two times.

    Parameters
    ----------
    rng : Generator
        Its stream.
    first, last : float
        Hours between which lows are born; the first ones live at ``first`` already.
    shift : float
        Season, degrees (``earth.season_shift``): the winter hemisphere has the stronger jet.
    """
    jets = JET * (1 + np.array([1, -1]) * shift / 40) * rng.uniform(0.85, 1.15, 2)
    number = np.tile(np.arange(3, 10), 2)
    side = np.repeat([-1, 1], 7)
    amplitude = rng.normal(0, WAVE, 14) * np.exp(-(((number - 6) / 3) ** 2))
    waves = np.stack([number, side, amplitude, rng.uniform(6, 14, 14) * number / 6, rng.uniform(0, 2 * np.pi, 14)])
    count = rng.poisson(1.2 * (last - first + 144) / 24)
    half = rng.choice([-1.0, 1.0], count)
    lows = np.stack(
        [
            rng.uniform(first - 144, last, count),
            rng.uniform(72, 144, count),
            half * rng.uniform(38, 55, count),
            rng.uniform(0, 360, count),
            rng.uniform(1.3e7, 2.9e7, count),
            rng.uniform(9, 15, count),
            rng.uniform(3, 9, count),
        ]
    )
    return Flow(jets, waves.T, lows.T.reshape(-1, 7))
