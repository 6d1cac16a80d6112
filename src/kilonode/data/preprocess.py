"""Stage ``preprocess``: raw shards become the store: split by group, shuffled once, measured, checked.

One table of one data set at a time. The permutation, the shards and the statistics are pure functions of the
raw files, so any number of ranks writes the same bytes; ranks take store shards round robin.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from kilonode import comm, config
from kilonode.cases.ragged import Ragged, concatenate
from kilonode.comm import Comm
from kilonode.data import shard
from kilonode.data.columns import take
from kilonode.data.raw import Raw, together
from kilonode.data.shard import TRUTH
from kilonode.data.shares import dealt
from kilonode.data.split import SPLITS, split
from kilonode.data.stats import Stats, measure_all, merge
from kilonode.data.transform import TRANSFORMS
from kilonode.errors import DataError, near
from kilonode.progress import progress
from kilonode.records import Json, conditions, digest, file_digest, write_json

Fields = dict[str, Any]
"""Field -> ndarray or Ragged."""
SHARD_BYTES = 128 << 20
"""About this much of a split goes into one file: big enough to stream, small enough to share over ranks."""
SHARDS_AT_ONCE = 4
"""A rank sweeps the raw files once for so many of its shards, and holds them in memory."""


def run(case: str, data: str, table: str, raw: Path, output: Path) -> None:
    """Write the store of one table.

    Parameters
    ----------
    case, data : str
        Whose split to use.
    table : str
        The table, as in ``case.yaml`` or the mapping.
    raw : Path
        Index of the raw folder.
    output : Path
        ``.../store/<table>/index.json``; shards stand beside it, those of the truth under ``truth/``.
    """
    ranks = comm.start()
    settings = config.resolve(case, data)
    source = Raw(raw, table)
    together(ranks, lambda: source.verify(dealt(len(source.rows), ranks.rank, ranks.size)))
    plan = _plan(source, source.read("group"), settings["split"])
    storage = settings["storage"]
    identity = digest([source.content["shards"], source.fields, settings["split"], storage, shard.SCHEMA])
    attributes = {
        **{key: source.content[key] for key in ("case", "simulated", "source")},
        "table": table,
        "data": settings["data"],
        "seed": settings["split"]["seed"],
        "identity": identity,
    }
    mine = dealt(len(plan), ranks.rank, ranks.size)
    shown = progress(_gathered(source, plan, mine), len(mine), f"preprocess {table}", ranks.is_root)
    make = partial(_make, source, output.parent, attributes, storage["compression"])
    made = together(ranks, lambda: {number: make(plan[number], arrays) for number, arrays in shown})
    _write_index(output, source, plan, made, attributes, ranks)
    ranks.close()


def _plan(source: Raw, groups: np.ndarray, settings: Json) -> list[Json]:
    """Every store shard: its split, file name and the raw rows it takes, in their shuffled order."""
    stratify = settings.get("stratify")
    if stratify and stratify not in source.fields:
        raise DataError(f"expected a field, got {stratify!r} (split.stratify); {near(stratify, source.fields)}")
    labels = source.read(stratify) if stratify else None
    parts = split(groups, settings["fractions"], settings["seed"], labels)
    plan = []
    for position, name in enumerate(SPLITS):
        rows = np.flatnonzero(np.isin(groups, parts[name]))
        rows = np.random.default_rng([settings["seed"], position]).permutation(rows)
        count = max(1, min(len(rows), -(-len(rows) * source.sample_bytes // SHARD_BYTES)))
        for number, chunk in enumerate(np.array_split(rows, count)):
            plan.append({"split": name, "file": f"{name}-{number:05d}.h5", "rows": chunk, "groups": parts[name]})
    return plan


def _gathered(source: Raw, plan: list[Json], mine: range) -> Iterator[tuple[int, Fields]]:
    """Number and content of each of a rank's store shards; the raw files are swept once for a few of them."""
    for start in range(0, len(mine), SHARDS_AT_ONCE):
        numbers = mine[start : start + SHARDS_AT_ONCE]
        yield from zip(numbers, _take(source, [plan[number]["rows"] for number in numbers]), strict=True)


