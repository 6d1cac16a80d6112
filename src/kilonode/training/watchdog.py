"""Ends all ranks when this one has waited too long: the others may be dead, stopped, or somewhere else.

MPI has no time-out: a rank whose neighbour died waits in the next message for ever. Launchers notice a rank that
ended badly; nobody notices one that hangs.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from statistics import median
from types import TracebackType

from kilonode.comm import Comm
from kilonode.errors import EXIT_AGAIN

PATIENCE_S = 600.0
"""Taste: longer than a stalled parallel file system usually takes, shorter than anybody wants to pay for nothing."""
STEPS = 20
"""A step may take this many times the median of the last ones, however slow they are."""
SAVING = 10.0
"""Starting, ending, reading and writing a checkpoint may take this many times longer than a step."""


class Watchdog:
    """A thread that watches for signs of life of its own rank.

    The loop calls ``beat`` before each thing it does: a step, a batch of validation, a checkpoint. Each may last
    ``patience_s``, or 20 median steps if that is longer. Only time in which this process could run counts, so a
    suspended job or a closed laptop goes on when it wakes. Alone (one rank) nobody is waited for, and nothing is
    watched.

    Parameters
    ----------
    comm : Comm
        The ranks.
    patience_s : float
        Seconds without a sign of life before all ranks are ended with exit code 75.
    """

    def __init__(self, comm: Comm, patience_s: float = PATIENCE_S) -> None:
        self._comm, self._patience_s = comm, patience_s
        self._tick_s = min(1.0, patience_s / 10)
        self._what, self._factor, self._waited_s = "the start", SAVING, 0.0
        self._steps: deque[float] = deque(maxlen=50)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        if self._comm.size > 1:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def beat(self, what: str, factor: float = 1.0) -> None:
        """``what`` begins; it may take ``factor`` times as long as a step."""
        self._what, self._factor, self._waited_s = what, factor, 0.0

    def measured(self, seconds: float) -> None:
        """A step took this long."""
        self._steps.append(seconds)

    @property
    def limit_s(self) -> float:
        """How long what has begun may take."""
        usual = median(tuple(self._steps)) if self._steps else 0.0
        return max(self._patience_s, STEPS * usual) * self._factor

    def tick(self, seconds: float) -> bool:
        """Whether that is enough, so long after the last tick; of a longer pause two ticks count."""
        self._waited_s += min(seconds, 2 * self._tick_s)
        return self._waited_s > self.limit_s

    def _watch(self) -> None:
        last = time.monotonic()
        while not self._ended.wait(self._tick_s):
            now = time.monotonic()
            if self.tick(now - last):
                self._end()
            last = now

    def _end(self) -> None:
        print(
            f"kilonode: expected {self._what} to end within {self.limit_s:.0f} s, got no end (rank {self._comm.rank}); "
            "another rank hangs or is dead: look for it above, then run the same command to continue from the last "
            "checkpoint, or give slow machines more with --patience-s",
            file=sys.stderr,
            flush=True,
        )
        time.sleep(0.5)  # mpiexec drops what it has not yet forwarded when a rank aborts
        self._comm.abort(EXIT_AGAIN)
