"""Drawings of patches, and t-SNE maps.

Shape legend: n examples, C channels, h rows, w columns, N embedded samples, S seeds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from kilonode.cases import panels
from kilonode.cases.contract import Explanation
from kilonode.cases.extreme_weather.patches import CYCLONE_CHANNELS, PIXEL
from kilonode.cases.extreme_weather.storms import KINDS
from kilonode.cases.extreme_weather.world import CHANNELS

# Okabe and Ito 2008, "Color universal design"; the last one is ours.
BLUE, RED, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#999999"
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#BBBBBB", "#E69F00", "#56B4E9", "#F0E442", "#000000", "#882255")
EXAMPLES = 3
GAP = 2
"""Pixels between patches that are drawn above one another."""


def grid(rows: int, columns: int, size: tuple[float, float], title: str) -> tuple[Figure, Any]:
    """Make a figure with (rows, columns) axes; ``size`` is one panel's width and height in inches."""
    return panels.grid(rows, columns, size, title, least=5.0)


def patches(explanation: Explanation) -> Figure | None:
    """Right answers of both classes, all channels."""
    parts = [explanation.arrays.get(f"patches_{name}") for name in ("positive", "negative")]
    if any(part is None for part in parts):
        return None
    shown = np.concatenate([part[:EXAMPLES] for part in parts if part is not None])
    if not len(shown):
        return None
    names, units = _channels(shown.shape[1])
    size = (1.45 * shown.shape[3] / shown.shape[2], 1.45 * len(shown))
    figure, axes_grid = grid(1, len(names), size, "Test patches, right answers")
    first = len(parts[0][:EXAMPLES]) if parts[0] is not None else 0
    middles = [(len(shown) - 1 - row) * (shown.shape[2] + GAP) + shown.shape[2] / 2 for row in range(len(shown))]
    words = ["positive" if row < first else "negative" for row in range(len(shown))]
    for channel, (axes, name, unit) in enumerate(zip(axes_grid[0], names, units, strict=True)):
        low, high = np.quantile(shown[:, channel], [0.005, 0.995])
        drawn = axes.imshow(_stacked(shown[:, channel]), origin="lower", vmin=low, vmax=max(high, low + 1e-6))
        axes.set(xticks=[], yticks=[])
        axes.set_title(name, fontsize="small")
        axes.spines[:].set_visible(False)
        bar = figure.colorbar(drawn, ax=axes, location="bottom", fraction=0.04, pad=0.01)
        bar.set_label(unit, fontsize="x-small")
        bar.ax.tick_params(labelsize="xx-small")
        bar.ax.locator_params(nbins=3)
    axes_grid[0, 0].set_yticks(middles, words, rotation=90, va="center", fontsize="small")
    axes_grid[0, 0].tick_params(length=0)
    figure.supxlabel(_window(shown.shape), fontsize="x-small")
    return figure


def _stacked(images: np.ndarray) -> np.ndarray:
    """Images (n, h, w) above one another, the first on top: one panel is drawn in a tenth of the time of many."""
    parts = [np.concatenate([image, np.full((GAP, image.shape[1]), np.nan)]) for image in images[::-1]]
    return np.concatenate(parts)[:-GAP]


