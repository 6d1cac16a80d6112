"""What each output of a network looks at: input gradients, and the controls they need.

Shape legend: N samples, C channels, H rows, W columns, U units (code numbers or classes).
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import spearmanr

from kilonode.evaluation.network import Network

UNITS = 64
"""Units looked at, at most: the first; a code of thousands would not fit into memory map by map."""


def gradients(network: Network, raw: np.ndarray, of_code: bool) -> np.ndarray:
    """Absolute gradient of each unit by each input pixel.

    Parameters
    ----------
    network : Network
        Randomness is off.
    raw : ndarray
        (N, ...) stored inputs.
    of_code : bool
        Units are the code's numbers; else the logits.

    Returns
    -------
    ndarray
        float32 (U, N, C, H, W), in the network's input units; shaped like the input.
    """
    x = torch.from_numpy(network.scaler(raw)).requires_grad_(True)
    outputs = network.model.features(x) if of_code else network.model(x)
    found = []
    for unit in range(min(outputs.shape[1], UNITS)):
        (gradient,) = torch.autograd.grad(outputs[:, unit].sum(), x, retain_graph=True)
        found.append(gradient.abs().numpy())
    return np.stack(found)


def follows_input(saliency: np.ndarray, inputs: np.ndarray) -> float:
    """Median over samples of the rank correlation between saliency (all units) and the input itself.

    A network of random weights gives the control: an explanation that scores no higher than it shows the
    architecture, not what was learned (Adebayo et al. 2018, arXiv:1810.03292).
    """
    pixels = np.sqrt((saliency**2).sum(axis=0)).reshape(len(inputs), -1)
    values = np.abs(inputs).reshape(len(inputs), -1)
    varied = (pixels.std(axis=1) > 0) & (values.std(axis=1) > 0)
    scores = [spearmanr(a, b).statistic for a, b in zip(pixels[varied], values[varied], strict=True)]
    return float(np.median(scores)) if scores else float("nan")
