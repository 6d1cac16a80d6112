"""Drawings of whole frames: the world map with boxes, precision and recall, few labels, the network itself.

Shape legend: H rows, W columns, L layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from kilonode.cases.contract import Explanation
from kilonode.cases.extreme_weather.drawings import BLUE, GREEN, GREY, RED, grid
from kilonode.cases.extreme_weather.earth import globe, relief
from kilonode.cases.extreme_weather.rules import CLASSES
from kilonode.cases.extreme_weather.scores import OVERLAPS
from kilonode.cases.extreme_weather.world import CHANNELS

LAYERS = ("input", "convolution\n5 x 5, half", "place and\nsize", "empty or\nobject", "class", "back, same\nweights")


def world_map(explanation: Explanation) -> Figure | None:
    """Water vapour with true boxes in green and the network's in red (Figure 7)."""
    water = explanation.arrays.get("map")
    if water is None:
        return None
    figure, ((axes,),) = grid(1, 1, (9.6, 4.9), "Water vapour of a test frame; green: true boxes, red: of the network")
    drawn = axes.imshow(water, origin="lower", extent=(0, 360, -90, 90), cmap="Blues", vmin=0, aspect="auto")
    figure.colorbar(drawn, ax=axes, pad=0.01, label="water vapour [kg/m2]")
    if explanation.case and water.shape[1] * 2 == water.shape[0] * 3:
        lines = globe(*water.shape)
        axes.contour(lines.lon, lines.lat, relief(lines.lat, lines.lon), [0.0], colors="#888888", linewidths=0.5)
    said, least = explanation.arrays["map_network"], explanation.arrays["map_sure"]
    for color, boxes, up in ((GREEN, explanation.arrays["map_truth"], True), (RED, said[said[:, 5] >= least], False)):
        for box in boxes:
            for left, bottom, width, height in _pieces(box, water.shape):
                axes.add_patch(Rectangle((left, bottom), width, height, fill=False, ec=color, lw=1.4, clip_on=True))
            left, bottom, _, height = next(_pieces(box, water.shape))
            place = (left + 1, bottom + height + 1) if up else (left + 1, bottom - 1)
            way = "bottom" if up else "top"
            axes.text(
                *place, CLASSES[int(box[4])], color=color, fontsize="x-small", va=way, weight="bold", clip_on=True
            )
    axes.set(xlabel="longitude [degrees east]", ylabel="latitude [degrees north]", xlim=(0, 360), ylim=(-90, 90))
    return figure


def _pieces(box: np.ndarray, shape: tuple[int, ...]) -> Iterator[tuple[float, float, float, float]]:
    """Left, bottom, width, height of a box in degrees; a second piece for what lies beyond the seam."""
    up, along = 180 / shape[0], 360 / shape[1]
    for turn in (0, 360) if box[3] > shape[1] else (0,):
        yield box[1] * along - turn, box[0] * up - 90, (box[3] - box[1]) * along, (box[2] - box[0]) * up


def precision_recall(explanation: Explanation) -> Figure | None:
    """Curves of each class, an overlap a line; network and thresholds."""
    names = {name.split(":")[1] for name in explanation.arrays if name.startswith("pr:")}
    question = next((name for name in ("boxes_truth", "boxes_labels") if name in names), None)
    if question is None:
        return None
    title = "Boxes on test sequences, against the " + question.removeprefix("boxes_")
    figure, axes_grid = grid(1, len(CLASSES), (2.7, 2.9), title)
    for axes, name in zip(axes_grid[0], CLASSES, strict=True):
        for method, color in (("network", BLUE), ("thresholds", RED)):
            for overlap, style in zip(OVERLAPS, ("-", "--", ":"), strict=True):
                found = explanation.arrays.get(f"pr:{question}:{overlap}:{method}:{name}")
                if found is not None and len(found):
                    axes.plot(*found.T, style, color=color, lw=1.2, label=f"{method}, {overlap}")
        axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="recall")
        axes.set_title(name, fontsize="small")
    axes_grid[0, 0].set_ylabel("precision")
    handles, labels = max((axes.get_legend_handles_labels() for axes in axes_grid[0]), key=lambda pair: len(pair[0]))
    figure.legend(handles, labels, loc="outside lower center", ncols=6, fontsize="x-small", title="method, overlap")
    return figure


