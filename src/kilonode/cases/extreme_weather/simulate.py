"""All samples of one sequence: patches, frames with boxes, and days of eight frames.

The sequence is the split group: no storm is in two splits. Everything depends on (seed, group, settings) and nothing
else. Physics, noise and label errors have streams of their own: the same weather exists with other labels.

Shape legend: F frames, D days, C = 16 channels, H rows, W columns, N boxes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kilonode.cases.contract import Arrays, Tables
from kilonode.cases.extreme_weather import labels, patches, rules, world
from kilonode.cases.extreme_weather.flow import LOW_SIGMA
from kilonode.cases.extreme_weather.storms import LOW, STEP
from kilonode.cases.extreme_weather.world import World

DAY = 8
"""Frames of a day; every second one is labelled."""
STORMS = 40
"""Rows of the storm list."""
OTHER = -1
"""Class of what is no storm, in the storm list."""


def simulate(seed: int, group: int, settings: Mapping[str, Any]) -> Tables:
    """Make all samples of one sequence.

    Parameters
    ----------
    seed : int
        Seed of the data set.
    group : int
        Number of the sequence.
    settings : Mapping
        ``rows`` of the globe, ``frames`` of ``STEP`` hours, ``spin_up`` days, ``stored`` frames kept as such (a
        multiple of 8), ``labelled`` share of every second frame, ``cyclones`` and ``rivers``: patches.

    Returns
    -------
    Tables
        The fields, shapes and dtypes of case.yaml.
    """
    whole = world.make(seed, group, settings)
    frames = _frames(whole, int(settings["stored"]), float(settings["labelled"]), seed, group)
    return {
        "cyclones": patches.cyclones(whole, int(settings["cyclones"]), seed, group),
        "rivers": patches.rivers(whole, int(settings["rivers"]), seed, group),
        "frames": frames,
        "days": _days(frames, group),
    }


def _frames(whole: World, count: int, share: float, seed: int, group: int) -> Arrays:
    errors = world.stream(seed, world.LABELS, group, 0)
    chosen = world.stream(seed, world.LABELS, group, 3).random(count) < share
    images, boxes, true, masks, lists = [], [], [], [], []
    for step in range(count):
        fields = world.clean(whole, step)
        noise = world.noise(world.stream(seed, world.NOISE, group, 0, step), whole.grid.shape, 1.0, True)
        images.append(world.observed(fields, noise))
        found, mask = labels.truth(whole, step, fields)
        boxes.append(labels.padded(labels.heuristic(whole, step, fields, errors)))
        true.append(labels.padded(found))
        masks.append(mask)
        lists.append(_storm_list(whole, step, group))
    is_labelled = (np.arange(count) % 2 == 0) & chosen
    return {
        "images": np.stack(images),
        "boxes": np.where(is_labelled[:, None, None], boxes, labels.UNLABELLED).astype(np.int32),
        "labelled": is_labelled.astype(np.uint8),
        "time": (np.arange(count) * STEP).astype(np.float32),
        "season": np.full(count, whole.shift, np.float32),
        "group": np.full(count, group, np.int64),
        "sample_id": group * 100_000 + np.arange(count, dtype=np.int64),
        "truth/boxes": np.stack(true),
        "truth/mask": np.stack(masks),
        "truth/storms": np.stack(lists),
    }


def _storm_list(whole: World, step: int, group: int) -> np.ndarray:
    """Id, class, lat, lon, Vmax, Rmax, dp, age, radius, kind of every object, float32 (STORMS, 10); unused rows -1."""
    rows = []
    for storm in whole.storms[step]:
        kind = labels.named(storm)
        own = (storm.fastest, storm.radius, storm.deficit, storm.age, storm.size, storm.kind)
        rows.append((group * 1000 + storm.number, OTHER if kind is None else kind, storm.lat, storm.lon, *own))
    for number, lat, lon, psi, age in whole.flow.alive(step * STEP):
        kind = rules.ETC if abs(psi) >= labels.LOW_STRENGTH else OTHER
        fastest = abs(psi) / LOW_SIGMA * np.exp(-0.5)
        rows.append((group * 1000 + 500 + number, kind, lat, lon, fastest, LOW_SIGMA, 0, age, 1.2 * LOW_SIGMA, LOW))
    out = np.full((STORMS, 10), -1, np.float32)
    out[: min(len(rows), STORMS)] = rows[:STORMS]
    return out


def _days(frames: Arrays, group: int) -> Arrays:
    """Days of eight frames, channels first, as a network sees them; labels of every second one."""
    count = len(frames["time"]) // DAY

    def cut(name: str, every: int = 1) -> np.ndarray:
        values = frames[name][: count * DAY]
        return np.asarray(values.reshape(count, DAY, *values.shape[1:])[:, ::every])

    return {
        "images": np.ascontiguousarray(cut("images").swapaxes(1, 2)),
        "boxes": cut("boxes", 2),
        "time": cut("time")[:, 0],
        "season": cut("season")[:, 0],
        "group": cut("group")[:, 0],
        "sample_id": group * 100_000 + np.arange(count, dtype=np.int64),
        "truth/boxes": cut("truth/boxes", 2),
        "truth/storms": cut("truth/storms", 2),
    }
