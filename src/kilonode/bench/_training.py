"""A training on several ranks that can be killed at a chosen moment, and compared with one that was not."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from kilonode.bench import _launch
from kilonode.records import Json, file_digest

POLL_S = 0.0002
PATIENCE_S = 60.0
"""How long ranks may take to end when one of them is gone."""
MUST_AGREE = ("epoch", "step", "train_loss", "validation_loss", "lr")


class Training:
    """A command that trains and continues.

    Parameters
    ----------
    words : tuple
        What Python is given, but for ``--state``.
    ranks : int
        On how many.

    Attributes
    ----------
    seconds_trained : float
        From the first sign of training to the end, of the undisturbed run.
    """

    def __init__(self, words: tuple[object, ...], ranks: int) -> None:
        self.words, self.ranks = words, ranks
        self.seconds_to_start = self.seconds_trained = 0.0
        self._wanted: Json = {}

    def undisturbed(self, state: Path) -> None:
        """Train once and keep what all others must equal."""
        attempt = Attempt(self, state)
        start = time.monotonic()
        attempt.wait_for(attempt.begun)
        begun = time.monotonic()
        attempt.end()
        self.seconds_to_start, self.seconds_trained = begun - start, time.monotonic() - begun
        self._wanted = _result(state)

    def until_killed(self, state: Path, kind: str, span: float, chance: random.Random) -> Json | None:
        """Train on and kill; None if it ended first.

        Parameters
        ----------
        state : Path
            Folder of the run.
        kind : str
            start-up, training or checkpoint.
        span : float
            Seconds of training over which kills of the second kind are spread.
        chance : Random
            Draws moment and victims.
        """
        attempt = Attempt(self, state)
        if kind == "start-up":
            moment = time.monotonic() + chance.uniform(0, self.seconds_to_start)
            attempt.wait_for(lambda: time.monotonic() > moment and len(attempt.find_ranks()) == self.ranks)
        else:
            attempt.wait_for(attempt.begun)
            attempt.find_ranks()
            if kind == "training":
                moment = time.monotonic() + chance.uniform(0, span)
                attempt.wait_for(lambda: time.monotonic() > moment)
            else:
                for _ in range(chance.randint(1, 2)):
                    attempt.wait_for(lambda: not attempt.saving())
                    attempt.wait_for(attempt.saving)
                time.sleep(chance.choice((0.0, chance.uniform(0, 0.003))))
        return attempt.kill(kind, chance)

    def finish(self, state: Path) -> None:
        """Train to the end."""
        Attempt(self, state).end()

    def differences(self, state: Path) -> list[str]:
        """What is not as in the undisturbed run; empty if all is."""
        found = _result(state)
        return [f"{key} differs" for key, value in self._wanted.items() if found[key] != value]


class Attempt:
    """One start of a training."""

    def __init__(self, training: Training, state: Path) -> None:
        self.state, self.log = state, state.with_suffix(".log")
        self.fresh = not state.exists()
        self.log.unlink(missing_ok=True)
        with self.log.open("wb") as stream:
            command = _launch.mpiexec(training.ranks, *training.words, "--state", state)
            self.process = subprocess.Popen(
                command, env=_launch.environment(), stdout=stream, stderr=stream, stdin=subprocess.DEVNULL
            )
        self.pids: list[int] = []

    def begun(self) -> bool:
        """Whether it is past its start: a new run makes its folder, one that continues says so."""
        return self.log.stat().st_size > 0 or (self.fresh and self.state.exists())

    def saving(self) -> bool:
        """Whether a checkpoint is being written now."""
        try:
            return any(entry.name.startswith(".checkpoint") for entry in os.scandir(self.state))
        except FileNotFoundError:
            return False

    def find_ranks(self) -> list[int]:
        """Process ids of the ranks that run."""
        import psutil

        try:
            below = psutil.Process(self.process.pid).children(recursive=True)  # and the launcher's own helpers
            self.pids = [child.pid for child in below if child.exe() == os.path.realpath(sys.executable)]
        except psutil.Error:
            self.pids = []
        return self.pids

    def wait_for(self, fact: Callable[[], bool]) -> None:
        """Until it is so, or the training has ended."""
        while not fact() and self.process.poll() is None:
            time.sleep(POLL_S)

    def end(self) -> None:
        """Wait for the end.

        Raises
        ------
        RuntimeError
            It failed though nobody killed it.
        """
        if self.process.wait():
            raise RuntimeError(f"training failed with {self.process.returncode}\n{self.log.read_text()[-4000:]}")

    def kill(self, kind: str, chance: random.Random) -> Json | None:
        """SIGKILL to one rank or to all; None if the training had ended by itself."""
        ranks, all_of_them = list(self.pids), chance.random() < 0.5
        victims = ranks if all_of_them else [chance.choice(ranks)] if ranks else []
        if self.process.poll() is None:
            for pid in victims:
                _kill(pid)
        start = time.monotonic()
        try:
            code = self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            code = None
        left = [pid for pid in ranks if _runs(pid)]
        for pid in [*left, *([self.process.pid] if code is None else [])]:
            _kill(pid)
        self.process.wait()
        if code == 0:
            return None
        if not victims:
            self.end()
        return {
            "hit": kind,
            "victims": "all ranks" if all_of_them else "one rank",
            "left": len(left),
            "half_written": self.half_written(),
            "end_s": time.monotonic() - start,
        }

    def half_written(self) -> bool:
        """Whether a temporary file, or tensors without their description, lie about."""
        names = {path.name for path in self.state.glob("*checkpoint-*")} if self.state.exists() else set()
        alone = {name for name in names if name.endswith(".safetensors") and f"{name[:-12]}.json" not in names}
        return bool(alone) or any(name.endswith(".tmp") for name in names)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _runs(pid: int) -> bool:
    """Whether a process still runs a moment after its launcher has ended; the dead are given time to be reaped."""
    import psutil

    deadline = time.monotonic() + 2.0
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return False
        except psutil.Error:
            return False
        time.sleep(0.01)
    return True


def _result(state: Path) -> Json:
    """What must be equal: all tensors of the last checkpoint (weights, best weights, optimiser, generators), losses."""
    status = json.loads((state / "status.json").read_text())
    newest = max(state.glob("checkpoint-*.safetensors"))
    history = [json.loads(line) for line in (state / "metrics.jsonl").read_text().splitlines()]
    return {
        "status": status["status"],
        "last checkpoint": (newest.name, file_digest(newest)),
        "history": [{key: line[key] for key in MUST_AGREE} for line in history],
    }
