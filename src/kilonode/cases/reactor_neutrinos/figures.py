"""Figures of the case: light maps and their reconstructions, maps of the code, ROC curves, saliency on the tubes.

Nothing is computed here but what a drawing needs. Whether the data are simulated is the caption's to say.

Shape legend: n examples, N embedded samples, S seeds, C channels (flashes), H rings, W columns, U units, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import auc, confusion_matrix, roc_curve

from kilonode.cases import panels
from kilonode.cases.contract import Explanation
from kilonode.cases.panels import COLORS, flow, grid
from kilonode.cases.reactor_neutrinos.panels import channel_name, edge_labels, input_unit, light_map, wrapped

RECONSTRUCTED, EXAMPLES, UNITS, ACROSS, NUISANCES = 4, 20, 16, 4, 4
CAPTIONS = {
    "reconstructions": "Light maps of a few test samples, each flash on its own row with its own colour scale: as "
    "seen, as hidden in training, and as the network gives it back from what was seen. Grey is no light, whether a "
    "tube is dead, saw nothing or was hidden.",
    "roc": "Two-class questions put to linear probes on the frozen code, on PCA of the same width, on classical "
    "features and on the truth (oracle, dotted). Where the total charge alone answers, the light pattern adds nothing.",
    "tsne": "t-SNE maps of the code of test samples. Colours: class, then what might explain the groups instead; the "
    "last panels are other seeds. Sizes of groups and distances between them carry no meaning; probes carry the claim.",
    "examples": "Test samples with their true class, the class given and the network's probability of it.",
    "confusion": "Share of each true class that a method gave each class. The label rule is the charge part of the "
    "rule that labelled the original data: a network trained on labels that follow it can at best repeat it.",
    "saliency": "Mean absolute gradient of each unit on each tube, over test samples. With periodic columns the "
    "network turns each sample to face its light: single tubes that stand out are most often dead ones.",
}
Curve = tuple[np.ndarray, ...]
"""Label (N,), score (N,), and weight (N,) where a question weights its samples."""


def draw(explanation: Explanation) -> dict[str, Figure]:
    """Draw all figures of a task.

    Parameters
    ----------
    explanation : Explanation
        Arrays of test groups. Figures whose arrays or columns are missing are left out.

    Returns
    -------
    dict
        autoencoder: ``reconstructions``, ``tsne``, ``roc``, ``saliency``. classifier: ``examples``, ``tsne``,
        ``confusion``, ``saliency``.
    """
    figures: dict[str, Figure | None] = {}
    if explanation.task == "autoencoder":
        figures["reconstructions"] = reconstructions(explanation)
        figures["roc"] = roc(explanation.curves)
    else:
        figures["examples"] = examples(explanation)
        figures["confusion"] = confusion(explanation)
    figures["tsne"] = tsne(explanation)
    figures["saliency"] = saliency(explanation)
    return {name: figure for name, figure in figures.items() if figure is not None}


def reconstructions(explanation: Explanation) -> Figure | None:
    """Original, corrupted and reconstructed light maps of a few samples; one colour scale a row."""
    columns = [("original", explanation.inputs), ("corrupted, as in training", explanation.corrupted)]
    columns.append(("reconstructed from the original", explanation.outputs))
    shown = {name: images for name, images in columns if images is not None}
    if explanation.outputs.ndim != 4 or not len(explanation.inputs):
        return None
    count, channels, height, width = explanation.inputs.shape
    rows = [(sample, channel) for sample in range(min(count, RECONSTRUCTED)) for channel in range(channels)]
    size = (3.6, max(0.75, 3.6 * height / width + 0.25))
    figure, axes_grid = grid(len(rows), len(shown), size, "Light maps")
    for axes_row, (sample, channel) in zip(axes_grid, rows, strict=True):
        largest = float(explanation.inputs[sample, channel].max()) or 1.0
        for axes, (name, images) in zip(axes_row, shown.items(), strict=True):
            drawn = light_map(axes, images[sample, channel], largest)
            if (sample, channel) == rows[0]:
                axes.set_title(name)
            edge_labels(axes, axes is axes_row[0], (sample, channel) == rows[-1], (height, width))
        who = [
            _true(explanation, sample) or f"sample {sample + 1}",
            channel_name(channel, explanation.inputs),
            axes_row[0].get_ylabel(),
        ]
        axes_row[0].set_ylabel("\n".join(filter(None, who)), fontsize="small")
        figure.colorbar(drawn, ax=list(axes_row), pad=0.01).ax.tick_params(labelsize="x-small")
    figure.supxlabel(f"colour: {input_unit(height, width)}; grey: nothing seen", fontsize="small")
    return figure


def examples(explanation: Explanation) -> Figure | None:
    """Light maps with the true class, the class given and the network's probability of it."""
    count, _, height, width = explanation.inputs.shape
    if explanation.outputs.ndim != 2 or not count:
        return None
    _, names = _kind(explanation)
    given, sure = explanation.outputs.argmax(1), explanation.outputs.max(1)
    chosen = sorted(range(min(count, EXAMPLES)), key=lambda sample: (_true(explanation, sample), sample))
    size = (3.2, max(1.0, 3.2 * height / width + 0.6))
    figure, panels = flow(len(chosen), 3, size, "Examples by true class")
    for position, (axes, sample) in enumerate(zip(panels, chosen, strict=True)):
        image = explanation.inputs[sample].max(0)
        drawn = light_map(axes, image, float(image.max()) or 1.0)
        told = f"given {names.get(int(given[sample]), given[sample])}, p = {sure[sample]:.2f}"
        axes.set_title("\n".join(filter(None, [_true(explanation, sample), told])), fontsize="small")
        edge_labels(axes, position % 3 == 0, position + 3 >= len(chosen), (height, width))
        figure.colorbar(drawn, ax=axes, pad=0.02).ax.tick_params(labelsize="x-small")
    figure.supxlabel(f"colour: {input_unit(height, width)}; grey: nothing seen", fontsize="small")
    return figure


