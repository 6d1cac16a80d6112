"""How far a long loop is and how long it still takes: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, TextIO, TypeVar

T = TypeVar("T")
EVERY_S = 2.0


def clock(seconds: float) -> str:
    """Seconds as a person says them: 42 s, 3 min 10 s, 2 h 05 min."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    return (
        f"{whole // 60} min {whole % 60:02d} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    )


class Meter:
    """Says how far a loop of known length is, with its rate and the time left.

    On a terminal a bar of ``rich`` on stderr, which takes itself away; elsewhere plain lines, none at all if the loop
    ends within the first ``every_s`` seconds.

    Parameters
    ----------
    total : int
        Items of the loop.
    what : str
        Its name, in front of the line.
    unit : str
        What the rate counts, ``files`` or ``samples``; empty: no rate.
    show : bool
        False: nothing is printed, for all ranks but 0.
    done : int
        Items that were done before, in an earlier run.
    every_s : float
        Seconds between two plain lines.
    plain : stream, optional
        Where plain lines go; default stderr.
    """

    def __init__(
        self,
        total: int,
        what: str,
        unit: str = "",
        show: bool = True,
        done: int = 0,
        every_s: float = EVERY_S,
        plain: TextIO | None = None,
    ) -> None:
        self._total, self._what, self._unit, self._every_s, self._plain = total, what, unit, every_s, plain
        self._first = self.done = done
        self._count = 0
        self._show = show
        self._bar: Any = None

    def __enter__(self) -> Meter:
        self._start = self._last = time.monotonic()
        if self._show and sys.stderr.isatty():
            self._bar = _bar()
            self._task = self._bar.add_task(self._what, total=self._total, completed=self.done, said="")
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, count: int = 0) -> None:
        """One item more is done, with ``count`` of what the rate counts."""
        self.done += 1
        self._count += count
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, said=self.said(now))
        elif self._show and now - self._last > self._every_s:
            line = f"{self._what}: {self.done} of {self._total}, {self.said(now)}"
            print(line, file=self._plain or sys.stderr, flush=True)
            self._last = now

    def said(self, now: float) -> str:
        """Rate and time left."""
        spent = max(now - self._start, 1e-9)
        left = spent / (self.done - self._first) * (self._total - self.done)
        rate = f"{self._count / spent:.0f} {self._unit}/s, " if self._unit else ""
        return f"{rate}{clock(left)} left"


def _bar() -> Any:
    """A bar on stderr; imported here, because most verbs never show one."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[said]}")
    return Progress(*columns, console=Console(stderr=True), transient=True)


def progress(items: Iterable[T], total: int, what: str, show: bool = True) -> Iterator[T]:
    """Pass items on and say how far it is; plain lines at most every two seconds."""
    with Meter(total, what, show=show) as meter:
        for item in items:
            yield item
            meter.advance()
