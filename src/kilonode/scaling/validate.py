"""Does the model tell 1,024 nodes from 64? Every public curve is predicted without itself and its relatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kilonode.records import Json, figure
from kilonode.scaling import model
from kilonode.scaling.curves import Curve, shipped

LIMIT = 64
"""Largest count in nodes that the fit sees."""
FAR = 256
"""Nodes from which the median error is judged."""
TARGETS = {"in-sample": 0.025, "median": 0.05, "inside": 1.0, "width": 0.12}


@dataclass(frozen=True)
class Held:
    """One curve, the fit of its small counts, and what it says of all counts from two nodes on.

    ``predicted`` is (3, K): middle, low, high in s, at the counts of ``curve``; ``far`` (K,) marks those not fitted.
    """

    curve: Curve
    fit: model.Fit
    predicted: np.ndarray

    @property
    def far(self) -> np.ndarray:
        """The counts that the fit has not seen, (K,)."""
        return self.curve.nodes > LIMIT

    @property
    def error(self) -> np.ndarray:
        """Predicted over measured, less one, (K,)."""
        return self.predicted[0] / self.curve.step_s - 1

    @property
    def inside(self) -> np.ndarray:
        """Whether the interval holds what was measured, (K,)."""
        return (self.predicted[1] <= self.curve.step_s) & (self.curve.step_s <= self.predicted[2])

    @property
    def width(self) -> np.ndarray:
        """The longer side of the interval over the prediction, (K,)."""
        middle, low, high = self.predicted
        return np.maximum(middle - low, high - middle) / middle


def held_out(curves: Sequence[Curve], exponents: Sequence[float] = model.EXPONENTS) -> list[Held]:
    """Fit each curve up to ``LIMIT`` nodes with a prior from the curves of other families."""
    held = []
    for curve in curves:
        known = curve.part(curve.nodes >= model.FIRST)
        given = model.prior(curves, curve.family, exponents)
        fitted = model.fit(known.part(known.nodes <= LIMIT), given)
        held.append(Held(known, fitted, fitted.step(known.nodes)))
    return held


def report(exponents: Sequence[float] = model.EXPONENTS) -> tuple[list[Json], list[Held]]:
    """The targets and every prediction as figures, and what they come from."""
    held = held_out(shipped(), exponents)
    far = [one for one in held if one.far.any()]
    judged = np.concatenate([abs(one.error[one.curve.nodes >= FAR]) for one in far])
    known = [one.error[~one.far] for one in held]
    worst = max(float(abs(errors).max()) for errors in known)
    root = max(float(np.sqrt((errors**2).mean())) for errors in known)
    inside = np.concatenate([one.inside[one.far] for one in far])
    widest = max(float(one.width[one.far].max()) for one in far)
    rows = [
        _target("in-sample error, worst point of any curve", worst, "in-sample"),
        figure("in-sample error, root mean square of the worst curve", root),
        _target(f"median error at {FAR} nodes and more", float(np.median(judged)), "median", points=len(judged)),
        figure(
            f"share of points beyond {LIMIT} nodes inside their interval",
            float(inside.mean()),
            target=TARGETS["inside"],
            met=bool(inside.all()),
            points=len(inside),
        ),
        _target("widest interval, either way", widest, "width"),
    ]
    return rows + [row for one in held for row in _curve_rows(one)], held


def _target(name: str, value: float, key: str, **more: Any) -> Json:
    return figure(name, value, target=TARGETS[key], met=value <= TARGETS[key], **more)


def _curve_rows(one: Held) -> list[Json]:
    rows = [figure(f"{one.curve.title}: in-sample error, worst point", float(abs(one.error[~one.far]).max()))]
    for i in np.flatnonzero(one.far):
        middle, low, high = (float(value) for value in one.predicted[:, i])
        measured, error = float(one.curve.step_s[i]), float(one.error[i])
        note = f"measured {measured:.4g} s, error {100 * error:+.1f} %{'' if one.inside[i] else ', OUTSIDE'}"
        name = f"{one.curve.title}: step at {one.curve.nodes[i]:.0f} nodes"
        rows.append(figure(name, middle, "s", (low, high), measured=measured, error=error, note=note))
    return rows