def tsne(explanation: Explanation) -> Figure | None:
    """Draw the maps of the code, coloured by class and beside it by everything that might explain it instead."""
    if not explanation.embedding.size:
        return None
    kind, _ = _kind(explanation)
    labelled = [name for name in explanation.columns if name in explanation.labels and name != kind]
    numbers = [name for name in explanation.columns if name not in explanation.labels]
    wanted = [kind, *numbers[:NUISANCES], *labelled[:1]]
    return panels.tsne(explanation, wanted, kind, "t-SNE of the code; distances between groups mean nothing", COLORS)


def roc(curves: Mapping[str, Mapping[str, Curve]]) -> Figure | None:
    """Draw a panel for each two-class question: probes on the code, on baselines and on the truth."""
    questions = {name: rivals for name, rivals in curves.items() if rivals and all(map(_two_class, rivals.values()))}
    if not questions:
        return None
    methods = list(dict.fromkeys(method for rivals in questions.values() for method in rivals))
    figure, panels = flow(len(questions), 3, (3.8, 3.9), "What the code tells apart, beside classical features")
    for axes, (question, rivals) in zip(panels, questions.items(), strict=True):
        for method, (label, score, *weight) in rivals.items():
            false, true, _ = roc_curve(label, score, sample_weight=weight[0] if weight else None)
            color = COLORS[methods.index(method) % len(COLORS)]
            style = ":" if method == "oracle" else "-"
            axes.plot(false, true, style, color=color, lw=1.5, label=f"{_plain(method)} {auc(false, true):.3f}")
        axes.plot([0, 1], [0, 1], color="#cccccc", lw=0.8, zorder=0)
        axes.set(xlabel="background kept (share)", ylabel="signal kept (share)", aspect="equal")
        axes.set_title(wrapped(_plain(question)), fontsize="small")
        axes.legend(title="method, AUC", fontsize="x-small", title_fontsize="x-small", loc="lower right")
    return figure


