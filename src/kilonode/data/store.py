"""The store, opened: every promise of its index is checked before the first sample is given out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kilonode.cases.contract import Arrays
from kilonode.cases.ragged import concatenate
from kilonode.data import shard
from kilonode.data.columns import Column, Fetch, Jagged, Plain, chunks, columns, take
from kilonode.data.shard import TRUTH
from kilonode.data.split import SPLITS
from kilonode.errors import DataError, near
from kilonode.records import Json, file_digest, read_json


class Store:
    """One split of one table, ready for random access.

    Training and tuning open train and validation without truth; only evaluation, explanation and figures ask
    for more, and must say so.

    Parameters
    ----------
    index : Path
        ``index.json`` of the store.
    split : str
        train, validation or test.
    truth : bool
        Whether fields ``truth/...`` may be read.

    Attributes
    ----------
    rows : int
        Samples in the split.
    fields : dict
        Field -> description (shape of one sample, dtype, unit, long_name).

    Raises
    ------
    DataError
        Anything that differs from the index; one line each.
    """

    def __init__(self, index: Path, split: str, truth: bool = False) -> None:
        if split not in SPLITS:
            raise DataError(f"expected a split, got {split!r}; {near(split, SPLITS)}")
        self.index: Json = read_json(index)
        have = self.index.get("kilonode_schema") if isinstance(self.index, dict) else None
        if have != shard.SCHEMA:
            raise DataError(f"expected a store of schema {shard.SCHEMA}, got {have} ({index}); rerun preprocess")
        self.folder = index.parent
        self.truth = truth
        self.entries = [entry for entry in self.index["shards"] if entry["split"] == split]
        self.fields: Json = {
            name: spec for name, spec in self.index["fields"].items() if truth or not name.startswith(TRUTH)
        }
        self._columns: dict[str, list[Column]] = {}
        self._shared: Arrays = {}
        self._starts = np.concatenate([[0], np.cumsum([entry["rows"] for entry in self.entries])])
        self.rows = int(self._starts[-1])
        if self.rows != self.index["rows"][split]:
            want = self.index["rows"][split]
            raise DataError(f"expected {want} rows of {split}, got {self.rows} ({index}); rerun preprocess")
        for entry in self.entries:
            self._check(entry, "data")
            if truth and "truth" in entry:
                self._check(entry, "truth")

    @property
    def stats(self) -> Json:
        """``stats.json``: statistics of the training split."""
        content: Json = read_json(self.folder / "stats.json")
        return content

    def _check(self, entry: Json, kind: str) -> None:
        prefix = TRUTH if kind == "truth" else ""
        path = self.folder / f"{prefix}{entry['file']}"
        size = path.stat().st_size if path.is_file() else 0
        if size != entry[kind]["bytes"]:
            raise DataError(f"expected {entry[kind]['bytes']} bytes, got {size} ({path}); rerun preprocess")
        fields = {
            name.removeprefix(TRUTH): spec
            for name, spec in self.index["fields"].items()
            if name.startswith(TRUTH) == (kind == "truth")
        }
        with shard.opened(path) as file, shard.readable(path):
            if file.attrs.get("identity") != self.index["identity"].encode():
                raise DataError(f"expected a shard of this index, got one of another ({path}); rerun preprocess")
            shard.verify(file, path, fields, entry["rows"])
            for name, column in columns(file, path, fields).items():
                self._columns.setdefault(prefix + name, []).append(column)
            for name, spec in fields.items():
                if spec.get("layout") == "shared" and prefix + name not in self._shared:
                    self._shared[prefix + name] = file[name][()]

    def _field(self, name: str) -> list[Column]:
        if name.startswith(TRUTH) and not self.truth:
            raise DataError(
                f"expected no truth in training, got {name!r} ({self.folder}); truth is for evaluation only"
            )
        if name not in self.fields:
            raise DataError(f"expected a field, got {name!r} ({self.folder}); {near(name, self.fields)}")
        return self._columns.get(name, [])

    @property
    def extents(self) -> list[int]:
        """Rows of each shard: no chunk of data goes beyond one."""
        return [entry["rows"] for entry in self.entries]

    def sample_bytes(self, names: list[str]) -> int:
        """Of these fields of one sample; of ragged fields the mean."""
        found = 0.0
        for name in names:
            plain = [column.values if isinstance(column, Jagged) else column for column in self._field(name)]
            found += sum(float(np.prod(column.shape)) * column.dtype.itemsize for column in plain) / max(self.rows, 1)
        return max(1, int(found))

    def read(self, name: str) -> Any:
        """One field of the whole split, in store order; a shared field as it is."""
        parts = [column.array for column in self._field(name)]
        return concatenate(parts) if parts else self._shared[name]

    def chunks(self, name: str, rows: np.ndarray) -> list[tuple[Plain, int]]:
        """What must be fetched for chosen rows, int64 (B,) rising."""
        return [chunk for column, own, _, _ in self._parts(name, rows) for chunk in chunks(column, own)]

    def gather(self, name: str, rows: np.ndarray, out: np.ndarray | None = None, fetch: Fetch | None = None) -> Any:
        """Chosen rows, int64 (B,) rising, of one field; rows count through all shards of the split.

        ``out`` (B, ...) takes dense fields; chunks come from ``fetch``, by default each when it is needed.
        """
        if self.fields[name].get("layout") == "ragged":
            return concatenate([take(column, own, fetch=fetch) for column, own, _, _ in self._parts(name, rows)])
        if out is None:
            out = np.empty((len(rows), *self.fields[name]["shape"]), self.fields[name]["dtype"])
        for column, own, start, stop in self._parts(name, rows):
            take(column, own, out[start:stop], fetch)
        return out

    def take(self, name: str, rows: np.ndarray) -> Any:
        """Chosen rows of one field, in the given order."""
        order = np.argsort(rows, kind="stable")
        self._field(name)
        return self.gather(name, rows[order])[np.argsort(order)]

    def _parts(self, name: str, rows: np.ndarray) -> Iterator[tuple[Column, np.ndarray, int, int]]:
        """For each shard that holds some of the rows: its column, the rows there, and which of the rows they are."""
        columns, cuts = self._field(name), np.searchsorted(rows, self._starts)
        for number in np.flatnonzero(np.diff(cuts)) if len(rows) else [0]:
            start, stop = int(cuts[number]), int(cuts[number + 1])
            yield columns[number], rows[start:stop] - self._starts[number], start, stop


def inspect(path: Path) -> Json:
    """Read one shard whole: its hash, which the index beside it must know, its fields and attributes.

    Raises
    ------
    DataError
        The file or any value in it is not what it should be.
    """
    found: Json = {"file": str(path), "sha256": file_digest(path) if path.is_file() else "", "fields": {}}
    found["index"] = _agrees(path, found["sha256"])  # before HDF5 sees it: damaged files have crashed it
    with shard.opened(path) as file, shard.readable(path):
        found["attributes"] = {key: _plain(value) for key, value in file.attrs.items()}
        for name in shard.names(file, path):
            dataset = file[name]
            if dataset.dtype.kind not in "fiub":
                raise DataError(f"expected numbers in {name!r}, got {dataset.dtype} ({path}); make the file again")
            values = np.asarray(dataset[()])
            shard.refuse_non_finite(name, values, path)
            found["fields"][name] = {
                "shape": list(dataset.shape),
                "dtype": str(dataset.dtype),
                "unit": str(_plain(dataset.attrs.get("unit", ""))),
                "long_name": str(_plain(dataset.attrs.get("long_name", ""))),
                "minimum": values.min() if values.size else None,
                "maximum": values.max() if values.size else None,
            }
    return found


def _agrees(path: Path, sha256: str) -> str:
    """What the index says of this file; ``DataError`` if it says otherwise."""
    folder = path.absolute().parent
    kind = "truth" if folder.name == TRUTH.rstrip("/") else "data"
    index = (folder.parent if kind == "truth" else folder) / "index.json"
    if not index.is_file() or not sha256:
        return "no index beside the file"
    content = read_json(index)
    for entry in content.get("shards", []) if isinstance(content, dict) else []:
        promised = entry.get(kind, entry).get("sha256")  # raw shards have no truth of their own
        if entry["file"] == path.name and promised:
            if promised != sha256:
                raise DataError(f"expected SHA-256 {promised} as in {index}, got {sha256} ({path}); rerun its stage")
            return "as in the index"
    return "not in the index beside the file"


def _plain(value: Any) -> Any:
    """An attribute as JSON can say it."""
    value = value.decode() if isinstance(value, bytes) else value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, str | int | float | bool) else str(value)
