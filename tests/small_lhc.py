"""What the tests of the LHC case share: a few blocks, their splits, and a network that was never trained."""

from __future__ import annotations

from functools import cache
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from kilonode import config, intervals
from kilonode.cases.contract import Tables, Trained
from kilonode.cases.lhc_events import baseline, measures, models, simulate
from kilonode.data.stats import measure
from kilonode.data.transform import TRANSFORMS, Scaler
from kilonode.evaluation.network import Network

SHAPE = (3, 32, 32)
SETTINGS: dict[str, Any] = {
    "pixels": 32,
    "per_block": {"qcd_400_600": 30, "qcd_600_800": 25, "qcd_800_1300": 40, "qcd_1300": 40, "gluino": 14},
    "unseen": {"gluino_1200_650": 5, "zprime": 8},
}
TASKS = ("classifier", "anomaly")


@cache
def block(group: int) -> Tables:
    """One generator block; for reading only."""
    return simulate.simulate(2, group, SETTINGS)


class Table:
    """One split as the measures see it."""

    def __init__(self, arrays: dict[str, np.ndarray], fields: dict[str, Any]) -> None:
        self.arrays, self.fields, self.rows = arrays, fields, len(arrays["group"])

    def read(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def take(self, name: str, rows: np.ndarray) -> np.ndarray:
        return self.arrays[name][rows]


def stores(table: str) -> dict[str, Table]:
    """Splits of whole blocks."""
    fields = config.resolve("lhc_events", "toy")["tables"][table]
    parts = {"train": (0, 1), "validation": (2, 3), "test": (4, 5)}
    return {
        split: Table({name: np.concatenate([block(b)[table][name] for b in some]) for name in fields}, fields)
        for split, some in parts.items()
    }


def scaler(raw: np.ndarray) -> Scaler:
    """That of a network trained on these images."""
    stats = {"image": {name: measure(function(raw)).to_json() for name, function in TRANSFORMS.items()}}
    return Scaler({"field": "image", "transform": "log1p"}, stats)


class Answers:
    """A network that was never trained, with the scaler of the training split."""

    def __init__(self, task: str, train: Table) -> None:
        self.scaler = scaler(train.read("image"))
        torch.manual_seed(0)
        small = {"classifier": {"filters": 4, "features": 8}, "anomaly": {"filters": [4, 4], "code": 3}}
        self.model = models.build(task, small[task], SHAPE).eval()

    features = Network.features
    outputs = Network.outputs
    _batched = Network._batched


def trained(task: str) -> Trained:
    """What ``measures.measure`` takes."""
    settings = config.task("lhc_events", "toy", task)
    splits = stores(settings["table"])
    raw = {split: rows.read("image") for split, rows in splits.items()}
    return Trained(task, settings, Answers(task, splits["train"]), splits, raw, True)


@cache
def measured(task: str) -> Any:
    """What is measured of it, with small forests and few resamples; for reading only."""
    few = patch.object(intervals.resamples, "__defaults__", (0, 100))
    with patch.dict(baseline.TREES, max_iter=[3, 6]), few:
        return measures.measure(trained(task))
