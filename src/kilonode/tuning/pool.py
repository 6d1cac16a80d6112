"""Where trials run: processes of this machine, or groups of MPI ranks; one manager hands out jobs to either.

A worker gets the next job in answer to its last result; while it computes nobody talks to it.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

from kilonode.comm import Comm
from kilonode.errors import UserError
from kilonode.records import Json

PAUSE_S = 0.002
"""Between two looks for a message: MPI's own waiting would take a core from the trials."""
PR_SET_PDEATHSIG = 1
Message = tuple[int, Json]
READY: Json = {"ready": True}


class Pool(Protocol):
    """Workers, numbered from 0. A worker says ``READY`` once, then answers each job with its result."""

    size: int

    def give(self, worker: int, job: Json | None) -> None:
        """Hand a job to an idle worker; None: there are no more."""

    def answers(self) -> list[Message]:
        """What workers said since the last call; waits a moment if nobody did."""

    def stop(self) -> None:
        """Ask workers to save and stop."""

    def close(self) -> None:
        """All workers have got None: wait for their ends."""


@contextmanager
def quiet(log: Path) -> Iterator[None]:
    """What trials print goes to a file: a hundred progress lines beside each other help nobody."""
    log.parent.mkdir(parents=True, exist_ok=True)
    out, err = sys.stdout, sys.stderr
    with log.open("a", buffering=1) as stream:
        sys.stdout = sys.stderr = stream
        try:
            yield
        finally:
            sys.stdout, sys.stderr = out, err


def _process(plan: Json, number: int, pipe: Connection) -> None:
    """The life of a local worker."""
    for name in (signal.SIGUSR1, signal.SIGTERM):
        signal.signal(name, lambda got, _: os.environ.__setitem__("KILONODE_STOP", signal.Signals(got).name))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the manager says when to stop
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # nobody would hear of a trial that outlives the manager
    os.environ["OMP_NUM_THREADS"] = str(plan["settings"]["training"].get("threads", 1))
    from kilonode.tuning.trial import Runner

    with quiet(Path(plan["folder"]) / "logs" / f"worker-{number}.log"):
        runner = Runner(plan, Comm())
        pipe.send(READY)
        while (job := pipe.recv()) is not None:
            pipe.send(runner.run(job))


class Processes:
    """Workers are processes of this machine; one that dies is replaced, and what it did counts as failed."""

    def __init__(self, plan: Json, size: int) -> None:
        self.size, self._plan = size, plan
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[tuple[Any, Connection]] = [self._start(number) for number in range(size)]
        self._jobs: dict[int, Json | None] = {}

    def _start(self, number: int) -> tuple[Any, Connection]:
        here, there = self._context.Pipe()
        process = self._context.Process(target=_process, args=(self._plan, number, there), daemon=True)
        process.start()
        there.close()
        return process, here

    def give(self, worker: int, job: Json | None) -> None:
        """Hand a job to a worker."""
        self._jobs[worker] = job
        self._workers[worker][1].send(job)

    def answers(self) -> list[Message]:
        """What workers said."""
        pipes = {id(pipe): number for number, (_, pipe) in enumerate(self._workers) if not pipe.closed}
        found = []
        for pipe in wait([pipe for _, pipe in self._workers if not pipe.closed], timeout=0.5):
            assert isinstance(pipe, Connection)
            number = pipes[id(pipe)]
            try:
                found.append((number, pipe.recv()))
                self._jobs.pop(number, None)
            except (EOFError, ConnectionResetError):  # the second: it had not read what it was sent
                found += self._died(number)
        return found

    def _died(self, number: int) -> list[Message]:
        process, pipe = self._workers[number]
        process.join()
        pipe.close()
        job = self._jobs.pop(number, None) if number in self._jobs else READY
        if job is READY:
            raise UserError(
                f"expected a worker, got one that ended with exit code {process.exitcode} without a trial; "
                "see logs/, then run the same command to continue"
            )
        if job is None:
            return []
        self._workers[number] = self._start(number)
        reason = f"its process ended with exit code {process.exitcode}"
        now = {"began": time.time(), "seconds": 0.0, "cpu_s": 0.0, "ranks": 1}
        lost: Json = {"state": "failed", "values": [], "value": None, "reason": reason, **now}
        return [(number, {**lost, "study": job["study"], "number": job["number"], "kind": job["kind"], "again": True})]

    def stop(self) -> None:
        """Ask all to save and stop."""
        for process, _ in self._workers:
            if process.is_alive():
                os.kill(process.pid, signal.SIGUSR1)

    def close(self) -> None:
        """Wait for all."""
        for process, pipe in self._workers:
            process.join()
            pipe.close()


class Ranks:
    """Workers are groups of MPI ranks; the first of each group speaks for it. Seen from rank 0."""

    def __init__(self, world: Comm, per_trial: int) -> None:
        self._world, self._per_trial = world, per_trial
        self.size = (world.size - 1) // per_trial

    def give(self, worker: int, job: Json | None) -> None:
        """Hand a job to a group."""
        self._world.send(job, 1 + worker * self._per_trial)

    def answers(self) -> list[Message]:
        """What groups said."""
        found = []
        while (message := self._world.received()) is not None:
            found.append(((message[0] - 1) // self._per_trial, message[1]))
        if not found:
            time.sleep(PAUSE_S)
        return found

    def stop(self) -> None:
        """Every rank hears of the end by its own signal or clock."""

    def close(self) -> None:
        """All leave together."""
        self._world.barrier()


def serve(world: Comm, per_trial: int, make: Callable[[Comm], Any], log: Path) -> None:
    """The life of every rank but 0."""
    group = world.divide((world.rank - 1) // per_trial)
    with quiet(log):
        runner = make(group)
        if group.is_root:
            world.send(READY, 0)
        while (job := _next(world, group)) is not None:
            result = runner.run(job)
            if group.is_root:
                world.send(result, 0)
    world.barrier()


def _next(world: Comm, group: Comm) -> Json | None:
    job: Json | None = None
    if group.is_root:
        while (message := world.received()) is None:
            time.sleep(PAUSE_S)
        job = message[1]
    found: Json | None = group.broadcast(job)
    return found
