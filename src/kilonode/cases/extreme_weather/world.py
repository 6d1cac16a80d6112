"""One sequence of weather: flow, storms and moisture over some days, drawn as the 16 fields of the original.

Shape legend: T steps, H rows, W columns, C = 16 channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from kilonode.cases.extreme_weather import earth, flow, moisture, storms, tracks
from kilonode.cases.extreme_weather.earth import DEGREE, DENSITY, GAS, GRAVITY, SEA_LEVEL, Grid
from kilonode.cases.extreme_weather.storms import STEP, Storm

CASE_ID = 2
PHYSICS, NOISE, LABELS = 0, 1, 2
"""Streams of random numbers; 3 (augmentation) is kept for others."""
CHANNELS = {
    "PRECT": ("m/s", "rain", 1e-8),
    "PS": ("Pa", "surface pressure", 5000.0),
    "PSL": ("Pa", "pressure at sea level", 1100.0),
    "QREFHT": ("kg/kg", "humidity near the surface", 6e-3),
    "T200": ("K", "temperature at 200 hPa", 6.0),
    "T500": ("K", "temperature at 500 hPa", 6.0),
    "TMQ": ("kg/m2", "water vapour in the column", 17.0),
    "TREFHT": ("K", "temperature near the surface", 15.0),
    "TS": ("K", "temperature of the surface", 15.0),
    "U850": ("m/s", "eastward wind at 850 hPa", 9.0),
    "UBOT": ("m/s", "eastward wind near the surface", 6.5),
    "V850": ("m/s", "northward wind at 850 hPa", 7.0),
    "VBOT": ("m/s", "northward wind near the surface", 5.0),
    "Z1000": ("m", "height of 1000 hPa", 90.0),
    "Z200": ("m", "height of 200 hPa", 450.0),
    "ZBOT": ("m", "height of the lowest level", 2.0),
}
"""Order of the original; unit, meaning, and about the standard deviation on the globe, which scales the noise."""
INDEX = {name: number for number, name in enumerate(CHANNELS)}
NOISE_SHARE = 0.04
"""Of a channel's standard deviation."""


