"""Many short trials on worker ranks: how busy they are, what a kill costs, and what one Slurm job a trial would give.

One search runs undisturbed; the same one is killed half-way and started again, and must end with the same trials, each
with one result. With ``--slurm`` trials also run as jobs of their own, which needs a Slurm system to submit to. With
``--curves N`` TPE and random search are compared on N seeds, best value after n trials.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from kilonode import config, intervals
from kilonode.bench import _launch
from kilonode.cases import SHORT
from kilonode.errors import UserError
from kilonode.progress import clock
from kilonode.records import Json, complete, conditions, figure, read_json

BUSY, FASTER = 0.95, 5.0
"""Targets: share of the workers' time spent in trials; trials an hour over those of one job a trial."""
SAME = ("fold", "number", "state", "value", "values", "choice")
"""What of a trial must not depend on a kill."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--trials", type=int, default=400, metavar="N", help="how many (default 400)")
    parser.add_argument("--workers", type=int, default=4, metavar="N", help="ranks that run trials (default 4)")
    parser.add_argument("--without-kill", action="store_true", help="leave out the search that is killed")
    parser.add_argument("--slurm", type=int, default=0, metavar="N", help="also N trials as Slurm jobs (default 0)")
    parser.add_argument(
        "--curves", type=int, default=0, metavar="SEEDS", help="compare TPE and random with so many seeds (default 0)"
    )
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw these curves, a PNG file")
    _launch.case_arguments(parser, SHORT)


def run(options: argparse.Namespace) -> Json:
    """Search, kill, search again."""
    if options.figure and not options.curves:
        raise UserError("expected --curves SEEDS, got none (--figure); a figure shows curves")
    folder = Path(tempfile.mkdtemp(prefix="kilonode-tuning-", dir=Path.cwd() if options.slurm else None))
    options.task = options.task or _tunable(options.case, options.data)
    try:
        store = _launch.store_of(options, folder)
        named = ("--case", options.case, "--task", options.task, "--data", options.data, "--store", store)
        words: tuple[object, ...] = ("-m", "kilonode", "tune", *named)
        rows = [] if options.curves else _search(options, words, folder)
        if options.slurm:
            rows += _as_jobs(options, words, folder, rows[0]["value"])
        if options.curves:
            rows += _curves(options, words, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    chosen = {"case": options.case, "task": options.task, "workers": options.workers, "trials": options.trials}
    return {"figures": rows, "conditions": conditions(seeds=list(range(max(1, options.curves))), **chosen)}


def _tunable(case: str, data: str) -> str:
    """The first task that says what may vary."""
    tasks: Json = config.resolve(case, data)["tasks"]
    found = [name for name, task in tasks.items() if task.get("tuning", {}).get("space")]
    if not found:
        raise UserError(f"expected a task with tuning.space, got none ({case}); choose another --case")
    return found[0]


def _search(options: argparse.Namespace, words: tuple[object, ...], folder: Path) -> list[Json]:
    """One search undisturbed, and one killed half-way."""
    many = (*words, "--trials", options.trials)
    seconds = _ended(_started(options, *many, "--folder", folder / "whole"), folder / "whole")
    done = {row["name"]: row["value"] for row in read_json(folder / "whole/best.json")["figures"]}
    rate = 3600 * done["trials"] / seconds
    rows = [
        figure("trials an hour", rate, "1/h"),
        figure("workers busy", done["busy"], target=BUSY, met=done["busy"] >= BUSY),
        *(figure(f"trials {name}", done[f"trials_{name}"]) for name in ("complete", "pruned", "failed")),
        figure("cost", done["cost"], "core h"),
        figure("duration", seconds, "s"),
    ]
    if options.without_kill:
        return rows
    child = _started(options, *many, "--folder", folder / "killed")
    before = _kill_at(child, folder / "killed", options.trials // 2)
    _ended(_started(options, *many, "--folder", folder / "killed"), folder / "killed")
    whole, killed = (
        [{key: trial[key] for key in SAME} for trial in read_json(folder / name / "trials.json")]
        for name in ("whole", "killed")
    )
    lost = options.trials - len({(trial["fold"], trial["number"]) for trial in killed})
    twice = _results(folder / "killed") - len(killed)
    other = sum(a != b for a, b in zip(whole, killed, strict=False))
    return [
        *rows,
        figure("results when it was killed", before),
        figure("trials lost by the kill", lost, target=0, met=lost == 0),
        figure("trials run twice", twice, target=0, met=twice == 0),
        figure("trials that differ from the undisturbed search", other, target=0, met=other == 0),
    ]


def _started(options: argparse.Namespace, *words: object) -> subprocess.Popen[bytes]:
    command = _launch.mpiexec(options.workers + 1, *words)
    return subprocess.Popen(command, env=_launch.environment(), stdout=sys.stderr, start_new_session=True)


def _ended(child: subprocess.Popen[bytes], folder: Path) -> float:
    """Seconds until a search ended, with start-up."""
    start = time.monotonic()
    if child.wait():
        raise RuntimeError(f"a search ended with {child.returncode} ({folder})")
    print(f"tuning: a search took {clock(time.monotonic() - start)}", file=sys.stderr)
    return time.monotonic() - start


def _results(folder: Path) -> int:
    """Results that the journal has been given."""
    path = folder / "state/journal.log"
    return path.read_text().count('"user_attr":{"result":') if path.exists() else 0


def _kill_at(child: subprocess.Popen[bytes], folder: Path, results: int) -> int:
    """SIGKILL to the launcher and all ranks once the journal holds so many results; how many it then has."""
    while _results(folder) < results:
        if child.poll() is not None:
            raise RuntimeError(f"a search ended with {child.returncode} before it was to be killed ({folder})")
        time.sleep(0.05)
    for pid in [*_descendants(child.pid), child.pid]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it died with its parent
    child.wait()
    return _results(folder)


def _descendants(pid: int) -> list[int]:
    """Processes that a process started, and theirs: mpiexec puts ranks into sessions of their own."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = []
    waiting = [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def _as_jobs(options: argparse.Namespace, words: tuple[object, ...], folder: Path, rate: float) -> list[Json]:
    """Trials of the same space as Slurm jobs, one each, none pruned, as many at a time as workers: how many an hour."""
    if shutil.which("sbatch") is None:
        raise UserError(
            "expected sbatch on the PATH, got none (--slurm); start slurm/testbed first, or leave --slurm out"
        )
    command = " ".join([sys.executable, *map(str, words), "--trials 1 --sampler random"])
    seeded = f'{command} --seed "$SLURM_ARRAY_TASK_ID" --folder {folder}/job-"$SLURM_ARRAY_TASK_ID"'
    array = f"--array=1-{options.slurm}%{options.workers}"
    start = time.monotonic()
    subprocess.run(
        ["sbatch", "--wait", "-n", "1", array, f"--output={folder}/%a.log", "--wrap", seeded],
        check=True, stdout=sys.stderr,
    )  # fmt: skip
    alone = 3600 * len(list(folder.glob("job-*/best.json"))) / (time.monotonic() - start)
    faster = rate / alone if alone else None
    return [
        figure("trials an hour, one Slurm job each", alone, "1/h", jobs=options.slurm),
        figure("faster than one job a trial", faster, target=FASTER, met=faster is not None and faster >= FASTER),
    ]


def _curves(options: argparse.Namespace, words: tuple[object, ...], folder: Path) -> list[Json]:
    """Best value after n trials, mean over seeds, of TPE and of random search; and their difference, paired by seed."""
    higher = "target" in config.task(options.case, options.data, options.task)
    best: dict[str, np.ndarray] = {}
    for sampler in ("tpe", "random"):
        curves = []
        for seed in range(options.curves):
            home = folder / f"{sampler}-{seed}"
            chosen = ("--trials", options.trials, "--sampler", sampler, "--seed", seed, "--folder", home)
            _ended(_started(options, *words, *chosen), home)
            curves.append(best_of(read_json(home / "trials.json"), higher))
        best[sampler] = np.array(curves)
    if options.figure:
        from kilonode.tuning import pictures

        what = f"{options.case}/{options.task}, {options.data}: validation {'accuracy' if higher else 'loss'}"
        with complete(options.figure) as temporary:
            pictures.curves(best, what).savefig(temporary, format="png", dpi=110)
    rows = []
    marks = sorted({max(1, round(options.trials * share)) for share in (0.25, 0.5, 0.75, 1.0)})
    for count in marks:
        found = {name: curves[:, count - 1] for name, curves in best.items()}
        for name, values in [*found.items(), ("tpe - random", found["tpe"] - found["random"])]:
            rows.append(figure(f"best of {count}: {name}", float(np.mean(values)), "1", intervals.student(values)))
    return rows


def best_of(trials: list[Json], higher: bool) -> np.ndarray:
    """Best value of the first 1, 2, ... trials; those that were cut short count for nothing."""
    values = [trial["value"] if trial["state"] == "complete" else None for trial in trials if trial["fold"] == 0]
    known = np.array([np.nan if value is None else value for value in values], dtype=float)
    found: np.ndarray = (np.fmax if higher else np.fmin).accumulate(known)
    return found
