"""The raw folder that simulate and ingest write and preprocess reads: shards and an index written last."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import numpy as np

from kilonode.cases.contract import Arrays, Tables
from kilonode.comm import Comm
from kilonode.data import shard
from kilonode.errors import DataError, UserError, near
from kilonode.progress import progress
from kilonode.records import Json, conditions, digest, file_digest, read_json, write_json

T = TypeVar("T")
Extent = tuple[int, int]
"""What one shard covers: two numbers that ``make`` understands."""
Make = Callable[[int, int], Tables]
"""Extent -> the tables of a shard; must depend on the extent alone."""


def write(
    index: Path, what: str, extents: Sequence[Extent], make: Make, tables: Json, attributes: Json, comm: Comm
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
    """
    indexed = _indexed(index)

    def complete(number: int) -> Json:
        path = index.parent / f"shard_{number:05d}.h5"
        identity = digest([attributes, tables, extents[number]])
        if not _holds(path, identity, indexed):
            _write_shard(path, make(*extents[number]), tables, {**attributes, "identity": identity.encode()})
        entry = {"file": path.name, "identity": identity, "sha256": file_digest(path)}
        return {**entry, **_describe(path, tables)}

    mine = range(comm.rank, len(extents), comm.size)
    shown = progress(mine, len(mine), what, comm.is_root)
    gathered = comm.gather(together(comm, lambda: {number: complete(number) for number in shown}))
    if gathered is not None:
        shards = [entry for _, entry in sorted(item for part in gathered for item in part.items())]
        described = shards[0].pop("fields")
        for entry in shards[1:]:
            if entry.pop("fields") != described:
                raise DataError(
                    f"expected the same fields in all shards, got others ({entry['file']}); mend the source"
                )
        write_json(index, {"tables": described, "shards": shards, **attributes, "conditions": conditions(seeds=[])})
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
    for table, columns in content.items():
        for name, array in columns.items():
            shard.refuse_non_finite(f"{table}/{name}", array, path)
            arrays[f"{table}/{name}"] = array
            fields[f"{table}/{name}"] = tables[table][name]
    missing = [f"{t}/{name}" for t, columns in tables.items() for name in columns if f"{t}/{name}" not in arrays]
    if missing:
        raise DataError(f"expected fields {', '.join(missing)}, got none of them ({path}); they are in the description")
    shard.write(path, arrays, fields, attributes)


def _describe(path: Path, tables: Json) -> Json:
    """Rows of each table in a shard, and its fields with shapes and types filled in."""
    rows: dict[str, int] = {}
    fields: Json = {}
    with shard.opened(path) as file, shard.readable(path):
        for table, columns in tables.items():
            fields[table] = {}
            for name, spec in columns.items():
                dataset = file[f"{table}/{name}"]
                have = {"shape": list(dataset.shape[1:]), "dtype": str(dataset.dtype)}
                for key, value in have.items():
                    if spec.get(key, value) != value:
                        raise DataError(f"expected {table}/{name} of {key} {spec[key]}, got {value} ({path})")
                rows.setdefault(table, dataset.shape[0])
                if dataset.shape[0] != rows[table]:
                    raise DataError(
                        f"expected {rows[table]} samples in {table}/{name}, got {dataset.shape[0]} ({path})"
                    )
                fields[table][name] = {**spec, **have}
    return {"rows": rows, "fields": fields}


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
        self.content: Json = content
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

    def read(self, number: int, names: Iterable[str]) -> Arrays:
        """Fields of one shard, whole."""
        path = self._paths[number]
        with shard.opened(path) as file, shard.readable(path):
            arrays: Arrays = {name: file[f"{self._table}/{name}"][()] for name in names}
        for name, array in arrays.items():
            spec = self.fields[name]
            if array.shape != (self.rows[number], *spec["shape"]) or str(array.dtype) != spec["dtype"]:
                raise DataError(
                    f"expected {self._table}/{name} of shape {(self.rows[number], *spec['shape'])}, {spec['dtype']}, "
                    f"got {array.shape}, {array.dtype} ({path}); rerun simulate or ingest"
                )
        return arrays

    def read_all(self, name: str) -> np.ndarray:
        """One field of all shards."""
        return np.concatenate([self.read(number, [name])[name] for number in range(len(self.rows))])
