"""Rows of the report, each value with its interval over sequences.

Shape legend: N samples.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kilonode import intervals
from kilonode.records import Json, figure

ROLES = {"network": "network", "labels": "oracle", "one box a cell": "oracle", "masks": "oracle"}


class Report:
    """Rows, curves and arrays so far, of samples of ``groups`` (N,)."""

    def __init__(self, groups: np.ndarray, base: Report | None = None) -> None:
        self.rows: list[Json] = base.rows if base else []
        self.curves: dict[str, dict[str, tuple[np.ndarray, ...]]] = base.curves if base else {}
        self.arrays: dict[str, np.ndarray] = base.arrays if base else {}
        self.size = {"n": len(groups), "groups": len(np.unique(groups))}
        self.resampled = intervals.resamples(groups, count=400)

    def of(self, groups: np.ndarray) -> Report:
        """The same report for other samples."""
        return Report(groups, self)

    def add(
        self, question: str, name: str, method: str, metric: intervals.Metric, about: str = "", **more: Any
    ) -> intervals.Estimate:
        """One metric of sample weights."""
        estimate = intervals.bootstrap(_once(metric), self.resampled)
        self.put(question, name, method, estimate, about, **more)
        return estimate

    def put(
        self, question: str, name: str, method: str, estimate: intervals.Estimate, about: str = "", **more: Any
    ) -> None:
        """One value with its interval."""
        labels: Json = {"question": question, "about": about, "metric": name, "method": method}
        labels["role"] = more.pop("role", ROLES.get(method, "baseline"))
        self.rows.append(figure("", estimate.value, "1", estimate.interval, **labels, **{**self.size, **more}))

    def plain(self, question: str, name: str, method: str, value: float, about: str = "", **more: Any) -> None:
        """One number without an interval."""
        labels: Json = {"question": question, "about": about, "metric": name, "method": method}
        labels["role"] = more.pop("role", ROLES.get(method, "baseline"))
        self.rows.append(figure("", value, **labels, **{**self.size, **more}))


def _once(metric: intervals.Metric) -> intervals.Metric:
    """The same metric, computed once for the same weights: few sequences have few resamples that differ."""
    known: dict[bytes, float] = {}

    def looked_up(weights: np.ndarray) -> float:
        key = weights.tobytes()
        if key not in known:
            known[key] = metric(weights)
        return known[key]

    return looked_up
