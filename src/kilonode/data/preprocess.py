"""Stage ``preprocess``: raw shards become the store: split by group, shuffled once, measured, checked.

One table of one data set at a time. The permutation, the shards and the statistics are pure functions of the
raw files, so any number of ranks writes the same bytes; ranks take store shards round robin.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kilonode import comm, config
from kilonode.cases.contract import Arrays
from kilonode.comm import Comm
from kilonode.data import shard
from kilonode.data.raw import Raw, together
from kilonode.data.shard import TRUTH
from kilonode.data.split import SPLITS, split
from kilonode.data.stats import Stats, measure, merge
from kilonode.data.transform import TRANSFORMS
from kilonode.errors import DataError, near
from kilonode.progress import progress
from kilonode.records import Json, conditions, digest, file_digest, write_json

SHARD_BYTES = 128 << 20
"""About this much of a split goes into one file: big enough to stream, small enough to share over ranks."""


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
    together(ranks, lambda: source.verify(range(ranks.rank, len(source.rows), ranks.size)))
    plan = _plan(source, source.read_all("group"), settings["split"])
    identity = digest([source.content["shards"], source.fields, settings["split"], shard.SCHEMA])
    attributes = {
        **{key: source.content[key] for key in ("case", "simulated", "source")},
        "table": table,
        "data": settings["data"],
        "seed": settings["split"]["seed"],
        "identity": identity,
    }
    mine = range(ranks.rank, len(plan), ranks.size)
    shown = progress(mine, len(mine), f"preprocess {table}", ranks.is_root)
    made = together(ranks, lambda: {k: _make(source, plan[k], output.parent, attributes) for k in shown})
    _write_index(output, source, plan, made, attributes, ranks)
    ranks.close()


def _plan(source: Raw, groups: np.ndarray, settings: Json) -> list[Json]:
    """Every store shard: its split, file name and the raw rows it takes, in their shuffled order."""
    stratify = settings.get("stratify")
    if stratify and stratify not in source.fields:
        raise DataError(f"expected a field, got {stratify!r} (split.stratify); {near(stratify, source.fields)}")
    labels = source.read_all(stratify) if stratify else None
    parts = split(groups, settings["fractions"], settings["seed"], labels)
    sample_bytes = sum(
        np.dtype(spec["dtype"]).itemsize * int(np.prod(spec["shape"])) for spec in source.fields.values()
    )
    plan = []
    for position, name in enumerate(SPLITS):
        rows = np.flatnonzero(np.isin(groups, parts[name]))
        rows = np.random.default_rng([settings["seed"], position]).permutation(rows)
        count = max(1, min(len(rows), -(-len(rows) * sample_bytes // SHARD_BYTES)))
        for number, chunk in enumerate(np.array_split(rows, count)):
            plan.append({"split": name, "file": f"{name}-{number:05d}.h5", "rows": chunk, "groups": parts[name]})
    return plan


def _make(source: Raw, planned: Json, folder: Path, attributes: Json) -> Json:
    """Write one store shard and its truth; its index entry and the statistics of its fields."""
    arrays = _take(source, planned["rows"])
    written = {**attributes, "identity": attributes["identity"].encode()}
    entry: Json = {"file": planned["file"], "split": planned["split"], "rows": len(planned["rows"])}
    for prefix, kept in (("", False), (TRUTH, True)):
        chosen = {n.removeprefix(TRUTH): a for n, a in arrays.items() if n.startswith(TRUTH) == kept}
        if not chosen:
            continue
        path = folder / f"{prefix}{planned['file']}"
        fields = {name: source.fields[f"{prefix}{name}"] for name in chosen}
        shard.write(path, chosen, fields, written | {"split": planned["split"], "truth": kept})
        entry["truth" if kept else "data"] = {"bytes": path.stat().st_size, "sha256": file_digest(path)}
    entry["stats"] = {
        name: {transform: measure(function(array)).to_json() for transform, function in TRANSFORMS.items()}
        for name, array in arrays.items()
        if planned["split"] == "train" and (array.dtype.kind == "f" or array.ndim > 1) and not name.startswith(TRUTH)
    }
    return entry


def _take(source: Raw, rows: np.ndarray) -> Arrays:
    """Chosen raw rows of all fields, in the given order; whole raw files are read one after another."""
    taken = {name: np.empty((len(rows), *spec["shape"]), spec["dtype"]) for name, spec in source.fields.items()}
    starts = np.concatenate([[0], np.cumsum(source.rows)])
    for number in range(len(source.rows)):
        here = (rows >= starts[number]) & (rows < starts[number + 1])
        if here.any():
            for name, array in source.read(number, source.fields).items():
                taken[name][here] = array[rows[here] - starts[number]]
    return taken


def _write_index(
    output: Path, source: Raw, plan: list[Json], made: dict[int, Json], attributes: Json, ranks: Comm
) -> None:
    gathered = ranks.gather(made)
    if gathered is None:
        return
    entries = [entry for _, entry in sorted(item for part in gathered for item in part.items())]
    stats = _merged([entry.pop("stats") for entry in entries])
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
