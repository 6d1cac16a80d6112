"""On which samples a trial works: training and validation groups of a fold; its test groups stay closed.

Fold 0 is the split of the store: what it finds is what ``train`` uses. Further folds, for nested cross-validation of
small data, cut the other groups into as many test sets; their validation groups follow in the same order.

Shape legend: N samples, G groups.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kilonode.comm import Comm
from kilonode.data.loader import Loader, Share
from kilonode.data.shares import part
from kilonode.data.split import SPLITS
from kilonode.data.stats import measure
from kilonode.data.store import Store
from kilonode.data.transform import TRANSFORMS, Scaler
from kilonode.errors import UserError
from kilonode.records import Json

HELD_BYTES = 1 << 30
"""Training data up to this size are held in memory between the trials of a worker; larger ones are read anew."""


def groups_of(store: Path, count: int) -> list[dict[str, list[int]]]:
    """Groups of train, validation and test of each fold.

    Parameters
    ----------
    store : Path
        Index of the store; only numbers of groups are read.
    count : int
        Folds; with one alone, not even the numbers of test groups are read.

    Raises
    ------
    UserError
        Fewer groups than folds.
    """
    opened = SPLITS if count > 1 else ("train", "validation")
    own = {split: sorted({int(group) for group in Store(store, split).read("group")}) for split in opened}
    rest = own["validation"] + own["train"]
    if count - 1 > len(rest) - 2 and count > 1:
        raise UserError(
            f"expected at most {len(rest) - 1} folds, one group each, got {count} (tuning.folds); "
            "take fewer, or simulate more groups"
        )
    folds = [own]
    ring = [list(map(int, chunk)) for chunk in np.array_split(rest, count - 1)] if count > 1 else []
    for number, test in enumerate(ring):
        others = [group for chunk in [*ring[number + 1 :], own["test"], *ring[:number]] for group in chunk]
        cut = len(own["validation"])
        folds.append({"test": sorted(test), "validation": sorted(others[:cut]), "train": sorted(others[cut:])})
    return folds


class Held:
    """Samples in memory; has the part of ``Loader`` that a trainer uses.

    Parameters
    ----------
    fields : dict
        Field -> (N, ...).
    batch, seed, rank, size, shuffle
        As in ``Loader``.
    """

    def __init__(
        self, fields: dict[str, np.ndarray], batch: int, seed: int, rank: int, size: int, shuffle: bool
    ) -> None:
        self._fields, self._batch, self._seed, self._shuffle = fields, batch, seed, shuffle
        self._rank, self._size = rank, size
        self._rows = len(next(iter(fields.values())))

    @property
    def steps(self) -> int:
        """Global batches an epoch."""
        return -(-self._rows // self._batch)

    def epoch(self, epoch: int, start: int = 0) -> Generator[Share, None, None]:
        """Batches of one epoch from step ``start`` on."""
        yield from self.epochs(epoch, start, epoch + 1)

    def epochs(self, first: int, start: int = 0, end: int | None = None) -> Generator[Share, None, None]:
        """Batches of epoch ``first`` from step ``start`` on, and of all before ``end``."""
        number = first
        while end is None or number < end:
            yield from self._epoch(number, start if number == first else 0)
            number += 1

    def _epoch(self, epoch: int, start: int) -> Iterator[Share]:
        order = np.arange(self._rows)
        if self._shuffle:
            order = np.random.default_rng([self._seed, epoch]).permutation(self._rows)
        for step in range(start, self.steps):
            whole = order[step * self._batch : (step + 1) * self._batch]
            low, high = part(len(whole), self._rank, self._size)
            rows = np.sort(whole[low:high])
            yield Share(rows, {name: array[rows] for name, array in self._fields.items()}, len(whole))


class Fold:
    """The samples of one fold for one worker.

    Parameters
    ----------
    store : Path
        Index of the store.
    number : int
        Of the fold.
    groups : dict
        Split -> groups, from ``groups_of``.
    settings : dict
        The task.
    """

    def __init__(self, store: Path, number: int, groups: dict[str, list[int]], settings: Json) -> None:
        self._path, self._number, self._groups = store, number, groups
        self._fields = [settings["input"]["field"], *([settings["target"]] if "target" in settings else [])]
        self._input = settings["input"]
        train = Store(store, "train")
        size = train.rows * sum(train.field(name).sample_bytes for name in self._fields)
        self.streams = size > HELD_BYTES
        if self.streams and number > 0:
            raise UserError(
                f"expected at most {HELD_BYTES >> 20} MiB of training data for folds, got {int(size) >> 20} "
                f"({store}); set tuning.folds: 1"
            )
        self._held: dict[str, dict[str, np.ndarray]] = {}
        stats = train.stats
        if number > 0:
            transform = self._input["transform"]
            x = TRANSFORMS[transform](self.read("train")[self._fields[0]])
            stats = {self._fields[0]: {transform: measure(x).to_json()}}
        self.scaler = Scaler(self._input, stats)

    def read(self, split: str) -> dict[str, np.ndarray]:
        """The fold's samples of a split, with ``group``; files without groups of it are not opened."""
        if split not in self._held:
            wanted, parts = self._groups[split], []
            for stored in SPLITS if self._number else (split,):
                opened = Store(self._path, stored) if self._touches(stored, wanted) else None
                if opened is not None:
                    rows = np.flatnonzero(np.isin(opened.read("group"), wanted))
                    parts.append({name: np.asarray(opened.take(name, rows)) for name in [*self._fields, "group"]})
            self._held[split] = {name: np.concatenate([piece[name] for piece in parts]) for name in parts[0]}
        return self._held[split]

    def _touches(self, stored: str, wanted: list[int]) -> bool:
        return bool(np.isin(Store(self._path, stored).read("group"), wanted).any())

    def subset(self, fraction: float) -> dict[str, np.ndarray]:
        """A share of the training samples; smaller ones are parts of larger ones."""
        train = self.read("train")
        count = len(train["group"])
        chosen = np.sort(np.random.default_rng(self._number).permutation(count)[: round(fraction * count)])
        return train if fraction >= 1 else {name: array[chosen] for name, array in train.items()}

    def loaders(self, rules: Json, seed: int, comm: Comm, fraction: float = 1.0) -> tuple[Any, Any]:
        """Training and validation for one trainer."""
        if self.streams and fraction >= 1:
            window = rules["window_mb"] << 20
            train, validation = (
                Loader(
                    Store(self._path, split), self._fields, rules["batch"], seed, comm.rank, comm.size, k == 0, window
                )
                for k, split in enumerate(("train", "validation"))
            )
            return train, validation
        return (
            Held(self.subset(fraction), rules["batch"], seed, comm.rank, comm.size, True),
            Held(self.read("validation"), rules["batch"], seed, comm.rank, comm.size, False),
        )