def mistaken(explanation: Explanation) -> Figure | None:
    """The worst mistakes: water vapour, and pressure where there is any."""
    shown = explanation.arrays.get("patches_mistaken")
    if shown is None or not len(shown):
        return None
    about = explanation.arrays["patches_mistaken_about"].astype(int)
    wanted = [0, 2] if shown.shape[1] > 2 else [0]
    names, units = _channels(shown.shape[1])
    across = shown.shape[3] / shown.shape[2]
    figure, axes_grid = grid(len(wanted), len(shown), (1.75 * across, 2.0), "Test patches, wrong answers")
    for row, channel in enumerate(wanted):
        low, high = np.quantile(shown[:, channel], [0.005, 0.995])
        for number, axes in enumerate(axes_grid[row]):
            drawn = axes.imshow(shown[number, channel], origin="lower", vmin=low, vmax=max(high, low + 1e-6))
            axes.set(xticks=[], yticks=[])
            if row == 0:
                label, said, kind = about[number]
                what = KINDS.get(int(kind), "own data")
                axes.set_title(f"label {label}, said {said}\n{what}", fontsize="x-small")
        bar = figure.colorbar(drawn, ax=list(axes_grid[row]), pad=0.01)
        bar.set_label(f"{names[channel]} [{units[channel]}]", fontsize="x-small")
        bar.ax.tick_params(labelsize="x-small")
    figure.supxlabel(_window(shown.shape), fontsize="x-small")
    return figure


def wind(explanation: Explanation) -> Figure | None:
    """Streamlines of the wind at 850 hPa over the pressure, in the shown patch of either label with the lowest one."""
    found = [explanation.arrays.get(f"patches_{name}") for name in ("positive", "negative")]
    some = [part for part in found if part is not None and len(part) and part.shape[1] == len(CYCLONE_CHANNELS)]
    if not some:
        return None
    figure, axes_grid = grid(1, len(some), (4.2, 3.4), "Wind at 850 hPa over the pressure at sea level")
    east, north, pressure = (CYCLONE_CHANNELS.index(name) for name in ("U850", "V850", "PSL"))
    shown = [part[part[:, pressure].min(axis=(1, 2)).argmin()] for part in some]
    low, high = (float(limit([part[pressure] for part in shown])) / 100 for limit in (np.min, np.max))
    for axes, part in zip(axes_grid[0], shown, strict=True):
        rows, columns = ((np.arange(n) - (n - 1) / 2) * step for n, step in zip(part.shape[1:], PIXEL, strict=True))
        sides = (columns[0], columns[-1], rows[0], rows[-1])
        drawn = axes.imshow(part[pressure] / 100, origin="lower", extent=sides, vmin=low, vmax=high, cmap="viridis")
        axes.streamplot(columns, rows, part[east], part[north], color="w", linewidth=0.8, density=0.9, arrowsize=0.8)
        axes.set(xlabel="degrees east of the middle", ylabel="degrees north", xlim=sides[:2], ylim=sides[2:])
    for axes, name in zip(axes_grid[0], ("label: tropical cyclone", "label: other"), strict=False):
        axes.set_title(name, fontsize="small")
    figure.colorbar(drawn, ax=list(axes_grid[0]), label="pressure at sea level [hPa]")
    return figure


