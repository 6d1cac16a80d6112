"""Processes of this machine, read from /proc: which run, which belong together, and how to end exactly those."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """A process; the start time (clock ticks after boot) tells it from a later one with its pid."""

    name: str
    pid: int
    start: int
    parent: int = 0

    def runs(self) -> bool:
        """Whether it is alive; a zombie is not."""
        now = read_process(self.pid)
        return now is not None and now.start == self.start

    def send(self, number: int) -> None:
        """Signal it; the pidfd pins the process, so that its pid cannot change hands after the check."""
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(self.pid)
            if self.runs():
                signal.pidfd_send_signal(handle, number)
            os.close(handle)


def read_process(pid: int) -> Process | None:
    """Read /proc/PID/stat, where the name may hold blanks and brackets; None for a zombie or no process."""
    with contextlib.suppress(OSError):
        head, tail = Path(f"/proc/{pid}/stat").read_text(errors="replace").rsplit(")", 1)
        fields = tail.split()
        return Process(head.split("(", 1)[1], pid, int(fields[19]), int(fields[1])) if fields[0] not in "ZX" else None
    return None


def read_processes() -> list[Process]:
    """List every process that is not a zombie."""
    found = (read_process(int(entry)) for entry in os.listdir("/proc") if entry.isdigit())
    return [process for process in found if process]


def works_in(pid: int, directory: Path) -> bool:
    """Whether this is its working directory, or was before it was removed."""
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/cwd").removesuffix(" (deleted)") == str(directory)
    return False


def has_environment(pid: int, *beginnings: str) -> bool:
    r"""Whether its environment has, for each beginning, a variable `NAME=value...`; end with \0 for a whole value."""
    with contextlib.suppress(OSError):
        environment = b"\0" + Path(f"/proc/{pid}/environ").read_bytes()
        return all(b"\0" + beginning.encode() in environment for beginning in beginnings)
    return False


def with_descendants(processes: Iterable[Process]) -> list[Process]:
    """Add children, their children and so on."""
    everything = read_processes()
    pids = {process.pid for process in processes}
    before = 0
    while before < (before := len(pids)):
        pids |= {process.pid for process in everything if process.parent in pids}
    return [process for process in everything if process.pid in pids]


def free_segments(directory: Path = Path("/dev/shm")) -> int:
    """Remove shared memory of MPI ranks that were killed; what a process still maps, or has just made, stays.

    A node that goes down takes it along, and sites remove it in an epilog. Left alone it fills memory, and MPICH, which
    names it after job and step, stumbles over it in a later job of the same number: "Out of memory" at its start.
    """
    left = {path for kind in ("mpich_shm_*", "ucx_shm_posix_*") for path in directory.glob(kind)}
    left = {path for path in left if time.time() - path.stat().st_mtime > 1}
    if not left:
        return 0
    names = {str(path) for path in left}
    for process in read_processes():
        with contextlib.suppress(OSError):  # it ended meanwhile
            names -= {line.split(maxsplit=5)[-1] for line in Path(f"/proc/{process.pid}/maps").read_text().splitlines()}
    for name in names:
        Path(name).unlink(missing_ok=True)
    return len(names)


def wait_until(condition: Callable[[], bool], seconds: float, pause: float = 0.02) -> bool:
    """Wait until the condition holds; False where it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


def stop(processes: list[Process], seconds: float) -> None:
    """TERM, and KILL for those that do not end in time."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            process.send(number)
        if wait_until(lambda: not any(process.runs() for process in processes), seconds):
            return
