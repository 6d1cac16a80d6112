"""A line now and then that says how far a long loop is and how long it still takes."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

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


def progress(items: Iterable[T], total: int, what: str, show: bool = True) -> Iterator[T]:
    """Pass items on; print to stderr at most every two seconds, and nothing at all if it ends sooner."""
    start = last = time.monotonic()
    for done, item in enumerate(items):
        yield item
        now = time.monotonic()
        if show and now - last > EVERY_S:
            left = (now - start) / (done + 1) * (total - done - 1)
            print(f"{what}: {done + 1} of {total}, {clock(left)} left", file=sys.stderr, flush=True)
            last = now