def _make(source: Raw, folder: Path, attributes: Json, compression: str, planned: Json, arrays: Fields) -> Json:
    """Write one store shard and its truth; its index entry and the statistics of its fields."""
    written = {**attributes, "identity": attributes["identity"].encode()}
    entry: Json = {"file": planned["file"], "split": planned["split"], "rows": len(planned["rows"])}
    for prefix, kept in (("", False), (TRUTH, True)):
        chosen = {n.removeprefix(TRUTH): a for n, a in arrays.items() if n.startswith(TRUTH) == kept}
        if not chosen:
            continue
        path = folder / f"{prefix}{planned['file']}"
        fields = {name: source.fields[f"{prefix}{name}"] for name in chosen}
        shard.write(path, chosen, fields, written | {"split": planned["split"], "truth": kept}, compression)
        entry["truth" if kept else "data"] = {"bytes": path.stat().st_size, "sha256": file_digest(path)}
    if planned["split"] == "train":
        entry["stats"] = _measured(source, arrays)
    return entry


def _measured(source: Raw, arrays: Fields) -> Json:
    """Statistics of everything that may be an input: all but truth, labels and what has no sample axis."""
    found = {}
    for name, array in arrays.items():
        values = array.values if isinstance(array, Ragged) else array
        number = values.dtype.kind == "f" or values.ndim > 1
        if number and not name.startswith(TRUTH) and source.fields[name].get("layout") != "shared":
            found[name] = {kind: measure_all(values, function).to_json() for kind, function in TRANSFORMS.items()}
    return found


def _take(source: Raw, wanted: list[np.ndarray]) -> list[Fields]:
    """Chosen raw rows of all fields, several choices at once, each in its order; every raw file is opened once."""
    fields = [name for name, spec in source.fields.items() if spec.get("layout") != "shared"]
    orders = [np.argsort(rows) for rows in wanted]
    parts: list[dict[str, list[Any]]] = [{name: [] for name in fields} for _ in wanted]
    dense: list[Fields] = [
        {
            name: np.empty((len(rows), *source.fields[name]["shape"]), source.fields[name]["dtype"])
            for name in fields
            if source.fields[name].get("layout") != "ragged"
        }
        for rows in wanted
    ]
    starts = np.concatenate([[0], np.cumsum(source.rows)])
    for number, (start, stop) in enumerate(pairwise(starts)):
        columns = source.columns(number, fields)
        for rows, order, arrays, jagged in zip(wanted, orders, dense, parts, strict=True):
            here = order[slice(*np.searchsorted(rows[order], (start, stop)))]
            for name in fields:
                taken = take(columns[name], rows[here] - start)
                if name in arrays:
                    arrays[name][here] = taken
                else:
                    jagged[name].append(taken)
    shared = {name: source.shared(name) for name in source.fields if name not in fields}
    for order, arrays, jagged in zip(orders, dense, parts, strict=True):
        arrays |= {name: concatenate(found)[np.argsort(order)] for name, found in jagged.items() if found} | shared
    return dense


def _write_index(
    output: Path, source: Raw, plan: list[Json], made: dict[int, Json], attributes: Json, ranks: Comm
) -> None:
    gathered = ranks.gather(made)
    if gathered is None:
        return
    entries = [entry for _, entry in sorted(item for part in gathered for item in part.items())]
    stats = _merged([entry.pop("stats", {}) for entry in entries])
    groups = {planned["split"]: planned["groups"] for planned in plan}
    index = {
        "kilonode_schema": shard.SCHEMA,
        "fields": source.fields,
        "shards": entries,
        "rows": {name: sum(entry["rows"] for entry in entries if entry["split"] == name) for name in SPLITS},
        "groups": groups,
        "split_sha256": digest(groups),
        **attributes,
        "conditions": conditions(seeds=[attributes["seed"]]),
    }
    write_json(output.parent / "stats.json", stats)
    write_json(output, index)


def _merged(parts: list[Json]) -> Json:
    """Statistics of the training split: shards merged in their order, so that the bits never change."""
    total: dict[str, dict[str, Stats]] = {}
    for part in parts:
        for field, kinds in part.items():
            for kind, content in kinds.items():
                here, stats = total.setdefault(field, {}), Stats.from_json(content)
                here[kind] = merge(here[kind], stats) if kind in here else stats
    return {field: {kind: stats.to_json() for kind, stats in kinds.items()} for field, kinds in total.items()}
