"""Which pixels matter to a network, and whether they are those where the mass is.

Shape legend: N maps, C channels, H rows, W columns, K peaks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from kilonode.cases.contract import Answering
from kilonode.cases.mass_maps import models
from kilonode.cases.mass_maps.statistics import smoothed

NEAR = 3.0
"""A pixel belongs to a peak this near, pixels."""
TOP = 0.01
"""Share of the pixels of a map that count as important."""
BATCH = 64


def gradients(model: Any, x: np.ndarray) -> np.ndarray:
    """How strongly the answer depends on each pixel.

    The answer is the difference of the two logits, or half the squared length of the code where there are no classes.

    Parameters
    ----------
    model : Model
        In evaluation mode.
    x : float32 (N, C, H, W)
        As the network sees them.

    Returns
    -------
    float32 (N, H, W)
        Absolute gradient, summed over channels and smoothed by one pixel: neighbours share what pooling mixed.
    """
    found = []
    for start in range(0, len(x), BATCH):
        part = torch.from_numpy(x[start : start + BATCH]).requires_grad_(True)
        if hasattr(model, "logits"):
            logits = model(part)
            answer = (logits[:, -1] - logits[:, 0]).sum()
        else:
            answer = 0.5 * (model.features(part) ** 2).sum()
        (gradient,) = torch.autograd.grad(answer, part)
        found.append(gradient.abs().sum(1).numpy())
    return smoothed(np.concatenate(found), 1.0)


def maps(task: str, settings: Any, network: Answering, x: np.ndarray) -> dict[str, np.ndarray]:
    """Importance of each pixel by method (N, H, W): the network, times the input, and the two controls.

    ``convergence`` is the input itself, the trivial answer; ``random_weights`` a network that has learned nothing, so
    what it shows is the architecture (Adebayo et al. 2018, arXiv:1810.03292).
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        untrained: Any = models.build(task, settings["model"], x.shape[1:])
    found = gradients(network.model, x)
    strength = smoothed(np.abs(x).sum(1), 1.0)
    return {
        "network": found,
        "gradient_times_input": found * strength,
        "convergence": smoothed(x.sum(1), 1.0),
        "random_weights": gradients(untrained.eval(), x),
    }


def near_peaks(place: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Which pixels lie within ``NEAR`` of a peak: places (N, K, 2), column and row -> bool (N, H, W)."""
    row, column = np.ogrid[: shape[0], : shape[1]]
    found = np.zeros((len(place), *shape), bool)
    for peak in range(place.shape[1]):
        x, y = (place[:, peak, axis, None, None] for axis in (0, 1))
        found |= (column - x) ** 2 + (row - y) ** 2 <= NEAR**2
    return found


def on_peaks(importance: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Share of each map's most important pixels that lie near a peak, (N,); by chance the area of all ``near``."""
    flat, hit = importance.reshape(len(importance), -1), near.reshape(len(near), -1)
    count = max(1, round(TOP * flat.shape[1]))
    best = np.argpartition(flat, -count, axis=1)[:, -count:]
    return np.asarray(np.take_along_axis(hit, best, axis=1).mean(axis=1))
