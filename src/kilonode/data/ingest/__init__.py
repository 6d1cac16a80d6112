"""Stage ``ingest``: somebody's own files become raw shards. One adapter a format, found by its module name.

An adapter is a module with ``rows(path, tables) -> dict[table, int]`` and
``read(path, spec, start, stop) -> ndarray``: block reads, so that inputs larger than memory stream.
"""

from __future__ import annotations

import hashlib
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np

from kilonode import comm, config
from kilonode.cases.contract import Arrays, Tables
from kilonode.data import raw
from kilonode.data.shard import refuse_non_finite
from kilonode.records import Json, file_digest

SHARD_BYTES = 64 << 20
"""About this much of a table goes into one raw file."""


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
    adapter = import_module(f"{__name__}.{mapping['format']}")
    tables = mapping["tables"]
    rows = adapter.rows(input, tables)
    shards = max(_shards(adapter, input, tables[table], count) for table, count in rows.items())
    groups = {table: _groups(adapter, input, columns["group"], rows[table]) for table, columns in tables.items()}

    def make(number: int, shards: int) -> Tables:
        content: Tables = {}
        for table, columns in tables.items():
            start, stop = (rows[table] * k // shards for k in (number, number + 1))
            content[table] = _columns(adapter, input, columns, start, stop)
            content[table]["group"] = groups[table][start:stop]
            content[table]["sample_id"] = np.arange(start, stop, dtype=np.int64)
        return content

    described = {table: {**columns, "sample_id": _SAMPLE_ID} for table, columns in tables.items()}
    attributes = {
        "case": case,
        "simulated": mapping["simulated"],
        "source": mapping["source"],
        "config": tables,
        "sha256_of_input": ranks.broadcast(file_digest(input) if ranks.is_root else None),
    }
    extents = [(number, shards) for number in range(shards)]
    raw.write(output, f"ingest {input.name}", extents, make, described, attributes, ranks)
    ranks.close()


_SAMPLE_ID = {"unit": "1", "long_name": "row in the source file"}


def _columns(adapter: ModuleType, path: Path, columns: Json, start: int, stop: int) -> Arrays:
    arrays = {name: adapter.read(path, spec, start, stop) for name, spec in columns.items() if name != "group"}
    for name, array in arrays.items():
        refuse_non_finite(columns[name]["dataset"], array, path, start)
    return arrays


def _shards(adapter: ModuleType, path: Path, columns: Json, rows: int) -> int:
    """Files so that each holds about ``SHARD_BYTES``."""
    one = sum(array.nbytes for array in _columns(adapter, path, columns, 0, 1).values())
    return max(1, -(-rows * one // SHARD_BYTES))


def _groups(adapter: ModuleType, path: Path, spec: Json, rows: int) -> np.ndarray:
    """A 63-bit group id of each sample, a pure function of the values of its key columns."""
    parts = [spec["dataset"]] if "dataset" in spec else spec["datasets"]
    keys = [adapter.read(path, {"dataset": part}, 0, rows) for part in parts]
    if len(keys) == 1 and keys[0].dtype.kind in "iu":
        return np.asarray(keys[0], dtype=np.int64)
    return np.array([_group_id(row) for row in zip(*keys, strict=True)], dtype=np.int64)


def _group_id(row: tuple[object, ...]) -> int:
    text = "\x1f".join(str(value) for value in row)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1
