"""What the code knows of single cells: maps of cells that hold storms, and of what looks like them.

Shape legend: F frames, K cells; h, w grid of cells; S rows of the storm list.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.manifold import TSNE
from sklearn.metrics import adjusted_mutual_info_score

from kilonode.cases.contract import Trained
from kilonode.cases.extreme_weather import rivals
from kilonode.cases.extreme_weather.reports import Report
from kilonode.cases.extreme_weather.rules import AR

MOST = 600
"""Cells in the map, at most."""
NOTHING, OTHERS = 4, 5
"""Classes after those of ``rules``: no object, and an object that is no storm (a hard negative)."""


def measure(trained: Trained, report: Report) -> None:
    """t-SNE of the code of cells of test frames; whether its clusters are the classes nobody gave it."""
    if not trained.simulated:
        return
    code, about = gathered(trained)
    if len(code) < 50:
        return
    code = (code - code.mean(axis=0)) / (code.std(axis=0) + 1e-9)
    map_ = TSNE(perplexity=30, init="pca", random_state=0).fit_transform(code)
    report.arrays["cells"] = np.concatenate([map_, about], axis=1)
    found = KMeans(6, n_init=4, random_state=0).fit_predict(code)
    words = "adjusted mutual information of 6-means of the cells' code with"
    for name, column in (("class", 0), ("kind", 2)):
        score = float(adjusted_mutual_info_score(about[:, column].astype(int), found))
        report.plain("cells", f"cluster_information_{name}", "network", score, f"{words} the {name} of their objects")


def gathered(trained: Trained) -> tuple[np.ndarray, np.ndarray]:
    """Code (K, features) of cells, and class, latitude and kind of the object in each (K, 3), as many empty ones."""
    store, model, raw = trained.stores["test"], trained.network.model, trained.raw["test"]
    lists, boxes = store.read("truth/storms"), store.read("truth/boxes")
    rng = np.random.default_rng(0)
    codes, about = [], []
    with torch.no_grad():
        for start in range(0, len(raw), rivals.CHUNK):
            code = model.code(torch.from_numpy(trained.network.scaler(raw[start : start + rivals.CHUNK]))).numpy()
            for frame in range(len(code)):
                for row, column, kind, negative in _cells(
                    lists[start + frame], boxes[start + frame], code.shape[2:], model.cell, rng
                ):
                    codes.append(code[frame, :, row, column])
                    about.append((kind, (row + 0.5) * 180 / code.shape[2] - 90, negative))
    chosen = rng.permutation(len(codes))[:MOST]
    return np.array(codes)[chosen], np.array(about, np.float64)[chosen]


def _cells(
    storms: np.ndarray, boxes: np.ndarray, grid: tuple[int, int], cell: int, rng: np.random.Generator
) -> list[tuple[int, int, int, int]]:
    """Row, column, class, kind of every object's cell in a frame, and as many cells without one."""
    found: dict[tuple[int, int], tuple[int, int]] = {}
    for storm in storms[storms[:, 9] >= 0]:
        row, column = int((storm[2] + 90) / 180 * grid[0]), int(storm[3] % 360 / 360 * grid[1])
        found[min(row, grid[0] - 1), column] = (int(storm[1]) if storm[1] >= 0 else OTHERS, int(storm[9]))
    for box in boxes[boxes[:, 4] == AR]:
        row, column = int((box[0] + box[2]) / 2 / cell), int((box[1] + box[3]) / 2 / cell) % grid[1]
        found.setdefault((row, column), (AR, 8))
    empty = [
        (int(rng.integers(grid[0] // 6, grid[0] * 5 // 6)), int(rng.integers(grid[1])))
        for _ in range(len(found) // 3 + 1)
    ]
    full = [(row, column, *what) for (row, column), what in found.items()]
    return full + [(row, column, NOTHING, 0) for row, column in empty if (row, column) not in found]
