"""Train, validation and test by group: no run, field or storm is ever in two of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from kilonode.errors import DataError

SPLITS = ("train", "validation", "test")


def split(
    groups: np.ndarray, fractions: Sequence[float], seed: int, stratify: np.ndarray | None = None
) -> dict[str, list[int]]:
    """Cut whole groups into train, validation and test.

    Groups are ordered by a keyed hash of their id and cut by cumulative sample count, so the result depends on
    neither file order, shard size nor rank count. Every split gets at least one group.

    Parameters
    ----------
    groups : ndarray
        int64 (N,), the group of each sample.
    fractions : sequence of float
        Shares of the samples for train, validation, test; positive, sum 1.
    seed : int
        Key of the hash.
    stratify : ndarray, optional
        (N,) a class; groups that hold one class only are cut class by class, so that shares hold in each.

    Returns
    -------
    dict
        Split name -> sorted group ids; disjoint and covering.

    Raises
    ------
    DataError
        Fractions are not positive or do not sum to 1; fewer than three groups (in any class, if stratified).
    """
    shares = np.asarray(fractions, dtype=np.float64)
    if len(shares) != len(SPLITS) or (shares <= 0).any() or abs(shares.sum() - 1) > 1e-9:
        raise DataError(f"expected three positive fractions that sum to 1, got {list(fractions)} (split.fractions)")
    result: dict[str, list[int]] = {name: [] for name in SPLITS}
    for members in _strata(groups, stratify):
        for name, found in _cut(members, shares, seed).items():
            result[name] += found
    return {name: sorted(found) for name, found in result.items()}


def _strata(groups: np.ndarray, stratify: np.ndarray | None) -> list[np.ndarray]:
    """The samples' groups, one array a class if classes are whole groups, else all in one."""
    if stratify is None:
        return [groups]
    _, first = np.unique(groups, return_index=True)
    order = np.argsort(groups, kind="stable")
    starts = np.searchsorted(groups[order], groups[first])
    pure = np.minimum.reduceat(stratify[order], starts) == np.maximum.reduceat(stratify[order], starts)
    if not pure.all():
        return [groups]
    return [groups[stratify == value] for value in np.unique(stratify)]


def _cut(groups: np.ndarray, shares: np.ndarray, seed: int) -> dict[str, list[int]]:
    ids, counts = np.unique(groups, return_counts=True)
    if len(ids) < len(SPLITS):
        raise DataError(
            f"expected at least {len(SPLITS)} groups to cut into train, validation and test, got {len(ids)}; "
            "name a finer group field or bring more data"
        )
    order = np.argsort(np.array([_hash(seed, int(group)) for group in ids], dtype=np.uint64), kind="stable")
    middle = (np.cumsum(counts[order]) - counts[order] / 2) / counts.sum()
    wanted = np.searchsorted(middle, np.cumsum(shares)[:-1])
    first = int(np.clip(wanted[0], 1, len(ids) - 2))  # a huge group must not leave a split empty
    second = int(np.clip(wanted[1], first + 1, len(ids) - 1))
    return {name: ids[part].tolist() for name, part in zip(SPLITS, np.split(order, [first, second]), strict=True)}


def _hash(seed: int, group: int) -> int:
    """A 64-bit keyed hash; BLAKE2b so that neighbouring ids are unrelated."""
    key = seed.to_bytes(8, "little")
    return int.from_bytes(hashlib.blake2b(group.to_bytes(8, "little", signed=True), key=key, digest_size=8).digest())
