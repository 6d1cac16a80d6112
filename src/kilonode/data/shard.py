"""HDF5 files of ours: how one is written, and every check before one is trusted.

Shape legend: N samples along axis 0 of every dataset.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from kilonode import __version__
from kilonode.errors import DataError
from kilonode.records import complete

SCHEMA = 1
"""Version of the file layout; a file of another version is refused."""
TRUTH = "truth/"
"""Prefix of what only evaluation, explanation and figures may open."""


def write(
    path: Path, arrays: Mapping[str, np.ndarray], fields: Mapping[str, Any], attributes: Mapping[str, Any]
) -> None:
    """Write a shard, complete or not at all.

    The same arrays and attributes give the same bytes: no time stamps; the time stands in the index beside it.
    Data are contiguous and unfiltered, so a reader may map them (docs/decisions.md).

    Parameters
    ----------
    path : Path
        Its folder is made if need be.
    arrays : mapping
        Dataset name (slashes make groups) -> array.
    fields : mapping
        Dataset name -> description with ``unit``, ``long_name`` and perhaps ``labels``.
    attributes : mapping
        File attributes; strings, numbers, booleans, or JSON values.
    """
    with complete(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["kilonode_schema"] = SCHEMA
        file.attrs["versions"] = json.dumps(
            {"kilonode": __version__, "h5py": h5py.version.version, "numpy": np.__version__}
        )
        for name, value in attributes.items():
            file.attrs[name] = (
                value if isinstance(value, str | int | float | bool) else json.dumps(value, sort_keys=True)
            )
        for name, array in arrays.items():
            dataset = file.create_dataset(name, data=array)
            dataset.attrs["unit"] = fields[name]["unit"]
            dataset.attrs["long_name"] = fields[name]["long_name"]
            if "labels" in fields[name]:
                dataset.attrs["labels"] = json.dumps(fields[name]["labels"], sort_keys=True)


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open a file of ours for reading; ``DataError`` if it is missing, truncated, foreign, or links outside itself."""
    with opened_foreign(path) as file:
        schema = file.attrs.get("kilonode_schema")
        if schema != SCHEMA:
            raise DataError(f"expected a kilonode file of schema {SCHEMA}, got {schema} ({path}); rerun preprocess")
        yield file


@contextmanager
def opened_foreign(path: Path) -> Iterator[h5py.File]:
    """Open anybody's HDF5 file for reading, with the same checks except the schema's."""
    if not path.is_file():
        raise DataError(f"expected an HDF5 file, got nothing ({path}); check the path, or run the stage that writes it")
    try:
        # Locks are refused on some parallel file systems and protect readers from nothing (errno 524 on DVS).
        file = h5py.File(path, "r", locking=False)
    except OSError as error:
        reason = str(error).split("(")[-1].rstrip(")")
        raise DataError(f"expected a complete HDF5 file, got {reason} ({path}); make or copy it again") from None
    with file:
        for name in names(file, path):
            _refuse_strange(file[name], path)
        yield file


def names(file: h5py.File, path: Path) -> list[str]:
    """Every dataset, sorted; external and dangling links are refused."""
    found: list[str] = []

    def visit(group: h5py.Group, prefix: str, parents: tuple[int, ...]) -> None:
        for key in group:
            link = group.get(key, getlink=True)
            name = f"{prefix}{key}"
            if isinstance(link, h5py.ExternalLink):
                raise DataError(
                    f"expected no external links, got one (dataset {name!r} in {path}); copy the data into the file"
                )
            try:
                item = group[key]
            except (KeyError, OSError):
                raise DataError(
                    f"expected a readable object, got a broken link (dataset {name!r} in {path}); make the file again"
                ) from None
            if isinstance(item, h5py.Dataset):
                found.append(name)
            elif isinstance(item, h5py.Group):
                address = h5py.h5o.get_info(item.id).addr
                if address in parents:
                    raise DataError(f"expected a tree, got a cycle (group {name!r} in {path}); remove the link")
                visit(item, f"{name}/", (*parents, address))

    visit(file, "", (h5py.h5o.get_info(file.id).addr,))
    return sorted(found)


def _refuse_strange(dataset: h5py.Dataset, path: Path) -> None:
    """Data kept in other files cannot be hashed, moved or trusted with this one."""
    where = f"dataset {dataset.name.lstrip('/')!r} in {path}"
    if dataset.is_virtual or dataset.external:
        raise DataError(
            f"expected data inside the file, got a virtual or external dataset ({where}); copy the data into it"
        )


def verify(file: h5py.File, path: Path, fields: Mapping[str, Any], rows: int) -> None:
    """Hold a shard against its description.

    Raises
    ------
    DataError
        Every wrong, missing or unknown dataset, one line each.
    """
    present = names(file, path)
    problems = [
        f"expected dataset {name!r}, got none ({path}); rerun preprocess" for name in fields if name not in present
    ]
    problems += [
        f"expected no dataset {name!r}, got one ({path}); rerun preprocess" for name in present if name not in fields
    ]
    for name in set(fields) & set(present):
        spec, dataset = fields[name], file[name]
        want, have = (rows, *spec["shape"]), dataset.shape
        if want != have or dataset.dtype != np.dtype(spec["dtype"]):
            problems.append(
                f"expected dataset {name!r} of shape {want}, {spec['dtype']}, got {have}, {dataset.dtype} "
                f"({path}); rerun preprocess"
            )
    if problems:
        raise DataError(*sorted(problems))


def refuse_non_finite(name: str, array: np.ndarray, where: Path) -> None:
    """``DataError`` naming the first value that is NaN or infinite."""
    if array.dtype.kind != "f":
        return
    bad = ~np.isfinite(array)
    if bad.any():
        first = tuple(int(k) for k in np.argwhere(bad)[0])
        raise DataError(
            f"expected finite values in {name!r}, got {array[first]} at {first} and {bad.sum() - 1} more ({where}); "
            "mend or mask them at the source"
        )
