"""Figures of the case: maps and reconstructions, importance over true peaks, maps of the code, spectra, noise.

Figures 8, 9 and 10 of the article are ``reconstructions``, ``importance`` and ``tsne``. Nothing is computed here but
what a drawing needs. Whether the data are simulated is the caption's to say.

Shape legend: n examples, N embedded samples, S seeds, H rows, W columns, K classes, F bins, L noise levels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kilonode.cases import panels
from kilonode.cases.contract import Explanation
from kilonode.cases.panels import COLORS

BLUE, RED, GREEN = COLORS[0], COLORS[1], COLORS[3]  # the article draws its two cosmologies red and blue
EXAMPLES = 3
TITLE = 6.2
"""Inches: a figure holds its title, with pair, noise, pixel and area in one line."""
CAPTIONS = {
    "reconstructions": "Test maps as seen, as hidden in training, and as the network gives them back from what was "
    "seen. One colour scale a row. What comes back is smooth: squared error pays for nothing that cannot be predicted.",
    "importance": "Test maps, and how strongly the network's answer depends on each pixel (absolute gradient, smoothed "
    "by a pixel). Circles are the highest peaks of the noise-free map. The table says how often important pixels lie "
    "there, beside the map itself and a network of random weights.",
    "tsne": "t-SNE maps of what the network makes of test maps. Colours: cosmology, then what might explain the groups "
    "instead; the last panels are other seeds. Sizes of groups and distances between them carry no meaning.",
    "spectrum": "Power of reconstructions over power of their inputs, with intervals over realisations, beside the "
    "Gaussian smoothing of the same squared error. One is a perfect spectrum.",
    "noise": "Accuracy on test maps with more and more shape noise. The network is as it was trained; logistic "
    "regression on its features and on the power spectrum are fitted anew at each level. Bars: over realisations.",
    "calibration": "How often the second cosmology is right where the network gives it a probability. On the diagonal "
    "probabilities mean what they say. Areas of the points follow the number of maps.",
}
METHODS = {
    "network": (BLUE, "network, as trained"),
    "network_features": (GREEN, "network's features, refitted"),
    "power_spectrum": (RED, "power spectrum, refitted"),
}


def draw(explanation: Explanation) -> dict[str, Figure]:
    """Draw all figures of a task.

    Parameters
    ----------
    explanation : Explanation
        Arrays of test groups. Figures whose arrays or columns are missing are left out.

    Returns
    -------
    dict
        autoencoder: ``reconstructions``, ``spectrum``; classifiers: ``noise``, ``calibration``; both ``importance`` and
        ``tsne``.
    """
    figures = {
        "reconstructions": reconstructions(explanation),
        "spectrum": spectrum(explanation),
        "importance": importance(explanation),
        "tsne": tsne(explanation),
        "noise": noise(explanation),
        "calibration": calibration(explanation),
    }
    return {name: figure for name, figure in figures.items() if figure is not None}


def reconstructions(explanation: Explanation) -> Figure | None:
    """Original, corrupted and reconstructed maps; one colour scale a row (Figure 8)."""
    if explanation.outputs.ndim != 4 or not len(explanation.inputs):
        return None
    columns = [("map", explanation.inputs), ("pixels hidden, as in training", explanation.corrupted)]
    columns.append(("reconstructed from the map", explanation.outputs))
    shown = {name: images[:, 0] for name, images in columns if images is not None}
    count = min(EXAMPLES, len(explanation.inputs))
    figure, axes_grid = _grid(count, len(shown), (2.9, 2.7), "Maps and reconstructions" + _setup(explanation))
    for row, axes_row in enumerate(axes_grid):
        low, high = np.quantile(explanation.inputs[row, 0], [0.005, 0.998])
        for axes, (name, images) in zip(axes_row, shown.items(), strict=True):
            drawn = axes.imshow(
                images[row], vmin=low, vmax=high, cmap="viridis", origin="lower", extent=_sky(explanation)
            )
            axes.set_title(name if row == 0 else "", fontsize="small")
            _edges(axes, axes is axes_row[0], row == count - 1, explanation)
        bar = figure.colorbar(drawn, ax=list(axes_row), pad=0.01)
        bar.set_label("convergence / rms", fontsize="x-small")
        bar.ax.tick_params(labelsize="x-small")
    return figure


def importance(explanation: Explanation) -> Figure | None:
    """Maps beside the importance of their pixels, true peaks circled (Figure 9)."""
    found = explanation.arrays.get("importance")
    if found is None:
        return None
    figure, axes_grid = _grid(len(found), 2, (3.5, 3.0), "What the network looks at" + _setup(explanation))
    step = _sky(explanation)[1] / found.shape[-1]
    given = explanation.arrays["importance_input"]
    given = given[:, 0] if given.ndim == 4 else given
    for row, (left, right) in enumerate(axes_grid):
        panels = [(left, given[row], "viridis", "convergence"), (right, found[row], "magma", "importance (any unit)")]
        for axes, image, colors, label in panels:
            low, high = np.quantile(image, [0.005, 0.998])
            drawn = axes.imshow(image, vmin=low, vmax=high, cmap=colors, origin="lower", extent=_sky(explanation))
            x, y = (explanation.arrays["importance_peaks"][row].T + 0.5) * step
            axes.scatter(x, y, s=60, facecolors="none", edgecolors="w", lw=0.8)
            _edges(axes, axes is left, row == len(found) - 1, explanation)
            bar = figure.colorbar(drawn, ax=axes, pad=0.02)
            bar.set_label(label, fontsize="x-small")
            bar.ax.tick_params(labelsize="x-small")
    figure.supxlabel("circles: highest true peaks", fontsize="small")
    return figure


def tsne(explanation: Explanation) -> Figure | None:
    """Draw the maps of the code, by cosmology in red and blue, and by what might explain it instead (Figure 10)."""
    if not explanation.embedding.size:
        return None
    kind = next((name for name in explanation.columns if name in explanation.labels), "")
    numbers = [name for name in explanation.columns if name not in explanation.labels]
    title = "t-SNE of test maps; distances between groups mean nothing" + _setup(explanation)
    return panels.tsne(explanation, [kind, *numbers[:3]], kind, title, (BLUE, RED, GREEN))


def spectrum(explanation: Explanation) -> Figure | None:
    """Power of reconstructions over that of inputs."""
    ratios = explanation.arrays.get("power_ratio")
    if ratios is None:
        return None
    figure, ((axes,),) = _grid(1, 1, (5.5, 3.6), "Spectrum of reconstructions" + _setup(explanation))
    multipole = explanation.arrays["multipole"]
    names = [(BLUE, "network"), (RED, "Gaussian smoothing of equal error")]
    for (color, name), (value, low, high) in zip(names, ratios.transpose(0, 2, 1), strict=True):
        axes.plot(multipole, value, "o-", ms=3, color=color, label=name)
        axes.fill_between(multipole, low, high, color=color, alpha=0.2, lw=0)
    axes.axhline(1, color="#cccccc", lw=0.8, zorder=0)
    is_sky = "setup" in explanation.arrays
    axes.set(xscale="log", ylim=(0, max(1.2, float(ratios[:, :, 0].max()) * 1.05)), ylabel="power out / power in")
    axes.set_xlabel("multipole l" if is_sky else "waves a pixel")
    axes.legend(fontsize="small")
    return figure


def noise(explanation: Explanation) -> Figure | None:
    """Accuracy against galaxy density."""
    levels = explanation.arrays.get("noise_levels")
    if levels is None:
        return None
    figure, ((axes,),) = _grid(1, 1, (5.5, 3.6), "Accuracy and shape noise" + _setup(explanation))
    place = np.arange(len(levels))
    for shift, (name, (color, label)) in enumerate(METHODS.items()):
        value, low, high = explanation.arrays[f"noise_{name}"].T
        around = np.maximum([value - low, high - value], 0)
        axes.errorbar(place + 0.06 * (shift - 1), value, around, fmt="o-", ms=4, lw=1.2, color=color, label=label)
    axes.axhline(0.5, color="#cccccc", lw=0.8, zorder=0)
    axes.set_xticks(place, ["no noise" if level == 0 else f"{level:.0f}" for level in levels])
    axes.set(xlabel="galaxies a square arcminute", ylabel="accuracy on test maps", ylim=(0.3, 1.02))
    axes.legend(fontsize="x-small", loc="best", framealpha=0.6)
    return figure


def calibration(explanation: Explanation) -> Figure | None:
    """Share of the second cosmology against the probability given to it."""
    bins = explanation.arrays.get("reliability")
    if bins is None:
        return None
    figure, ((axes,),) = _grid(1, 1, (4.4, 4.2), "Calibration" + _setup(explanation))
    chance, share, count = bins[bins[:, 2] > 0].T
    axes.plot([0, 1], [0, 1], color="#cccccc", lw=0.8, zorder=0)
    axes.scatter(chance, share, s=10 + 300 * count / count.sum(), color=BLUE, lw=0)
    axes.set(xlabel="probability given to the second cosmology", ylabel="share of maps that are of it")
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    return figure


def _grid(rows: int, columns: int, size: tuple[float, float], title: str) -> tuple[Figure, Any]:
    """Make a figure with (rows, columns) axes, wide enough for its title."""
    return panels.grid(rows, columns, size, title, TITLE)


def _setup(explanation: Explanation) -> str:
    """Second line of every title: pair, noise, pixel, area, without which no accuracy means anything."""
    setup = explanation.arrays.get("setup")
    if setup is None:
        return ""
    galaxies = f"{setup[4]:.0f} galaxies / arcmin²" if setup[4] else "no noise"
    side = setup[5] * explanation.inputs.shape[-1] / 60
    pair = f"(Ω$_m$, σ$_8$) = ({setup[0]:.2f}, {setup[1]:.3f}) | ({setup[2]:.2f}, {setup[3]:.3f})"
    return f"\n{pair}; {galaxies}; {setup[5]:.1f}' pixels; {side:.1f}° x {side:.1f}°"


def _sky(explanation: Explanation) -> tuple[float, float, float, float]:
    """Edges of a map, degrees; pixels where the size of a pixel is not known."""
    setup = explanation.arrays.get("setup")
    step = 1.0 if setup is None else float(setup[5]) / 60
    return (0.0, step * explanation.inputs.shape[-1], 0.0, step * explanation.inputs.shape[-2])


def _edges(axes: Axes, first: bool, last: bool, explanation: Explanation) -> None:
    """Name the axes on the outer panels only."""
    unit = "degrees" if "setup" in explanation.arrays else "pixels"
    axes.tick_params(labelsize="x-small", labelleft=first, labelbottom=last)
    axes.set_ylabel(unit if first else "", fontsize="x-small")
    axes.set_xlabel(unit if last else "", fontsize="x-small")
