"""Figures that every case gets: saliency beside the truth, filters, nearest samples.

Shape legend: N samples, F features or filters, C channels, H rows, W columns.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from torch import nn

from kilonode.explain.saliency import Scored

CAPTIONS = {
    "learning_curve": "Loss per epoch on training and validation groups; the training loss is measured while weights "
    "change and with training noise on, so it may lie above. The dot is the epoch whose weights were kept.",
    "saliency_truth": "The first test samples that were scored, the brightest channel of each: as the network sees it, "
    "and how much each pixel matters by each method and for a network of random weights; a scale of its own each. "
    "Lines surround the pixels that the simulation knows to matter. Judged by intervals:",
    "class_tree": "Tree of the classes by whom the network takes for whom: mean probabilities on test samples of each "
    "class, joined as Ward does. Classes that meet early are given the same answers.",
    "filters": "What the first convolution multiplies the input with: a column a filter, a row an input channel; blue "
    "negative, red positive, a scale of its own each filter.",
    "nearest": "Left, test samples; beside each the test samples whose codes are nearest to its own, with the distance "
    "in standard deviations of the code. The first channel, each with a scale of its own.",
}
SHOWN = 4
FILTERS, QUERIES, NEAREST = 24, 4, 5
BRIGHTEST = 0.995
"""Quantile of a map that has the brightest colour: single pixels would darken all others."""


def against_truth(scored: Scored) -> Figure:
    """Inputs and maps of importance (N, C, H, W) of a few samples, the truth as a line around its pixels."""
    count = min(SHOWN, len(scored.inputs))
    pictures = {"input": scored.inputs, **scored.maps}
    height, width = scored.inputs.shape[2:]
    size = (2.0, 2.0 * max(0.35, min(height / width, 1.5)))
    figure = Figure(figsize=(size[0] * len(pictures), size[1] * count + 0.9), layout="constrained")
    axes_grid = figure.subplots(count, len(pictures), squeeze=False)
    for sample, axes_row in enumerate(axes_grid):
        channel = int(np.abs(scored.inputs[sample]).sum(axis=(1, 2)).argmax())
        for axes, (name, values) in zip(axes_row, pictures.items(), strict=True):
            image = values[sample, channel]
            low, high = image.min(), np.quantile(image, BRIGHTEST)
            colors = "viridis" if name == "input" else "cividis"
            axes.imshow(
                image, cmap=colors, vmin=low, vmax=max(high, low + 1e-12), aspect="auto", interpolation="nearest"
            )
            axes.contour(scored.truth[sample, channel].astype(float), [0.5], colors="#D55E00", linewidths=0.7)
            axes.set(xticks=[], yticks=[])
            if sample == 0:
                axes.set_title(name.replace("_", " "), fontsize="small")
        axes_row[0].set_ylabel(f"sample {sample + 1}", fontsize="small")
    figure.suptitle("Where the network looks, and where the truth is", fontsize="medium")
    return figure


def filters(model: Any) -> Figure | None:
    """Draw the kernels (F, C, H, W) of the first convolution over pictures; None where none is 3 x 3 or more."""
    found = (layer.weight for layer in model.modules() if isinstance(layer, nn.Conv2d))
    kernels = next((weight.detach().numpy() for weight in found if min(weight.shape[2:]) > 2), None)
    if kernels is None:
        return None
    kernels = kernels[:FILTERS, :3]
    figure = Figure(figsize=(0.4 * len(kernels) + 0.8, 0.42 * kernels.shape[1] + 0.6), layout="constrained")
    axes_grid = figure.subplots(kernels.shape[1], len(kernels), squeeze=False)
    for channel, axes_row in enumerate(axes_grid):
        for axes, kernel in zip(axes_row, kernels, strict=True):
            reach = float(np.abs(kernel).max()) or 1.0
            axes.imshow(kernel[channel], cmap="RdBu_r", vmin=-reach, vmax=reach)
            axes.set(xticks=[], yticks=[])
    figure.suptitle("Filters of the first convolution", fontsize="small")
    return figure


def nearest(features: np.ndarray, pictures: np.ndarray) -> Figure:
    """Draw a few samples, each beside those nearest in the code: features (N, F), small pictures (T, h, w), T <= N."""
    scaled = StandardScaler().fit_transform(features[: len(pictures)])
    queries = np.linspace(0, len(pictures) - 1, min(QUERIES, len(pictures))).astype(int)
    search = NearestNeighbors(n_neighbors=min(NEAREST + 1, len(pictures))).fit(scaled)
    distances, found = search.kneighbors(scaled[queries])
    high = max(0.4, min(pictures.shape[1] / pictures.shape[2], 1.5))
    figure = Figure(figsize=(1.3 * found.shape[1], (1.2 * high + 0.25) * len(queries) + 0.4), layout="constrained")
    axes_grid = figure.subplots(*found.shape, squeeze=False)
    for (row, column), axes in np.ndenumerate(axes_grid):
        axes.imshow(pictures[found[row, column]], cmap="viridis", aspect="auto", interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.set_title(f"{distances[row, column]:.2f}" if column else "sample", fontsize="x-small", pad=2)
    figure.suptitle("Test samples and those nearest in the code", fontsize="small")
    return figure
