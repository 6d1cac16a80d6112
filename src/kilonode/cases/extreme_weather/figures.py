"""Figures of the case: patches, the world map with boxes, precision and recall, few labels, the network, t-SNE maps.

Figures 6 and 7 of the article are ``network`` and ``map``. Nothing is computed here but what a drawing needs. Whether
the data are simulated is the caption's to say.
"""

from __future__ import annotations

from matplotlib.figure import Figure

from kilonode.cases.contract import Explanation
from kilonode.cases.extreme_weather import drawings, globes

CAPTIONS = {
    "patches": "Test patches that the network got right: of the class looked for above, of others below; every channel "
    "on one colour scale. The storm stands anywhere within a quarter of the window from the middle.",
    "mistaken": "The test patches about which the network is most wrong, by their label; some labels are wrong on "
    "purpose, at the rates of heuristics. Above each: label, answer, and what the patch was cut around.",
    "wind": "Streamlines of the wind at 850 hPa over the pressure at sea level, in the deepest of the test "
    "patches shown of either label.",
    "confusion": "Test patches by their label, or by the truth, and by what the network said; colour is the share of "
    "the row. Labels have the errors of heuristics, so that the two tables differ.",
    "network": "The detector, drawn from its layers: channels x rows x columns of what each gives. The way back uses "
    "the same weights and sees frames without labels, too.",
    "map": "Water vapour of one test frame. Green: the true boxes. Red: boxes of the network with the confidence that "
    "was best on validation frames, or more. Boxes go around the globe at the edges.",
    "precision_recall": "Precision and recall of boxes on test sequences, for each class and overlap on the sphere, "
    "against the truth. The network's confidence orders its boxes; the thresholds' strength orders theirs.",
    "few_labels": "Mean average precision on test sequences where only a share of the frames has labels, at the same "
    "number of steps: with the reconstruction of all frames, and without. Bands: over sequences; bars: seeds.",
    "reconstruction": "Fields of a test frame as seen, and as they come back from the code of the cells.",
    "cells": "t-SNE map of the code of single cells of test frames, by the class of the true object in the cell, by "
    "latitude, and by kinds that nobody labelled. Distances between groups carry no meaning.",
    "tsne": "t-SNE maps of what the network makes of test samples. Colours: label, then what might explain the groups "
    "instead; the last panels are other seeds. Sizes of groups and distances between them carry no meaning.",
}


def draw(explanation: Explanation) -> dict[str, Figure]:
    """Draw all figures of a task.

    Parameters
    ----------
    explanation : Explanation
        Arrays of test groups. Figures whose arrays are missing are left out.

    Returns
    -------
    dict
        patches: ``patches``, ``mistaken``, ``wind``, ``confusion``; boxes: ``network``, ``map``,
        ``precision_recall``, ``few_labels``, ``reconstruction``, ``cells``; all: ``tsne``.
    """
    figures = {
        "patches": drawings.patches(explanation),
        "mistaken": drawings.mistaken(explanation),
        "wind": drawings.wind(explanation),
        "confusion": drawings.confusion(explanation),
        "network": globes.network(explanation),
        "map": globes.world_map(explanation),
        "precision_recall": globes.precision_recall(explanation),
        "few_labels": globes.few_labels(explanation),
        "reconstruction": globes.reconstruction(explanation),
        "cells": drawings.cells(explanation),
        "tsne": drawings.tsne(explanation),
    }
    return {name: figure for name, figure in figures.items() if figure is not None}
