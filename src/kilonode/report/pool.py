"""Several seeds of one task become one row: mean, interval over seeds, and what the bootstrap says beside it."""

from __future__ import annotations

from collections.abc import Sequence

from kilonode import intervals
from kilonode.records import Json

KEY = ("case", "data", "task", "question", "metric", "method", "role", "against")
KEPT = ("about", "unit", "n", "groups", "n_effective")


def pooled(rows: Sequence[Json]) -> list[Json]:
    """One row a (case, data, task, question, metric, method), in the order of the records.

    Parameters
    ----------
    rows : sequence of dict
        Figures of ``evaluate``, each with its ``seed``; an ``interval`` is a bootstrap over groups of test samples.

    Returns
    -------
    list of dict
        ``value`` is the mean over ``seeds``; ``interval`` the 95 % interval of that mean (Student's t, training's
        own chance alone), with one seed that of the bootstrap; ``test_interval`` the mean of the bootstraps' ends
        (the test sample's chance alone); ``cover`` the smallest interval that holds both.
    """
    groups: dict[tuple[str | None, ...], list[Json]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(key) for key in KEY), []).append(row)
    return [_one(dict(zip(KEY, key, strict=True)), found) for key, found in groups.items()]


def _one(named: Json, rows: list[Json]) -> Json:
    values = [row["value"] for row in rows if row["value"] is not None]
    bounds = [row["interval"] for row in rows if row["interval"] and None not in row["interval"]]
    test = [sum(ends) / len(bounds) for ends in zip(*bounds, strict=True)] if bounds else None
    seeds = intervals.student(values)
    over = list(seeds) if seeds else test
    cover = [min(over[0], test[0]), max(over[1], test[1])] if over and test else over
    return {
        **{key: value for key, value in named.items() if value is not None},
        **{key: rows[0][key] for key in KEPT if key in rows[0]},
        "seeds": [row["seed"] for row in rows],
        "value": sum(values) / len(values) if values else None,
        "interval": over,
        "test_interval": test,
        "cover": cover,
    }
