"""The raw folder that simulate and ingest write and preprocess reads: shards and an index written last."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from kilonode.cases.contract import Tables
from kilonode.comm import Comm
from kilonode.data import promises, shard
from kilonode.data.columns import Column, columns
from kilonode.data.shares import dealt
from kilonode.errors import DataError, UserError, near
from kilonode.progress import progress
from kilonode.records import Json, conditions, digest, file_digest, read_json, write_json

T = TypeVar("T")
Extent = tuple[int, int]
"""What one shard covers: two numbers that ``make`` understands."""
Make = Callable[[int, int], Tables]
"""Extent -> the tables of a shard; must depend on the extent alone."""


def write(
    index: Path,
    what: str,
    extents: Sequence[Extent],
    make: Make,
    tables: Json,
    attributes: Json,
    comm: Comm,
    remarks: Callable[[], Json] = dict,
) -> None:
    """Make the missing shards, share them over ranks round robin, and write the index last.

    A rerun keeps every complete shard of the same attributes and extent: a killed run continues where it was.
    A failure on any rank ends all of them with its message.

    Parameters
    ----------
    index : Path
        ``.../raw/index.json``; shards ``shard_00000.h5 ...`` stand beside it.
    what : str
        For the progress line.
    extents : sequence of pairs of int
        What each shard covers.
    make : callable
        Gives the tables of one shard.
    tables : dict
        Table -> field -> description; empty shapes are taken from the arrays (ingest).
    attributes : dict
        Attributes of every file; with the extent they decide whether an old shard still holds.
    comm : Comm
        The ranks that share the work.
    remarks : callable
        More for the index, asked on all ranks when all shards are there.
    """
    indexed = _indexed(index)

    def complete(number: int) -> Json:
        path = index.parent / f"shard_{number:05d}.h5"
        identity = digest([attributes, tables, extents[number]])
        if not _holds(path, identity, indexed):
            _write_shard(path, make(*extents[number]), tables, {**attributes, "identity": identity.encode()})
        entry = {"file": path.name, "identity": identity, "sha256": file_digest(path)}
        return {**entry, **_describe(path, tables)}

    mine = dealt(len(extents), comm.rank, comm.size)
    shown = progress(mine, len(mine), what, comm.is_root)
    gathered = comm.gather(together(comm, lambda: {number: complete(number) for number in shown}))
    more = remarks()
    if gathered is not None:
        shards = [entry for _, entry in sorted(item for part in gathered for item in part.items())]
        described = shards[0].pop("fields")
        for entry in shards[1:]:
            if entry.pop("fields") != described:
                raise DataError(
                    f"expected the same fields in all shards, got others ({entry['file']}); mend the source"
                )
        content = {"tables": described, "shards": shards, **attributes, **more}
        write_json(index, {**content, "conditions": conditions(seeds=[])})
    comm.barrier()


def together(comm: Comm, work: Callable[[], T]) -> T:
    """Do a rank's share of some work; a ``UserError`` on any rank is raised on all, so that none waits for it."""
    failure = None
    try:
        result = work()
    except UserError as error:
        failure = error
    failures = [error for error in comm.allgather(failure) if error is not None]
    if failures:
        raise failures[0]
    return result


def _indexed(index: Path) -> dict[str, str]:
    """Identity -> hash of every shard of an earlier run; nothing if its index is missing or broken."""
    with suppress(UserError, KeyError, TypeError):
        return {entry["identity"]: entry["sha256"] for entry in read_json(index)["shards"]}
    return {}


def _holds(path: Path, identity: str, indexed: dict[str, str]) -> bool:
    """Whether a complete shard of this identity is there already, with the bytes that its index promises."""
    try:
        with shard.opened(path) as file, shard.readable(path):
            if file.attrs.get("identity") != identity.encode():
                return False
    except DataError:
        return False
    return identity not in indexed or indexed[identity] == file_digest(path)


def _write_shard(path: Path, content: Tables, tables: Json, attributes: Json) -> None:
    arrays, fields = {}, {}
    for table, found in content.items():
        for name, array in found.items():
            shard.refuse_non_finite(f"{table}/{name}", array, path)
            arrays[f"{table}/{name}"] = array
            fields[f"{table}/{name}"] = tables[table][name]
    missing = [f"{t}/{name}" for t, columns in tables.items() for name in columns if f"{t}/{name}" not in arrays]
    if missing:
        raise DataError(f"expected fields {', '.join(missing)}, got none of them ({path}); they are in the description")
    shard.write(path, arrays, fields, attributes)


