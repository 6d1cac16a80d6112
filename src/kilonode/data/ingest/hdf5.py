"""Plain HDF5: a field is a dataset whose first axis is the sample."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from kilonode.data import shard
from kilonode.errors import DataError, near
from kilonode.records import Json

FLOATS = {2: "float32", 4: "float32", 8: "float64"}


def rows(path: Path, tables: Json) -> dict[str, int]:
    """Samples of each table.

    Raises
    ------
    DataError
        All mistakes at once: missing datasets with near matches, lengths that differ, types that cannot be read,
        no samples.
    """
    counts: dict[str, int] = {}
    problems: list[str] = []
    with shard.opened_foreign(path) as file, shard.readable(path):
        present = shard.names(file, path)
        for table, columns in tables.items():
            keys = _parts(columns["group"])
            asked = [name for spec in columns.values() for name in _parts(spec)]
            missing = [name for name in asked if name not in present]
            problems += [f"expected dataset {name!r}, got none ({path}); {near(name, present)}" for name in missing]
            found = {name: file[name] for name in asked if name in present}
            problems += [line for name, dataset in found.items() if (line := _unreadable(name, dataset, path))]
            problems += [
                f"expected one value a sample in group key {name!r}, got shape {found[name].shape} ({path}); "
                "map datasets of one axis"
                for name in keys
                if name in found and found[name].ndim > 1
            ]
            lengths = {name: dataset.shape[0] for name, dataset in found.items() if dataset.ndim}
            if len(set(lengths.values())) > 1:
                problems.append(
                    f"expected one length for table {table!r}, got {lengths} ({path}); map fields of one length"
                )
            elif 0 in lengths.values():
                problems.append(f"expected at least one sample in table {table!r}, got none ({path}); map other data")
            counts[table] = min(lengths.values(), default=0)
    if problems:
        raise DataError(*problems)
    return counts


def _parts(spec: Json) -> list[str]:
    """The datasets of a field: one, or several that make a group key."""
    return list(spec["datasets"]) if "datasets" in spec else [spec["dataset"]]


def _unreadable(name: str, dataset: h5py.Dataset, path: Path) -> str | None:
    if dataset.ndim == 0:
        return f"expected samples along the first axis of {name!r}, got a single value ({path})"
    if dataset.dtype.kind not in "fiub":
        return f"expected numbers in {name!r}, got {dataset.dtype} ({path}); map another dataset"
    return None


def read(path: Path, spec: Json, start: int, stop: int) -> np.ndarray:
    """Samples ``start`` to ``stop`` of one field, as little-endian float32/64, int64 or uint8."""
    with shard.opened_foreign(path) as file, shard.readable(path):
        array: np.ndarray = file[spec["dataset"]][start:stop]
    if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        raise DataError(f"expected integers below 2**63 in {spec['dataset']!r}, got {array.max()} ({path}); shift them")
    kind = {"f": FLOATS.get(array.dtype.itemsize, "float64"), "b": "uint8"}.get(array.dtype.kind)
    return array.astype(kind or ("uint8" if array.dtype == np.uint8 else "int64"), copy=False)
