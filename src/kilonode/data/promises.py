"""What the index of a store or of a raw folder promises of the files beside it, checked before it is believed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from kilonode.data.shard import SCHEMA, TRUTH, names, parts, problems
from kilonode.data.split import SPLITS
from kilonode.errors import DataError
from kilonode.records import Json, digest, read_json

NAME = "index.json"
LAYOUTS = ("dense", "shared", "ragged")


def read(path: Path) -> Json:
    """An index, whole.

    Raises
    ------
    DataError
        It is no index, or contradicts itself; one line for the first thing found.
    """
    content = read_json(path)
    if not _is_ours(content):
        raise DataError(f"expected the index of a store or a raw folder, got another file ({path}); rerun its stage")
    return sound(content, path)


def sound(content: Json, path: Path) -> Json:
    """The content of an index, if it is whole; else as ``read``."""
    for problem in _of_raw(content) if "tables" in content else _of_store(content):
        raise DataError(f"{problem} ({path}); rerun its stage")
    return dict(content)


@dataclass(frozen=True)
class Promise:
    """What an index says of one file.

    Attributes
    ----------
    index : Path
        Which index.
    sha256 : str
        Of the whole file.
    identity : str
        What the file's attribute of that name must be.
    tables : dict
        Prefix of the datasets -> their descriptions and the number of samples; a store has one prefix, nothing.
    """

    index: Path
    sha256: str
    identity: str
    tables: dict[str, tuple[Json, int]]


def of(file: Path) -> Promise | None:
    """What the index beside a file says of it; None where it says nothing.

    Raises
    ------
    DataError
        The index is broken.
    """
    folder = file.absolute().parent
    kind = "truth" if folder.name == TRUTH.rstrip("/") else "data"
    path = (folder.parent if kind == "truth" else folder) / NAME
    if not path.exists() or not _is_ours(read_json(path)):  # others have files of that name, too
        return None
    content = read(path)
    entry = next((entry for entry in content["shards"] if entry["file"] == file.name), None)
    if entry is None or ("fields" in content and kind not in entry):
        return None
    if "tables" in content:
        tables = {f"{table}/": (fields, entry["rows"][table]) for table, fields in content["tables"].items()}
        return Promise(path, entry["sha256"], entry["identity"], tables)
    fields = {
        name.removeprefix(TRUTH): spec
        for name, spec in content["fields"].items()
        if name.startswith(TRUTH) == (kind == "truth")
    }
    return Promise(path, entry[kind]["sha256"], content["identity"], {"": (fields, entry["rows"])})


def hold(file: h5py.File, path: Path, promised: Promise) -> None:
    """Hold an open file against what its index says of it.

    Raises
    ------
    DataError
        Everything that differs, one line each.
    """
    if file.attrs.get("identity") != promised.identity.encode():
        raise DataError(f"expected a file of {promised.index}, got one of another ({path}); rerun its stage")
    described = {
        f"{prefix}{name}": (spec, rows)
        for prefix, (fields, rows) in promised.tables.items()
        for name, spec in fields.items()
    }
    expected = {part for name, (spec, _) in described.items() for part in parts(name, spec)}
    found = [f"expected no dataset {name!r}, got one" for name in names(file, path) if name not in expected]
    for name, (spec, rows) in described.items():
        found += problems(file, {name: spec}, rows)
    if found:
        raise DataError(*sorted(f"{problem} ({path}); rerun its stage" for problem in found))


def _of_store(content: Json) -> Iterator[str]:
    if content.get("kilonode_schema") != SCHEMA:
        yield f"expected a store of schema {SCHEMA}, got {_short(content.get('kilonode_schema'))}"
    if not isinstance(content.get("identity"), str):
        yield f"expected an identity, got {_short(content.get('identity'))}"
    yield from _of_fields(content.get("fields"))
    yield from _of_entries(content.get("shards"))
    rows = content.get("rows")
    for split in SPLITS:
        have = sum(entry["rows"] for entry in content["shards"] if entry["split"] == split)
        want = rows.get(split, 0) if isinstance(rows, dict) else None
        if want != have:
            yield f"expected {have} rows of {split} as its shards have, got {_short(want)}"
    yield from _of_groups(content)


def _of_fields(fields: Any) -> Iterator[str]:
    if not isinstance(fields, dict) or not fields:
        yield f"expected fields, got {_short(fields)}"
    for name, spec in fields.items():
        if not isinstance(spec, dict) or not _is_type(spec.get("dtype")):
            yield f"expected a type of numbers for field {name!r}, got {_short(spec)}"
        if not isinstance(spec.get("shape"), list) or not all(_is_count(k) for k in spec["shape"]):
            yield f"expected a shape for field {name!r}, got {_short(spec.get('shape'))}"
        if spec.get("layout", "dense") not in LAYOUTS:
            yield f"expected a layout of {', '.join(LAYOUTS)} for field {name!r}, got {_short(spec['layout'])}"


def _of_entries(entries: Any) -> Iterator[str]:
    if not isinstance(entries, list) or not entries:
        yield f"expected shards, got {_short(entries)}"
    for entry in entries:
        yield from _of_file(entry)
        if entry.get("split") not in SPLITS:
            yield f"expected a split of {', '.join(SPLITS)}, got {_short(entry.get('split'))} for {entry['file']}"
        if not _is_count(entry.get("rows")):
            yield f"expected rows of {entry['file']}, got {_short(entry.get('rows'))}"
        for kind in ("data", "truth"):
            promised = entry.get(kind, {} if kind == "data" else None)
            if promised is None:
                continue
            if not isinstance(promised, dict) or not _is_count(promised.get("bytes")) or not _is_hash(promised):
                yield f"expected size and SHA-256 of {entry['file']}, got {_short(promised)}"
    files = [entry["file"] for entry in entries]
    if len(set(files)) < len(files):
        yield "expected every shard once, got one twice"


def _of_file(entry: Any) -> Iterator[str]:
    name = entry.get("file") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name):
        yield f"expected the name of a file beside the index, got {_short(name)}"


def _of_groups(content: Json) -> Iterator[str]:
    groups = content.get("groups", {})
    lists = groups.values() if isinstance(groups, dict) else [None]
    if not all(isinstance(part, list) and all(isinstance(k, int | float | str) for k in part) for part in lists):
        yield f"expected groups of each split, got {_short(groups)}"
    for one, other in combinations(sorted(groups), 2):
        both = set(groups[one]) & set(groups[other])
        if both:
            yield f"expected no group in two splits, got {len(both)} in {one} and {other}, such as {min(both, key=str)}"
    if "groups" in content and digest(groups) != content.get("split_sha256", digest(groups)):
        yield "expected the groups of split_sha256, got others"


def _of_raw(content: Json) -> Iterator[str]:
    if not isinstance(content["tables"], dict) or not content["tables"]:
        yield f"expected tables, got {_short(content['tables'])}"
    for fields in content["tables"].values():
        yield from _of_fields(fields)
    if not isinstance(content.get("shards"), list) or not content["shards"]:
        yield f"expected shards, got {_short(content.get('shards'))}"
    for entry in content["shards"]:
        yield from _of_file(entry)
        rows = entry.get("rows")
        if not isinstance(rows, dict) or not all(_is_count(rows.get(table)) for table in content["tables"]):
            yield f"expected rows of each table of {entry['file']}, got {_short(rows)}"
        if not _is_hash(entry):
            yield f"expected SHA-256 of {entry['file']}, got {_short(entry.get('sha256'))}"
        if not isinstance(entry.get("identity"), str):
            yield f"expected an identity of {entry['file']}, got {_short(entry.get('identity'))}"


def _is_ours(content: Any) -> bool:
    return isinstance(content, dict) and not {"fields", "tables", "kilonode_schema", "identity"}.isdisjoint(content)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _is_hash(promised: Json) -> bool:
    return isinstance(promised.get("sha256"), str) and bool(re.fullmatch("[0-9a-f]{64}", promised["sha256"]))


def _is_type(name: Any) -> bool:
    try:
        return isinstance(name, str) and np.dtype(name).kind in "fiub"
    except (TypeError, ValueError, SyntaxError):
        return False


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
