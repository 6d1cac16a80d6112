"""The file of maps: what is promised of it, byte for byte the same again, and pictures to look at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from kilonode.explain import maps

ABOUT = {"case": "c", "data": "toy", "task": "t", "seed": 3, "method": "openTSNE", "perplexity": 15.0}
COLUMNS: dict[str, Any] = {
    "columns": {"kind": np.array([0, 1, 1], np.uint8), "S/N": np.array([1.5, 2.5, np.nan], np.float32)},
    "labels": {"kind": {0: "zero", 1: "one"}},
    "units": {"kind": "1", "S/N": "dB"},
    "nuisances": ["S/N"],
}


def write(path: Path) -> Path:
    rng = np.random.default_rng(0)
    placed, pictures = rng.standard_normal((2, 3, 2)).astype(np.float32), rng.standard_normal((3, 1, 64, 40))
    maps.write(path, placed, np.array([7, 8, 9]), COLUMNS, pictures.astype(np.float32), ABOUT)
    return path


def test_the_file_holds_what_is_promised(tmp_path: Path) -> None:
    with h5py.File(write(tmp_path / "maps.h5")) as file:
        assert dict(file.attrs) == ABOUT
        assert file["maps"].shape == (2, 3, 2)
        assert file["maps"].dtype == np.float32
        assert file["sample_id"][()].tolist() == [7, 8, 9]
        kind, ratio = file["columns/kind"], file["columns/S over N"]  # a slash would be a group
        assert kind.dtype == np.int64
        assert json.loads(kind.attrs["labels"]) == {"0": "zero", "1": "one"}
        assert not kind.attrs["nuisance"]
        assert ratio.dtype == np.float64
        assert ratio.attrs["nuisance"]
        assert ratio.attrs["unit"] == "dB"
        assert ratio.attrs["name"] == "S/N"
        assert file["thumbnails"].shape == (3, 32, 32)
        assert file["thumbnails"].dtype == np.uint8


def test_the_same_maps_give_the_same_bytes(tmp_path: Path) -> None:
    assert write(tmp_path / "a.h5").read_bytes() == write(tmp_path / "b.h5").read_bytes()


def test_a_column_of_another_length_leaves_no_file(tmp_path: Path) -> None:
    broken = {**COLUMNS, "columns": {"kind": np.zeros(2, np.uint8)}}
    with pytest.raises(ValueError, match="kind"):
        maps.write(tmp_path / "maps.h5", np.zeros((1, 3, 2)), np.arange(3), broken, np.zeros((3, 1, 4, 4)), ABOUT)
    assert list(tmp_path.iterdir()) == []


def test_a_thumbnail_goes_from_darkest_to_brightest() -> None:
    pictures = np.arange(2 * 3 * 8 * 24, dtype=float).reshape(2, 3, 8, 24)
    found = maps.thumbnails(pictures)
    assert found is not None
    assert found.shape == (2, 8, 24)
    assert (found.min(axis=(1, 2)) == 0).all()
    assert (found.max(axis=(1, 2)) == 255).all()


def test_a_large_picture_shrinks_to_means_of_blocks() -> None:
    picture = np.zeros((1, 1, 100, 64))
    picture[..., :50, :] = 1
    found = maps.thumbnails(picture)
    assert found is not None
    assert found.shape == (1, 32, 32)
    np.testing.assert_array_equal(found[0, :16], 255)
    np.testing.assert_array_equal(found[0, 16:], 0)


def test_sensors_over_time_are_a_picture_of_sensors_by_time() -> None:
    found = maps.thumbnails(np.random.default_rng(0).random((2, 20, 1, 64)))
    assert found is not None
    assert found.shape == (2, 20, 32)


@pytest.mark.parametrize("shape", [(2, 1, 1, 64), (2, 9), (2, 3, 40, 1)])
def test_what_is_no_picture_has_no_thumbnail(shape: tuple[int, ...]) -> None:
    assert maps.thumbnails(np.zeros(shape)) is None


def test_a_picture_of_one_value_is_black() -> None:
    found = maps.thumbnails(np.ones((1, 1, 4, 4)))
    assert found is not None
    assert (found == 0).all()
