"""Where the time of a training goes, as rank 0 sees it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from kilonode.records import Json

KINDS = ("input", "compute", "communication", "validation", "checkpoint")
"""Waiting for data; forward, backward and the optimiser; waiting for gradients; the rest by name."""
WIDTH = 1.02
"""Ratio of neighbouring bins of step times: percentiles over a whole run are good to 1 %."""


@dataclass
class Timing:
    """Seconds of the steps of one epoch on this rank."""

    steps: list[float] = field(default_factory=list)
    input: float = 0.0
    communication: float = 0.0
    samples: int = 0

    def record(self) -> Json:
        """The epoch's rate, waits as shares of its steps, and percentiles of its step times."""
        steps = np.asarray(self.steps)
        spent = float(steps.sum()) + self.input
        return {
            "samples_per_s": self.samples / spent,
            "input_wait": self.input / spent,
            "communication_wait": self.communication / spent,
            "step_ms": {f"p{p}": float(np.percentile(steps, p)) * 1e3 for p in (50, 95, 99, 100)},
        }


@dataclass
class Spent:
    """Seconds of a whole run by kind and a histogram of its step times; both continue from a checkpoint."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(KINDS, 0.0))
    histogram: dict[str, int] = field(default_factory=dict)

    def step(self, seconds: float, communication: float) -> None:
        """A step took this long, of which it waited for others so long."""
        self.seconds["compute"] += seconds - communication
        self.seconds["communication"] += communication
        bin = str(round(math.log(max(seconds, 1e-9)) / math.log(WIDTH)))
        self.histogram[bin] = self.histogram.get(bin, 0) + 1

    def add(self, kind: str, seconds: float) -> None:
        """So long was spent on this."""
        self.seconds[kind] += seconds

    def summary(self) -> Json:
        """Percentiles of all step times in ms, and the share of each kind."""
        total = sum(self.seconds.values())
        return {
            "step_ms": percentiles(self.histogram),
            "shares": {kind: seconds / total for kind, seconds in self.seconds.items()} if total else {},
        }


def percentiles(histogram: Mapping[str, int]) -> dict[str, float]:
    """Percentiles in ms of a histogram with bins ``WIDTH`` apart: the middle of the bin that holds each."""
    bins = sorted(int(bin) for bin in histogram)
    reached = np.cumsum([histogram[str(bin)] for bin in bins])
    if not bins:
        return {}
    return {
        f"p{p}": 1e3 * WIDTH ** bins[int(np.searchsorted(reached, math.ceil(p / 100 * reached[-1])))]
        for p in (50, 95, 99, 100)
    }
