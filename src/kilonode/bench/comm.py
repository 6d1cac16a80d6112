"""Horovod against plain MPI, against no Horovod, and ranks against threads, on this machine.

Every part runs in processes of its own, started with mpiexec; what is compared takes turns.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from kilonode import config
from kilonode.bench import _launch
from kilonode.bench._measure import median, ratio
from kilonode.comm import CROWDED_CYCLE_MS, CYCLE_MS
from kilonode.progress import progress
from kilonode.records import Json, conditions, figure

SIZES = (4_000, 64_000, 10**6, 4 * 10**6, 25 * 10**6, 64 * 10**6)
JUDGED = 25 * 10**6
WITHIN, OVERHEAD, TWO_BY_ONE = 1.10, 0.02, 0.95


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--rounds", type=int, default=31, metavar="N", help="turns of every comparison (default 31)")
    parser.add_argument("--starts", type=int, default=4, metavar="N", help="starts of each side of ranks x threads")
    parser.add_argument("--steps", type=int, default=10, metavar="N", help="optimiser steps a turn (default 10)")
    _launch.case_arguments(parser)


def run(options: argparse.Namespace) -> Json:
    """Measure all four."""
    folder = Path(tempfile.mkdtemp(prefix="kilonode-comm-"))
    task = _launch.task_of(options)
    plan: Json = {"case": options.case, "task": task, "data": options.data, "rounds": options.rounds}
    try:
        plan |= {"store": str(_launch.store_of(options, folder))}
        plan |= {"model": config.task(options.case, "article", task)["model"], "steps": options.steps, "threads": 1}
        rows = [
            *_allreduce(options.rounds),
            *_initialised(plan),
            *_overlap(plan),
            *_ranks_and_threads({**plan, "rounds": 5}, options.starts),
        ]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {"figures": rows, "conditions": conditions(seeds=[0], case=options.case, task=task)}


def _ask(ranks: int, what: str, plan: Json, launcher: bool = True, **settings: str) -> Any:
    """What ``_ranks`` measured, with these variables of its environment."""
    words = ("-m", "kilonode.bench._ranks", what, json.dumps(plan))
    command = _launch.mpiexec(ranks, *words)
    printed = _launch.output(command if launcher else command[3:], timeout_s=900, **settings)
    return json.loads(printed.splitlines()[-1])


def _allreduce(rounds: int) -> list[Json]:
    """Each size as where Horovod's thread has a CPU of its own, as here where nothing is computed; one also crowded."""
    rows = []
    for size, times in _ask(2, "allreduce", {"sizes": SIZES, "rounds": rounds}, HOROVOD_CYCLE_TIME=CYCLE_MS).items():
        for side in ("horovod", "mpi4py"):
            value, interval = median(np.asarray(times[side]) * 1e3)
            rows.append(figure(f"allreduce {label(int(size))}, {side}", value, "ms", interval))
        value, interval = ratio(times["horovod"], times["mpi4py"])
        target, met = (WITHIN, value <= WITHIN) if int(size) == JUDGED else (None, None)
        rows.append(figure(f"allreduce {label(int(size))}, horovod over mpi4py", value, "1", interval, target, met))
    plan = {"sizes": [JUDGED], "rounds": rounds}
    (times,) = _ask(2, "allreduce", plan, HOROVOD_CYCLE_TIME=CROWDED_CYCLE_MS).values()
    value, interval = ratio(times["horovod"], times["mpi4py"])
    name = f"allreduce {label(JUDGED)}, horovod over mpi4py, cycle of {CROWDED_CYCLE_MS} ms"
    return [*rows, figure(name, value, "1", interval)]


def label(size: int) -> str:
    """4 KB, 25 MB."""
    return f"{size // 1000} KB" if size < 10**6 else f"{size // 10**6} MB"


def _initialised(plan: Json) -> list[Json]:
    rows = []
    for threads in (1, 2):
        times = _ask(1, "initialised", {**plan, "threads": threads})
        value, interval = ratio(times["with"], times["without"])
        name = f"one rank, {threads} threads: time lost by initialising Horovod"
        around = (interval[0] - 1, interval[1] - 1)
        rows.append(figure(name, value - 1, "1", around, OVERHEAD, met=value - 1 <= OVERHEAD))
    return rows


def _overlap(plan: Json) -> list[Json]:
    times = _ask(2, "overlap", plan)
    joined, without, alone = (
        np.asarray(times[name]) / plan["steps"] * 1e3
        for name in ("steps with reductions", "steps without", "reductions alone")
    )
    rows = [
        figure(f"2 ranks, {name}", *_with_unit(values))
        for name, values in (
            ("a step", joined),
            ("a step without its reductions", without),
            ("the reductions of a step alone", alone),
        )
    ]
    hidden, interval = median(1 - np.clip(joined - without, 0, None) / alone)
    rows.append(figure("2 ranks, share of the reductions hidden behind computing", hidden, "1", interval))
    rows.append(figure("2 ranks, parameters reduced", times["parameters"][0]))
    return rows


def _with_unit(values: np.ndarray) -> tuple[float, str, tuple[float, float]]:
    value, interval = median(values)
    return value, "ms", interval


def _ranks_and_threads(plan: Json, starts: int) -> list[Json]:
    """2 ranks x 1 thread against 1 rank x 2 threads: processes of their own, one start of each in turns."""
    found: dict[str, list[float]] = {"2x1": [], "1x2": []}
    for _ in progress(range(starts), starts, "comm: 2 x 1 against 1 x 2"):
        found["2x1"] += _ask(2, "throughput", {**plan, "threads": 1})
        found["1x2"] += _ask(1, "throughput", {**plan, "threads": 2}, launcher=False)
    rows = []
    for name, words in (("2x1", "2 ranks x 1 thread"), ("1x2", "1 rank x 2 threads")):
        value, interval = median(found[name])
        rows.append(figure(words, value, "samples/s", interval))
    value, interval = ratio(found["2x1"], found["1x2"])
    rows.append(
        figure("2 ranks x 1 thread over 1 rank x 2 threads", value, "1", interval, TWO_BY_ONE, met=value >= TWO_BY_ONE)
    )
    return rows
