"""Figures of the case: cortical traces, soft confusions and their tree, decoding through time and with more data.

Figures 11 (without vocal tract and sound, which are not simulated) and 12 of the article are ``traces`` and
``dendrogram``.
Shape legend: N embedded samples, S seeds, E electrodes, T moments, K classes, F folds.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.cluster import hierarchy

from kilonode.cases.contract import Explanation
from kilonode.cases.ecog_speech import scores, speech
from kilonode.cases.ecog_speech.cortex import BEFORE_S, COLUMNS, RATE_HZ, ROWS, SAMPLES, SOMATOTOPY

# Okabe and Ito 2008, "Color universal design".
BLUE, RED, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#999999"
GROUPS = dict(zip(speech.PLACES, (BLUE, RED, GREEN), strict=True))
DPI = 120
CAPTIONS = {
    "traces": "Mean amplitude of 70-150 Hz on test trials of three simulated syllables, which differ in lips, tip and "
    "body of the tongue; electrodes by their place along the grid, from larynx (top) to velum. Time 0 is the "
    "transition from consonant to vowel. The article's Figure 11 also shows tract and sound: not simulated.",
    "confusion": "Soft confusions: mean probability that the network gives each class (columns) on outer test trials "
    "of each class (rows), in the order of the tree.",
    "dendrogram": "Ward's tree of the rows of soft confusions, coloured by where the tract is narrow: labial, coronal, "
    "dorsal. It is made of test trials alone; its agreement with the tree of true articulators has a permutation "
    "test in the table.",
    "training_size": "Accuracy on outer test blocks of all folds against the number of training trials, network and "
    "best linear method, each as its own search chose. Thin lines are folds.",
    "time": "Accuracy of the linear decoder on windows of 125 ms. Until time 0 nothing of oneself can be heard.",
    "tsne": "t-SNE maps of the last hidden layer on test trials. Colours: consonant and vowel, then what might explain "
    "the groups instead. Sizes of groups and distances between them carry no meaning.",
    "saliency": "Mean absolute gradient of the answers on each electrode and moment, over test trials, on the grid's "
    "long axis. Responses are simulated around -100 ms (consonant) and +120 ms (vowel).",
}


def draw(explanation: Explanation) -> dict[str, Figure]:
    """Draw all figures of a task.

    Parameters
    ----------
    explanation : Explanation
        Arrays of test blocks. Figures whose arrays are missing are left out.

    Returns
    -------
    dict
        Always ``tsne`` and ``saliency``; ``traces``, ``confusion``, ``dendrogram``, ``training_size``, ``time`` where
        ``measures`` left their arrays.
    """
    arrays = explanation.arrays
    drawn = {"tsne": _tsne(explanation), "saliency": _saliency(explanation.saliency)}
    if any(name.startswith("trace_") for name in arrays):
        drawn["traces"] = _traces(arrays)
    if "confusion" in arrays:
        drawn["confusion"] = _confusion(arrays["confusion"], arrays["confusion_classes"])
        drawn["dendrogram"] = _dendrogram(arrays["confusion"], arrays["confusion_classes"])
    if "curve_network" in arrays and arrays["curve_network"].shape[1] > 1:
        drawn["training_size"] = _training_size(arrays)
    if "time_accuracy" in arrays:
        drawn["time"] = _time(arrays)
    return drawn


def _bare(axes: Axes) -> Axes:
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def names_of(classes: np.ndarray) -> list[str]:
    """Syllables, or consonants where no class is beyond them."""
    known = speech.SYLLABLES if classes.max() >= len(speech.CONSONANTS) else speech.CONSONANTS
    return [known[value] for value in classes]


def _places(classes: np.ndarray) -> list[str]:
    """Labial, coronal or dorsal, of each class."""
    is_syllable = classes.max() >= len(speech.CONSONANTS)
    return [list(speech.PLACES)[k] for k in speech.place_of(classes if is_syllable else 3 * classes)]


def _traces(arrays: dict[str, np.ndarray]) -> Figure:
    shown = {name.removeprefix("trace_"): array for name, array in arrays.items() if name.startswith("trace_")}
    figure = Figure(figsize=(3.2 * len(shown) + 1, 4), layout="constrained", dpi=DPI)
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    most = max(float(np.quantile(np.abs(array), 0.995)) for array in shown.values())
    for axes, (name, array) in zip(panels, shown.items(), strict=True):
        image = axes.imshow(array, aspect="auto", cmap="RdBu_r", vmin=-most, vmax=most, extent=_extent(array.shape))
        axes.axvline(0, color="black", lw=0.7, ls=":")
        axes.set_title(f"/{name}/")
        axes.set_xlabel("time from transition (ms)")
    _somatotopy(panels[0], len(shown[next(iter(shown))]))
    figure.colorbar(image, ax=list(panels), label="amplitude (z-score)", shrink=0.8)
    return figure


def _extent(shape: tuple[int, ...]) -> tuple[float, float, float, float]:
    """Milliseconds in the windows of this case, samples in those of a user."""
    electrodes, samples = shape
    if samples != SAMPLES:
        return (0, samples, electrodes, 0)
    return (-1e3 * BEFORE_S, 1e3 * (SAMPLES / RATE_HZ - BEFORE_S), electrodes, 0)


def _somatotopy(axes: Axes, electrodes: int) -> None:
    """Names of what each part of the grid moves; electrodes are numbered along its long side."""
    if electrodes == ROWS * COLUMNS:
        axes.set_yticks(COLUMNS * (0.5 + np.linspace(1.5, ROWS - 2.5, len(SOMATOTOPY))), SOMATOTOPY)
    else:
        axes.set_ylabel("electrode")


def _confusion(rows: np.ndarray, classes: np.ndarray) -> Figure:
    order = hierarchy.leaves_list(scores.tree(rows))
    names = [names_of(classes)[k] for k in order]
    figure = Figure(figsize=(7.5, 6.5), layout="constrained", dpi=DPI)
    axes = figure.subplots()
    image = axes.imshow(rows[np.ix_(order, order)], cmap="Blues", vmin=0)
    size = 6 if len(names) > 30 else 9
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=size)
    axes.set_yticks(range(len(names)), names, fontsize=size)
    axes.set_xlabel("answer")
    axes.set_ylabel("syllable spoken" if len(names) > 30 else "consonant spoken")
    figure.colorbar(image, label="mean probability", shrink=0.8)
    return figure


def _dendrogram(rows: np.ndarray, classes: np.ndarray) -> Figure:
    figure = Figure(figsize=(9, 3.4), layout="constrained", dpi=DPI)
    axes = _bare(figure.subplots())
    places = _places(classes)
    hierarchy.dendrogram(scores.tree(rows), labels=names_of(classes), ax=axes, color_threshold=0,
                         above_threshold_color=GREY, leaf_rotation=90, leaf_font_size=8)  # fmt: skip
    of = dict(zip(names_of(classes), places, strict=True))
    for label in axes.get_xticklabels():
        label.set_color(GROUPS[of[label.get_text()]])
    for k, (name, colour) in enumerate(GROUPS.items()):
        axes.text(0.99, 0.95 - 0.09 * k, name, color=colour, transform=axes.transAxes, ha="right")
    axes.set_ylabel("distance (Ward)")
    return figure


def _training_size(arrays: dict[str, np.ndarray]) -> Figure:
    figure = Figure(figsize=(5.2, 3.6), layout="constrained", dpi=DPI)
    axes = _bare(figure.subplots())
    for name, colour, label in (("network", BLUE, "network"), ("baseline", RED, "linear")):
        values = arrays.get(f"curve_{name}")
        if values is None:
            continue
        axes.plot(arrays["curve_shares"], 100 * values.T, color=colour, lw=0.6, alpha=0.5)
        axes.plot(arrays["curve_shares"], 100 * values.mean(axis=0), "o-", color=colour, label=label)
    axes.set_xlabel("training trials")
    axes.set_ylabel("accuracy (%)")
    axes.legend(frameon=False)
    return figure


def _time(arrays: dict[str, np.ndarray]) -> Figure:
    figure = Figure(figsize=(5.2, 3.2), layout="constrained", dpi=DPI)
    axes = _bare(figure.subplots())
    axes.plot(1e3 * arrays["time_s"], 100 * arrays["time_accuracy"], "o-", color=BLUE)
    axes.axvline(0, color="black", lw=0.7, ls=":")
    axes.set_ylim(0)
    axes.set_xlabel("middle of the window, time from transition (ms)")
    axes.set_ylabel("accuracy (%)")
    return figure


def _saliency(saliency: np.ndarray) -> Figure:
    found = saliency.mean(axis=(0, 1))
    figure = Figure(figsize=(5.6, 4), layout="constrained", dpi=DPI)
    axes = figure.subplots()
    image = axes.imshow(found, aspect="auto", cmap="magma", extent=_extent(found.shape))
    _somatotopy(axes, len(found))
    axes.set_xlabel("time from transition (ms)" if found.shape[1] == SAMPLES else "sample")
    figure.colorbar(image, label="mean |gradient|")
    return figure


def _tsne(explanation: Explanation) -> Figure:
    points = explanation.embedding[0]
    columns = explanation.columns or {"test trials": np.zeros(len(points))}
    names = list(columns)
    across = min(3, len(names))
    down = -(-len(names) // across)
    figure = Figure(figsize=(3.5 * across, 3.1 * down), layout="constrained", dpi=DPI)
    for k, name in enumerate(names):
        axes, values = figure.add_subplot(down, across, k + 1), columns[name]
        labels = explanation.labels.get(name)
        drawn = axes.scatter(points[:, 0], points[:, 1], c=values, s=5, cmap="tab20" if labels else "viridis")
        axes.set_title(name, fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
        bar = figure.colorbar(drawn, ax=axes, shrink=0.9)
        if labels:
            bar.set_ticks(list(labels), labels=list(labels.values()), fontsize=6)
        else:
            unit = explanation.units.get(name, "1")
            bar.set_label("" if unit == "1" else unit, fontsize=7)
    figure.suptitle(f"trustworthiness {explanation.trustworthiness.mean():.2f}", fontsize=9)
    return figure
