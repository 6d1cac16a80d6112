"""Small simulated weather that several tests share."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch

from kilonode.cases.contract import Trained
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


class Table:
    """One split as a case's measures read it."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.arrays = arrays
        self.fields = {name: {"shape": list(array.shape[1:])} for name, array in arrays.items()}
        self.rows = len(arrays["group"])

    def read(self, field: str) -> Any:
        return self.arrays[field]

    def take(self, field: str, rows: np.ndarray) -> Any:
        return self.arrays[field][rows]


class Answers:
    """A network, trained or not, that is asked."""

    def __init__(self, model: Any, seen: np.ndarray) -> None:
        self.model = model.eval()
        others = tuple(axis for axis in range(seen.ndim) if axis != 1)
        self.mean, self.scale = (part(seen, axis=others, keepdims=True)[0] for part in (np.mean, np.std))

    def scaler(self, raw: np.ndarray) -> np.ndarray:
        return ((raw - self.mean) / self.scale).astype(np.float32)

    def features(self, raw: np.ndarray) -> Any:
        with torch.no_grad():
            return self.model.features(torch.from_numpy(self.scaler(raw))).numpy()

    def outputs(self, raw: np.ndarray) -> Any:
        with torch.no_grad():
            return self.model(torch.from_numpy(self.scaler(raw))).numpy()


def trained(task: str, table: str, field: str, model: Any, settings: dict[str, Any]) -> Trained:
    """What measures are given: sequences 1 and 2 to train, 3 to choose, 4 and 5 to test."""
    parts = {"train": (1, 2), "validation": (3,), "test": (4, 5)}
    tables = {
        split: {name: np.concatenate([made(group)[table][name] for group in groups]) for name in made()[table]}
        for split, groups in parts.items()
    }
    raw = {split: arrays[field] for split, arrays in tables.items()}
    stores = {split: Table(arrays) for split, arrays in tables.items()}
    return Trained(task, settings, Answers(model, raw["train"]), stores, raw, True)
