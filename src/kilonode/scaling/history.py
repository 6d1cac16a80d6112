"""Has it become slower? Holds a training's rate against earlier ones of the same work on the same kind of host."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import stdtrit

from kilonode import config
from kilonode.errors import UserError
from kilonode.records import Json, conditions, figure, read_json, write_text

EXAMPLES = """A record is added to the file, with whether it was a regression; no later one is held against those.
Host type: processor, cores, nodes, ranks, threads, precision; work: case, task, data.

examples:
  kilonode scaling history results/CASE/demo/TASK/seed-0/metrics.json
  kilonode scaling history metrics.json --file scaling.jsonl --strict      exit 1 if it is slower than chance allows
"""
SCATTER, WEIGHT = 0.03, 3
"""Relative scatter of equal runs that is assumed with the weight of so many runs, before there are enough: public
curves scatter by 1 to 2 %, three runs of one MLPerf configuration by 7 %."""
CHANCE = 0.01
"""Of being flagged without being slower."""
LAST = 30
"""Earlier records that count."""
HOST = ("cpu", "cores", "nodes", "ranks", "threads", "precision", "device")
WORK = ("--case", "--task", "--data")


@dataclass(frozen=True)
class Change:
    """Now over before, less one: ``value``, its 98 % interval, and whether all of that is below zero."""

    value: float
    interval: tuple[float, float]

    @property
    def is_regression(self) -> bool:
        """Slower than chance allows."""
        return self.interval[1] < 0


def change(before: Sequence[float], now: float) -> Change:
    """A rate against those of earlier runs.

    Logarithms of rates scatter normally from run to run, ``s^2 = (n0 s0^2 + sum (y - mean)^2) / (n0 + n - 1)``; the
    difference to their mean then has Student's distribution with ``n0 + n - 1`` degrees and width ``s sqrt(1 + 1/n)``.

    Parameters
    ----------
    before : sequence of float
        Rates of at least one earlier run, samples/s.
    now : float
        The rate to judge, samples/s.
    """
    logs = np.log(np.asarray(before, dtype=np.float64))
    degrees = WEIGHT + len(logs) - 1
    scatter = math.sqrt((WEIGHT * SCATTER**2 + ((logs - logs.mean()) ** 2).sum()) / degrees)
    difference = math.log(now) - float(logs.mean())
    reach = float(stdtrit(degrees, 1 - CHANCE)) * scatter * math.sqrt(1 + 1 / len(logs))
    return Change(math.expm1(difference), (math.expm1(difference - reach), math.expm1(difference + reach)))


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("record", type=Path, help="metrics.json of a training")
    where = Path("results/scaling/history.jsonl")
    parser.add_argument("--file", type=Path, default=where, metavar="PATH", help=f"default {where}")


def run(options: argparse.Namespace) -> Json:
    """Judge a record and add it; the same record is judged again and not added twice."""
    entry, earlier, found = _judged(options.record, options.file)
    rows = [figure("rate", entry["rate"], "samples/s"), figure("earlier records of this kind", earlier)]
    if found is not None:
        note = "slower than chance allows" if found.is_regression else "within what runs differ by, or faster"
        rows.append(figure("change", found.value, "1", found.interval, 0.0, not found.is_regression, note=note))
    return {"figures": rows, "conditions": conditions(seeds=[0])}


def remember(record: Path, file: Path) -> Change | None:
    """Judge a record and add it; None where it is the first of its kind."""
    return _judged(record, file)[2]


def _judged(path: Path, file: Path) -> tuple[Json, int, Change | None]:
    """The record's line, which is in the file now; how many earlier ones it was held against, and what came out."""
    record = read_json(path)
    config.check(record, config.schema("bench"), path)
    entry = entry_of(record, path)
    earlier = [one for one in _entries(file) if one["time"] != entry["time"] or one["kind"] != entry["kind"]]
    before = [one["rate"] for one in earlier if one["kind"] == entry["kind"] and not one["regression"]][-LAST:]
    found = change(before, entry["rate"]) if before else None
    entry["regression"] = found is not None and found.is_regression
    write_text(file, "".join(json.dumps(one, sort_keys=True) + "\n" for one in [*earlier, entry]))
    return entry, len(before), found


def entry_of(record: Json, where: Path) -> Json:
    """A line of the history: what kind of run, when, how fast.

    Raises
    ------
    UserError
        The record has no rate.
    """
    rate = {row["name"]: row["value"] for row in record["figures"]}.get("samples_per_s")
    if not rate or rate < 0:
        raise UserError(f"expected samples_per_s in a record of training, got {rate} ({where}); give metrics.json")
    under = record["conditions"]
    kind = {**{name: under.get(name) for name in HOST}, **_work(under)}
    return {"kind": kind, "time": under["time"], "commit": under["commit"], "rate": rate, "regression": False}


def _work(under: Json) -> Json:
    """What was trained: as a measured training says it, else from the command of the training stage."""
    if "mode" in under:
        return {f"--{name}": under.get(name) for name in ("case", "task", "data", "mode", "input", "batch")}
    words = str(under.get("command", "")).split()
    return {name: words[words.index(name) + 1] if name in words[:-1] else None for name in WORK}


def _entries(path: Path) -> list[Json]:
    """What the history holds; nothing where there is none yet."""
    if not path.exists():
        return []
    try:
        entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if not all({"kind", "time", "rate", "regression"} <= set(one) for one in entries):
            raise ValueError("a line without kind, time, rate or regression")
    except (ValueError, TypeError) as error:
        raise UserError(f"expected a history of trainings, got {error} ({path}); mend it or move it away") from None
    return entries
