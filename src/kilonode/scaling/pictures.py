"""Pictures of measured series: rate, three efficiencies, and where the time of a step goes."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from kilonode.bench._measure import median
from kilonode.scaling.efficiency import KINDS, Ratio, efficiencies
from kilonode.scaling.figures import BLUE, GREY, ORANGE
from kilonode.scaling.gather import QUIET, Series

COLORS = dict(zip(KINDS, (BLUE, ORANGE, "#009E73"), strict=True))
PARTS = (("compute", BLUE), ("communication", ORANGE), ("input", "#E69F00"))


def series(one: Series, quality: float | None) -> Figure:
    """Of one series: rate over count with its ideal, efficiencies with 95 % intervals, parts of the step."""
    figure = Figure(figsize=(11.0, 3.5), layout="constrained")
    rate, efficiency, parts = figure.subplots(1, 3)
    _rate(rate, one)
    _efficiencies(efficiency, one, efficiencies(one.runs, one.strong, quality))
    _parts(parts, one)
    under = one.records[0]["conditions"]
    what = f"{under['case']}/{under['task']}, {under['data']}: {under['mode']} scaling, {under['input']} data"
    if (others := one.others(one.counts)) > QUIET:
        what += f". Other programs used up to {others:.2g} cores meanwhile: no measure of speed"
    figure.suptitle(what, fontsize=10, x=0.01, ha="left")
    return figure


def _rate(axes: Axes, one: Series) -> None:
    counts = np.array(one.counts, dtype=float)
    for run in one.runs:
        axes.plot(run.count, run.rate, "o", color=ORANGE, markersize=4, alpha=0.7)
    middle = np.array([median(one.values("samples_per_s", count))[0] for count in one.counts])
    axes.plot(counts, middle, color=ORANGE, label="median of the runs")
    axes.plot(counts, middle[0] * counts / counts[0], color=GREY, linestyle=":", label="no loss")
    if counts[-1] >= 8 * counts[0]:
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, None)
    axes.legend(frameon=False, fontsize=8)
    _axes(axes, one, "samples/s")


def _efficiencies(axes: Axes, one: Series, found: dict[int, dict[str, Ratio]]) -> None:
    for number, kind in enumerate(KINDS):
        points = [(count, *values[kind]) for count, values in found.items() if kind in values]
        if len(points) < 2:
            continue
        shift = 1.03 ** (number - 1)
        x, y = (np.array([point[k] for point in points]) for k in (0, 1))
        around = np.array([[value - low, high - value] for _, value, (low, high) in points]).T.clip(0)
        axes.errorbar(x * shift, y, around, fmt="o-", color=COLORS[kind], label=kind, markersize=4, capsize=2)
    axes.axhline(1.0, color=GREY, linestyle=":")
    axes.set_ylim(0, max(1.1, axes.get_ylim()[1]))
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    _axes(axes, one, "efficiency")


def _parts(axes: Axes, one: Series) -> None:
    """Bars of ms a step; communication is rank 0's wait for the others and for the messages."""
    x, base = np.arange(len(one.counts)), np.zeros(len(one.counts))
    for name, color in PARTS:
        height = np.array([_of_step(one, count)[name] for count in one.counts])
        axes.bar(x, height, 0.6, bottom=base, color=color, label=name)
        base += height
    axes.set_xticks(x, [str(count) for count in one.counts])
    axes.set_ylim(0, 1.35 * base.max())
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="upper left", columnspacing=0.8, handlelength=1.0)
    axes.set(xlabel=one.over, ylabel="step [ms]")
    axes.spines[["top", "right"]].set_visible(False)


def _of_step(one: Series, count: int) -> dict[str, float]:
    waits = {kind: median(one.values(f"{kind}_wait", count))[0] for kind in ("communication", "input")}
    step = 1e3 * float(np.median([run.step_s for run in one.runs if run.count == count]))
    shares = {**waits, "compute": 1 - sum(waits.values())}
    return {kind: share * step for kind, share in shares.items()}


def _axes(axes: Axes, one: Series, what: str) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(one.counts)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(one.counts[0] / 1.2, one.counts[-1] * 1.2)
    axes.set(xlabel=one.over, ylabel=what)
    axes.spines[["top", "right"]].set_visible(False)
