"""The head of a workflow: Snakemake, alone in its folder: ``python -m kilonode.slurm.head [snakemake's words]``.

Snakemake locks its folder, but a head that was killed leaves the lock behind and waits for a person to take it away.
Here the lock says whose it is, so that a second head is refused while the first lives, and a dead one is succeeded:
what it left running, steps of this allocation or jobs of its own, is asked to save itself, ended, and only then is the
work taken up.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from kilonode.errors import EXIT_USER, UserError

LOCK, SNAKEMAKE_LOCKS = Path(".snakemake/kilonode-head.json"), Path(".snakemake/locks")
SAVE_S, END_S = 60.0, 5.0
"""What a dead head left running has so long to save itself and end, and so long after a signal that ends it."""
MARK = "KILONODE_HEAD"
"""Variable by which a process is known as begun by a head."""
RUN_NAME = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""Snakemake's executor names the jobs of a run by a UUID."""


@dataclass(frozen=True)
class Head:
    """Who works in a folder.

    Attributes
    ----------
    host : str
        Where.
    pid, start : int
        Which process; its start, in ticks after boot, tells it from a later one with its number.
    job, restarts : str
        Of Slurm: the job, and how often it had been started again. Empty outside.
    """

    host: str
    pid: int
    start: int
    job: str
    restarts: str

    @property
    def mark(self) -> bytes:
        """What the environment of everything that it begins holds."""
        return f"{MARK}={self.host}.{self.pid}.{self.start}".encode()


def me(environment: Mapping[str, str]) -> Head:
    """The head that this process is."""
    job, restarts = environment.get("SLURM_JOB_ID", ""), environment.get("SLURM_RESTART_COUNT", "0")
    return Head(platform.node(), os.getpid(), started(os.getpid()), job, restarts)


def started(pid: int) -> int:
    """When a process of this host began, in ticks after boot; -1: there is none."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rsplit(")", 1)[1].split()
        return -1 if fields[0] in "ZX" else int(fields[19])
    return -1


def state_of(job: str) -> str:
    """A job's state, empty if Slurm knows it no more, ``unknown`` where Slurm does not answer."""
    command = ["squeue", "--noheader", "--jobs", job, "--format", "%T"]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode == 0 or "Invalid job id" in done.stderr:
            return done.stdout.strip()
    return "unknown"


def lives(
    other: Head, mine: Head, begun: Callable[[int], int] = started, state: Callable[[str], str] = state_of
) -> str:
    """Why another head must be taken to be alive; empty: it is dead.

    Parameters
    ----------
    other, mine : Head
        Who is in the lock, and who asks.
    begun, state : callable
        When a process of this host began; the state of a job.
    """
    if other.job and other.job == mine.job and other.restarts != mine.restarts:
        return ""  # Slurm ends a job before it starts it again
    if other.host == mine.host:
        return f"process {other.pid}" if begun(other.pid) == other.start else ""
    if not other.job:
        return f"process {other.pid} of {other.host}, which cannot be asked from here"
    now = state(other.job)
    return f"job {other.job}, {now}" if now not in ("", "PENDING") else ""


def take(folder: Path, mine: Head) -> Head | None:
    """Become the head of a folder; whom this one succeeds, or None.

    Raises
    ------
    UserError
        Another head lives.
    """
    lock = folder / LOCK
    lock.parent.mkdir(parents=True, exist_ok=True)
    own = lock.with_name(f"{lock.name}.{mine.host}.{mine.pid}")
    own.write_text(json.dumps(asdict(mine)))
    try:
        with contextlib.suppress(FileExistsError):
            os.link(own, lock)  # atomic, on shared file systems too
            return None
        other = _read(lock)
        if why := lives(other, mine) if other else "":
            raise UserError(
                f"expected no other head in this folder, got {why} ({lock}); wait for it, or remove that file"
            )
        own.replace(lock)
        return other
    finally:
        own.unlink(missing_ok=True)


def _read(lock: Path) -> Head | None:
    """Who is in a lock; None for one that was never finished."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Head(**json.loads(lock.read_text()))
    return None


def succeed(other: Head, mine: Head, folder: Path) -> None:
    """End what a dead head left running, and take away Snakemake's lock.

    After a requeue nothing runs. In the same allocation steps go on without their head, outside of one the jobs that it
    submitted; training among them is saved.
    """
    print(f"head: process {other.pid} (job {other.job or 'none'}) ended before its work; going on", file=sys.stderr)
    if (other.job, other.restarts) == (mine.job, mine.restarts):
        jobs = _submitted(folder)
        _cancel("--signal=USR1", *jobs, *filter(None, [mine.job]))
        _wait(other, folder, SAVE_S)
        _cancel(*jobs)
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in _begun_by(other):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            _wait(other, folder, END_S)
    shutil.rmtree(folder / SNAKEMAKE_LOCKS, ignore_errors=True)


def _begun_by(head: Head) -> list[int]:
    """What runs on this host that a head began."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        pid = int(path.parent.name)
        with contextlib.suppress(OSError):
            if head.mark in path.read_bytes().split(b"\0") and started(pid) >= 0 and pid != os.getpid():
                found.append(pid)
    return found


def _submitted(folder: Path) -> list[str]:
    """Numbers of the Slurm jobs that heads of this folder submitted."""
    if shutil.which("squeue") is None:
        return []
    command = ["squeue", "--me", "--noheader", "--format=%i|%j|%Z"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    rows = [line.split("|", 2) for line in done.stdout.splitlines()]
    return [job for job, name, where in rows if RUN_NAME.fullmatch(name) and Path(where) == folder.resolve()]


def _cancel(*words: str) -> None:
    """Signal or end jobs, where there are any."""
    if any(word.isdigit() for word in words):
        subprocess.run(["scancel", *words], check=False)


def _wait(other: Head, folder: Path, seconds: float) -> None:
    """Until nothing is left of a head, at most so long."""
    deadline = time.monotonic() + seconds
    while (_begun_by(other) or _submitted(folder)) and time.monotonic() < deadline:
        time.sleep(min(1.0, seconds))


def run(words: list[str]) -> int:
    """Run Snakemake to its end; its exit status, 128 + n where signal n killed it."""
    folder, mine = Path.cwd(), me(os.environ)
    if other := take(folder, mine):
        succeed(other, mine, folder)
    name, _, value = mine.mark.decode().partition("=")
    child = subprocess.Popen(["snakemake", *words], env={**os.environ, name: value})
    signal.signal(signal.SIGTERM, lambda *_: child.send_signal(signal.SIGTERM))
    signal.signal(signal.SIGINT, lambda *_: None)  # a terminal tells Snakemake, too, which ends its jobs
    status = child.wait()
    if status >= 0:  # else the lock stays: whoever comes next has to look after what is left
        (folder / LOCK).unlink(missing_ok=True)
    return status if status >= 0 else 128 - status


def main() -> None:
    """Run; 2 where another head lives."""
    try:
        sys.exit(run(sys.argv[1:]))
    except UserError as error:
        print(*error.problems, sep="\n", file=sys.stderr)
        sys.exit(EXIT_USER)


if __name__ == "__main__":
    main()
