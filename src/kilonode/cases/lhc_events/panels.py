"""Parts of figures that several share: images of the detector, the transverse view, names of axes.

Shape legend: n pixels an axis, J jets.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.image import AxesImage

from kilonode.cases.lhc_events.detector import ETA

# Okabe and Ito 2008, "Color universal design"; signal blue, background red, as in the article.
COLORS = ["#D55E00", "#E69F00", "#CC79A7", "#0072B2", "#009E73", "#56B4E9", "#999999", "#000000"]
SIGNAL, BACKGROUND = "#0072B2", "#D55E00"
CHANNELS = ("all towers", "electromagnetic", "tracks")
UNITS = ("transverse energy [GeV]", "transverse energy [GeV]", "tracks")
EXTENT = (-np.pi, np.pi, -ETA, ETA)
JET_RADIUS = 1.0


def detector_image(axes: Axes, image: np.ndarray, largest: float, smallest: float) -> AxesImage:
    """Draw one channel (n, n), eta upwards and phi to the right, on a logarithmic scale; nothing seen is white."""
    drawn = axes.imshow(
        np.ma.masked_where(image <= 0, image),
        norm=LogNorm(max(smallest, 1e-6), max(largest, smallest * 10)),
        cmap="viridis",
        extent=EXTENT,
        origin="lower",
        aspect="auto",
        interpolation="nearest",
    )
    axes.set_xticks([-np.pi, 0, np.pi], ["$-\\pi$", "0", "$\\pi$"])
    axes.tick_params(labelsize="x-small")
    return drawn


def circles(axes: Axes, features: np.ndarray) -> None:
    """Draw the five leading fat jets of one event (24,) as circles of R = 1.0; they go around in phi."""
    turn = np.linspace(0, 2 * np.pi, 200)
    for number in range(5):
        pt, eta, phi, mass = features[4 + 4 * number : 8 + 4 * number]
        if pt <= 0:
            continue
        x = (phi + JET_RADIUS * np.cos(turn) + np.pi) % (2 * np.pi) - np.pi
        y = eta + JET_RADIUS * np.sin(turn)
        y = np.where(np.abs(np.diff(x, append=x[0])) > np.pi, np.nan, y)
        axes.plot(x, y, color="#CC3311", lw=1)
        box = {"fc": "white", "alpha": 0.75, "lw": 0, "pad": 1}
        place = (phi, np.clip(eta - JET_RADIUS / 2, -2.3, 2.3))
        axes.annotate(f"{pt:.0f}, {mass:.0f}", place, fontsize="x-small", ha="center", color="#CC3311", bbox=box)
    axes.set(xlim=(-np.pi, np.pi), ylim=(-ETA, ETA))


def transverse(axes: Any, image: np.ndarray) -> None:
    """Draw one event (3, n, n) as seen along the beam: tracks inside, both calorimeters outside; axes are polar."""
    total, em, tracks = image.sum(axis=1)
    width = 2 * np.pi / len(total)
    angle = -np.pi + width * (np.arange(len(total)) + 0.5)
    for phi, count in zip(angle, tracks, strict=True):
        if count > 0:
            axes.plot([phi, phi], [0, 0.9], color="#555555", lw=0.3 + 0.15 * count, alpha=0.8)
    scale = max(total.max(), 1e-9)
    axes.bar(angle, em / scale, width, bottom=1.0, color="#009E73", label="electromagnetic")
    axes.bar(angle, (total - em).clip(0) / scale, width, bottom=1 + em / scale, color="#0072B2", label="hadronic")
    axes.plot(np.linspace(0, 2 * np.pi, 100), np.ones(100), color="k", lw=0.8)
    axes.set(yticks=[], ylim=(0, 2.05))
    axes.set_xticks([0, np.pi / 2, np.pi, 3 * np.pi / 2], ["$\\phi$ = 0", "", "$\\pi$", ""])
    axes.tick_params(labelsize="x-small")
    axes.set_xlabel(f"longest bar: {scale:.0f} GeV", fontsize="x-small")


def plain(name: str) -> str:
    """Write a name as words."""
    return name.replace("_", " ")
