"""Words and page: who won is said, nobody wins by noise, nothing is loaded from outside."""

from __future__ import annotations

from typing import Any

import pytest

from kilonode.report.wording import number, spoken, verdict, with_interval


def gain(value: float, low: float | None, high: float | None) -> dict[str, Any]:
    return {"value": value, "interval": [low, high], "against": "pca"}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (gain(0.1, 0.05, 0.15), "the network is better than PCA by 0.100 [0.050, 0.150]"),
        (gain(-0.1, -0.15, -0.05), "PCA is better than the network by 0.100 [0.050, 0.150]"),
        (gain(0.01, -0.02, 0.04), "no difference between the network and PCA: 0.010 [-0.020, 0.040]"),
        (gain(0.01, None, None), "not measurable against PCA"),
    ],
)
def test_a_verdict_follows_the_interval(row: dict[str, Any], said: str) -> None:
    assert verdict(row) == said


def test_numbers_are_written_plainly() -> None:
    assert [number(0.12345), number(34776.0), number(None), number(float("nan"))] == ["0.123", "34,776", "n/a", "n/a"]
    assert with_interval({"value": 0.5, "interval": None}) == "0.500"
    assert spoken("linear_auc_gain") == "linear AUC gain"
