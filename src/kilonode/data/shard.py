"""HDF5 files of ours: how one is written, and every check before one is trusted.

Shape legend: N samples along axis 0 of every dataset.
"""

from __future__ import annotations

import io
import json
import math
import mmap
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from kilonode import __version__
from kilonode.cases.ragged import Ragged
from kilonode.data.columns import chunk_rows
from kilonode.errors import DataError, UserError
from kilonode.records import Json, complete

SCHEMA = 1
"""Version of the file layout; a file of another version is refused."""
ALIGNED_BYTES = 64 << 10
"""Datasets of at least this size begin on a page of memory: rows that begin in a cache line are copied faster."""
COMPRESSED_BYTES = 64 << 10
"""Smaller arrays are left bare."""
MOST_CHUNK_BYTES, BLOCK_BYTES = 64 << 20, 64 << 20
"""A chunk that holds more than one sample is no larger; about this much is read at a time to look at every value."""
BLOW_UP = 20_000
"""Bytes that one byte of a compressed file may become; of zeros Blosc with zstd makes 7066 (measured)."""
TRUTH = "truth/"
"""Prefix of what only evaluation, explanation and figures may open."""


def write(
    path: Path,
    arrays: Mapping[str, np.ndarray | Ragged],
    fields: Mapping[str, Any],
    attributes: Mapping[str, Any],
    compression: str = "none",
) -> None:
    """Write a shard, complete or not at all.

    The same arrays and attributes give the same bytes: no time stamps; the time stands in the index beside it.
    Data are contiguous and unfiltered, so that a reader may map them, or compressed in chunks of whole rows
    (docs/decisions.md). A ragged field is a group of ``values`` and ``offsets``.

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
    compression : str
        none, lz4 or zstd, for all arrays but the smallest.
    """
    versions = {"kilonode": __version__, "h5py": h5py.version.version, "numpy": np.__version__}
    image = io.BytesIO()  # not the file itself: HDF5 2.0 crashes when the program ends after a full disk
    with h5py.File(image, "w", alignment_threshold=ALIGNED_BYTES, alignment_interval=mmap.PAGESIZE) as file:
        for name, value in {"kilonode_schema": SCHEMA, "versions": versions, **attributes}.items():
            if isinstance(value, bytes):
                file.attrs[name] = np.bytes_(value)
            else:
                plain = isinstance(value, str | int | float | bool)
                file.attrs[name] = value if plain else json.dumps(value, sort_keys=True)
        for name, array in arrays.items():
            if isinstance(array, Ragged):
                file[f"{name}/offsets"] = array.offsets
                name, array, spec = f"{name}/values", array.values, fields[name]
            else:
                spec = fields[name]
            dataset = file.create_dataset(name, data=array, **_filter(array, compression))
            dataset.attrs["unit"] = spec["unit"]
            dataset.attrs["long_name"] = spec["long_name"]
            if "labels" in spec:
                dataset.attrs["labels"] = json.dumps(spec["labels"], sort_keys=True)
    with complete(path) as temporary:
        temporary.write_bytes(image.getbuffer())


