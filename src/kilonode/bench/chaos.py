"""Trainings killed at random moments and started again must end with the bits of one that was left alone.

A kill is SIGKILL to one random rank or to all, at a moment of one of three kinds: while the program starts, at any
time of the training, or as soon as a temporary file of a checkpoint is seen. A training that ends before its kill
is compared, and the next one begins.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from kilonode.bench import _launch
from kilonode.bench._training import Training
from kilonode.progress import clock, progress
from kilonode.records import Json, conditions, figure

KINDS = ("start-up", "training", "checkpoint")
SHARES = (1, 4, 5)
"""How often each kind is drawn."""
KILLS_A_RUN = 8
"""About how many kills one training meets before it ends by itself."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--kills", type=int, default=100, metavar="N", help="how many (default 100)")
    parser.add_argument("--ranks", type=int, default=2, metavar="N", help="MPI ranks (default 2)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the moments and victims (default 0)")
    parser.add_argument("--backend", default="horovod", metavar="NAME", help="horovod or mpi4py (default horovod)")
    _launch.case_arguments(parser)


def run(options: argparse.Namespace) -> Json:
    """Kill and compare."""
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="kilonode-chaos-"))
    task = _launch.task_of(options)
    try:
        store = _launch.store_of(options, folder)
        named = ("--case", options.case, "--task", task, "--data", options.data)
        words = ("-m", "kilonode", "train", *named, "--store", store, "--backend", options.backend)
        found = _kill(Training(words, options.ranks), folder, options.kills, random.Random(options.seed))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    whole = conditions(seeds=[options.seed], ranks=options.ranks, backend=options.backend, case=options.case, task=task)
    return {"figures": _figures(found, time.monotonic() - began), "conditions": whole}


def _kill(training: Training, folder: Path, kills: int, chance: random.Random) -> Json:
    """Kill ``kills`` times, and run every training to its end."""
    print("chaos: the undisturbed run", end="", flush=True, file=sys.stderr)
    start = time.monotonic()
    training.undisturbed(folder / "undisturbed")
    print(f" took {clock(time.monotonic() - start)}", file=sys.stderr)
    span = max(0.2, training.seconds_trained / KILLS_A_RUN)
    met: list[Json] = []  # every kill, with the number of its run
    verdicts: list[list[str]] = []  # of every run: how it differs
    state = folder / "run-0"
    for _ in progress(range(kills), kills, "chaos: kills"):
        kind = chance.choices(KINDS, SHARES)[0]
        while (seen := training.until_killed(state, kind, span, chance)) is None:  # it ended first
            verdicts.append(training.differences(state))
            state = folder / f"run-{len(verdicts)}"
        met.append({"run": len(verdicts), **seen})
    if met and met[-1]["run"] == len(verdicts):
        training.finish(state)
        verdicts.append(training.differences(state))
    return {"kills": met, "runs": verdicts}


def _figures(found: Json, seconds: float) -> list[Json]:
    kills, verdicts = found["kills"], found["runs"]
    good, all_of = sum(not verdicts[kill["run"]] for kill in kills), len(kills)
    rows = [
        figure("kills whose run ended bit-identical", good, "kills", target=all_of, met=good == all_of),
        figure("trainings they were spread over", len(verdicts), "runs"),
    ]
    for name, count in sorted(Counter(f"kills while {kill['hit']}" for kill in kills).items()):
        rows.append(figure(name, count, "kills"))
    for name, count in sorted(Counter(f"kills of {kill['victims']}" for kill in kills).items()):
        rows.append(figure(name, count, "kills"))
    broken = sum(kill["half_written"] for kill in kills)
    rows.append(figure("kills that left a half-written checkpoint", broken, "kills"))
    late = sum(kill["left"] for kill in kills)
    rows.append(figure("processes that had to be removed", late, "processes", target=0, met=late == 0))
    rows.append(figure("slowest end after a kill", max((kill["end_s"] for kill in kills), default=None), "s"))
    rows.append(figure("duration", seconds, "s"))
    for number, reasons in enumerate(verdicts):
        if reasons:
            rows.append(figure(f"run {number} differs", None, note="; ".join(reasons)))
    return rows