def few_labels(explanation: Explanation) -> Figure | None:
    """Mean average precision against the share of labels."""
    curves = explanation.arrays.get("few_labels")
    if curves is None:
        return None
    figure, ((axes,),) = grid(1, 1, (5.6, 3.8), "Few labels, the same number of steps")
    names = ((BLUE, "with reconstruction of all frames"), (RED, "labels alone"))
    for (color, name), (share, value, low, high, least, most) in zip(names, curves.transpose(0, 2, 1), strict=True):
        spread = np.maximum([value - least, most - value], 0)
        axes.errorbar(100 * share, value, spread, fmt="o-", ms=4, color=color, label=name, capsize=2)
        axes.fill_between(100 * share, low, high, color=color, alpha=0.15, lw=0)
    axes.set(xscale="log", xlabel="share of labelled frames that keep their labels [%]", ylim=(0, None))
    axes.set_xticks(100 * curves[0, :, 0], [f"{100 * share:g}" for share in curves[0, :, 0]])
    axes.minorticks_off()
    axes.set_ylabel("mean average precision at overlap 0.1")
    axes.legend(fontsize="small")
    return figure


def reconstruction(explanation: Explanation) -> Figure | None:
    """Some fields as seen and as they come back."""
    found = explanation.arrays.get("reconstruction")
    if found is None or found.shape[1] != len(CHANNELS):
        return None
    names = ("PSL", "TMQ", "U850", "T500")
    figure, axes_grid = grid(len(names), 2, (4.2, 1.75), "A test frame as seen, and back from the code")
    for (left, right), name in zip(axes_grid, names, strict=True):
        seen, back = found[:, list(CHANNELS).index(name)]
        low, high = np.quantile(seen, [0.005, 0.995])
        for axes, image in ((left, seen), (right, back)):
            drawn = axes.imshow(image, origin="lower", extent=(0, 360, -90, 90), vmin=low, vmax=high, aspect="auto")
            axes.tick_params(labelsize="x-small", labelbottom=name == names[-1], labelleft=axes is left)
        left.set_ylabel(name, fontsize="small")
        bar = figure.colorbar(drawn, ax=[left, right], pad=0.01)
        bar.set_label("deviations", fontsize="x-small")
        bar.ax.tick_params(labelsize="x-small")
    figure.supxlabel("longitude [degrees east]; vertical: latitude [degrees north]", fontsize="x-small")
    return figure


def network(explanation: Explanation) -> Figure | None:
    """The detector from its layers (Figure 6): encoder to the right, heads above the code, the way back."""
    layers = explanation.arrays.get("network")
    if layers is None:
        return None
    figure, ((axes,),) = grid(
        1,
        1,
        (1.25 * float(np.isin(layers[:, 0], (0, 1, 5)).sum()), 4.2),
        "The detector; sizes are channels x rows x columns",
    )
    places: list[tuple[float, float]] = []
    x, code = 0.0, 0.0
    for kind, channels, frames, rows, columns in layers.tolist():
        is_head = kind in (2, 3, 4)
        place = (code + (kind - 3) * 1.2, 2.0) if is_head else (x, 0.0)
        if not is_head:
            x += 1.45
            code = place[0] if kind == 1 else code
        tall = 0.25 + 0.28 * float(np.log2(rows)) / 1.6
        _layer(axes, place, tall, kind, (channels, frames, rows, columns))
        if places:
            _arrow(axes, (code, 0.85) if is_head else places[-1], place, is_head)
        if not is_head:
            places.append(place)
    axes.set(xlim=(-0.8, x - 0.6), ylim=(-1.1, 2.9))
    axes.axis("off")
    return figure


def _layer(axes: Axes, place: tuple[float, float], tall: float, kind: int, size: tuple[int, ...]) -> None:
    colors = (GREY, BLUE, RED, RED, RED, GREEN)
    wide = 0.18 + 0.06 * float(np.log2(size[0]))
    left, bottom = place[0] - wide / 2, place[1] - tall / 2
    axes.add_patch(Rectangle((left, bottom), wide, tall, fc=colors[kind], ec="k", lw=0.6, alpha=0.7))
    shape = [size[0], *([size[1]] if size[1] > 1 else []), *size[2:]]
    axes.text(place[0], bottom - 0.08, " x ".join(map(str, shape)), ha="center", va="top", fontsize="x-small")
    axes.text(place[0], bottom + tall + 0.06, LAYERS[kind], ha="center", va="bottom", fontsize="x-small")


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], is_head: bool) -> None:
    ends: Any = (start, (end[0], end[1] - 0.72)) if is_head else ((start[0] + 0.32, 0), (end[0] - 0.32, 0))
    axes.add_patch(FancyArrowPatch(*ends, arrowstyle="-|>", mutation_scale=9, lw=0.8, color="k"))
