"""Figures that show images or codes one by one: reconstructions, t-SNE maps, saliency.

Shape legend: n pixels an axis, S seeds, U code units or classes, C channels.
"""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from kilonode.cases.contract import Explanation
from kilonode.cases.lhc_events import panels
from kilonode.cases.lhc_events.panels import CHANNELS, COLORS
from kilonode.cases.panels import flow, grid

UNITS_SHOWN = 8


def reconstructions(explanation: Explanation) -> Figure:
    """Images as seen and as given back: unseen signal first, then ordinary events; all towers."""
    seen = [(image, "QCD") for image in zip(explanation.inputs[:3, 0], explanation.outputs[:3, 0], strict=True)]
    strange = explanation.arrays.get("unseen_image")
    if strange is not None and len(strange):
        pairs = zip(strange[:, 0], explanation.arrays["unseen_output"][:, 0], strict=True)
        seen = [(pair, "unseen signal") for pair in pairs] + seen
    figure, axes_grid = grid(len(seen), 2, (4.0, 1.9), "Seen and given back; all towers")
    for axes_row, (pair, name) in zip(axes_grid, seen, strict=True):
        largest = float(max(pair[0].max(), 1e-3))
        for axes, image, title in zip(axes_row, pair, ("seen", "given back"), strict=True):
            drawn = axes.imshow(
                image, vmin=0, vmax=largest, cmap="viridis", origin="lower", extent=panels.EXTENT, aspect="auto"
            )
            axes.tick_params(labelsize="x-small")
            if axes_row is axes_grid[0]:
                axes.set_title(title)
            if axes_row is axes_grid[-1]:
                axes.set_xlabel("azimuth $\\phi$ [rad]", fontsize="small")
        axes_row[0].set_ylabel(f"{name}\n$\\eta$", fontsize="small")
        figure.colorbar(drawn, ax=list(axes_row), pad=0.01).ax.tick_params(labelsize="x-small")
    figure.supxlabel("colour: log(1 + GeV), in units of the training rms", fontsize="small")
    return figure


def tsne(explanation: Explanation) -> Figure:
    """Maps of the code, coloured by process and by what might explain it instead."""
    columns = list(explanation.columns)
    wanted = [(name, 0) for name in columns] + [(columns[0], 1)] * (len(explanation.embedding) > 1 and bool(columns))
    figure, axes_list = flow(
        max(len(wanted), 1), 3, (4.0, 3.5), "t-SNE of the code; distances between groups mean nothing"
    )
    order = np.random.default_rng(0).permutation(explanation.embedding.shape[1])
    for axes, (name, seed) in zip(axes_list, wanted, strict=False):
        x, y = explanation.embedding[seed, order].T
        axes.set(xticks=[], yticks=[], xlabel="t-SNE 1 (no unit)", ylabel="t-SNE 2 (no unit)")
        axes.set_title(
            f"{name}; seed {seed + 1}, trustworthiness {explanation.trustworthiness[seed]:.2f}", fontsize="small"
        )
        values, size = explanation.columns[name][order], float(np.clip(6000 / len(x), 4, 20))
        if name in explanation.labels:
            for number in np.unique(values):
                chosen = values == number
                color = COLORS[int(number) % len(COLORS)]
                axes.scatter(
                    x[chosen], y[chosen], s=size, lw=0, color=color, label=explanation.labels[name][int(number)]
                )
            axes.legend(fontsize="xx-small", markerscale=2)
            continue
        points = axes.scatter(x, y, s=size, c=values, cmap="viridis", lw=0)
        unit = explanation.units.get(name, "1")
        figure.colorbar(points, ax=axes).set_label(name + ("" if unit in ("", "1") else f" [{unit}]"))
    return figure


def saliency(explanation: Explanation) -> Figure:
    """Mean absolute gradients (U, C, n, n): a row a unit or class, a column a channel; one scale a row."""
    maps = explanation.saliency[:UNITS_SHOWN]
    units, channels = maps.shape[:2]
    process = explanation.labels.get("process", {})
    classes = explanation.outputs.ndim == 2
    figure, axes_grid = grid(units, channels, (2.9, 1.5), "Where the network looks: mean absolute gradient")
    for unit, axes_row in enumerate(axes_grid):
        largest = float(np.quantile(maps[unit], 0.999)) or 1.0
        for channel, axes in enumerate(axes_row):
            drawn = axes.imshow(
                maps[unit, channel],
                vmin=0,
                vmax=largest,
                cmap="cividis",
                origin="lower",
                extent=panels.EXTENT,
                aspect="auto",
            )
            axes.tick_params(labelsize="xx-small", labelbottom=unit + 1 == units, labelleft=channel == 0)
            if unit == 0:
                axes.set_title(
                    CHANNELS[channel] if channels == len(CHANNELS) else f"channel {channel + 1}", fontsize="small"
                )
        who = process.get(unit, f"unit {unit + 1}") if classes else f"unit {unit + 1}"
        axes_row[0].set_ylabel(who.replace(", ", ",\n") + "\n$\\eta$", fontsize="x-small")
        figure.colorbar(drawn, ax=list(axes_row), pad=0.01).ax.tick_params(labelsize="xx-small")
    figure.supxlabel("azimuth $\\phi$ [rad]; colour: network's units", fontsize="small")
    return figure
