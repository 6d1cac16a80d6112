"""Pictures of predictions: what was fitted, what was not seen, and the interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from kilonode.records import Json
from kilonode.scaling.curves import Curve
from kilonode.scaling.model import FIRST, Fit

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#999999"


def compared(panels: Sequence[tuple[Curve, Fit, int]]) -> Figure:
    """One panel for each public curve: step times seen and not seen by its fit, and the predicted 90 % interval."""
    rows = -(-len(panels) // 4)
    figure = Figure(figsize=(13.0, 3.2 * rows + 0.5), layout="constrained")
    for axes, (curve, fit, limit) in zip(figure.subplots(rows, 4, squeeze=False).flat, panels, strict=False):
        _step(axes, curve, fit, float(curve.nodes.max()), limit)
        axes.set_title(curve.title, fontsize=10)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure


def predicted(curve: Curve, fit: Fit, most: int) -> Figure:
    """Step time and rate of one curve up to ``most`` nodes."""
    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    _step(left, curve, fit, float(most), np.inf)
    counts = _counts(most)
    rate = curve.batch_per_node * counts / fit.step(counts)
    right.fill_between(counts, rate[2], rate[1], color=BLUE, alpha=0.2, linewidth=0, label="90 % of records to come")
    right.plot(counts, rate[0], color=BLUE, label="prediction")
    first = float(counts[0])
    right.plot(counts, rate[0, 0] * counts / first, color=GREY, linestyle=":", label="no loss after 2 nodes")
    right.plot(curve.nodes, curve.batch_per_node * curve.nodes / curve.step_s, "o", color=ORANGE, label="measured")
    right.set_yscale("log")
    _axes(right, "samples/s")
    left.legend(frameon=False)
    right.legend(frameon=False)
    return figure


def _counts(most: float) -> np.ndarray:
    return np.geomspace(FIRST, most, 120)


def _step(axes: Axes, curve: Curve, fit: Fit, most: float, limit: float) -> None:
    """Step time in ms or s over nodes; counts above ``limit`` were not fitted."""
    counts = _counts(most)
    scale, unit = (1e3, "ms") if curve.step_s.max() < 1 else (1.0, "s")
    middle, low, high = scale * fit.step(counts)
    axes.fill_between(counts, low, high, color=BLUE, alpha=0.2, linewidth=0, label="90 % of records to come")
    axes.plot(counts, middle, color=BLUE, label="prediction")
    seen = (curve.nodes <= limit) & (curve.nodes >= FIRST)
    axes.plot(curve.nodes[seen], scale * curve.step_s[seen], "o", color=ORANGE, label="measured, fitted")
    hidden = curve.nodes > limit
    if hidden.any():
        style: Json = {"color": ORANGE, "markerfacecolor": "white"}
        axes.plot(
            curve.nodes[hidden], scale * curve.step_s[hidden], "o", label="measured, not seen by the fit", **style
        )
    _axes(axes, f"step [{unit}]")


def _axes(axes: Axes, what: str) -> None:
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("nodes")
    axes.set_ylabel(what)
    axes.spines[["top", "right"]].set_visible(False)