def confusion(explanation: Explanation) -> Figure | None:
    """Draw a panel for each method: share of each true class that was given each class."""
    _, names = _kind(explanation)
    methods = {name: pair for rivals in explanation.curves.values() for name, pair in rivals.items() if _classes(pair)}
    if not methods:
        return None
    values = sorted({int(value) for truth, *_ in methods.values() for value in np.unique(truth)})
    ticks = [names.get(value, str(value)) for value in values]
    figure, panels = flow(len(methods), 3, (3.9, 3.6), "Classes given to each true class, as shares of it")
    for axes, (method, (truth, said, *_)) in zip(panels, methods.items(), strict=True):
        share = confusion_matrix(truth, said, labels=values, normalize="true")
        axes.imshow(share, vmin=0, vmax=1, cmap="Blues")
        for (row, column), value in np.ndenumerate(share):
            look: dict[str, Any] = {
                "ha": "center",
                "va": "center",
                "fontsize": "x-small",
                "color": "w" if value > 0.5 else "k",
            }
            axes.text(column, row, f"{value:.2f}", **look)
        axes.set_xticks(range(len(values)), ticks, rotation=40, ha="right", fontsize="small")
        axes.set_yticks(range(len(values)), ticks, fontsize="small")
        axes.set(xlabel="given class", ylabel="true class")
        axes.set_title(f"{_plain(method)}: accuracy {np.mean(truth == said):.3f}", fontsize="small")
    return figure


def saliency(explanation: Explanation) -> Figure | None:
    """Draw the tubes each code unit or class listens to: mean absolute gradient, one colour scale for all."""
    maps = explanation.saliency[:UNITS]
    if not maps.size:
        return None
    units, channels, height, width = maps.shape
    is_class = explanation.outputs.ndim == 2 and explanation.outputs.shape[1] == len(explanation.saliency)
    _, names = _kind(explanation)
    across = min(ACROSS, units)
    size = (2.9, max(0.8, 2.6 * height / width + 0.35))
    title = "Where the network listens: mean absolute gradient on the input"
    figure, axes_grid = grid(-(-units // across) * channels, across, size, title)
    for axes in axes_grid.flat:
        axes.set_visible(False)
    largest = float(np.quantile(maps, 0.999)) or 1.0
    for unit, channel in np.ndindex(units, channels):
        band, column = divmod(unit, across)
        axes = axes_grid[band * channels + channel, column]
        axes.set_visible(True)
        drawn = axes.imshow(maps[unit, channel], vmin=0, vmax=largest, cmap="cividis", aspect="auto", origin="lower")
        who = names.get(unit, str(unit)) if is_class else f"unit {unit + 1}"
        axes.set_title(", ".join(filter(None, [who, channel_name(channel, maps)])), fontsize="x-small")
        edge_labels(axes, column == 0, channel == channels - 1 and unit + across >= units, (height, width))
    bar = figure.colorbar(drawn, ax=list(axes_grid.flat), pad=0.01, shrink=0.8)
    bar.set_label("mean |gradient|, network's units", fontsize="small")
    return figure


def _kind(explanation: Explanation) -> tuple[str, dict[int, str]]:
    """Find the class column, "" if there is none, and the names of its values."""
    name = next((name for name in explanation.columns if name in explanation.labels), "")
    return name, {int(key): text for key, text in explanation.labels.get(name, {}).items()}


def _true(explanation: Explanation, sample: int) -> str:
    """Name the class of an example; the examples are the first of the embedded samples."""
    name, names = _kind(explanation)
    return names.get(int(explanation.columns[name][sample]), "") if name else ""


def _plain(name: str) -> str:
    """Write a name as words."""
    return name.replace("_", " ")


def _two_class(curve: Sequence[np.ndarray]) -> bool:
    """Whether a curve is a label of both 0 and 1, and a score."""
    return np.asarray(curve[1]).dtype.kind == "f" and set(np.unique(curve[0]).tolist()) == {0, 1}


def _classes(curve: Sequence[np.ndarray]) -> bool:
    """Whether a curve is true and given classes."""
    return all(np.asarray(array).dtype.kind in "iu" for array in curve[:2])
