"""The store, opened: every promise of its index is checked before the first sample is given out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kilonode.data import shard
from kilonode.data.shard import TRUTH
from kilonode.data.split import SPLITS
from kilonode.errors import DataError, near
from kilonode.records import Json, file_digest, read_json


class Store:
    """One split of one table, memory-mapped.

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
        if self.index.get("kilonode_schema") != shard.SCHEMA:
            have = self.index.get("kilonode_schema")
            raise DataError(f"expected a store of schema {shard.SCHEMA}, got {have} ({index}); rerun preprocess")
        self.folder = index.parent
        self.truth = truth
        self.entries = [entry for entry in self.index["shards"] if entry["split"] == split]
        self.rows = int(self.index["rows"][split])
        self.fields: Json = {
            name: spec for name, spec in self.index["fields"].items() if truth or not name.startswith(TRUTH)
        }
        self._maps: dict[str, list[np.ndarray]] = {}
        self._starts = np.concatenate([[0], np.cumsum([entry["rows"] for entry in self.entries])])
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
        with shard.opened(path) as file:
            shard.verify(file, path, fields, entry["rows"])
            for name in fields:
                self._maps.setdefault(prefix + name, []).append(_mapped(file[name], path))

    def _field(self, name: str) -> list[np.ndarray]:
        if name.startswith(TRUTH) and not self.truth:
            raise DataError(
                f"expected no truth in training, got {name!r} ({self.folder}); truth is for evaluation only"
            )
        if name not in self.fields:
            raise DataError(f"expected a field, got {name!r} ({self.folder}); {near(name, self.fields)}")
        return self._maps[name]

    def read(self, name: str) -> np.ndarray:
        """One field of the whole split, in store order."""
        return np.concatenate(self._field(name))

    def take(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Chosen rows of one field, in the given order; rows count through all shards of the split."""
        maps, spec = self._field(name), self.fields[name]
        taken = np.empty((len(rows), *spec["shape"]), spec["dtype"])
        where = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(where):
            here = where == number
            taken[here] = maps[number][rows[here] - self._starts[number]]
        return taken


def _mapped(dataset: Any, path: Path) -> np.ndarray:
    """The dataset's bytes as a read-only array. Contiguous data is mapped: shuffled rows at memory speed."""
    offset = dataset.id.get_offset()
    if offset is None:  # chunked, filtered or empty
        whole: np.ndarray = dataset[()]
        return whole
    return np.memmap(path, dataset.dtype, "r", offset, dataset.shape)


def inspect(path: Path) -> Json:
    """Read one shard whole: its fields, attributes and hash; the index beside it must agree.

    Raises
    ------
    DataError
        The file or any value in it is not what it should be.
    """
    with shard.opened(path) as file:
        found: Json = {
            "file": str(path),
            "attributes": {key: _plain(value) for key, value in file.attrs.items()},
            "fields": {},
        }
        for name in shard.names(file, path):
            dataset = file[name]
            try:
                values = dataset[()]
            except OSError as error:
                raise DataError(f"expected readable data in {name!r}, got {error} ({path}); rerun its stage") from None
            shard.refuse_non_finite(name, values, path)
            found["fields"][name] = {
                "shape": list(dataset.shape),
                "dtype": str(dataset.dtype),
                "unit": _plain(dataset.attrs.get("unit", "")),
                "long_name": _plain(dataset.attrs.get("long_name", "")),
                "minimum": values.min() if values.size else None,
                "maximum": values.max() if values.size else None,
            }
    found["sha256"] = file_digest(path)
    found["index"] = _agrees(path, found["sha256"])
    return found


def _agrees(path: Path, sha256: str) -> str:
    """What the index says of this file; ``DataError`` if it says otherwise."""
    kind = "truth" if path.parent.name == TRUTH.rstrip("/") else "data"
    folder = path.parent.parent if kind == "truth" else path.parent
    index = folder / "index.json"
    if not index.is_file():
        return "no index beside the file"
    for entry in read_json(index)["shards"]:
        promised = entry.get(kind, entry)
        if entry["file"] == path.name and isinstance(promised, dict):
            if promised["sha256"] != sha256:
                raise DataError(
                    f"expected SHA-256 {promised['sha256']} as in {index}, got {sha256} ({path}); rerun its stage"
                )
            return "as in the index"
    return "not in the index beside the file"


def _plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value.item() if isinstance(value, np.generic) else value