def confusion(explanation: Explanation) -> Figure | None:
    """How many patches of each class the network called what: by the labels, and by the truth where it is known."""
    counts = explanation.arrays.get("confusion")
    if counts is None:
        return None
    figure, axes_grid = grid(1, len(counts), (3.2, 3.2), "Test patches: what they are, and what the network said")
    for axes, table, name in zip(axes_grid[0], counts, ("label", "truth"), strict=False):
        axes.imshow(table / np.maximum(table.sum(axis=1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(table):
            color = "w" if 2 * count > table[row].sum() else "k"
            axes.text(column, row, f"{int(count)}", ha="center", va="center", color=color)
        axes.set(xticks=[0, 1], yticks=[0, 1], xlabel="said (1: storm)", ylabel=f"{name} (1: storm)")
    return figure


def _channels(count: int) -> tuple[list[str], list[str]]:
    if count == len(CYCLONE_CHANNELS):
        return list(CYCLONE_CHANNELS), [CHANNELS[name][0] for name in CYCLONE_CHANNELS]
    if count == 2:
        return ["TMQ", "land"], ["kg/m2", "1"]
    return [f"channel {k}" for k in range(count)], ["1"] * count


def _window(shape: tuple[int, ...]) -> str:
    return f"each window: {shape[3] * PIXEL[1]:.0f}° east by {shape[2] * PIXEL[0]:.0f}° north; north is up"


def cells(explanation: Explanation) -> Figure | None:
    """The code of cells by class, latitude and kind."""
    found = explanation.arrays.get("cells")
    if found is None:
        return None
    figure, axes_grid = grid(
        1, 3, (4.0, 3.9), "t-SNE of the code of single cells; distances between groups mean nothing"
    )
    x, y, kind, lat, negative = found.T
    names = {0: "TD", 1: "TC", 2: "ETC", 3: "AR", 4: "nothing", 5: "other object"}
    _classes(axes_grid[0, 0], x, y, kind, names, "class of the true object")
    points = axes_grid[0, 1].scatter(x, y, s=8, c=lat, cmap="coolwarm", vmin=-70, vmax=70, lw=0)
    figure.colorbar(points, ax=axes_grid[0, 1], label="latitude [degrees]")
    axes_grid[0, 1].set_title("latitude", fontsize="small")
    _classes(axes_grid[0, 2], x, y, negative, KINDS, "kind, never labelled")
    for axes in axes_grid[0]:
        axes.set(xticks=[], yticks=[], xlabel="t-SNE 1 (no unit)", ylabel="t-SNE 2 (no unit)")
    return figure


def _classes(axes: Axes, x: np.ndarray, y: np.ndarray, kind: np.ndarray, names: dict[int, str], title: str) -> None:
    present = [number for number in names if (kind == number).any()]
    for number in present:
        here = kind == number
        axes.scatter(x[here], y[here], s=8, lw=0, color=COLORS[number % len(COLORS)], label=names[number])
    axes.set_title(title, fontsize="small")
    axes.legend(fontsize="xx-small", loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=3, markerscale=2)


def tsne(explanation: Explanation) -> Figure | None:
    """Maps of the code of samples: by each column, then other seeds."""
    if not explanation.embedding.size or not explanation.columns:
        return None
    first = next(iter(explanation.columns))
    wanted = [(name, 0) for name in explanation.columns]
    wanted += [(first, seed) for seed in range(1, len(explanation.embedding))]
    across = min(3, len(wanted))
    title = "t-SNE of test samples; distances between groups mean nothing"
    figure, axes_grid = grid(-(-len(wanted) // across), across, (3.9, 3.6), title)
    for axes in axes_grid.flat[len(wanted) :]:
        axes.remove()
    for axes, (name, seed) in zip(axes_grid.flat, wanted, strict=False):
        _embedded(axes, explanation, name, seed)
        kept = explanation.trustworthiness[seed]
        axes.set_title(f"{name}; seed {seed + 1}, trustworthiness {kept:.2f}", fontsize="small")
    return figure


def _embedded(axes: Axes, explanation: Explanation, name: str, seed: int) -> None:
    """One map, its points in random order so that no class hides another."""
    order = np.random.default_rng(0).permutation(explanation.embedding.shape[1])
    x, y = explanation.embedding[seed, order].T
    size = float(np.clip(6000 / len(x), 4, 30))
    axes.set(xticks=[], yticks=[], xlabel="t-SNE 1 (no unit)", ylabel="t-SNE 2 (no unit)")
    value = explanation.columns[name][order]
    if name in explanation.labels:
        names = explanation.labels[name]
        colors = ListedColormap(COLORS)
        axes.scatter(x, y, s=size, lw=0, c=value, cmap=colors, vmin=-0.5, vmax=len(COLORS) - 0.5)
        for number in np.unique(value):
            axes.scatter([], [], s=20, color=COLORS[int(number) % len(COLORS)], label=names.get(int(number), "other"))
        axes.legend(fontsize="xx-small", loc="best", framealpha=0.6)
        return
    points = axes.scatter(x, y, s=size, c=value, cmap="viridis", lw=0)
    unit = explanation.units.get(name, "1")
    axes.figure.colorbar(points, ax=axes).set_label(name + ("" if unit in ("", "1") else f" [{unit}]"))
