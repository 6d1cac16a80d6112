"""Figures of the case: galaxies by type, mean and variance of one, samples, walks, and who won on which galaxy.

Nothing is computed here but what a drawing needs. Whether the data are simulated is the caption's to say.

Shape legend: n examples, N test images, S seeds, C channels, H rows, W columns, U latent numbers.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kilonode.cases.contract import Arrays, Explanation
from kilonode.cases.galaxy_shapes.panels import KIND_COLORS, SKY_NOISE, bar, on_edge, stamp
from kilonode.cases.panels import flow, grid, tsne

KINDS = {0: "early", 1: "spiral", 2: "ring", 3: "irregular"}
EACH, ROWS, UNITS, BINS = 4, 4, 8, 8
MAPS = "t-SNE of the code; distances between groups mean nothing"
CAPTIONS = {
    "types": "Simulated test galaxies of each morphological type, the brightest first (the article's Figures 1 to 3 "
    "show spiral, ring and irregular ones). One scale: linear within the sky's noise, logarithmic above.",
    "mean_and_variance": "One test galaxy: its image, and the mean and the variance the network gives every pixel (the "
    "article's Figures 4 and 5). The variance cannot fall below the sky's, which is 1.",
    "reconstructions": "A test galaxy of each type: image, mean, standard deviation, and what is left over in units of "
    "it. A good description leaves noise without pattern.",
    "prior_samples": "Mean images of latent numbers drawn from the prior: galaxies nobody has seen, without "
    "their noise.",
    "latent_walk": "Mean images along the four busiest latent numbers, from two standard deviations below the median "
    "code to two above; each row moves one of them.",
    "log_likelihood": "Each point a test galaxy: its log-likelihood under the network against that under its own "
    "fitted Gaussian, both minus the oracle's. Above the diagonal the network wins. The Gaussian has seen the pixels "
    "it is scored on, the network has not.",
    "gain_by_snr": "Log-likelihood minus the fitted Gaussian's against the galaxy's S/N: median and the middle half of "
    "galaxies. The oracle knows the true noiseless image: nobody can gain more on average.",
    "tsne": "t-SNE maps of the code of test galaxies, coloured by type and by what might explain the groups instead; "
    "the last panels are other seeds. Distances between groups carry no meaning.",
    "saliency": "Mean absolute gradient of latent numbers on each pixel, over test galaxies.",
}


def draw(explanation: Explanation) -> dict[str, Figure]:
    """Draw all figures of the task.

    Parameters
    ----------
    explanation : Explanation
        Arrays of test fields. Figures whose arrays are missing are left out.
    """
    arrays = explanation.arrays
    drawn: dict[str, Figure] = {}
    if "shown_image" in arrays:
        drawn["types"] = types(arrays)
        drawn["mean_and_variance"] = mean_and_variance(arrays)
        drawn["reconstructions"] = reconstructions(arrays)
    if "prior" in arrays:
        drawn["prior_samples"] = prior_samples(arrays["prior"])
        drawn["latent_walk"] = latent_walk(arrays["walk"], arrays["walk_unit"])
    if "log_p_oracle" in arrays:
        drawn["log_likelihood"] = log_likelihood(arrays)
        drawn["gain_by_snr"] = gain_by_snr(arrays)
    if explanation.embedding.size:
        names = list(explanation.columns)
        kind = next((name for name in names if name in explanation.labels), "")
        drawn["tsne"] = tsne(explanation, names or [""], kind, MAPS, KIND_COLORS)
    if explanation.saliency.size:
        drawn["saliency"] = saliency(explanation.saliency)
    return drawn


def types(arrays: Arrays) -> Figure:
    """Rows of types, columns of examples."""
    kinds = [kind for kind in (1, 2, 3, 0) if (arrays["shown_kind"] == kind).any()]
    figure, axes_grid = grid(len(kinds), EACH, (1.9, 1.95), "Simulated galaxies by type")
    largest = float(np.quantile(arrays["shown_image"], 0.9995))
    for axes_row, kind in zip(axes_grid, kinds, strict=True):
        chosen = np.flatnonzero(arrays["shown_kind"] == kind)[:EACH]
        for axes in axes_row[len(chosen) :]:
            axes.set_visible(False)
        for axes, place in zip(axes_row, chosen, strict=False):
            seen = stamp(axes, arrays["shown_image"][place], largest)
            axes.set_title(f"S/N {arrays['shown_snr'][place]:.0f}", fontsize="x-small")
        axes_row[0].set_ylabel(KINDS[kind])
    on_edge(axes_grid, arrays["shown_image"].shape[-1])
    bar(figure, seen, list(axes_grid.flat), SKY_NOISE)
    return figure


def mean_and_variance(arrays: Arrays) -> Figure:
    """Image, mean and variance of the brightest spiral, or of the first galaxy where there is none."""
    spirals = np.flatnonzero(arrays["shown_kind"] == 1)
    place = int(spirals[0]) if len(spirals) else 0
    figure, axes_grid = grid(1, 3, (3.0, 2.6), "One galaxy as the network describes it")
    largest = float(arrays["shown_image"][place].max())
    for axes, name in zip(axes_grid[0, :2], ("image", "mean"), strict=True):
        seen = stamp(axes, arrays[f"shown_{name}"][place], largest)
        axes.set_title(name)
    bar(figure, seen, list(axes_grid[0, :2]), SKY_NOISE)
    last = axes_grid[0, 2]
    last.set(xticks=[], yticks=[], title="variance")
    bar(figure, last.imshow(arrays["shown_variance"][place], vmin=1, cmap="viridis", origin="lower"), last,
        "variance [sky noise$^2$]")  # fmt: skip
    on_edge(axes_grid, arrays["shown_image"].shape[-1])
    return figure


def reconstructions(arrays: Arrays) -> Figure:
    """Image, mean, standard deviation and residual of a galaxy of each type."""
    _, first = np.unique(arrays["shown_kind"], return_index=True)
    chosen = first[:ROWS]
    figure, axes_grid = grid(len(chosen), 4, (2.3, 2.0), "What the network keeps of a galaxy")
    for axes_row, place in zip(axes_grid, chosen, strict=True):
        image, mean, spread = (
            arrays["shown_image"][place], arrays["shown_mean"][place], np.sqrt(arrays["shown_variance"][place]),
        )  # fmt: skip
        for axes, shown in zip(axes_row[:2], (image, mean), strict=True):
            seen = stamp(axes, shown, float(image.max()))
        bar(figure, seen, axes_row[1], SKY_NOISE)
        rest = [
            (spread, 1.0, float(spread.max()), "viridis", "[sky noise]"),
            ((image - mean) / spread, -4, 4, "RdBu_r", "[std]"),
        ]
        for axes, (shown, low, high, colors, unit) in zip(axes_row[2:], rest, strict=True):
            axes.set(xticks=[], yticks=[])
            drawn = axes.imshow(shown, vmin=low, vmax=max(high, 1.01), cmap=colors, origin="lower")
            bar(figure, drawn, axes, unit)
        axes_row[0].set_ylabel(f"{KINDS[int(arrays['shown_kind'][place])]}, S/N {arrays['shown_snr'][place]:.0f}")
    for axes, title in zip(axes_grid[0], ("image", "mean", "standard deviation", "residual"), strict=True):
        axes.set_title(title, fontsize="medium")
    on_edge(axes_grid, arrays["shown_image"].shape[-1])
    return figure


def prior_samples(images: np.ndarray) -> Figure:
    """Mean images (n, H, W) of prior draws, each on its own scale."""
    figure, panels = flow(len(images), 8, (1.5, 1.55), "Galaxies drawn from the prior: mean images")
    for axes, image in zip(panels, images, strict=True):
        stamp(axes, image, float(image.max()))
        axes.set_title(f"peak {image.max():.1f}", fontsize="x-small")
    figure.supxlabel(f"{images.shape[-1]} pixels a side; peak brightness in units of the sky noise", fontsize="small")
    return figure


def latent_walk(images: np.ndarray, units: np.ndarray) -> Figure:
    """Mean images (rows, steps, H, W) along latent numbers."""
    figure, axes_grid = grid(images.shape[0], images.shape[1], (1.5, 1.5), "Walks along the busiest latent numbers")
    largest = float(images.max())
    steps = np.linspace(-2, 2, images.shape[1])
    for row, unit in enumerate(units):
        for axes, image, step in zip(axes_grid[row], images[row], steps, strict=True):
            seen = stamp(axes, image, largest)
            if row == 0:
                axes.set_title(f"{step:+.1f} std", fontsize="x-small")
        axes_grid[row, 0].set_ylabel(f"number {int(unit) + 1}", fontsize="small")
    on_edge(axes_grid, images.shape[-1])
    bar(figure, seen, list(axes_grid.flat), SKY_NOISE)
    return figure


def log_likelihood(arrays: Arrays) -> Figure:
    """Scatter of network against fitted Gaussian, as ML scored it and with the penalty of its parameters."""
    figure, axes_grid = grid(1, 2, (4.3, 3.9), "Who describes which galaxy better")
    code = arrays["log_p_code"] - arrays["log_p_oracle"]
    for axes, (name, said) in zip(
        axes_grid[0], {"gaussian": "fitted Gaussian", "gaussian_bic": "fitted Gaussian, BIC"}.items(), strict=True
    ):
        rival = arrays[f"log_p_{name}"] - arrays["log_p_oracle"]
        for kind, called in KINDS.items():
            here = arrays["kind"] == kind
            axes.scatter(rival[here], code[here], s=6, lw=0, alpha=0.6, color=KIND_COLORS[kind], label=called)
        low, high = min(code.min(), rival.min()) * 1.1, max(code.max(), rival.max(), 1) * 1.5
        axes.plot([low, high], [low, high], color="k", lw=0.8)
        axes.set_xscale("symlog", linthresh=30)
        axes.set_yscale("symlog", linthresh=30)
        axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
        axes.set(xlabel=f"{said} minus oracle [nat]", ylabel="network minus oracle [nat]")
        axes.set_title(f"network wins {np.mean(code > rival):.1%} of {len(code)}", fontsize="small")
    axes_grid[0, 0].legend(fontsize="x-small", loc="lower right", markerscale=2)
    return figure


def gain_by_snr(arrays: Arrays) -> Figure:
    """Median and middle half of the gain over the fitted Gaussian, in bins of equal numbers of S/N."""
    figure, axes_grid = grid(1, 1, (6.5, 4.2), "Gain over the fitted Gaussian")
    axes: Axes = axes_grid[0, 0]
    snr = arrays["snr"]
    shown = {"oracle": "oracle", "sersic": "fitted Sersic", "code": "network", "gaussian_bic": "Gaussian, BIC"}
    for color, (name, called) in zip(("#000000", *KIND_COLORS), shown.items(), strict=False):
        values = arrays.get(f"log_p_{name}")
        if values is None:
            continue
        gain, mine = values - arrays["log_p_gaussian"][: len(values)], snr[: len(values)]
        edges = np.quantile(mine, np.linspace(0, 1, min(BINS, max(len(mine) // 8, 1)) + 1))
        inside = [gain[(mine >= low) & (mine <= high)] for low, high in pairwise(edges)]
        quarter, median, most = np.array([np.quantile(part, [0.25, 0.5, 0.75]) for part in inside]).T
        middle = np.sqrt(edges[1:] * edges[:-1])
        axes.plot(middle, median, "o-", ms=3, color=color, label=called)
        axes.fill_between(middle, quarter, most, color=color, alpha=0.15, lw=0)
    axes.axhline(0, color="#999999", lw=0.8)
    axes.set_yscale("symlog", linthresh=30)
    axes.set(xscale="log", xlabel="S/N of the galaxy", ylabel="log-likelihood minus fitted Gaussian's [nat]")
    axes.legend(fontsize="small")
    return figure


def saliency(maps: np.ndarray) -> Figure:
    """Mean absolute gradient of the first latent numbers, (U, C, H, W), one scale."""
    shown = maps[np.argsort(-maps.sum(axis=(1, 2, 3)), kind="stable")[:UNITS], 0]
    figure, panels = flow(len(shown), 4, (1.9, 1.8), "Where latent numbers look: mean absolute gradient")
    largest = float(np.quantile(shown, 0.999)) or 1.0
    for place, (axes, image) in enumerate(zip(panels, shown, strict=True)):
        axes.set(xticks=[], yticks=[])
        seen = axes.imshow(image, vmin=0, vmax=largest, cmap="cividis", origin="lower")
        axes.set_title(f"rank {place + 1}", fontsize="x-small")
    bar(figure, seen, panels, "mean |gradient| [1 / sky noise]")
    figure.supxlabel(f"{maps.shape[-1]} pixels a side; strongest first", fontsize="small")
    return figure
