"""A column as a mapping asks for it: found by name, samples first, plain numbers, missing values filled or refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kilonode.cases.ragged import Ragged
from kilonode.data.ingest._column import Column, Columns, numbers, readable
from kilonode.errors import DataError, near
from kilonode.records import Json


@dataclass
class Source:
    """An opened file, and what was noticed while reading it.

    Attributes
    ----------
    columns : mapping
        What the adapter found.
    path, format : Path, str
        For messages.
    remarks : dict
        Field -> what -> number: values filled, brightness cut off; of the blocks read since it was last emptied.
    """

    columns: Columns
    path: Path
    format: str
    remarks: dict[str, dict[str, float]] = field(default_factory=dict)

    def remark(self, field: str, **numbers: float) -> None:
        """Add to what was noticed of a field."""
        known = self.remarks.setdefault(field, {})
        for what, number in numbers.items():
            known[what] = known.get(what, 0) + number

    def column(self, name: str) -> Column:
        """A column of numbers; ``DataError`` with near matches if there is none."""
        if name not in self.columns:
            raise DataError(f"expected dataset {name!r}, got none ({self.path}); {near(name, self.columns)}")
        with readable(self.path, self.format):
            column = self.columns[name]()
        if column.dtype.kind not in "fiub":
            raise DataError(f"expected numbers in {name!r}, got {column.dtype} ({self.path}); map another dataset")
        return column


@dataclass(frozen=True)
class Part:
    """One column of a field.

    Attributes
    ----------
    rows : int
        Length of the sample axis; 0 of a single value.
    shape : tuple of int
        Of one sample (of one element, if the column is jagged).
    """

    source: Source
    field: str
    name: str
    column: Column
    axis: int
    fill: float | None

    @property
    def rows(self) -> int:
        return self.column.shape[self.axis] if self.column.shape else 0

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.column.shape[: self.axis], *self.column.shape[self.axis + 1 :])

    def read(self, start: int, stop: int) -> Any:
        """Samples ``start`` to ``stop``, an ndarray (n, ...) or ``Ragged``, of finite numbers."""
        with readable(self.source.path, self.source.format):
            block = self.column.read(start, stop, self.axis)
        if isinstance(block, Ragged):
            return Ragged(self._finite(block.values, start, block.offsets), block.offsets)
        values = self._finite(block, start)
        return np.moveaxis(values, self.axis, 0) if values.ndim else values

    def jagged_bytes(self) -> float:
        """Of one sample, about: how long samples are shows only when they are read, so a few all over are."""
        starts = np.unique(np.linspace(0, max(self.rows - 32, 0), 8).astype(int))
        with readable(self.source.path, self.source.format):
            few = [self.column.read(int(start), min(int(start) + 32, self.rows), 0) for start in starts]
        return float(sum(block.nbytes for block in few) / max(1, sum(len(block) for block in few)))

    def _finite(self, block: np.ndarray, start: int, offsets: np.ndarray | None = None) -> np.ndarray:
        """Missing values replaced and counted; ``DataError`` that names the first one if there is no ``fill``."""
        values = np.ma.getdata(numbers(block, self.name, self.source.path))
        missing = np.ma.getmaskarray(block)
        infinite = np.isinf(values) if values.dtype.kind == "f" else np.zeros_like(missing)
        missing = missing | np.isnan(values) if values.dtype.kind == "f" else missing
        bad = infinite if self.fill is not None else infinite | missing
        if bad.any():
            first = tuple(int(k) for k in np.argwhere(bad)[0])
            what = "a missing value" if np.ma.getmaskarray(block)[first] else values[first]
            todo = "declare `fill: <number>` for the field, or mend them at the source"
            raise DataError(
                f"expected finite values in {self.name!r}, got {what} at {self._place(first, start, offsets)} and "
                f"{int(bad.sum()) - 1} more ({self.source.path}); "
                f"{'mend them at the source' if infinite[first] else todo}"
            )
        if missing.any():
            self.source.remark(self.field, filled=int(missing.sum()))
            values = np.where(missing, np.asarray(self.fill, values.dtype), values)
        return values

    def _place(self, first: tuple[int, ...], start: int, offsets: np.ndarray | None) -> tuple[int, ...]:
        """Where a value of a block is in the whole column; of jagged ones sample and element."""
        if offsets is not None:
            sample = int(np.searchsorted(offsets, first[0], "right")) - 1
            return (sample + start, first[0] - int(offsets[sample]), *first[1:])
        return tuple(k + start if axis == self.axis else k for axis, k in enumerate(first))


def part(source: Source, field: str, name: str, spec: Json, single: bool = False) -> Part:
    """A column of a field, checked against what the mapping says of it.

    Parameters
    ----------
    field : str
        ``table/field``, for messages and remarks.
    name : str
        The column.
    spec : dict
        ``sample_axis`` and ``fill`` of the mapping.
    single : bool
        Whether a single value will do.
    """
    column = source.column(name)
    fill = spec.get("fill")
    if not column.shape and not single:
        raise DataError(f"expected samples along the first axis of {name!r}, got a single value ({source.path})")
    kept = numbers(np.empty(0, column.dtype), name, source.path).dtype
    if fill is not None and kept.kind in "iu" and not _fits(fill, kept):
        raise DataError(f"expected a number that fits {name!r} ({kept}), got {fill} ({field}.fill); change it")
    return Part(source, field, name, column, _axis(source, name, column, spec.get("sample_axis", 0)), fill)


def _fits(number: float, dtype: np.dtype) -> bool:
    limits = np.iinfo(dtype)
    return number == int(number) and int(limits.min) <= number <= int(limits.max)


def _axis(source: Source, name: str, column: Column, asked: int | str) -> int:
    if isinstance(asked, str) and asked not in column.dims:
        hint = near(asked, column.dims) if column.dims else "its axes have no names: give a number"
        raise DataError(f"expected an axis of {name!r}, got {asked!r} ({source.path}); {hint}")
    axis = column.dims.index(asked) if isinstance(asked, str) else asked
    if axis and (column.jagged or axis >= len(column.shape)):
        raise DataError(f"expected a sample axis within the shape {column.shape} of {name!r}, got {axis}; change it")
    return axis
