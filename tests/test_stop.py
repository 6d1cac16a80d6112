"""When ranks stop: the scheduler's clock, signals, and what is kept for the last checkpoint."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilonode.comm import Comm
from kilonode.errors import UserError
from kilonode.training import stop
from kilonode.training.stop import DIVERGED, GO, SAVE, STOP, Watch


class Clock:
    """``time.monotonic`` that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Others(Comm):
    """This rank among others whose wish is known."""

    def __init__(self, level: int) -> None:
        self.level = level

    def highest(self, level: int) -> int:
        return max(level, self.level)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr(stop, "time", fake)
    monkeypatch.delenv("KILONODE_STOP", raising=False)
    return fake


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("59", 59),
        ("0:10", 10),
        ("1:05", 65),
        ("59:59", 3599),
        ("1:00:00", 3600),
        ("12:34:56", 45296),
        ("1-00:00:00", 86400),
        ("2-03:04:05", 183845),
        ("365-00:00:00", 31536000),
    ],
)
def test_the_forms_squeue_prints_are_read(text: str, seconds: float) -> None:
    assert stop.seconds_left(text) == seconds


@pytest.mark.parametrize("text", ["", "UNLIMITED", "NOT_SET", "INVALID"])
def test_no_limit_is_no_deadline(text: str, clock: Clock) -> None:
    assert stop.seconds_left(text) is None
    watch = Watch(Comm(), text, since=0.0)
    clock.now += 1e9
    assert watch.reason == ""


@pytest.mark.parametrize("text", ["soon", "1:2:3:4", "-5", "1-", "1.5", "10 ", "1:00:00h", "slurm_load_jobs error"])
def test_anything_else_is_refused_with_the_form_that_is_wanted(text: str) -> None:
    with pytest.raises(UserError, match=r"^expected \[days-\].*, got .* \(--time-left\)$") as caught:
        stop.seconds_left(text)
    assert repr(text) in str(caught.value)


@given(days=st.integers(0, 400), hours=st.integers(0, 23), minutes=st.integers(0, 59), seconds=st.integers(0, 59))
def test_what_is_printed_as_squeue_does_reads_back(days: int, hours: int, minutes: int, seconds: int) -> None:
    text = f"{minutes}:{seconds:02d}"
    if hours or days:
        text = f"{hours}:{minutes:02d}:{seconds:02d}"
    if days:
        text = f"{days}-{hours:02d}:{minutes:02d}:{seconds:02d}"
    assert stop.seconds_left(text) == ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def test_it_stops_when_only_the_reserve_is_left(clock: Clock) -> None:
    watch = Watch(Comm(), "10:00", since=clock.now)
    clock.now += 600 - stop.RESERVE_S - 0.001
    assert (watch.decide(diverged=False), watch.reason) == (GO, "")
    clock.now += 0.002
    assert (watch.decide(diverged=False), watch.reason) == (STOP, "time limit")


def test_the_time_that_starting_took_is_not_there_any_more(clock: Clock) -> None:
    watch = Watch(Comm(), "10:00", since=clock.now - 580)
    assert watch.decide(diverged=False) == STOP


def test_three_times_the_slowest_checkpoint_is_kept(clock: Clock) -> None:
    watch = Watch(Comm(), "10:00", since=clock.now)
    watch.saved(100.0)
    watch.saved(1.0)
    clock.now += 299
    assert watch.reason == ""
    clock.now += 2
    assert watch.reason == "time limit"


def test_quick_checkpoints_do_not_shrink_the_reserve(clock: Clock) -> None:
    watch = Watch(Comm(), "10:00", since=clock.now)
    watch.saved(0.1)
    clock.now += 600 - stop.RESERVE_S + 1
    assert watch.reason == "time limit"


def test_the_longest_time_without_a_question_is_kept_too(clock: Clock) -> None:
    """A validation of 100 s that starts at the last moment must still end in time."""
    watch = Watch(Comm(), "10:00", since=clock.now)
    watch.decide(diverged=False)
    clock.now += 100
    watch.decide(diverged=False)
    clock.now += 10
    watch.decide(diverged=False)
    clock.now += 600 - 110 - stop.RESERVE_S - 100 - 1
    assert watch.reason == ""
    clock.now += 2
    assert watch.reason == "time limit"


def test_a_signal_stops_and_is_named(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(Comm(), "", since=0.0)
    assert watch.decide(diverged=False) == GO
    monkeypatch.setenv("KILONODE_STOP", "SIGUSR1")
    assert (watch.decide(diverged=False), watch.reason) == (STOP, "SIGUSR1")


def test_a_checkpoint_is_due_after_ten_minutes(clock: Clock) -> None:
    watch = Watch(Comm(), "", since=0.0)
    clock.now += 600.5
    assert watch.decide(diverged=False) == SAVE
    watch.saved(0.5)
    assert watch.decide(diverged=False) == GO


@pytest.mark.parametrize(("every", "after", "verdict"), [(60.0, 59.0, GO), (60.0, 61.0, SAVE), (None, 1e9, GO)])
def test_how_often_is_a_choice(every: float | None, after: float, verdict: int, clock: Clock) -> None:
    watch = Watch(Comm(), "", since=0.0, save_every_s=every)
    clock.now += after
    assert watch.decide(diverged=False) == verdict


@pytest.mark.parametrize("level", [GO, SAVE, STOP, DIVERGED])
@pytest.mark.parametrize("mine", [GO, STOP, DIVERGED])
def test_the_most_urgent_wish_of_any_rank_wins(
    level: int, mine: int, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    if mine == STOP:
        monkeypatch.setenv("KILONODE_STOP", "SIGTERM")
    watch = Watch(Others(level), "", since=0.0)
    assert watch.decide(diverged=mine == DIVERGED) == max(level, mine)
    assert GO < SAVE < STOP < DIVERGED
