"""Figures of the case: events, images, the network, the search in the tail, what the networks look at.

Nothing is computed here but what a drawing needs. Whether the data are simulated is the caption's to say.

Shape legend: N events, n pixels an axis, S seeds, U code units or classes, L layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from kilonode.cases.contract import Explanation
from kilonode.cases.lhc_events import jets, panels, rates
from kilonode.cases.lhc_events.maps import reconstructions, saliency, tsne
from kilonode.cases.lhc_events.panels import BACKGROUND, CHANNELS, COLORS, SIGNAL, UNITS, plain
from kilonode.cases.panels import DPI, flow, grid

CAPTIONS = {
    "display": "Two test events: the gluino and the QCD event with the largest sum of jet masses. Left: as seen "
    "along the beam, tracks inside, calorimeters as bars. Right: the image of all towers, with the fat "
    "jets (pT, mass in GeV).",
    "images": "Mean test images of gluino and QCD events, on the same scale for both: what the network sees before "
    "any jet is found. phi closes on itself.",
    "network": "The network: width is the number of channels (logarithmic), height the rows of the image that are "
    "left.",
    "roc": "Share of signal kept against share of weighted background kept, both of preselected test events "
    "without pile-up. The star is the published selection with its 95 % intervals; bands are 95 % over "
    "resampled blocks. Curves end where fewer than ten effective background events are left. Points of a "
    "curve are of test events; the table has thresholds chosen on validation.",
    "score": "Distribution of the network's score on test events, each side with area one, background weighted.",
    "score_by_jets": "Mean rank of the network's score among test events (0 background-like, 1 signal-like), by number "
    "of fat jets and sum of jet masses. Empty: no event.",
    "tsne": "t-SNE maps of the code of test samples. Colours: process, then what might explain the groups "
    "instead; the last panel is another seed. Sizes of groups and distances between them carry no "
    "meaning.",
    "saliency": "Mean absolute gradient of each unit on each pixel of a channel, over test samples. The network turns "
    "each image so that its hottest column comes first; the map is in the coordinates of the image.",
    "reconstructions": "Unseen signal (top) and ordinary test events as the network sees them and gives them back.",
    "improvement": "How much a selection improves the significance, share of signal / sqrt(share of background), for "
    "signals that no training saw; 1 is no selection. Points are of test events; curves end where fewer "
    "than ten effective background events are left.",
    "score_by_HT": "Anomaly score against the scalar sum of jet pT: a score that follows it finds energetic events, "
    "not strange ones.",
}
ROC_METHODS = ("network", "boosted_trees", "shallow_network", "sum_of_jet_masses", "HT", "tracks", "truth_level")
Curves = Mapping[str, tuple[np.ndarray, ...]]


def draw(explanation: Explanation) -> dict[str, Figure]:
    """Draw all figures of a task; those whose arrays or columns are missing are left out.

    Parameters
    ----------
    explanation : Explanation
        Arrays of test blocks.

    Returns
    -------
    dict
        classifier: ``display``, ``images``, ``network``, ``roc``, ``score``, ``score_by_jets``; anomaly:
        ``reconstructions``, ``improvement``, ``score_by_HT``; both: ``tsne``, ``saliency``.
    """
    arrays, found = explanation.arrays, {}
    search = explanation.curves.get("search")
    if search and "features" in arrays:
        found["roc"] = roc(search, arrays["group"])
        found["score"] = score(search)
        found["score_by_jets"] = score_by_jets(search, arrays["features"])
        found["display"] = display(arrays["display_image"], arrays["display_features"], ("gluinos", "QCD"))
        found["images"] = images(arrays["mean_image"])
        found["network"] = network(arrays["layers"])
    strange = {name: rivals for name, rivals in explanation.curves.items() if "reconstruction_error" in rivals}
    if strange:
        found["improvement"] = improvement(strange)
        found["score_by_HT"] = score_by_energy(strange)
    if explanation.outputs.ndim == 4 and len(explanation.inputs):
        found["reconstructions"] = reconstructions(explanation)
    if explanation.embedding.size:
        found["tsne"] = tsne(explanation)
    if explanation.saliency.size:
        found["saliency"] = saliency(explanation)
    return found


def display(image: np.ndarray, features: np.ndarray, names: Sequence[str]) -> Figure:
    """Draw events (N, 3, n, n) with their names and jets (N, 24), a row each: along the beam, and unrolled."""
    figure = Figure(figsize=(9.6, 4.1 * len(names)), layout="constrained", dpi=DPI)
    figure.suptitle("Event display")
    for row, name in enumerate(names):
        beam = figure.add_subplot(len(names), 2, 2 * row + 1, projection="polar")
        panels.transverse(beam, image[row])
        beam.set_title(name, loc="left")
        unrolled = figure.add_subplot(len(names), 2, 2 * row + 2)
        drawn = panels.detector_image(unrolled, image[row, 0], float(image[row, 0].max()), 0.5)
        panels.circles(unrolled, features[row])
        unrolled.set(xlabel="azimuth $\\phi$ [rad]", ylabel="pseudorapidity $\\eta$")
        count, mass = features[row, jets.COUNT], features[row, jets.MASS_SUM]
        unrolled.set_title(f"{count:.0f} fat jets, sum of masses {mass:.0f} GeV", fontsize="small")
        figure.colorbar(drawn, ax=unrolled).set_label(UNITS[0])
    beam.legend(fontsize="x-small", loc="lower left", bbox_to_anchor=(-0.1, -0.15))
    return figure


def images(mean: np.ndarray) -> Figure:
    """Mean images (2, 3, n, n) of signal and background, one colour scale a channel."""
    figure, axes_grid = grid(2, 3, (3.6, 2.8), "Mean images of test events")
    for (row, channel), axes in np.ndenumerate(axes_grid):
        largest = float(mean[:, channel].max()) or 1.0
        drawn = panels.detector_image(axes, mean[row, channel], largest, largest / 300)
        if row == 0:
            axes.set_title(CHANNELS[channel], fontsize="small")
        axes.set_xlabel("azimuth $\\phi$ [rad]" if row else "", fontsize="small")
        axes.set_ylabel("" if channel else f"{('gluinos', 'QCD')[row]}\npseudorapidity $\\eta$", fontsize="small")
        figure.colorbar(drawn, ax=axes).set_label(f"mean {UNITS[channel]}", fontsize="x-small")
    return figure


def network(layers: np.ndarray) -> Figure:
    """Shapes (L, 3) of the layers as boxes."""
    figure = Figure(figsize=(9, 3.6), layout="constrained", dpi=DPI)
    axes = figure.subplots()
    x, largest = 0.0, float(layers[:, 1].max())
    for number, (channels, height, width) in enumerate(layers):
        tall = max(height / largest, 0.06)
        wide = 0.25 + 0.18 * np.log2(channels)
        axes.add_patch(Rectangle((x, -tall / 2), wide, tall, fc="#cfe2f3" if number else "#e0e0e0", ec="k", lw=0.8))
        size = f"{channels}" if height == width == 1 else f"{channels} x {height} x {width}"
        axes.text(x + wide / 2, -tall / 2 - 0.04, size, ha="center", va="top", fontsize="x-small")
        kind = "input" if number == 0 else ("dense" if height == width == 1 else "conv 3x3")
        axes.text(x + wide / 2, tall / 2 + 0.03, kind, ha="center", va="bottom", fontsize="x-small")
        x += wide + 0.75
    axes.set(xlim=(-0.4, x - 0.3), ylim=(-0.72, 0.68))
    axes.set_axis_off()
    figure.suptitle("Layers with weights: channels x rows x columns before pooling")
    return figure


def roc(search: Curves, group: np.ndarray) -> Figure:
    """Share of signal against share of background on a logarithmic axis, with the published cuts as a star."""
    figure = Figure(figsize=(6.6, 5.8), layout="constrained", dpi=DPI)
    axes = figure.subplots()
    lowest = 0.1
    for position, method in enumerate(name for name in ROC_METHODS if name in search):
        label, values, weight = search[method]
        found = rates.curve(label, values, weight)
        usable = found.effective >= rates.MEASURABLE
        if not usable.any():
            continue
        style = ":" if method == "truth_level" else "-"
        color = COLORS[(position + 3) % len(COLORS)]
        axes.plot(found.false[usable], found.true[usable], style, color=color, lw=1.5, label=plain(method))
        lowest = min(lowest, float(found.false[usable][0]))
        if method == "network":
            steps = np.geomspace(found.false[usable][0], 1, 60)
            low, high = rates.band(label, values, weight, group, steps)
            axes.fill_between(steps, low, high, color=color, alpha=0.2, lw=0)
    _star(axes, search)
    axes.set(xscale="log", xlim=(max(lowest / 3, 1e-5), 1), ylim=(0, 1.02))
    axes.set(xlabel="background kept (share of preselected, weighted)", ylabel="signal kept (share of preselected)")
    axes.set_title("Search without pile-up", fontsize="medium")
    figure.legend(fontsize="x-small", loc="outside lower center", ncols=3)
    return figure


def _star(axes: Axes, search: Curves) -> None:
    """The published selection, if its background can be measured; else where it would be, and why not."""
    label, passed, weight = search["cuts"]
    kept = passed.astype(bool)
    true = rates.counted(kept[label == 1])
    back = rates.passing(kept[label == 0], weight[label == 0], np.arange(int((label == 0).sum())))
    if true.value is None or true.interval is None:
        return
    if back.value is None or back.interval is None:
        about = f"cuts: {true.value:.2f} of signal; background not measurable ({back.effective:.0f} effective events)"
        axes.axhline(true.value, color="k", lw=0.8, ls="--", label=about)
        return
    error_x = [[back.value - back.interval[0]], [back.interval[1] - back.value]]
    error_y = [[true.value - true.interval[0]], [true.interval[1] - true.value]]
    axes.errorbar(back.value, true.value, error_y, error_x, "*", color="k", ms=12, capsize=2, label="published cuts")


def score(search: Curves) -> Figure:
    """Histogram of the network's score."""
    label, values, weight = search["network"]
    figure = Figure(figsize=(5.6, 3.8), layout="constrained", dpi=DPI)
    axes = figure.subplots()
    edges = np.linspace(np.quantile(values, 0.001), np.quantile(values, 0.999), 31).tolist()
    for value, name, color in ((1, "gluinos", SIGNAL), (0, "QCD", BACKGROUND)):
        chosen = label == value
        axes.hist(
            values[chosen],
            edges,
            weights=weight[chosen],
            density=True,
            histtype="step",
            color=color,
            lw=1.6,
            label=name,
        )
    axes.set(
        yscale="log", xlabel="score: log of signal over background density", ylabel="density", title="Network's score"
    )
    axes.legend()
    return figure