def _describe(path: Path, tables: Json) -> Json:
    """Rows of each table in a shard, its fields with shapes and types filled in, and elements of ragged fields."""
    rows: dict[str, int] = {}
    fields: Json = {}
    elements: dict[str, int] = {}
    with shard.opened(path) as file, shard.readable(path):
        for table, columns in tables.items():
            fields[table] = {}
            for name, spec in columns.items():
                count, have = _measure(file, f"{table}/{name}", spec)
                for key, value in have.items():
                    if spec.get(key, value) != value:
                        raise DataError(f"expected {table}/{name} of {key} {spec[key]}, got {value} ({path})")
                if count is not None:
                    rows.setdefault(table, count)
                    if count != rows[table]:
                        raise DataError(f"expected {rows[table]} samples in {table}/{name}, got {count} ({path})")
                if spec.get("layout") == "ragged":
                    elements[f"{table}/{name}"] = len(file[f"{table}/{name}/values"])
                fields[table][name] = {**spec, **have}
    return {"rows": rows, "fields": fields, **({"elements": elements} if elements else {})}


def _measure(file: Any, name: str, spec: Json) -> tuple[int | None, Json]:
    """Samples of a field (None: it has no sample axis), and shape and type of one."""
    layout = spec.get("layout", "dense")
    dataset = file[f"{name}/values"] if layout == "ragged" else file[name]
    shape = list(dataset.shape if layout == "shared" else dataset.shape[1:])
    count = {"dense": dataset.shape[0] if dataset.ndim else 0, "shared": None}.get(layout, 0)
    if layout == "ragged":
        count = len(file[f"{name}/offsets"]) - 1
    return count, {"shape": shape, "dtype": str(dataset.dtype)}


class Raw:
    """A raw folder, opened: what its index promises is checked against the files.

    Attributes
    ----------
    fields : dict
        Field -> description, of the chosen table.
    rows : list of int
        Samples of the table in each shard.
    """

    def __init__(self, index: Path, table: str) -> None:
        content = read_json(index)
        if not isinstance(content, dict) or not {"tables", "shards"} <= content.keys():
            raise DataError(f"expected the index of a raw folder, got another file ({index}); check --raw")
        if table not in content["tables"]:
            raise DataError(f"expected a table, got {table!r} ({index}, --table); {near(table, content['tables'])}")
        self.content = promises.sound(content, index)
        self.fields: Json = content["tables"][table]
        self.rows: list[int] = [entry["rows"][table] for entry in content["shards"]]
        self._paths = [index.parent / entry["file"] for entry in content["shards"]]
        self._table = table

    def verify(self, numbers: Iterable[int]) -> None:
        """``DataError`` if a shard has other bytes than the index promises: a killed rerun, a broken disk."""
        for path, want in ((self._paths[k], self.content["shards"][k]["sha256"]) for k in numbers):
            have = file_digest(path) if path.is_file() else "no file"
            if have != want:
                raise DataError(
                    f"expected SHA-256 {want} as in the index, got {have} ({path}); rerun simulate or ingest"
                )

    def columns(self, number: int, names: Iterable[str]) -> dict[str, Column]:
        """Fields of one shard that have a sample axis, ready for random access."""
        path = self._paths[number]
        fields = {name: self.fields[name] for name in names}
        prefix = f"{self._table}/"
        with shard.opened(path) as file, shard.readable(path):
            wrong = shard.problems(file, {f"{prefix}{name}": spec for name, spec in fields.items()}, self.rows[number])
            if wrong:
                raise DataError(*(f"{problem} ({path}); rerun simulate or ingest" for problem in wrong))
            return columns(file, path, fields, prefix)

    def read(self, name: str) -> np.ndarray:
        """One dense field of all shards."""
        return np.concatenate([self.columns(number, [name])[name].array for number in range(len(self.rows))])

    def shared(self, name: str) -> np.ndarray:
        """A field without a sample axis; every shard must hold the same."""
        found = []
        for path in self._paths:
            with shard.opened(path) as file, shard.readable(path):
                found.append(file[f"{self._table}/{name}"][()])
            if not np.array_equal(found[0], found[-1]):
                raise DataError(f"expected {name!r} to be the same in all shards, got others ({path}); mend the source")
        first: np.ndarray = found[0]
        return first

    @property
    def sample_bytes(self) -> int:
        """Of all fields of one sample; of ragged fields the mean."""
        total = 0
        for name, spec in self.fields.items():
            one = np.dtype(spec["dtype"]).itemsize * int(np.prod(spec["shape"]))
            layout = spec.get("layout", "dense")
            if layout == "ragged":
                elements = sum(entry["elements"][f"{self._table}/{name}"] for entry in self.content["shards"])
                total += 8 + one * elements // max(1, sum(self.rows))
            total += one if layout == "dense" else 0
        return total