def _filter(array: np.ndarray, compression: str) -> dict[str, Any]:
    """Chunks of whole rows, each one Blosc buffer: it is decoded without HDF5 (columns.py)."""
    if compression == "none" or array.nbytes < COMPRESSED_BYTES:
        return {}
    import hdf5plugin

    rows = min(len(array), chunk_rows(array.nbytes // len(array)))
    blosc = hdf5plugin.Blosc(
        cname="zstd" if compression == "zstd" else "lz4", clevel=5, shuffle=hdf5plugin.Blosc.SHUFFLE
    )
    return {"chunks": (rows, *array.shape[1:]), **blosc}


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


def parts(name: str, spec: Json) -> list[str]:
    """The datasets of a field."""
    return [f"{name}/values", f"{name}/offsets"] if spec.get("layout") == "ragged" else [name]


def verify(file: h5py.File, path: Path, fields: Mapping[str, Any], rows: int) -> None:
    """Hold a shard against its description.

    Raises
    ------
    DataError
        Every wrong, missing or unknown dataset, one line each.
    """
    present = names(file, path)
    expected = [part for name, spec in fields.items() for part in parts(name, spec)]
    found = [f"expected no dataset {name!r}, got one" for name in present if name not in expected]
    found += problems(file, fields, rows)
    if found:
        raise DataError(*sorted(f"{problem} ({path}); rerun preprocess" for problem in found))


def problems(file: h5py.File, fields: Mapping[str, Any], rows: int) -> list[str]:
    """What is missing or wrong among these fields; each a sentence that lacks only the file's name."""
    found: list[str] = []
    for name, spec in fields.items():
        missing = [part for part in parts(name, spec) if not isinstance(file.get(part), h5py.Dataset)]
        found += [f"expected dataset {part!r}, got none" for part in missing]
        found += [] if missing else _wrong(file, name, spec, rows)
    return found


def _wrong(file: h5py.File, name: str, spec: Json, rows: int) -> list[str]:
    """What is wrong with one field: its shape, type, offsets or chunks."""
    layout, dtype = spec.get("layout", "dense"), np.dtype(spec["dtype"])
    shapes = {"dense": [(rows, *spec["shape"])], "shared": [tuple(spec["shape"])]}
    if layout == "ragged":
        # The number of elements stands nowhere else: the offsets, checked below, must end there.
        shapes["ragged"] = [(*file[f"{name}/values"].shape[:1], *spec["shape"]), (rows + 1,)]
    found = []
    for part, want, kind in zip(parts(name, spec), shapes[layout], (dtype, np.dtype(np.int64)), strict=False):
        dataset = file[part]
        if want != dataset.shape or dataset.dtype != kind:
            found.append(f"expected dataset {part!r} of shape {want}, {kind}, got {dataset.shape}, {dataset.dtype}")
        elif dataset.chunks is not None and dataset.chunks[1:] != dataset.shape[1:]:
            found.append(f"expected chunks of whole rows in dataset {part!r}, got {dataset.chunks}")
        elif dataset.chunks is not None and dataset.chunks[0] > max(1, dataset.shape[0]):
            found.append(f"expected chunks within dataset {part!r}, got {dataset.chunks} of {dataset.shape}")
        elif problem := unsound(dataset):
            found.append(problem)
    if layout == "ragged" and not found:
        offsets, count = file[f"{name}/offsets"][()], file[f"{name}/values"].shape[0]
        if offsets[0] != 0 or offsets[-1] != count or (np.diff(offsets) < 0).any():
            found.append(f"expected offsets of {name!r} to rise from 0 to {count}, got others")
    return found


def unsound(dataset: h5py.Dataset) -> str:
    """What makes a dataset dangerous to read, as a sentence that lacks only the file's name; empty if nothing.

    A file of a few bytes can promise terabytes: rows that were never written, chunks that unpack to anything.
    """
    name = dataset.name.lstrip("/")
    if dataset.shape is None:
        return f"expected numbers in dataset {name!r}, got none"
    stored = dataset.id.get_storage_size()
    if dataset.nbytes > stored * (BLOW_UP if dataset.chunks is not None else 1):
        return f"expected {dataset.nbytes} bytes in dataset {name!r}, got {stored}"
    if dataset.chunks is None:
        return ""
    grid = [-(-length // chunk) for length, chunk in zip(dataset.shape, dataset.chunks, strict=True)]
    have, want = dataset.id.get_num_chunks(), math.prod(grid)
    if have != want:
        return f"expected {want} chunks in dataset {name!r}, got {have}"
    nbytes = math.prod(dataset.chunks) * dataset.dtype.itemsize
    if nbytes > max(MOST_CHUNK_BYTES, dataset.nbytes // max(1, dataset.shape[0])):
        return f"expected chunks of at most {MOST_CHUNK_BYTES} bytes in dataset {name!r}, got {nbytes}"
    return ""


def extremes(dataset: h5py.Dataset, path: Path) -> tuple[Any, Any]:
    """Smallest and largest value, None if there are none; read in blocks of rows.

    Raises
    ------
    DataError
        A value is NaN or infinite, or cannot be read.
    """
    if dataset.size == 0:
        return None, None
    length = dataset.shape[0] if dataset.ndim else 1
    rows = max(1, BLOCK_BYTES * length // dataset.nbytes)
    if dataset.chunks is not None:
        import hdf5plugin  # noqa: F401 - tells HDF5 of the filters

        rows = max(rows // dataset.chunks[0], 1) * dataset.chunks[0]
    low, high = [], []
    for start in range(0, length, rows):
        try:
            block = np.asarray(dataset[start : start + rows] if dataset.ndim else dataset[()])
        except OSError as error:
            what = f"expected dataset {dataset.name.lstrip('/')!r} as it was written"
            raise DataError(f"{what}, got {error} ({path}); make or copy it again") from None
        refuse_non_finite(dataset.name.lstrip("/"), block, path, start)
        low.append(block.min())
        high.append(block.max())
    return min(low), max(high)


def refuse_non_finite(name: str, array: np.ndarray | Ragged, where: Path, start: int = 0) -> None:
    """``DataError`` naming the first value that is NaN or infinite; ``start`` is the sample of the array's first."""
    array = array.values if isinstance(array, Ragged) else array
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