def stream(seed: int, number: int, group: int, *more: int) -> np.random.Generator:
    """Random numbers of one stream of one sequence."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(CASE_ID, number, 0, group, *more)))


@dataclass(frozen=True)
class World:
    """One sequence.

    ``grid`` of the globe; ``height`` (H, W), above zero over land (``earth.relief``);
    ``shift`` and ``day`` of the season; ``flow``; ``storms`` of each step; ``water`` (T, H, W)
    kg/m2 and ``rain`` (T, H, W) m/s, of the tracer.
    """

    grid: Grid
    height: np.ndarray
    day: float
    shift: float
    flow: flow.Flow
    storms: list[list[Storm]]
    water: np.ndarray
    rain: np.ndarray

    @property
    def steps(self) -> int:
        """Frames, one each ``STEP`` hours."""
        return len(self.storms)


def make(seed: int, group: int, settings: Mapping[str, Any]) -> World:
    """Simulate one sequence: ``rows``, ``frames``, ``spin_up`` (days) of ``settings``."""
    rng = stream(seed, PHYSICS, group)
    grid = earth.globe(int(settings["rows"]), int(settings["rows"]) * 3 // 2)
    steps, spin_up = int(settings["frames"]), int(float(settings["spin_up"]) * 24 / STEP)
    day = float(rng.uniform(0, 365))
    shift = earth.season_shift(day)
    air = flow.draw(rng, -spin_up * STEP, steps * STEP, shift)
    found = tracks.draw(rng, steps, air, shift, tracks.BIRTHS)
    winds = ((low.u, low.v) for low in (air.air(k * STEP, grid, 0.0) for k in range(-spin_up, steps)))
    kept = list(moisture.sweep(winds, grid, shift))[-steps:]
    water, rain = (np.stack(part) for part in zip(*kept, strict=True))
    return World(grid, earth.relief(grid.lat, grid.lon), day, shift, air, found, water, rain)


FIELDS = ("psl", "u", "v", "ubot", "vbot", "t500", "t200", "z200", "tmq", "rain", "tref")
"""What storms add to."""


def vapour(world: World, step: int, grid: Grid) -> np.ndarray:
    """Water vapour alone, kg/m2 (H, W), as in ``clean``."""
    fields = {name: np.zeros(grid.shape) for name in FIELDS} | {"tmq": drawn(world.water[step], world.grid, grid)}
    for storm in world.storms[step]:
        if storm.moist:
            storms.add(storm, grid, fields)
    return np.maximum(fields["tmq"], 0)


def clean(world: World, step: int, grid: Grid | None = None) -> np.ndarray:
    """The 16 channels of one step without noise, float64 (C, H, W), on the globe or on a window of it."""
    grid = grid or world.grid
    hours = step * STEP
    low, ground = world.flow.air(hours, grid, 0.0), world.flow.air(hours, grid, flow.level(1000))
    half, high = world.flow.air(hours, grid, flow.level(500)), world.flow.air(hours, grid, flow.level(200))
    lat, height = grid.lat[:, None], drawn(world.height, world.grid, grid)
    is_land, surface = np.clip(height * 4, 0, 1), earth.sea_temperature(lat, world.shift)
    turn = 15 * DEGREE * np.sign(lat)
    noon = np.cos((hours + grid.lon / 15 - 14) / 24 * 2 * np.pi)[None]
    summer = 5 * np.sign(lat) * np.sign(world.shift) * min(abs(world.shift) / 4, 1)
    fields = {
        "psl": SEA_LEVEL + DENSITY * ground.phi,
        "u": low.u.copy(),
        "v": low.v.copy(),
        "ubot": 0.7 * (low.u * np.cos(turn) - low.v * np.sin(turn)),
        "vbot": 0.7 * (low.u * np.sin(turn) + low.v * np.cos(turn)),
        "t500": 258 + half.temperature,
        "t200": 218 + high.temperature,
        "z200": 11800 + high.phi / GRAVITY,
        "tmq": drawn(world.water[step], world.grid, grid),
        "rain": drawn(world.rain[step], world.grid, grid),
        "tref": surface - 1 + 0.8 * ground.temperature + is_land * (summer + 3 * noon),
    }
    for storm in world.storms[step]:
        storms.add(storm, grid, fields)
    fields["tmq"] = np.maximum(fields["tmq"], 0)
    return _channels(fields, surface + is_land * (summer + 5 * noon), earth.orography(height))


def _channels(fields: dict[str, np.ndarray], surface: np.ndarray, height: np.ndarray) -> np.ndarray:
    """The fields in the order of ``CHANNELS``."""
    psl, tmq, tref = fields["psl"], fields["tmq"], fields["tref"]
    surface = surface + np.zeros(psl.shape)
    pressure = psl * np.exp(-GRAVITY * height / GAS / np.maximum(tref, 200))
    bottom = GAS * tref / GRAVITY * 0.0075  # the lowest level stands at 0.9925 of the surface pressure
    values = {
        "PRECT": fields["rain"], "PS": pressure, "PSL": psl, "QREFHT": 3.3e-4 * tmq * (0.9 + 0.1 * tref / 288),
        "T200": fields["t200"], "T500": fields["t500"], "TMQ": tmq, "TREFHT": tref, "TS": surface,
        "U850": fields["u"], "UBOT": fields["ubot"], "V850": fields["v"], "VBOT": fields["vbot"],
        "Z1000": (psl - 1e5) / DENSITY / GRAVITY, "Z200": fields["z200"], "ZBOT": bottom,
    }  # fmt: skip
    return np.stack([values[name] for name in CHANNELS])


def drawn(image: np.ndarray, globe: Grid, grid: Grid) -> np.ndarray:
    """A field of the globe (H, W) at the pixels of another grid, by linear interpolation."""
    if grid is globe:
        return image.copy()
    rows = (grid.lat - globe.lat[0]) / globe.step[0]
    columns = (grid.lon - globe.lon[0]) / globe.step[1] % len(globe.lon)
    around = np.concatenate([image, image[:, :1]], axis=1)
    places = np.broadcast_arrays(rows[:, None], columns[None])
    return np.asarray(map_coordinates(around, list(places), order=1, mode="nearest"))


def noise(rng: np.random.Generator, shape: tuple[int, int], smooth: float, periodic: bool) -> np.ndarray:
    """Coloured noise of all channels, float32 (C, H, W): ``NOISE_SHARE`` of each one's standard deviation."""
    white = rng.standard_normal((len(CHANNELS), *shape), dtype=np.float32)
    mode = ("nearest", "wrap" if periodic else "nearest")
    colour = np.stack([gaussian_filter(layer, smooth, mode=mode, truncate=2.5) for layer in white])
    scale = np.array([NOISE_SHARE * std for _, _, std in CHANNELS.values()], np.float32)
    return np.asarray(colour * (scale / colour.std())[:, None, None])


def observed(fields: np.ndarray, added: np.ndarray) -> np.ndarray:
    """Fields with noise, float32; rain, humidity and water vapour stay at least zero."""
    found = (fields + added).astype(np.float32)
    for name in ("PRECT", "QREFHT", "TMQ"):
        np.maximum(found[INDEX[name]], 0, out=found[INDEX[name]])
    return found
