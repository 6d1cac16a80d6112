"""Events of a store as the measures need them: what may be trained on, and the unseen that stand beside it in truth.

Shape legend: N events, F features, n pixels an axis.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kilonode.cases.contract import Rows
from kilonode.cases.lhc_events.generator import PROCESSES
from kilonode.cases.lhc_events.simulate import NONE, SIGNAL

SIGNAL_NUMBER = PROCESSES[SIGNAL].number


@dataclass(frozen=True)
class Sample:
    """Rows of one split; arrays (N, ...). ``weight``: events at 36 fb-1, of which this split alone is the sample."""

    process: np.ndarray
    features: np.ndarray
    weight: np.ndarray
    group: np.ndarray
    cuts: np.ndarray
    truth: np.ndarray
    generated: int
    """Signal events generated in these blocks, kept or not."""

    @property
    def label(self) -> np.ndarray:
        """1 signal, 0 background."""
        return (self.process == SIGNAL_NUMBER).astype(np.int64)


def sample(rows: Rows) -> Sample:
    """Read one split. Weights of a block are those of a data set of one block: n blocks share them."""
    process, group = rows.read("process").astype(np.int64), rows.read("group")
    blocks = len(np.unique(group))
    signal = process == SIGNAL_NUMBER
    generated = int(rows.read("truth/generated")[signal].max(initial=0)) * blocks
    return Sample(
        process=process,
        features=rows.read("features").astype(np.float64),
        weight=rows.read("weight") / blocks,
        group=group,
        cuts=rows.read("pass_cuts").astype(bool),
        truth=rows.read("truth/event").astype(np.float64),
        generated=generated,
    )


@dataclass(frozen=True)
class Unseen:
    """Events that no training saw; arrays (N, ...)."""

    image: np.ndarray
    features: np.ndarray
    process: np.ndarray
    group: np.ndarray


def unseen(stores: Mapping[str, Rows]) -> Unseen:
    """Read the events that stand in truth beside the rows of all splits: no training saw any of them."""
    parts = [_unseen(rows) for rows in stores.values()]
    return Unseen(*(np.concatenate([getattr(part, name) for part in parts]) for name in Unseen.__dataclass_fields__))


def _unseen(rows: Rows) -> Unseen:
    process = rows.read("truth/unseen_process").astype(np.int64)
    there = np.flatnonzero(process != NONE)
    return Unseen(
        rows.take("truth/unseen_image", there),
        rows.take("truth/unseen_features", there).astype(np.float64),
        process[there],
        rows.read("group")[there],
    )


def names(rows: Rows) -> dict[int, str]:
    """Names of the unseen processes by number."""
    return {int(value): text for value, text in rows.fields["truth/unseen_process"]["labels"].items()}
