"""Where the time went: shares that add up, percentiles that a histogram gives to one per cent."""

from __future__ import annotations

import numpy as np
import pytest

from kilonode.training.timing import KINDS, Spent, Timing, percentiles


def test_percentiles_of_a_histogram_are_those_of_the_steps() -> None:
    steps = np.random.default_rng(0).lognormal(-4, 1, size=5000)
    spent = Spent()
    for seconds in steps:
        spent.step(float(seconds), 0.0)
    found = spent.summary()["step_ms"]
    for p in (50, 95, 99, 100):
        assert found[f"p{p}"] == pytest.approx(np.percentile(steps, p) * 1e3, rel=0.02)


def test_one_step_is_every_percentile_and_none_has_none() -> None:
    assert percentiles({}) == {}
    spent = Spent()
    spent.step(0.25, 0.1)
    assert list(spent.summary()["step_ms"].values()) == pytest.approx([250.0] * 4, rel=0.01)


def test_shares_are_those_of_all_that_was_spent() -> None:
    spent = Spent()
    spent.step(3.0, 1.0)
    spent.add("input", 0.5)
    spent.add("validation", 1.0)
    spent.add("checkpoint", 0.5)
    assert spent.summary()["shares"] == {
        "input": 0.1,
        "compute": 0.4,
        "communication": 0.2,
        "validation": 0.2,
        "checkpoint": 0.1,
    }
    assert set(spent.seconds) == set(KINDS)
    assert Spent().summary() == {"step_ms": {}, "shares": {}}


def test_it_continues_from_what_was_saved() -> None:
    first, second, whole = Spent(), Spent(), Spent()
    for spent in (first, whole):
        spent.step(0.1, 0.02)
        spent.add("input", 0.3)
    second = Spent(**{"seconds": dict(first.seconds), "histogram": dict(first.histogram)})
    for spent in (second, whole):
        spent.step(0.1, 0.03)
        spent.step(0.4, 0.0)
    assert second.summary() == whole.summary()


def test_an_epochs_record_counts_its_own_steps() -> None:
    record = Timing(steps=[0.1, 0.2, 0.3, 0.4], input=0.25, communication=0.05, samples=50).record()
    assert record["samples_per_s"] == pytest.approx(50 / 1.25)
    assert record["input_wait"] == pytest.approx(0.2)
    assert record["communication_wait"] == pytest.approx(0.04)
    assert record["step_ms"]["p50"] == pytest.approx(250.0)
    assert record["step_ms"]["p100"] == pytest.approx(400.0)
