"""What a user reads when something is wrong."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kilonode.errors import DataError, UserError, near


def test_every_problem_is_one_line() -> None:
    error = UserError("expected a,\ngot b\r\n(c)", "second")
    assert error.problems == ("expected a, got b (c)", "second")
    assert str(error) == "expected a, got b (c)\nsecond"


def test_a_data_error_is_a_user_error() -> None:
    with pytest.raises(UserError, match=r"^expected 1, got 2$"):
        raise DataError("expected 1, got 2")


@settings(max_examples=30)
@given(st.lists(st.text(), min_size=1))
def test_problems_survive_the_way_between_ranks(problems: list[str]) -> None:
    error = DataError(*problems)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is DataError
    assert copy.problems == error.problems
    assert len(copy.problems) == len(problems)
    assert all(len(line.splitlines()) <= 1 for line in copy.problems)


def test_near_names_the_closest_word_or_all() -> None:
    assert near("epoch", ["lr", "epochs", "batch"]) == "did you mean 'epochs'?"
    assert near("zzz", ["lr", "batch"]) == "allowed: batch, lr"
    assert near("zzz", iter(["lr"])) == "allowed: lr"
