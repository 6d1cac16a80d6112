"""What a network sees of a stored field."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kilonode.data.stats import measure
from kilonode.data.store import Store
from kilonode.data.transform import TRANSFORMS, Scaler
from kilonode.errors import DataError

images = arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.just(3), st.just(2), st.integers(1, 3)),
    elements=st.floats(-1e3, 1e3, width=32),
)


def scaler(x: np.ndarray, **settings: Any) -> Scaler:
    stats = {"x": {name: measure(function(x)).to_json() for name, function in TRANSFORMS.items()}}
    return Scaler({"field": "x", "transform": "none", **settings}, stats)


@given(images, st.sampled_from(sorted(TRANSFORMS)))
def test_zero_stays_zero(x: np.ndarray, transform: str) -> None:
    x[0] = 0
    seen = scaler(x, transform=transform)(x)
    assert seen.dtype == np.float32
    assert (seen[0] == 0).all()
    assert ((x > 0) == (seen > 0))[np.abs(x) > 1e-30].all()  # float32 may round the smallest to 0


@given(images)
def test_the_training_split_has_unit_root_mean_square(x: np.ndarray) -> None:
    x[0, :, 0, 0] = 1, 2, 3
    for channels in (None, [0, 2], [1]):
        seen = scaler(x, **({"channels": channels} if channels else {}))(x)
        chosen = x if channels is None else x[:, channels]
        assert seen.shape == chosen.shape
        assert np.sqrt(np.mean(seen.astype(np.float64) ** 2)) == pytest.approx(1, rel=1e-5)
        large = np.abs(chosen) > 1e-3
        ratio = chosen[large] / seen[large]
        assert ratio.max() == pytest.approx(ratio.min(), rel=1e-5)  # one scale for all channels, and no shift


def test_log1p_by_hand() -> None:
    x = np.array([[[[-5.0, 0.0, np.e - 1]]]], np.float32)
    np.testing.assert_allclose(scaler(x, transform="log1p")(x), [[[[0, 0, np.sqrt(3)]]]], rtol=1e-6)


def test_a_field_that_is_zero_everywhere_is_left_alone() -> None:
    x = np.zeros((2, 1, 2, 2), np.float32)
    assert (scaler(x)(x) == 0).all()


def test_images_without_channels_get_one() -> None:
    x = np.random.default_rng(0).random((5, 3, 4)).astype(np.float32) * np.array([1, 10, 100], np.float32)[:, None]
    whole = scaler(x)
    assert whole(x).shape == (5, 1, 3, 4)
    assert whole.scale == pytest.approx(np.sqrt(np.mean(x.astype(np.float64) ** 2)), rel=1e-12)
    assert scaler(x, channels=[0]).scale == whole.scale  # channel 0 is the image, not its first row


def test_integers_become_floats() -> None:
    x = np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2)
    for transform in TRANSFORMS:
        seen = scaler(x, transform=transform)(x)
        assert seen.dtype == np.float32
        assert np.sqrt(np.mean(seen**2)) == pytest.approx(1, rel=1e-6)


def test_what_is_no_input_is_refused() -> None:
    x = np.ones((2, 3, 2, 2))
    with pytest.raises(DataError, match=r"expected an input, got 'y' \(input.field\); allowed: x"):
        scaler(x, field="y")
    with pytest.raises(DataError, match=r"expected channels below 3, got \[0, 3\] \(input.channels of field 'x'\)"):
        scaler(x, channels=[0, 3])


def test_the_scale_is_a_function_of_the_training_split_alone(toy: Path, tmp_path: Path) -> None:
    settings = {"field": "pairs", "channels": [0, 2], "transform": "log1p"}
    index = toy / "store/pairs/index.json"
    train, test = Store(index, "train"), Store(index, "test")
    charge = np.log1p(np.maximum(train.read("pairs")[:, [0, 2]], 0)).astype(np.float64)
    scale = Scaler(settings, train.stats).scale
    assert scale == pytest.approx(np.sqrt(np.mean(charge**2)), rel=1e-12)
    assert Scaler(settings, test.stats).scale == scale
    other = np.log1p(np.maximum(test.read("pairs")[:, [0, 2]], 0)).astype(np.float64)
    assert scale != pytest.approx(np.sqrt(np.mean(other**2)), rel=1e-6)
    copy = tmp_path / "store"
    shutil.copytree(index.parent, copy, ignore=shutil.ignore_patterns("train*", "test*"))
    assert Scaler(settings, Store(copy / "index.json", "validation").stats).scale == scale
