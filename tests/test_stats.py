"""Statistics in one pass, merged in any order, equal to a slow sum over everything."""

from __future__ import annotations

import json
from functools import reduce
from math import fsum

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kilonode.data.stats import Stats, measure, measure_all, merge
from kilonode.errors import DataError

values = st.floats(-1e6, 1e6, width=32)
block = arrays(np.float32, st.tuples(st.integers(0, 6), st.just(2), st.integers(1, 3), st.just(1)), elements=values)
stats = block.map(measure)


def assert_same(a: Stats, b: Stats, *blocks: np.ndarray) -> None:
    """Equal within 1e-12 of the largest value there is: sums of both signs may cancel."""
    size = max([1e-300, *(float(np.abs(x).max(initial=0)) for x in blocks), *np.abs(a.mean), *np.abs(b.mean)])
    assert a.count == b.count
    assert np.array_equal(a.minimum, b.minimum)
    assert np.array_equal(a.maximum, b.maximum)
    assert np.abs(a.mean - b.mean).max() <= 1e-12 * size
    assert np.abs(a.m2 - b.m2).max() <= 1e-12 * size**2 * max(a.count, 1)


def naive(blocks: list[np.ndarray], channel: int) -> tuple[int, float, float]:
    """Count, mean and sum of squared deviations of one channel, in two passes of exact sums."""
    x = [float(value) for part in blocks for value in part[:, channel].ravel()]
    mean = fsum(x) / len(x)
    return len(x), mean, fsum((value - mean) ** 2 for value in x)


@given(st.lists(block, min_size=1, max_size=5).filter(lambda blocks: any(part.size for part in blocks)))
def test_merged_blocks_equal_two_passes_over_everything(blocks: list[np.ndarray]) -> None:
    found = reduce(merge, map(measure, blocks))
    for channel in range(2):
        count, mean, m2 = naive(blocks, channel)
        size = max(float(np.abs(part).max(initial=0)) for part in blocks)
        assert found.count == count
        assert abs(found.mean[channel] - mean) <= 1e-12 * size
        assert abs(found.m2[channel] - m2) <= 1e-12 * size**2 * count
        assert found.minimum[channel] == min(part[:, channel].min(initial=np.inf) for part in blocks)
        assert found.maximum[channel] == max(part[:, channel].max(initial=-np.inf) for part in blocks)
        assert found.std[channel] ** 2 == pytest.approx(m2 / count, rel=1e-9, abs=1e-12 * size**2)
        mean_square = fsum(float(v) ** 2 for part in blocks for v in part[:, channel].ravel()) / count
        assert found.rms[channel] ** 2 == pytest.approx(mean_square, rel=1e-9, abs=1e-300)


@given(arrays(np.float32, st.tuples(st.integers(0, 300), st.just(3)), elements=st.floats(0, 1000, width=32)))
def test_a_pass_over_blocks_equals_one_over_everything(values: np.ndarray) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kilonode.data.stats.BLOCK_BYTES", 1000)
        found, wanted = measure_all(values, np.log1p), measure(np.log1p(values))
    assert found.count == wanted.count
    for name in ("mean", "m2", "minimum", "maximum"):
        np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), rtol=1e-6, atol=1e-6)


@given(stats, stats)
def test_merge_is_commutative(a: Stats, b: Stats) -> None:
    assert_same(merge(a, b), merge(b, a))


@given(block, block, block)
def test_merge_is_associative(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
    x, y, z = measure(a), measure(b), measure(c)
    assert_same(merge(merge(x, y), z), merge(x, merge(y, z)), a, b, c)


@given(stats)
def test_nothing_is_the_identity(a: Stats) -> None:
    nothing = measure(np.zeros((0, 2, 4, 4), np.float32))
    assert nothing.count == 0
    for merged in (merge(a, nothing), merge(nothing, a)):
        assert merged.to_json() == a.to_json()


def test_a_large_offset_does_not_eat_the_spread() -> None:
    x = 1e8 + np.random.default_rng(0).normal(size=(1000, 1))  # a running sum of squares would give a spread of 0
    parts = reduce(merge, map(measure, np.array_split(x, 7)))
    assert parts.std[0] == pytest.approx(x.std(), rel=1e-7)


@given(stats)
def test_json_keeps_every_bit(a: Stats) -> None:
    b = Stats.from_json(json.loads(json.dumps(a.to_json())))
    assert b.count == a.count
    for name in ("mean", "m2", "minimum", "maximum"):
        assert getattr(a, name).tobytes() == getattr(b, name).tobytes()


@pytest.mark.parametrize(
    ("shape", "channels"),
    [((5,), 1), ((5, 3), 3), ((5, 4, 6), 1), ((5, 3, 4, 6), 3), ((5, 3, 2, 4, 6), 3)],
)
def test_channels_are_the_second_axis_but_images_have_one(shape: tuple[int, ...], channels: int) -> None:
    x = np.random.default_rng(0).random(shape)
    found = measure(x)
    columns = np.moveaxis(x.reshape(5, channels, -1), 1, 0).reshape(channels, -1)
    assert found.count == columns.shape[1]
    np.testing.assert_allclose(found.mean, columns.mean(axis=1), rtol=1e-14)
    np.testing.assert_allclose(found.m2, columns.var(axis=1) * found.count, rtol=1e-12)
    assert measure(np.zeros((0, *shape[1:]))).mean.shape == (channels,)


def test_other_channels_are_refused() -> None:
    with pytest.raises(DataError, match="expected 3 channels, got 5"):
        merge(measure(np.ones((2, 3))), measure(np.ones((2, 5))))
