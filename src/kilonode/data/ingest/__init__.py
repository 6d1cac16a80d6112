"""Stage ``ingest``: somebody's own files become raw shards. One adapter a format, found by its module name.

``_column.py`` says what an adapter gives, ``_part.py`` how a column is read, ``_fields.py`` and ``_cut.py`` what a
mapping makes of it. Blocks only: inputs larger than memory stream.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import numpy as np

from kilonode import comm, config
from kilonode.cases.contract import Tables
from kilonode.comm import Comm
from kilonode.data import raw
from kilonode.data.ingest._column import readable
from kilonode.data.ingest._fields import Field, fields
from kilonode.data.ingest._part import Source
from kilonode.records import Json, digest, file_digest

SHARD_BYTES = 64 << 20
"""About this much of a table goes into one raw file."""
Remarks = dict[str, dict[str, float]]


def run(case: str, data: str, input: Path, output: Path) -> None:
    """Read ``input`` as the mapping says and write raw shards.

    Parameters
    ----------
    case : str
        The case whose tasks will run on the data.
    data : str
        The mapping file.
    input : Path
        The scientist's file.
    output : Path
        The index to write, ``.../raw/index.json``.
    """
    ranks = comm.start()
    mapping = config.resolve(case, data)["ingest"]
    with opened(input, mapping["format"]) as source:
        tables = fields(source, mapping["tables"])
        attributes = {
            "case": case,
            "simulated": mapping["simulated"],
            "source": mapping["source"],
            "config": mapping["tables"],
            "sha256_of_input": ranks.broadcast(_digest(input) if ranks.is_root else None),
        }
        _write(source, tables, output, attributes, ranks)
    ranks.close()


@contextmanager
def opened(input: Path, format: str) -> Iterator[Source]:
    """A source file, through the adapter of its format; it stays open over all blocks."""
    adapter = import_module(f"{__name__}.{format}")
    manager = adapter.opened(input)
    with readable(input, format):
        columns = manager.__enter__()
    try:
        yield Source(columns, input, format)
    finally:
        manager.__exit__(None, None, None)


def _write(source: Source, tables: dict[str, dict[str, Field]], output: Path, attributes: Json, ranks: Comm) -> None:
    rows = {table: max(field.rows or 0 for field in columns.values()) for table, columns in tables.items()}
    size = {table: sum(field.bytes for field in columns.values()) for table, columns in tables.items()}
    shards = max(1, *(int(-(-rows[table] * size[table] // SHARD_BYTES)) for table in tables))
    shared = dict(source.remarks)
    noticed: dict[int, Remarks] = {}

    def make(number: int, shards: int) -> Tables:
        source.remarks.clear()
        content: Tables = {}
        for table, columns in tables.items():
            start, stop = (rows[table] * k // shards for k in (number, number + 1))
            content[table] = {name: field.read(start, stop) for name, field in columns.items()}
            content[table]["sample_id"] = np.arange(start, stop, dtype=np.int64)
        noticed[number] = dict(source.remarks)
        return content

    def remarks() -> Json:
        """What was noticed in all shards; those that an earlier run made are read again if they may hold any."""
        mine = range(ranks.rank, shards, ranks.size)
        words = [field.described for columns in tables.values() for field in columns.values()]
        telling = any({"fill", "stamp"} & spec.keys() for spec in words)
        raw.together(ranks, lambda: [make(k, shards) for k in mine if telling and k not in noticed])
        parts = {number: part for share in ranks.allgather(noticed) for number, part in share.items()}
        found = _added([shared, *(part for _, part in sorted(parts.items()))])
        if ranks.is_root:
            for field, numbers in sorted(found.items()):
                said = ", ".join(f"{what.replace('_', ' ')} {number:.8g}" for what, number in numbers.items())
                print(f"ingest {source.path.name}: {field}: {said}", file=sys.stderr)
        return {"remarks": found} if found else {}

    described = {table: {name: field.described for name, field in columns.items()} for table, columns in tables.items()}
    for columns in described.values():
        columns["sample_id"] = _SAMPLE_ID
    extents = [(number, shards) for number in range(shards)]
    raw.write(output, f"ingest {source.path.name}", extents, make, described, attributes, ranks, remarks)


_SAMPLE_ID = {"unit": "1", "long_name": "row in the source file"}


def _added(parts: list[Remarks]) -> Remarks:
    """Numbers of all shards, added in their order so that the bits do not depend on the ranks."""
    total: Remarks = {}
    for part in parts:
        for field, numbers in part.items():
            known = total.setdefault(field, {})
            for what, number in numbers.items():
                known[what] = known.get(what, 0) + number
    return total


def _digest(path: Path) -> str:
    """SHA-256 of a file, or of the names and digests of all files in a folder (Zarr)."""
    if not path.is_dir():
        return file_digest(path)
    files = [file for file in path.rglob("*") if file.is_file()]
    return digest({str(file.relative_to(path)): file_digest(file) for file in files})
