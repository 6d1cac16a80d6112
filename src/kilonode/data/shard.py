"""HDF5 files of ours: how one is written, and every check before one is trusted.

Shape legend: N samples along axis 0 of every dataset.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from kilonode import __version__
from kilonode.errors import DataError, UserError
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
        File attributes; numbers, booleans, strings, or JSON values. Bytes become text of fixed length: the rest lies
        in a heap, and HDF5 2.0 may read a damaged heap for ever. What every reader asks for is therefore bytes.
    """
    versions = {"kilonode": __version__, "h5py": h5py.version.version, "numpy": np.__version__}
    image = io.BytesIO()  # not the file itself: HDF5 2.0 crashes when the program ends after a full disk
    with h5py.File(image, "w") as file:
        for name, value in {"kilonode_schema": SCHEMA, "versions": versions, **attributes}.items():
            if isinstance(value, bytes):
                file.attrs[name] = np.bytes_(value)
            else:
                plain = isinstance(value, str | int | float | bool)
                file.attrs[name] = value if plain else json.dumps(value, sort_keys=True)
        for name, array in arrays.items():
            dataset = file.create_dataset(name, data=array)
            dataset.attrs["unit"] = fields[name]["unit"]
            dataset.attrs["long_name"] = fields[name]["long_name"]
            if "labels" in fields[name]:
                dataset.attrs["labels"] = json.dumps(fields[name]["labels"], sort_keys=True)
    with complete(path) as temporary:
        temporary.write_bytes(image.getbuffer())


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open a file of ours for reading; ``DataError`` if it is missing, truncated, foreign, or links outside itself."""
    with opened_foreign(path) as file:
        with readable(path):
            schema = file.attrs.get("kilonode_schema")
            if schema != SCHEMA:
                raise DataError(f"expected a kilonode file of schema {SCHEMA}, got {schema} ({path}); rerun preprocess")
        yield file


@contextmanager
def opened_foreign(path: Path) -> Iterator[h5py.File]:
    """Open anybody's HDF5 file for reading, with the same checks except the schema's."""
    if not path.is_file():
        found = "something else" if path.exists() else "nothing"
        raise DataError(f"expected an HDF5 file, got {found} ({path}); check the path, or run the stage that writes it")
    with readable(path):
        # Locks are refused on some parallel file systems and protect readers from nothing (errno 524 on DVS).
        file = h5py.File(path, "r", locking=False)
    with file:
        with readable(path):
            for name in names(file, path):
                _refuse_strange(file[name], path)
        yield file


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Whatever h5py raises on a damaged file (seven classes were seen) becomes one ``DataError``."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        inner = re.fullmatch(r"[^(]* \((.*)\)", str(error), re.DOTALL)  # "Can't open file (the reason)"
        reason = inner[1] if inner else error
        raise DataError(f"expected a complete HDF5 file, got {reason} ({path}); make or copy it again") from error


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
            except RecursionError:
                raise
            except (KeyError, OSError, RuntimeError):
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


def refuse_non_finite(name: str, array: np.ndarray, where: Path, start: int = 0) -> None:
    """``DataError`` naming the first value that is NaN or infinite; ``start`` is the sample of the array's first."""
    if array.dtype.kind != "f":
        return
    bad = ~np.isfinite(array)
    if bad.any():
        first = tuple(int(k) for k in np.argwhere(bad)[0])
        at = (first[0] + start, *first[1:]) if first else ()
        raise DataError(
            f"expected finite values in {name!r}, got {array[first]} at {at} and {bad.sum() - 1} more ({where}); "
            "mend or mask them at the source"
        )
