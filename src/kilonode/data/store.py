"""The store, opened: every promise of its index is checked before the first sample is given out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kilonode.cases.contract import Arrays
from kilonode.data import promises, shard
from kilonode.data.columns import Column, columns
from kilonode.data.series import Field
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
        content = read_json(index)
        have = content.get("kilonode_schema") if isinstance(content, dict) else None
        if have != shard.SCHEMA:
            raise DataError(f"expected a store of schema {shard.SCHEMA}, got {have} ({index}); rerun preprocess")
        self.index = promises.sound(content, index)
        self.folder = index.parent
        self.truth = truth
        self.entries = [entry for entry in self.index["shards"] if entry["split"] == split]
        self.fields: Json = {
            name: spec for name, spec in self.index["fields"].items() if truth or not name.startswith(TRUTH)
        }
        found: dict[str, list[Column]] = {}
        self._shared: Arrays = {}
        self._starts = np.concatenate([[0], np.cumsum([entry["rows"] for entry in self.entries])])
        self.rows = int(self._starts[-1])
        for entry in self.entries:
            for kind in ("data", "truth") if truth and "truth" in entry else ("data",):
                for name, column in self._check(entry, kind).items():
                    found.setdefault(name, []).append(column)
        self._fields = {name: Field(parts) for name, parts in found.items()}

    @property
    def stats(self) -> Json:
        """``stats.json``: statistics of the training split."""
        content: Json = read_json(self.folder / "stats.json")
        return content

    def _check(self, entry: Json, kind: str) -> dict[str, Column]:
        """Hold one file against the index; its fields."""
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
            for name, spec in fields.items():
                if spec.get("layout") == "shared" and prefix + name not in self._shared:
                    self._shared[prefix + name] = file[name][()]
            return {prefix + name: column for name, column in columns(file, path, fields).items()}

    def field(self, name: str) -> Field:
        """A field that has a sample axis.

        Raises
        ------
        DataError
            There is no such field here, or it is truth and truth was not asked for.
        """
        if name.startswith(TRUTH) and not self.truth:
            raise DataError(
                f"expected no truth in training, got {name!r} ({self.folder}); truth is for evaluation only"
            )
        if name not in self._fields:
            raise DataError(f"expected a field, got {name!r} ({self.folder}); {near(name, self.fields)}")
        return self._fields[name]

    @property
    def extents(self) -> list[int]:
        """Rows of each shard: no chunk of data goes beyond one."""
        return [entry["rows"] for entry in self.entries]

    def read(self, name: str) -> Any:
        """One field of the whole split, in store order; a shared field as it is."""
        return self._shared[name] if name in self._shared else self.field(name).array

    def take(self, name: str, rows: np.ndarray) -> Any:
        """Chosen rows of one field, in the given order; rows count through all shards of the split."""
        order = np.argsort(rows, kind="stable")
        return self.field(name).take(rows[order])[np.argsort(order)]


def inspect(path: Path) -> Json:
    """Read one shard whole: its hash, which the index beside it must know, its fields and attributes.

    Raises
    ------
    DataError
        The file or any value in it is not what it should be.
    """
    found: Json = {"file": str(path), "sha256": file_digest(path) if path.is_file() else "", "fields": {}}
    promised = promises.of(path) if found["sha256"] else None
    found["index"] = _agrees(path, found["sha256"], promised)  # before HDF5 sees it: damaged files have crashed it
    with shard.opened(path) as file, shard.readable(path):
        if promised is not None:
            promises.hold(file, path, promised)
        found["attributes"] = {key: _plain(value) for key, value in file.attrs.items()}
        for name in shard.names(file, path):
            dataset = file[name]
            if dataset.dtype.kind not in "fiub":
                raise DataError(f"expected numbers in {name!r}, got {dataset.dtype} ({path}); make the file again")
            if problem := shard.unsound(dataset):
                raise DataError(f"{problem} ({path}); make the file again")
            minimum, maximum = shard.extremes(dataset, path)
            found["fields"][name] = {
                "shape": list(dataset.shape),
                "dtype": str(dataset.dtype),
                "unit": str(_plain(dataset.attrs.get("unit", ""))),
                "long_name": str(_plain(dataset.attrs.get("long_name", ""))),
                "minimum": minimum,
                "maximum": maximum,
            }
    return found


def _agrees(path: Path, sha256: str, promised: promises.Promise | None) -> str:
    """What the index says of this file; ``DataError`` if it says otherwise."""
    if promised is None:
        beside = (path.absolute().parent / promises.NAME).exists()
        return "not in the index beside the file" if beside else "no index beside the file"
    if promised.sha256 != sha256:
        raise DataError(
            f"expected SHA-256 {promised.sha256} as in {promised.index}, got {sha256} ({path}); rerun its stage"
        )
    return "as in the index"


def _plain(value: Any) -> Any:
    """An attribute as JSON can say it."""
    value = value.decode() if isinstance(value, bytes) else value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, str | int | float | bool) else str(value)
