"""How long a rank waits before it ends all. With real ranks: tests/parallel/test_hangs.py."""

from __future__ import annotations

import threading

import pytest

from kilonode.comm import Comm
from kilonode.errors import EXIT_AGAIN
from kilonode.training import watchdog
from kilonode.training.watchdog import Watchdog


class Pair(Comm):
    """One of two ranks; remembers that it ended both."""

    size = 2

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.code: int | None = None

    def abort(self, code: int) -> None:
        self.code = code
        self.ended.set()


def test_it_waits_as_long_as_it_was_told_and_no_longer() -> None:
    dog = Watchdog(Pair(), 60.0)
    dog.beat("step 0")
    assert [dog.tick(1.0) for _ in range(61)] == [False] * 60 + [True]


def test_a_sign_of_life_starts_the_clock_anew() -> None:
    dog = Watchdog(Pair(), 60.0)
    for step in range(20):
        dog.beat(f"step {step}")
        assert not any(dog.tick(1.0) for _ in range(59))


def test_twenty_usual_steps_are_always_granted() -> None:
    dog = Watchdog(Pair(), 60.0)
    dog.beat("step 0")
    for seconds in (1.0, 9.0, 10.0, 11.0, 500.0):
        dog.measured(seconds)
    assert dog.limit_s == 20 * 10.0
    for _ in range(100):
        dog.measured(0.1)
    assert dog.limit_s == 60.0


@pytest.mark.parametrize("what", ["the start", "checkpoint 7"])
def test_a_start_and_a_checkpoint_may_take_ten_times_as_long(what: str) -> None:
    dog = Watchdog(Pair(), 60.0)
    if what != "the start":
        dog.beat(what, watchdog.SAVING)
    assert [dog.tick(1.0) for _ in range(601)] == [False] * 600 + [True]


def test_time_in_which_this_process_slept_does_not_count() -> None:
    """A suspended job, a closed laptop: of an hour between two ticks two seconds count."""
    dog = Watchdog(Pair(), 60.0)
    dog.beat("step 0")
    assert not dog.tick(3600.0)
    assert [dog.tick(1.0) for _ in range(59)] == [False] * 58 + [True]


def test_silence_ends_all_ranks_with_a_line_and_an_invitation_to_run_again(capsys: pytest.CaptureFixture[str]) -> None:
    comm = Pair()
    dog = Watchdog(comm, 0.2)
    with dog:
        dog.beat("step 17")
        assert comm.ended.wait(30)
    assert comm.code == EXIT_AGAIN
    line = capsys.readouterr().err.splitlines()[0]
    assert line.startswith("kilonode: expected step 17 to end within 0 s, got no end (rank 0); another rank hangs or ")
    assert line.endswith("--patience-s")


def test_one_rank_waits_for_nobody_and_is_not_watched() -> None:
    before = threading.active_count()
    with Watchdog(Comm(), 0.001):
        assert threading.active_count() == before


def test_it_ends_with_its_block() -> None:
    comm = Pair()
    with Watchdog(comm, 1000.0) as dog:
        assert dog._thread.is_alive()
    assert not dog._thread.is_alive()
    assert comm.code is None
