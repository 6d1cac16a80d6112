"""The user's jobs, asked of slurmctld through ``squeue``: no accounting is needed."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass

FIELDS = "%i|%T|%D|%L|%P|%q|%r|%j|%Z"  # the last two may hold anything
PATIENCE_S = 20.0


@dataclass(frozen=True)
class Job:
    """One job as squeue tells it; ``left`` is ``[days-][[hours:]minutes:]seconds`` or a word."""

    id: str
    state: str
    nodes: int
    left: str
    partition: str
    qos: str
    reason: str
    name: str
    folder: str


def jobs() -> tuple[list[Job], str]:
    """Jobs of this user, and why they are not known: empty where they are.

    A missing Slurm, a dead slurmctld and a slow one are answers, not failures: whoever asks has files to read as well.
    """
    if shutil.which("squeue") is None:
        return [], "no squeue here"
    command = ["squeue", "--user", str(os.getuid()), "--noheader", "--format", FIELDS]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except subprocess.TimeoutExpired:
        return [], f"squeue gave no answer in {PATIENCE_S:.0f} s"
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        return [], f"squeue failed: {lines[-1] if lines else f'exit status {done.returncode}'}"
    return [_job(line) for line in done.stdout.splitlines() if line.strip()], ""


def _job(line: str) -> Job:
    id, state, nodes, left, partition, qos, reason, rest = line.split("|", 7)
    name, _, folder = rest.rpartition("|")
    return Job(id, state, int(nodes), left, partition, qos, reason, name, folder)
