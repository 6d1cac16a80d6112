"""Parts of figures that several share: stamps, colour bars, names of axes.

Shape legend: H rows, W columns.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import AsinhNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import ScalarFormatter

# Okabe and Ito 2008, "Color universal design", by type: ellipticals are red, spirals blue.
KIND_COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7")
SKY_NOISE = "brightness [sky noise]"
TICKS = (-3, 0, 3, 10, 30, 100, 300)


def stamp(axes: Axes, image: np.ndarray, largest: float) -> AxesImage:
    """Draw one stamp: linear within the sky's noise, logarithmic above, as eyes and plates see; no ticks."""
    axes.set(xticks=[], yticks=[])
    scale = AsinhNorm(linear_width=2.0, vmin=-3.0, vmax=max(largest, 3.0))
    return axes.imshow(image, norm=scale, cmap="magma", origin="lower", interpolation="nearest")


def bar(figure: Figure, drawn: Any, axes: Any, label: str) -> None:
    """A colour bar with its unit."""
    made = figure.colorbar(drawn, ax=axes, pad=0.01, shrink=0.9)
    made.set_label(label, fontsize="small")
    if isinstance(drawn.norm, AsinhNorm):  # its own ticks crowd about zero
        made.set_ticks([tick for tick in TICKS if tick <= (drawn.norm.vmax or 0)], minor=False)
        made.set_ticks([], minor=True)
        made.formatter = ScalarFormatter()
    made.ax.tick_params(labelsize="x-small")


def on_edge(axes_grid: np.ndarray, pixels: int) -> None:
    """Say on the outer panels how large a stamp is."""
    for axes in axes_grid[-1]:
        axes.set_xlabel(f"{pixels} pixels", fontsize="x-small")
