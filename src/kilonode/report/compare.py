"""Verb ``compare``: two runs side by side, with what differs beyond noise, in settings and in conditions."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scipy import stats

from kilonode.errors import UserError
from kilonode.records import Json, conditions, figure, finite, read_json, write_text
from kilonode.report.contests import outcome
from kilonode.report.pool import KEY, pooled
from kilonode.report.templates import asset, template
from kilonode.report.wording import number, spoken

MADE = ("commit", "host", "cpu", "cores", "time")
TRAINED = ("backend", "mpi", "ranks", "threads")
SET = ("model", "training", "parameters", "rows", "source", "split_sha256")
RULES = {
    "seeds": "both have several seeds: Welch's interval of the difference of two means",
    "bootstrap": "otherwise the bootstrap intervals over test groups: their distances to the ends add in squares, "
    "as if the two were independent; wider than need be where both saw the same test samples. Of few groups it is "
    "marked only if it holds no 0 when it is widened as Student's t asks",
    "none": "no interval on one side: shown, never marked",
}
Run = tuple[str, Json]


def run(runs: list[Path], json_output: bool = False, output: Path | None = None) -> None:
    """Print what differs; with ``output`` also as a page.

    Parameters
    ----------
    runs : list of Path
        Two folders of results, summaries or published records.
    json_output : bool
        One JSON object in the shape of every ``--json``.
    output : Path, optional
        The page (.html).
    """
    first, second = ((str(path), _summary(path)) for path in runs)
    found = compared(first, second)
    if output is not None:
        page = template("compare.html").render(
            **found["conditions"]["compared"],
            rows=found["figures"],
            rules=RULES,
            style=asset("page.css"),
            script=asset("page.js"),
        )
        write_text(output, page)
    print(json.dumps(finite(found), indent=1) if json_output else "\n".join(_text(found)))
    if output is not None and not json_output:
        print(f"page: {output.resolve()}")


def _summary(path: Path) -> Json:
    """The summary a path names: the file, or the only one below a folder."""
    if path.is_dir():
        found = [path / "summary.json"] if (path / "summary.json").exists() else sorted(path.rglob("summary.json"))
        if len(found) != 1:
            several = f"{len(found)}: {', '.join(map(str, found[:3]))}" if found else "none"
            raise UserError(f"expected one summary.json, got {several} ({path}); name the file, or run gather")
        path = found[0]
    content: Json = read_json(path)
    if "runs" not in content or "figures" not in content:
        raise UserError(f"expected a summary of gather, got another record ({path}); name a summary.json")
    return content


def compared(first: Run, second: Run) -> Json:
    """Differences of the second run to the first, in the shape of every ``--json``."""
    sides = [{_key(row): row for row in pooled(content["figures"])} for _, content in (first, second)]
    rows = [_row(sides[0][key], sides[1][key]) for key in sides[0] if key in sides[1]]
    only = [[_named(row) for key, row in side.items() if key not in other] for side, other in (sides, sides[::-1])]
    judged = [row for row in rows if row["rule"] != "none"]
    said = {
        "names": [first[0], second[0]],
        "only": only,
        "settings": _unlike(*_settings(first[1], second[1])),
        "made": _unlike(*(_made(content) for _, content in (first, second))),
        "beyond": sum(row["beyond"] for row in rows),
        "judged": len(judged),
        "by_chance": 0.05 * len(judged),
    }
    return {"bench": "compare", "figures": rows, "conditions": conditions(seeds=[], compared=said)}


def _key(row: Json) -> tuple[Any, ...]:
    return tuple(row.get(key) for key in KEY)


def _named(row: Json) -> str:
    return "/".join(str(row[key]) for key in ("case", "data", "task", "question", "metric", "method"))


def _row(a: Json, b: Json) -> Json:
    """One number of both runs, its difference and whether noise explains it."""
    value = b["value"] - a["value"] if a["value"] is not None and b["value"] is not None else None
    rule, interval = _noise(a, b, value)
    groups = min((side["groups"] for side in (a, b) if side.get("groups")), default=None)
    said = outcome({"value": value, "cover": interval}, 0.0, groups if rule == "bootstrap" else None)
    first, second = ({"value": side["value"], "interval": side["cover"], "seeds": side["seeds"]} for side in (a, b))
    more: Json = {key: a[key] for key in ("case", "data", "task", "question", "metric", "method")}
    more |= {"a": first, "b": second, "beyond": said in ("won", "lost"), "rule": rule}
    return figure(_named(a), value, a["unit"], interval, **more)


def _noise(a: Json, b: Json, value: float | None) -> tuple[str, tuple[float, float] | None]:
    """The interval of a difference, and the rule that gave it (RULES)."""
    if value is None:
        return "none", None
    spreads = [_spread(side) for side in (a, b)]
    if all(spread is not None for spread in spreads):
        return "seeds", _welch(value, [len(side["seeds"]) for side in (a, b)], [spread or 0.0 for spread in spreads])
    if not (a["test_interval"] and b["test_interval"]):
        return "none", None
    (a_low, a_high), (b_low, b_high) = (
        (side["value"] - side["cover"][0], side["cover"][1] - side["value"]) for side in (a, b)
    )
    return "bootstrap", (value - math.hypot(b_low, a_high), value + math.hypot(b_high, a_low))


def _spread(side: Json) -> float | None:
    """Standard error of a mean over seeds, from the interval that Student's t gave it."""
    n = len(side["seeds"])
    if n < 2 or not side["interval"]:
        return None
    return float((side["interval"][1] - side["value"]) / stats.t.ppf(0.975, n - 1))


