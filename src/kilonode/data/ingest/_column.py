"""What every adapter gives: named columns of somebody's file, each described and read in blocks.

An adapter is a module ``<format>.py`` with one context manager, ``opened(path) -> Columns``. It knows its format and
nothing of mappings; what a field is made of is decided in ``_fields.py``, for all formats alike.

Shape legend: N samples (or moments, or elements) along the axis that is cut into blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kilonode.errors import DataError, UserError
from kilonode.records import Json

UNITS = ("unit", "units")
LONG_NAMES = ("long_name", "long name", "description", "title")
"""Attributes that say what a field is; the first that is there counts."""
FLOATS = {2: "float32", 4: "float32", 8: "float64"}


@dataclass(frozen=True)
class Clock:
    """When the moments of a time series were: evenly spaced, or each with a time of its own.

    Attributes
    ----------
    start, rate : float or None
        Time of the first moment in s; moments a second in Hz.
    at : callable or None
        Number of a moment -> its time in s, where the spacing may be uneven.
    """

    start: float = 0.0
    rate: float | None = None
    at: Callable[[int], float] | None = None


@dataclass(frozen=True)
class Column:
    """One array of a source.

    Attributes
    ----------
    shape : tuple of int
        (N, ...); of a jagged column (N, ...) with the shape of one element behind.
    dtype : dtype
        Of the values that ``read`` gives.
    read : callable
        ``read(start, stop, axis)``: that part of an axis, an ndarray, masked where values are missing; of a jagged
        column a ``Ragged``, whose axis is always 0; of a single value itself, ().
    unit, long_name : str or None
        What the source says.
    attributes : dict
        Whatever else it says, as JSON.
    dims : tuple of str
        Names of the axes, if they have any.
    jagged : bool
        Samples differ in length.
    sizes : callable or None
        ``sizes(start, stop)``: shapes (N, D) of samples that were flattened, such as images of several sizes.
    clock : Clock or None
        Of a time series.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[int, int, int], Any]
    unit: str | None = None
    long_name: str | None = None
    attributes: Json = field(default_factory=dict)
    dims: tuple[str, ...] = ()
    jagged: bool = False
    sizes: Callable[[int, int], np.ndarray] | None = None
    clock: Clock | None = None


def block(shape: tuple[int, ...], start: int, stop: int, axis: int) -> tuple[slice, ...]:
    """The index of a part of an axis; a single value has no axes."""
    return (slice(None),) * axis + (slice(start, stop),) if shape else ()


Columns = Mapping[str, Callable[[], Column]]
"""Name -> how to get the column: a file may have thousands, a mapping asks for a few."""


def column(array: Any, attributes: Mapping[str, Any], **more: Any) -> Column:
    """A column of anything that has a shape and a type and can be sliced: h5py, Zarr, FITS sections."""

    def read(start: int, stop: int, axis: int) -> np.ndarray:
        return np.asarray(array[block(array.shape, start, stop, axis)])

    return Column(tuple(array.shape), np.dtype(array.dtype), read, **described(attributes), **more)


def described(attributes: Mapping[str, Any]) -> Json:
    """Unit, long name and other attributes, as keyword arguments of ``Column``."""
    plain = {key: value for key, item in attributes.items() if (value := _plain(item)) is not None}

    def first(names: tuple[str, ...]) -> str | None:
        return next((str(plain[name]) for name in names if plain.get(name, "") != ""), None)

    known = {*UNITS, *LONG_NAMES}
    kept = {key: value for key, value in plain.items() if key not in known}
    return {"unit": first(UNITS), "long_name": first(LONG_NAMES), "attributes": kept}


def _plain(value: Any) -> Any:
    """A short attribute as JSON has it; None for references, tables and other machinery of a format."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    value = getattr(value, "tolist", lambda: value)()  # numpy's scalars and arrays
    if isinstance(value, list) and len(value) == 1:
        return _plain(value[0])
    simple = isinstance(value, str | int | float | bool)
    listed = isinstance(value, list) and len(value) <= 16 and all(isinstance(v, str | int | float) for v in value)
    return value if simple or listed else None


def numbers(values: np.ndarray, name: str, path: Path) -> np.ndarray:
    """The same as little-endian float32/64, int64 or uint8; a mask is kept."""
    if values.dtype == np.uint64 and values.size and values.max() > np.iinfo(np.int64).max:
        raise DataError(f"expected integers below 2**63 in {name!r}, got {values.max()} ({path}); shift them")
    kind = {"f": FLOATS.get(values.dtype.itemsize, "float64"), "b": "uint8"}.get(values.dtype.kind)
    return values.astype(kind or ("uint8" if values.dtype == np.uint8 else "int64"), copy=False)


@contextmanager
def readable(path: Path, what: str) -> Iterator[None]:
    """Whatever a library raises on a damaged or foreign file becomes one ``DataError``."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"expected a readable {what} file, got {reason} ({path}); make or copy it again") from error


def is_there(path: Path, what: str, folder: bool = False) -> None:
    """``DataError`` unless there is a file (or a folder) of this name."""
    if not (path.is_dir() if folder else path.is_file()):
        found = "something else" if path.exists() else "nothing"
        raise DataError(f"expected {what}, got {found} ({path}); check the path")
