"""When to stop: a signal on any rank, or the end of the allocation drawing near. All ranks decide together."""

from __future__ import annotations

import math
import os
import re
import time

from kilonode.comm import Comm
from kilonode.errors import UserError

GO, SAVE, STOP, DIVERGED = range(4)
"""What ranks agree on after a step; the largest wins."""
RESERVE_S = 30.0
"""Kept for the last checkpoint, or three times the slowest one so far if that is more; and for one more question."""


def seconds_left(text: str) -> float | None:
    """``[days-][[hours:]minutes:]seconds`` as ``squeue -o %L`` prints it; None where there is no limit.

    Raises
    ------
    UserError
        Not a time.
    """
    if text in ("", "UNLIMITED", "NOT_SET", "INVALID"):
        return None
    match = re.fullmatch(r"(?:(\d+)-)?(?:(?:(\d+):)?(\d+):)?(\d+)", text)
    if match is None:
        raise UserError(f"expected [days-][[hours:]minutes:]seconds, got {text!r} (--time-left)")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


class Watch:
    """Asks all ranks, every few steps, whether to go on.

    Parameters
    ----------
    comm : Comm
        The ranks.
    time_left : str
        What the scheduler grants.
    since : float
        When it did, on the clock of ``time.monotonic``: a thousand ranks take a while to start.
    save_every_s : float, optional
        Seconds between two checkpoints; None: only at the end of epochs and where ``checkpoint.steps`` says.
    """

    def __init__(self, comm: Comm, time_left: str, since: float, save_every_s: float | None = 600.0) -> None:
        self._comm = comm
        self._save_every_s = math.inf if save_every_s is None else save_every_s
        left = seconds_left(time_left)
        self._deadline = None if left is None else since + left
        self._saved = time.monotonic()
        self._slowest_save = 0.0
        self._asked: float | None = None
        self._longest_wait = 0.0

    @property
    def reason(self) -> str:
        """Why this rank wants to stop, or nothing."""
        if signal := os.environ.get("KILONODE_STOP"):
            return signal
        reserve = max(RESERVE_S, 3 * self._slowest_save) + self._longest_wait
        if self._deadline is not None and time.monotonic() > self._deadline - reserve:
            return "time limit"
        return ""

    def decide(self, diverged: bool) -> int:
        """GO, SAVE, STOP or DIVERGED, the same on every rank."""
        now = time.monotonic()
        if self._asked is not None:  # steps or a validation: nobody asks in between
            self._longest_wait = max(self._longest_wait, now - self._asked)
        self._asked = now
        wish = SAVE if now - self._saved > self._save_every_s else GO
        wish = STOP if self.reason else wish
        return self._comm.highest(DIVERGED if diverged else wish)

    def saved(self, seconds: float) -> None:
        """A checkpoint was written and took this long."""
        self._saved = time.monotonic()
        self._slowest_save = max(self._slowest_save, seconds)