def score_by_jets(search: Curves, features: np.ndarray) -> Figure:
    """Heat map of the rank of the score over number of fat jets and sum of jet masses."""
    _, values, _ = search["network"]
    rank = np.argsort(np.argsort(values)) / max(len(values) - 1, 1)
    count = np.clip(features[:, jets.COUNT], 3, 7).astype(int)
    edges = np.linspace(0, np.quantile(features[:, jets.MASS_SUM], 0.995), 11)
    row = np.clip(np.digitize(features[:, jets.MASS_SUM], edges) - 1, 0, 9)
    number, total = np.zeros((10, 5)), np.zeros((10, 5))
    np.add.at(number, (row, count - 3), 1)
    np.add.at(total, (row, count - 3), rank)
    figure = Figure(figsize=(5.6, 4.4), layout="constrained", dpi=DPI)
    axes = figure.subplots()
    mean = np.ma.masked_where(number == 0, total / np.maximum(number, 1))
    drawn = axes.pcolormesh(np.arange(2.5, 8), edges, mean, vmin=0, vmax=1, cmap="cividis")
    for (i, j), events in np.ndenumerate(number):
        if events:
            color = "k" if mean[i, j] > 0.6 else "w"
            middle = (edges[i] + edges[i + 1]) / 2
            axes.text(j + 3, middle, f"{events:.0f}", ha="center", va="center", fontsize="x-small", color=color)
    axes.set_xticks(range(3, 8), ["3", "4", "5", "6", "7 or more"])
    axes.set(xlabel="fat jets", ylabel="sum of jet masses [GeV]", title="Score by jets; numbers are test events")
    figure.colorbar(drawn, ax=axes).set_label("mean rank of the score")
    return figure


