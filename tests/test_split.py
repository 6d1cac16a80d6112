"""Groups are cut into train, validation and test; nothing else decides where one goes."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilonode.data.split import SPLITS, split
from kilonode.errors import DataError

FRACTIONS = (0.6, 0.15, 0.25)
GOLDEN = {"train": [1, 3, 5, 6, 7, 8], "validation": [2], "test": [0, 4, 9]}
group_ids = st.integers(-(2**63), 2**63 - 1)
sizes = st.dictionaries(group_ids, st.integers(1, 50), min_size=3, max_size=40)
fractions = st.tuples(st.floats(0.05, 0.9), st.floats(0.05, 0.9), st.floats(0.05, 0.9)).map(
    lambda parts: [part / sum(parts) for part in parts]
)
seeds = st.integers(0, 2**32)


def samples(sizes: dict[int, int]) -> np.ndarray:
    return np.repeat(np.array(list(sizes), np.int64), list(sizes.values()))


@given(sizes, fractions, seeds)
def test_splits_are_disjoint_covering_and_never_empty(sizes: dict[int, int], fractions: list[float], seed: int) -> None:
    found = split(samples(sizes), fractions, seed)
    assert tuple(found) == SPLITS
    assert sorted(group for part in found.values() for group in part) == sorted(sizes)
    assert all(found.values())
    assert all(part == sorted(part) for part in found.values())


@given(sizes, seeds, st.randoms())
def test_the_order_of_samples_does_not_matter(sizes: dict[int, int], seed: int, random: Random) -> None:
    groups = samples(sizes)
    shuffled = np.array(groups)
    random.shuffle(shuffled)
    reverse = dict(reversed(sizes.items()))
    assert (
        split(groups, FRACTIONS, seed) == split(shuffled, FRACTIONS, seed) == split(samples(reverse), FRACTIONS, seed)
    )


@given(sizes, seeds, st.integers(2, 5))
def test_more_samples_of_everything_change_nothing(sizes: dict[int, int], seed: int, times: int) -> None:
    groups = samples(sizes)
    assert split(np.tile(groups, times), FRACTIONS, seed) == split(np.repeat(groups, times), FRACTIONS, seed)
    assert split(np.tile(groups, times), FRACTIONS, seed) == split(groups, FRACTIONS, seed)


@given(fractions, seeds)
def test_shares_are_close_for_many_groups(fractions: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 20, 500)
    groups = np.repeat(np.arange(500), counts)
    found = split(groups, fractions, seed)
    have = [counts[part].sum() / counts.sum() for part in found.values()]
    assert np.abs(np.array(have) - fractions).max() <= counts.max() / counts.sum()  # a cut goes beside a group


def test_a_huge_group_leaves_no_split_empty() -> None:
    groups = np.repeat([1, 2, 3, 4], [1, 1, 1, 97])
    for seed in range(50):
        assert all(split(groups, (0.5, 0.2, 0.3), seed).values())


def test_another_seed_is_another_split() -> None:
    groups = np.arange(100)
    first, second = (set(split(groups, FRACTIONS, seed)["test"]) for seed in (0, 1))
    assert first != second
    assert len(first & second) < 20  # 25 of 100 each: 6 in common by chance


def test_the_split_of_the_first_ten_groups_is_for_ever() -> None:
    # Literal: another split of old data would let training see what an earlier paper called test.
    assert split(np.arange(10), FRACTIONS, 0) == GOLDEN


@given(st.integers(3, 12), st.integers(2, 4), seeds)
def test_shares_hold_in_each_class_where_groups_are_pure(per_class: int, classes: int, seed: int) -> None:
    groups = np.arange(per_class * classes)
    found = split(groups, FRACTIONS, seed, stratify=groups % classes)
    alone = [split(groups[groups % classes == k], FRACTIONS, seed) for k in range(classes)]
    for name, part in found.items():
        assert part == sorted(group for one in alone for group in one[name])
        assert {group % classes for group in part} == set(range(classes))


def test_mixed_groups_are_not_stratified() -> None:
    groups, label = np.repeat(np.arange(20), 2), np.tile([0, 1], 20)
    assert split(groups, FRACTIONS, 0, stratify=label) == split(groups, FRACTIONS, 0)


@pytest.mark.parametrize(
    "fractions", [(0.5, 0.5), (0.5, 0.5, 0.5), (0.6, 0.4, 0.0), (1.2, -0.1, -0.1), (0.25, 0.25, 0.25, 0.25)]
)
def test_fractions_must_be_three_shares(fractions: tuple[float, ...]) -> None:
    with pytest.raises(DataError, match="expected three positive fractions that sum to 1, got"):
        split(np.arange(10), fractions, 0)


def test_too_few_groups() -> None:
    with pytest.raises(DataError, match=r"expected at least 3 groups .*, got 2; name a finer group field"):
        split(np.repeat([5, 6], 100), FRACTIONS, 0)
    with pytest.raises(DataError, match="got 2"):  # in class 1
        split(np.arange(12), FRACTIONS, 0, stratify=np.repeat([0, 1], [10, 2]))
    with pytest.raises(DataError, match="got 0"):
        split(np.array([], np.int64), FRACTIONS, 0)
