"""A chain of Slurm jobs, one for each count, largest first: each measures its count and gathers what there is."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from kilonode.errors import UserError
from kilonode.records import Json, figure
from kilonode.scaling.plan import Plan


def submit(counts: Sequence[int], options: str, folder: Path, plans: Sequence[Plan]) -> list[Json]:
    """Submit the jobs whose records are missing; each waits for the end of the one before, however it ends.

    Parameters
    ----------
    counts : sequence of int
        Nodes.
    options : str
        Words for sbatch, as in a shell.
    folder : Path
        Of the records, and of what the jobs print.
    plans : sequence of Plan
        All runs.

    Returns
    -------
    list of dict
        A row a job, its number as the value.

    Raises
    ------
    UserError
        No sbatch here, or it refuses.
    """
    if shutil.which("sbatch") is None:
        raise UserError("expected sbatch to submit with, got none on PATH; go to a login node of a Slurm system")
    folder.mkdir(parents=True, exist_ok=True)
    rows, before = [], ""
    for count in sorted(counts, reverse=True):
        own = [one for one in plans if one.nodes == count]
        if all(one.record(folder).exists() for one in own):
            continue
        before = _sbatch(job(count, own[0].ranks // count, shlex.split(options), folder, sys.argv[1:], before))
        rows.append(figure(f"job for {count} nodes", float(before.partition("_")[0]), "job"))
    return rows or [figure("jobs that were needed", 0.0, "jobs", note="every run has its record")]


def job(count: int, per_node: int, options: list[str], folder: Path, words: list[str], before: str) -> list[str]:
    """The sbatch command of one count.

    Parameters
    ----------
    count, per_node : int
        Nodes, and ranks of each.
    options : list of str
        What the user says to sbatch; comes last, so that it wins.
    folder : Path
        Of what the job prints.
    words : list of str
        The command line that submits, ``scaling run ...``.
    before : str
        Number of the job that it waits for, or nothing.
    """
    kept, skip = [], False
    for word in words:
        name = word.partition("=")[0]
        if not skip and name not in ("--nodes", "--submit"):
            kept.append(word)
        skip = not skip and word in ("--nodes", "--submit")
    command = shlex.join([sys.executable, "-m", "kilonode", *kept, "--nodes", str(count)])
    wait = [f"--dependency=afterany:{before}"] if before else []
    head = ["sbatch", "--parsable", "--job-name=kilonode-scaling", f"--nodes={count}", f"--ntasks-per-node={per_node}"]
    return [*head, "--exclusive", f"--output={folder}/job-%j.log", *wait, *options, f"--wrap=exec {command}"]


def _sbatch(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join(done.stderr.split())
        raise UserError(f"expected sbatch to take the job, got {said!r}; mend what it says and submit again")
    return done.stdout.strip().partition(";")[0]
