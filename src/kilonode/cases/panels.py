"""Parts of figures that cases share: grids of axes, and one t-SNE map coloured by a column.

Shape legend: N embedded samples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kilonode.cases.contract import Explanation

# Okabe and Ito 2008, "Color universal design".
COLORS = ("#0072B2", "#D55E00", "#999999", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000")
DPI = 120


def grid(
    rows: int, columns: int, size: tuple[float, float], title: str, least: float = 0.0
) -> tuple[Figure, np.ndarray]:
    """Make a figure with (rows, columns) axes; ``size`` of one panel and ``least`` width of all, inches."""
    inches = (max(size[0] * columns + 0.8, least), size[1] * rows + 0.8)
    figure = Figure(figsize=inches, layout="constrained", dpi=DPI)
    figure.suptitle(title, fontsize="medium" if "\n" in title else "large")
    return figure, figure.subplots(rows, columns, squeeze=False)


def flow(count: int, across: int, size: tuple[float, float], title: str) -> tuple[Figure, list[Axes]]:
    """Make a figure with ``count`` axes in rows of at most ``across``."""
    columns = min(across, count)
    figure, axes = grid(-(-count // columns), columns, size, title)
    for unused in axes.flat[count:]:
        unused.remove()
    return figure, list(axes.flat[:count])


def tsne(explanation: Explanation, wanted: Sequence[str], kind: str, title: str, colors: Sequence[str]) -> Figure:
    """Draw the first map of the code coloured by each wanted column, then the other seeds by ``kind``.

    Parameters
    ----------
    explanation : Explanation
        ``embedding``, ``columns``, ``labels``, ``units`` and ``trustworthiness``.
    wanted : sequence of str
        Columns; "" is one colour for all.
    kind : str
        The column of the other seeds.
    title : str
        Of the figure.
    colors : sequence of str
        Of the values of a column with names, by value.
    """
    panels = [(name, 0) for name in wanted] + [(kind, seed) for seed in range(1, len(explanation.embedding))]
    figure, drawn = flow(len(panels), 3, (4.0, 3.5), title)
    for axes, (name, seed) in zip(drawn, panels, strict=True):
        _embedded(axes, explanation, name, seed, colors)
        kept = explanation.trustworthiness[seed]
        axes.set_title(
            f"{_plain(name) or 'all samples'}; seed {seed + 1}, trustworthiness {kept:.2f}", fontsize="small"
        )
    return figure


def _embedded(axes: Axes, explanation: Explanation, name: str, seed: int, colors: Sequence[str]) -> None:
    """Draw one map, its points in random order so that no class hides another."""
    order = np.random.default_rng(0).permutation(explanation.embedding.shape[1])
    x, y = explanation.embedding[seed, order].T
    size = float(np.clip(6000 / len(x), 4, 20))
    axes.set(xticks=[], yticks=[], xlabel="t-SNE 1 (no unit)", ylabel="t-SNE 2 (no unit)")
    if not name:
        axes.scatter(x, y, s=size, color="#999999", lw=0)
        return
    value = explanation.columns[name][order]
    if name in explanation.labels:
        names = {int(key): text for key, text in explanation.labels[name].items()}
        color = {int(number): colors[int(number) % len(colors)] for number in np.unique(value)}
        axes.scatter(x, y, s=size, c=[color[int(number)] for number in value], lw=0)
        for number in color:
            axes.scatter([], [], s=20, color=color[number], label=names.get(number, str(number)))
        axes.legend(fontsize="x-small", loc="best")
        return
    low, high = np.nanquantile(value, [0.01, 0.99])
    points = axes.scatter(x, y, s=size, c=value, cmap="viridis", vmin=low, vmax=max(high, low + 1e-9), lw=0)
    unit = explanation.units.get(name, "1")
    axes.figure.colorbar(points, ax=axes).set_label(_plain(name) + ("" if unit in ("", "1") else f" [{unit}]"))


def _plain(name: str) -> str:
    return name.replace("_", " ")
