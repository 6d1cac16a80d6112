"""How far a loop is: lines where there is no terminal, a bar where there is one."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys

import pytest

from kilonode import progress
from kilonode.progress import Meter, clock


class Clock:
    """``time.monotonic`` that a test sets."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr(progress, "time", fake)
    return fake


@pytest.mark.parametrize(
    ("seconds", "said"), [(-3, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (190, "3 min 10 s"), (7510, "2 h 05 min")]
)
def test_seconds_are_said_as_a_person_says_them(seconds: float, said: str) -> None:
    assert clock(seconds) == said


def test_a_line_now_and_then_has_the_rate_and_the_time_left(time: Clock) -> None:
    """10 of 100 steps of 64 samples in 30 s: 21 samples/s, 270 s left."""
    out = io.StringIO()
    with Meter(100, "train: step", "samples", every_s=29.0, plain=out) as meter:
        for _ in range(11):
            time.now += 3.0
            meter.advance(64)
    assert out.getvalue() == "train: step: 10 of 100, 21 samples/s, 4 min 30 s left\n"


def test_what_an_earlier_run_did_makes_this_one_no_faster(time: Clock) -> None:
    out = io.StringIO()
    with Meter(100, "train", done=50, every_s=0.0, plain=out) as meter:
        time.now += 10.0
        meter.advance()
    assert out.getvalue() == "train: 51 of 100, 8 min 10 s left\n"


def test_other_ranks_and_quick_loops_say_nothing(time: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    for show, seconds in ((False, 60.0), (True, 0.1)):
        with Meter(5, "quiet", show=show) as meter:
            for _ in range(5):
                time.now += seconds
                meter.advance()
    assert capsys.readouterr() == ("", "")


def test_items_pass_through_as_they_are(time: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    def slow() -> object:
        for item in "abc":
            time.now += 5.0
            yield item

    assert list(progress.progress(slow(), 3, "letters")) == ["a", "b", "c"]
    assert capsys.readouterr().err.splitlines() == [
        "letters: 1 of 3, 10 s left",
        "letters: 2 of 3, 5 s left",
        "letters: 3 of 3, 0 s left",
    ]


BAR = """
import time
from kilonode.progress import Meter
with Meter(40, "train", "samples") as meter:
    for _ in range(40):
        time.sleep(0.02)
        meter.advance(8)
"""


def test_a_terminal_gets_a_bar_that_takes_itself_away() -> None:
    """On stderr alone: what is piped from stdout stays clean."""
    main, end = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen(
        [sys.executable, "-c", BAR], stdout=subprocess.PIPE, stderr=end, env=environment, text=True
    )
    os.close(end)
    seen = b""
    while True:
        try:
            part = os.read(main, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        seen += part
    assert process.stdout is not None
    assert (process.stdout.read(), process.wait()) == ("", 0)
    assert b"samples/s" in seen
    assert b"train" in seen
    assert b"\x1b[2K" in seen.rpartition(b"40/40")[2]  # the line is cleared after the last
