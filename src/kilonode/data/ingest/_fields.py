"""What a mapping makes of columns: fields of tables, dense, ragged or shared, and the group of each sample.

Shape legend: N samples, M elements of all samples of a ragged field together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from kilonode.cases.ragged import Ragged, ends
from kilonode.data.ingest._cut import epochs, stamps
from kilonode.data.ingest._part import Part, Source, part
from kilonode.errors import DataError
from kilonode.records import Json


@dataclass(frozen=True)
class Field:
    """A field of a table, ready to be read.

    Attributes
    ----------
    rows : int or None
        Samples; None if all samples share the one array.
    read : callable
        ``read(start, stop)``: samples (n, ...), an ndarray or ``Ragged``; of a shared field the whole array.
    bytes : float
        About this much a sample.
    described : dict
        What the index says: the mapping's words, completed by the source's.
    """

    rows: int | None
    read: Callable[[int, int], Any]
    bytes: float
    described: Json


def fields(source: Source, tables: Json) -> dict[str, dict[str, Field]]:
    """Table -> field -> how to read it; the group is read as a 63-bit id.

    Raises
    ------
    DataError
        All mistakes at once: columns that are missing, of several lengths, not numbers, or without a unit.
    """
    problems: list[str] = []
    found: dict[str, dict[str, Field]] = {}
    for table, specs in tables.items():
        found[table] = {}
        blocks = {name: spec for name, spec in specs.items() if "block" in spec}
        for name, spec in specs.items():
            if name not in blocks:
                try:
                    found[table][name] = _field(source, f"{table}/{name}", spec)
                except DataError as error:
                    problems += error.problems
        lengths = {name: field.rows for name, field in found[table].items() if field.rows is not None}
        if len(set(lengths.values())) > 1:
            problems.append(
                f"expected one length for table {table!r}, got {lengths} ({source.path}); map fields of one length"
            )
        elif 0 in lengths.values():
            problems.append(
                f"expected at least one sample in table {table!r}, got none ({source.path}); map other data"
            )
        for name, spec in blocks.items():
            found[table][name] = _block(spec, min(lengths.values(), default=0))
    if problems:
        raise DataError(*dict.fromkeys(problems))
    return found


def _field(source: Source, field: str, spec: Json) -> Field:
    names = spec["datasets"] if "datasets" in spec else [spec["dataset"]]
    is_group, shared = field.endswith("/group"), spec.get("layout") == "shared"
    parts: list[Part] = []
    problems: list[str] = []
    for name in names:
        try:
            parts.append(part(source, field, name, spec, single=shared))
        except DataError as error:
            problems += error.problems
    lengths = {one.name: one.rows for one in parts}
    if is_group:
        problems += [
            f"expected one value a sample in group key {one.name!r}, got shape {one.column.shape} ({source.path}); "
            "map datasets of one axis"
            for one in parts
            if one.shape or one.column.jagged
        ]
    elif len({one.shape for one in parts}) > 1 or len({one.column.jagged for one in parts}) > 1:
        shapes = {one.name: one.shape for one in parts}
        problems.append(
            f"expected components of one kind and shape in {field!r}, got {shapes} ({source.path}); map others"
        )
    if len(set(lengths.values())) > 1:
        problems.append(f"expected one length in {field!r}, got {lengths} ({source.path}); map datasets of one length")
    if not problems:
        problems += _layout(field, parts[0], spec)
    words = _words(source, field, parts, spec, is_group, problems)
    if problems:
        raise DataError(*problems)
    if is_group:
        return Field(parts[0].rows, partial(_groups, parts), 8.0, words)
    return _shaped(source, field, parts, {**spec, **words})


def _layout(field: str, first: Part, spec: Json) -> list[str]:
    """Ways of the mapping that contradict each other, or the source."""
    listed = {"offsets", "counts"} & spec.keys()
    cut = {"stamp", "epochs"} & spec.keys()
    flat = first.column.jagged and "stamp" not in spec
    nature = "ragged" if listed or flat else "dense"
    asked = spec.get("layout", nature)
    place = f"({field} in the mapping)"
    problems = []
    if asked == "ragged" and nature == "dense":
        problems.append(f"expected `offsets` or `counts` of ragged {first.name!r}, got neither {place}; add one")
    elif asked != nature and not (asked == "shared" and nature == "dense"):
        problems.append(f"expected layout {nature} for {first.name!r}, got {asked} {place}; leave `layout` out")
    if (len(listed) + len(cut) > 1 and listed != {"offsets", "counts"}) or (cut and asked == "shared"):
        both = " and ".join(sorted(listed | cut | {asked} - {"dense", "ragged"}))
        problems.append(f"expected one way to cut {first.name!r} into samples, got {both} {place}; choose one")
    if first.column.jagged and listed:
        problems.append(f"expected no offsets for {first.name!r}, which has its own, got some {place}; leave them out")
    return problems


def _shaped(source: Source, field: str, parts: list[Part], spec: Json) -> Field:
    """The reader of a field whose parts are in order."""
    first = parts[0]
    read: Callable[[int, int], Any] = partial(_stacked, field, parts)
    one = float(np.prod(first.shape, dtype=float)) * max(4, first.column.dtype.itemsize) * len(parts)
    if spec.get("layout") == "shared":
        whole = read(0, first.rows)
        return Field(None, lambda start, stop: whole, 0.0, spec)
    if "offsets" in spec or "counts" in spec:
        offsets = _offsets(source, field, first, spec)
        rows = len(offsets) - 1
        return Field(rows, partial(_ragged, read, offsets), one * first.rows / max(rows, 1), {**spec, **_RAGGED})
    if "stamp" in spec:
        size = spec["stamp"]
        return Field(first.rows, stamps(first, size), float(np.prod(size)) * 8, spec)
    if "epochs" in spec:
        rows, cut, length = epochs(first, read, spec["epochs"])
        return Field(rows, cut, one * length, spec)
    if first.column.jagged:
        return Field(first.rows, read, first.jagged_bytes() * len(parts), {**spec, **_RAGGED})
    return Field(first.rows, read, one, spec)


_RAGGED = {"layout": "ragged"}


def _stacked(field: str, parts: list[Part], start: int, stop: int) -> Any:
    """Parts side by side along a last axis, if there are several."""
    blocks = [one.read(start, stop) for one in parts]
    if len(blocks) == 1:
        return blocks[0]
    if isinstance(blocks[0], Ragged):
        for one, block in zip(parts, blocks, strict=True):
            if not np.array_equal(block.offsets, blocks[0].offsets):
                raise DataError(
                    f"expected as many elements in {one.name!r} as in {parts[0].name!r}, got others ({field}); "
                    "map components of the same objects"
                )
        return Ragged(np.stack([block.values for block in blocks], -1), blocks[0].offsets)
    return np.stack(blocks, -1)


def _ragged(read: Callable[[int, int], Any], offsets: np.ndarray, start: int, stop: int) -> Ragged:
    begin, end = int(offsets[start]), int(offsets[stop])
    return Ragged(read(begin, end), offsets[start : stop + 1] - begin)


def _offsets(source: Source, field: str, first: Part, spec: Json) -> np.ndarray:
    """Where each sample begins, int64 (N + 1,); every element must belong to one sample."""
    lists = {key: part(source, field, spec[key], {}) for key in ("offsets", "counts") if key in spec}
    read = {key: np.asarray(one.read(0, one.rows)) for key, one in lists.items()}
    for key, array in read.items():
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise DataError(f"expected whole numbers, one a sample, in {spec[key]!r}, got {array.shape}, {array.dtype}")
    if "counts" in read:
        offsets = ends(read["counts"])
        starts = read.get("offsets", offsets[:-1])
        fits = np.array_equal(starts[: len(offsets) - 1], offsets[:-1]) and len(starts) - len(offsets) in (-1, 0)
    else:
        starts = read["offsets"].astype(np.int64)
        open_end = not len(starts) or starts[-1] != first.rows
        offsets, fits = (np.append(starts, first.rows) if open_end else starts), True
    if not fits or offsets[0] != 0 or offsets[-1] != first.rows or (np.diff(offsets) < 0).any():
        raise DataError(
            f"expected the samples of {first.name!r} to follow one another over all its {first.rows} elements, got "
            f"{len(offsets) - 1} samples from {offsets[0]} to {offsets[-1]} ({source.path}); check offsets and counts"
        )
    return offsets


def _words(source: Source, field: str, parts: list[Part], spec: Json, is_group: bool, problems: list[str]) -> Json:
    """The mapping's words for the index, completed by what the source says; what is missing is a problem."""
    words: Json = dict(spec)
    for key in ("unit", "long_name"):
        said = {getattr(one.column, key) for one in parts}
        found = said.pop() if len(said) == 1 else None
        default = {"unit": "1", "long_name": f"group of samples: {', '.join(one.name for one in parts)}"}
        words.setdefault(key, default[key] if is_group else found)
        if words[key] is None and parts:
            names = ", ".join(repr(one.name) for one in parts)
            problems.append(f"expected a {key} of {names}, got none ({source.path}); add `{key}:` to {field}")
    attributes = {one.name: one.column.attributes for one in parts if one.column.attributes}
    return words | ({"attributes": attributes} if attributes else {})


def _groups(parts: list[Part], start: int, stop: int) -> np.ndarray:
    """A 63-bit group id of each sample, a pure function of the values of its key columns."""
    keys = [one.read(start, stop) for one in parts]
    if len(keys) == 1 and keys[0].dtype.kind in "iu":
        return np.asarray(keys[0], dtype=np.int64)
    return np.array([group_id(row) for row in zip(*keys, strict=True)], dtype=np.int64)


def group_id(row: tuple[object, ...]) -> int:
    """Of the values of the key columns; the same for ever, or events would move between training and test."""
    text = "\x1f".join(str(value) for value in row)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def _block(spec: Json, rows: int) -> Field:
    """Groups of consecutive samples, for sources without a key."""
    size = spec["block"]
    words = {"unit": "1", "long_name": f"block of {size} consecutive samples", **spec}
    return Field(rows, lambda start, stop: np.arange(start, stop, dtype=np.int64) // size, 8.0, words)
