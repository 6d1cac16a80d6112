"""Sanity before performance: a rate counts only if the training that gave it learns as the reference does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kilonode.bench._measure import median
from kilonode.records import Json
from kilonode.scaling.plan import Plan

LEAST = 0.01
"""Relative difference of losses that is never held against a layout."""
SEEDS = 2.0
"""Standard deviations of the reference's seeds within which a loss agrees."""


@dataclass(frozen=True)
class Verdict:
    """Whether a layout's loss is right, its median rate with interval (samples/s), and the reason in words."""

    right: bool
    rate: float
    interval: tuple[float, float]
    note: str


def value(record: Json, name: str) -> float:
    """A figure of a record by name."""
    return float(next(row["value"] for row in record["figures"] if row["name"] == name))


def rate(record: Json) -> float:
    """Samples/s."""
    return value(record, "samples_per_s")


def judged(groups: dict[Plan, list[Json]]) -> dict[Plan, Verdict]:
    """Every layout against the first, which is the reference."""
    reference = next(iter(groups))
    losses = {one: [value(record, "best_validation_loss") for record in records] for one, records in groups.items()}
    found = {}
    for one, records in groups.items():
        before = [value(record, "validation loss before") for record in records]
        # With the batch and the arithmetic of the reference every seed sees the same samples: it must agree both ways.
        same = (one.batch, one.precision) == (reference.batch, reference.precision)
        reason = wrong(losses[one], before, losses[reference], both_ways=same)
        said = f"loss {np.mean(losses[one]):.4g}"
        note = f"refused: {reason}" if reason else f"{said}, reference" if one == reference else said
        middle, interval = median([rate(record) for record in records])
        found[one] = Verdict(not reason, middle, interval, note)
    return found


def wrong(losses: Sequence[float], before: Sequence[float], reference: Sequence[float], both_ways: bool) -> str:
    """Why a layout's rates do not count; empty if they do.

    Parameters
    ----------
    losses, before : sequence of float
        Best validation loss of each seed, and that of its weights before training.
    reference : sequence of float
        Best losses of the reference, the same seeds.
    both_ways : bool
        Whether a loss that is much lower is as wrong as one that is much higher.
    """
    if not all(after < first for after, first in zip(losses, before, strict=True)):
        return f"training did not lower the loss ({before[0]:.4g} to {losses[0]:.4g})"
    middle = float(np.mean(reference))
    allowed = max(LEAST * abs(middle), SEEDS * float(np.std(reference, ddof=1)))
    difference = float(np.mean(losses)) - middle
    if difference > allowed or (both_ways and -difference > allowed):
        return f"loss {np.mean(losses):.4g}, reference {middle:.4g} +- {allowed:.2g}"
    return ""
