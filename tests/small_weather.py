"""Small simulated weather that several tests share."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from kilonode.cases.extreme_weather import earth, patches, simulate, storms, world
from kilonode.cases.extreme_weather.earth import Grid
from kilonode.cases.extreme_weather.storms import Storm

SMALL: dict[str, Any] = {
    "rows": 48,
    "frames": 16,
    "stored": 8,
    "spin_up": 3,
    "labelled": 1.0,
    "cyclones": 24,
    "rivers": 4,
}
GLOBE = earth.globe(96, 144)
HURRICANE = Storm(0, storms.TROPICAL, 18.0, 120.0, 5000.0, 6e4, 1.5, core=3.0, aloft=3.9, moist=15.0, fastest=40.0)
CUT_OFF = Storm(0, storms.CUT_OFF, 18.0, 120.0, 5000.0, 3e5, core=-3.0, aloft=1.5, fastest=32.0)


@functools.cache
def weather(group: int = 1) -> world.World:
    return world.make(3, group, SMALL)


@functools.cache
def made(group: int = 1) -> dict[str, dict[str, np.ndarray]]:
    return simulate.simulate(3, group, SMALL)


@functools.cache
def many() -> dict[str, np.ndarray]:
    """Cyclone patches of some sequences, one after another."""
    settings = {**SMALL, "frames": 40, "spin_up": 1}
    parts = [patches.cyclones(world.make(5, group, settings), 40, 5, group) for group in range(6)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def alone(storm: Storm, grid: Grid) -> dict[str, np.ndarray]:
    """What one object adds to fields that are zero."""
    fields = {name: np.zeros(grid.shape) for name in world.FIELDS}
    storms.add(storm, grid, fields)
    return fields