def improvement(curves: Mapping[str, Curves]) -> Figure:
    """One panel a signal: significance improvement against share of signal kept."""
    figure, axes_list = flow(
        len(curves), 3, (4.0, 3.6), "Signals that no training saw: improvement of the significance"
    )
    for axes, (question, rivals) in zip(axes_list, curves.items(), strict=True):
        for position, (method, (label, values, weight)) in enumerate(rivals.items()):
            found = rates.curve(label, values, weight)
            usable = found.effective >= rates.MEASURABLE
            gain = found.true[usable] / np.sqrt(found.false[usable])
            color = COLORS[(position + 3) % len(COLORS)]
            axes.plot(found.true[usable], gain, color=color, lw=1.4, label=plain(method))
        axes.axhline(1, color="#cccccc", lw=0.8, zorder=0)
        signals = int((next(iter(rivals.values()))[0] == 1).sum())
        axes.set_title(f"{question} ({signals} events)", fontsize="small")
        axes.set(xlabel="signal kept", ylabel="signal kept / sqrt(background kept)", xlim=(0, 1))
    axes_list[0].legend(fontsize="xx-small")
    return figure


def score_by_energy(curves: Mapping[str, Curves]) -> Figure:
    """Anomaly score of background and of unseen signals against HT."""
    figure = Figure(figsize=(6.4, 4.4), layout="constrained", dpi=DPI)
    axes = figure.subplots()
    for position, (question, rivals) in enumerate(curves.items()):
        label, error, _ = rivals["reconstruction_error"]
        energy = rivals["HT"][1]
        if position == 0:
            axes.scatter(energy[label == 0], error[label == 0], s=6, color=BACKGROUND, lw=0, label="QCD, test")
        color = COLORS[1:][position % 7]
        axes.scatter(energy[label == 1], error[label == 1], s=6, color=color, lw=0, label=question)
    axes.set(xlabel="HT: sum of fat jets' pT [GeV]", ylabel="reconstruction error [squared training rms]", yscale="log")
    axes.set_title("Anomaly score against energy")
    axes.legend(fontsize="x-small", markerscale=2)
    return figure
