"""The maps as a file, with what they are coloured by and a small picture of each sample.

Shape legend: S seeds, N samples, T samples with a picture, C channels, H rows, W columns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from kilonode.cases.contract import Arrays
from kilonode.records import Json, complete

THUMBNAILS, SIDE = 400, 32
"""Samples that have a picture, and its rows and columns, at most."""


def write(path: Path, maps: np.ndarray, sample_id: np.ndarray, columns: Json, inputs: np.ndarray, about: Json) -> None:
    """Write ``maps.h5``, complete or not at all; the same arguments give the same bytes.

    Parameters
    ----------
    path : Path
        The file.
    maps : ndarray
        float32 (S, N, 2).
    sample_id : ndarray
        int64 (N,), which samples.
    columns : dict
        ``columns``: name -> (N,); ``labels``: name -> value -> word; ``units``: name -> unit; ``nuisances``: names.
    inputs : ndarray
        float32 (T, C, H, W), the first samples as the network sees them.
    about : dict
        Attributes of the file: case, data, task, seed, method, perplexity.

    Raises
    ------
    ValueError
        A column of another length.
    """
    with complete(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs.update(about)
        file["maps"] = maps.astype(np.float32)
        file["sample_id"] = sample_id.astype(np.int64)
        for name, values in columns["columns"].items():
            _column(file, name, values, columns)
        pictures = thumbnails(inputs[:THUMBNAILS])
        if pictures is not None:
            file["thumbnails"] = pictures


def _column(file: h5py.File, name: str, values: np.ndarray, columns: Json) -> None:
    if len(values) != len(file["sample_id"]):
        raise ValueError(f"a column needs {len(file['sample_id'])} values, got {len(values)} ({name})")
    named: Mapping[int, str] | None = columns["labels"].get(name)
    place = "columns/" + name.replace("/", " over ")  # a slash would make a group
    dataset = file.create_dataset(place, data=values.astype(np.float64 if named is None else np.int64))
    dataset.attrs["name"] = name
    dataset.attrs["unit"] = columns["units"].get(name, "1")
    dataset.attrs["nuisance"] = name in columns["nuisances"]
    if named is not None:
        dataset.attrs["labels"] = json.dumps({str(key): word for key, word in sorted(named.items())})


def thumbnails(inputs: np.ndarray) -> np.ndarray | None:
    """Small pictures of the first channel, each from its darkest to its brightest pixel.

    Parameters
    ----------
    inputs : ndarray
        (T, C, H, W). Where H is 1, channels are the rows: a record of many sensors over time.

    Returns
    -------
    ndarray or None
        uint8 (T, h, w), h and w at most 32: means over blocks, but small pictures as they are; None where inputs are
        no pictures.
    """
    if inputs.ndim != 4:
        return None
    pictures = inputs[:, :, 0] if inputs.shape[2] == 1 else inputs[:, 0]
    if min(pictures.shape[1:]) < 2:
        return None
    small = _shrunk(_shrunk(pictures.astype(np.float64), 1), 2)
    low, high = small.min(axis=(1, 2), keepdims=True), small.max(axis=(1, 2), keepdims=True)
    return np.round(255 * (small - low) / np.where(high > low, high - low, 1)).astype(np.uint8)


def _shrunk(pictures: np.ndarray, axis: int) -> np.ndarray:
    """At most ``SIDE`` along an axis: means of nearly equal blocks."""
    length = pictures.shape[axis]
    if length <= SIDE:
        return pictures
    edges = np.linspace(0, length, SIDE + 1).round().astype(int)
    sums = np.add.reduceat(pictures, edges[:-1], axis=axis)
    sizes = np.diff(edges).reshape([-1 if k == axis else 1 for k in range(pictures.ndim)])
    return np.asarray(sums / sizes)


def read(path: Path) -> tuple[np.ndarray, Arrays]:
    """Maps (S, N, 2) and columns of a file that ``write`` wrote."""
    with h5py.File(path, "r") as file:
        columns = {str(item.attrs["name"]): item[()] for item in file.get("columns", {}).values()}
        return file["maps"][()], columns