def _welch(value: float, counts: Sequence[int], spreads: Sequence[float]) -> tuple[float, float]:
    """95 % interval with the degrees of freedom of Welch (1947) and Satterthwaite (1946)."""
    parts = [spread**2 for spread in spreads]
    if not sum(parts):
        return value, value
    freedom = sum(parts) ** 2 / sum(part**2 / (n - 1) for part, n in zip(parts, counts, strict=True))
    half = float(stats.t.ppf(0.975, freedom)) * math.sqrt(sum(parts))
    return value - half, value + half


def _settings(*contents: Json) -> list[Json]:
    """What was asked for, flat: case/data/task/training/lr -> value; of the tasks that all have."""
    flats: list[Json] = []
    tasks = [{_place(one) for one in content["runs"]} for content in contents]
    for content in contents:
        flats.append({})
        for one in content["runs"]:
            if all(_place(one) in having for having in tasks):
                flats[-1] |= _flat({key: one["conditions"].get(key) for key in SET}, _place(one))
    return flats


def _place(one: Json) -> str:
    return "/".join(one[key] for key in ("case", "data", "task"))


def _made(content: Json) -> Json:
    """Where, when and with what: of the gathering, and of each task's training."""
    flat = _flat({key: content["conditions"].get(key) for key in (*MADE, "versions")}, "gather")
    for one in content["runs"]:
        where = f"{_place(one)}/seed {one['seed']}"
        made = one["training"]["conditions"]
        flat |= _flat({key: made.get(key) for key in (*MADE, *TRAINED, "versions")}, where)
    return flat


def _flat(value: Any, where: str) -> Json:
    if not isinstance(value, dict):
        return {where: value}
    return {name: part for key, item in value.items() for name, part in _flat(item, f"{where}/{key}").items()}


def _unlike(a: Json, b: Json) -> list[Json]:
    """Entries that differ, and those that only one has (the other is None)."""
    return [{"name": name, "a": a.get(name), "b": b.get(name)} for name in {**a, **b} if a.get(name) != b.get(name)]


def _text(found: Json) -> list[str]:
    """What the terminal shows: what is beyond noise, then settings and conditions that differ."""
    said = found["conditions"]["compared"]
    a, b = said["names"]
    lines = [
        f"{len(found['figures'])} numbers in both, {said['judged']} with intervals; beyond noise: {said['beyond']} "
        f"(by chance alone about {said['by_chance']:.2g}); second minus first:"
    ]
    for row in found["figures"]:
        if row["beyond"]:
            low, high = row["interval"]
            lines.append(
                f"  {spoken(row['name'])}: {number(row['value'])} [{number(low)}, {number(high)}] ({row['rule']})"
            )
    for name, only in zip((a, b), said["only"], strict=True):
        lines += [f"only in {name}: {len(only)} numbers"] if only else []
    lines += [f"settings: {row['name']}: {row['a']} -> {row['b']}" for row in said["settings"]]
    commits = [row for row in said["made"] if row["name"].startswith("gather/")]
    lines += [f"conditions: {row['name'].removeprefix('gather/')}: {row['a']} -> {row['b']}" for row in commits]
    return lines
