"""Parts of figures that several share: light maps, names of axes.

Shape legend: n images, C channels (flashes), H rings, W columns.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage

from kilonode.cases.reactor_neutrinos.detector import COLUMNS, RINGS


def light_map(axes: Axes, image: np.ndarray, largest: float) -> AxesImage:
    """Draw one light map; pixels without light are grey, as dead tubes and hidden pixels are."""
    axes.set_facecolor("#d9d9d9")
    masked = np.ma.masked_where(image <= 0, image)
    return axes.imshow(
        masked, vmin=0, vmax=largest, cmap="viridis", aspect="auto", origin="lower", interpolation="nearest"
    )


def edge_labels(axes: Axes, first: bool, last: bool, shape: tuple[int, int]) -> None:
    """Name rows and columns on the outer panels only."""
    tubes = shape == (RINGS, COLUMNS)
    axes.tick_params(labelsize="x-small", labelleft=first, labelbottom=last)
    if first:
        axes.set_ylabel("ring" if tubes else "row", fontsize="x-small")
    if last:
        axes.set_xlabel("column of tubes" if tubes else "column", fontsize="x-small")


def channel_name(channel: int, images: np.ndarray) -> str:
    """Name of a channel: the two flashes of a pair, or its number; nothing where there is one."""
    if images.shape[1:] == (2, RINGS, COLUMNS):
        return ("prompt", "delayed")[channel]
    return f"channel {channel + 1}" if images.shape[1] > 1 else ""


def input_unit(height: int, width: int) -> str:
    """Name the unit of what the network sees."""
    return (
        "log(1 + charge / pe)" if (height, width) == (RINGS, COLUMNS) else "input"
    ) + ", in units of the training rms"


def wrapped(text: str, width: int = 38) -> str:
    """Break a question into lines of at most ``width`` letters."""
    words, lines = text.replace("_", " ").split(), [""]
    for word in words:
        if len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
