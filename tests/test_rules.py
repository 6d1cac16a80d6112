"""The training section: defaults, choices that need another, and what makes a run another run."""

from __future__ import annotations

from typing import Any

import pytest

from kilonode import cases, config
from kilonode.errors import UserError
from kilonode.training import rules

PLAIN: dict[str, Any] = {"optimizer": "sgd", "lr": 0.1, "schedule": "constant", "batch": 64}
SCHEMA = config.schema("case")["$defs"]["task"]["properties"]["training"]["properties"]


@pytest.mark.parametrize("case", cases.names())
def test_a_case_that_says_nothing_new_trains_as_before(case: str) -> None:
    for task in config.resolve(case, "toy")["tasks"].values():
        filled = rules.complete(task["training"], case)
        assert filled == {**filled, **task["training"]}
        assert (filled["accumulate"], filled["scale"], filled["checkpoint"]["keep"]) == (1, "none", 2)


def test_every_default_is_one_a_case_may_choose() -> None:
    filled = rules.complete(PLAIN, "here")
    assert set(rules.DEFAULTS) - set(SCHEMA) == set()
    assert set(filled["checkpoint"]) == set(SCHEMA["checkpoint"]["properties"])


def test_part_of_the_checkpoint_section_leaves_the_rest_as_it_is() -> None:
    assert rules.complete({**PLAIN, "checkpoint": {"steps": 7}}, "here")["checkpoint"] == {
        "steps": 7,
        "minutes": 10.0,
        "keep": 2,
    }


@pytest.mark.parametrize(
    ("choice", "same"),
    [
        ({"checkpoint": {"steps": 3, "minutes": None, "keep": 9}}, True),
        ({"noise_scale": False}, True),
        ({"accumulate": 1, "scale": "none"}, True),  # said or not said
        ({"accumulate": 2}, False),  # other rounding
        ({"lr": 0.2}, False),
        ({"patience": 3}, False),
        ({"nesterov": True}, False),
    ],
)
def test_a_run_is_another_when_its_result_is(choice: dict[str, Any], same: bool) -> None:
    first, other = (rules.identity(rules.complete(section, "here")) for section in (PLAIN, {**PLAIN, **choice}))
    assert (first == other) == same


def test_choices_without_what_they_need_are_all_refused_at_once() -> None:
    section = {**PLAIN, "optimizer": "adam", "scale": "linear", "schedule": "step", "nesterov": True}
    with pytest.raises(UserError) as caught:
        rules.complete(section, "my_case/my_task")
    assert [problem.split(",")[0] for problem in caught.value.problems] == [
        "expected training.reference_batch beside scale: linear",
        "expected training.milestones beside schedule: step",
        "expected optimizer: sgd with momentum beside nesterov: true",
    ]
    assert all("(my_case/my_task); " in problem for problem in caught.value.problems)
