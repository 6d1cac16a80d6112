"""What the answer of a network looks at: gradients, integrated gradients, occlusion.

Shape legend: N samples, C channels, H rows, W columns, U units (code numbers or classes), K classes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from kilonode.evaluation.network import Network

UNITS = 64
"""Units looked at, at most: the first; a code of thousands would not fit into memory map by map."""
STEPS = 12
"""Points of the path of integrated gradients (Gauss-Legendre)."""
PATCHES = 8
"""Patches that are hidden one by one, along each axis, where the case names no size."""
BATCH = 32
Answer = Callable[[torch.Tensor], torch.Tensor]
"""Inputs (B, C, H, W) to the numbers that may be explained, (B, K)."""


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


def answer(model: Any, of_code: bool) -> Answer:
    """What a network says, as numbers to be explained; of a copy in the memory layout that is twice as fast.

    Of a code half its squared length, (B, 1). Of classes the log-odds of each against all others, (B, K): a logit
    alone also holds what moves all logits together and so decides nothing.
    """
    model = copy.deepcopy(model).to(memory_format=torch.channels_last)
    if of_code:
        return lambda x: 0.5 * model.features(x).flatten(1).square().sum(dim=1, keepdim=True)

    def odds(x: torch.Tensor) -> torch.Tensor:
        logits = model(x)
        others = logits[:, None, :].expand(-1, logits.shape[1], -1)
        own = torch.eye(logits.shape[1], dtype=torch.bool)
        return logits - others.masked_fill(own, -torch.inf).logsumexp(dim=2)

    return odds


def maps(said: Answer, x: np.ndarray, patch: tuple[int, int] | None = None) -> dict[str, np.ndarray]:
    """How much each pixel matters to the answer, by method.

    Parameters
    ----------
    said : callable
        See ``answer``; of several numbers the largest at ``x`` is explained.
    x : ndarray
        float32 (N, C, H, W), as the network sees them. "Nothing" is zero: no signal, or the mean where inputs are
        standardised.
    patch : tuple of int, optional
        Rows and columns hidden together; default an eighth of each axis. Channels are hidden one by one.

    Returns
    -------
    dict
        ``gradients``, ``integrated_gradients``, ``occlusion``: float32 (N, C, H, W), absolute values.

    Source
    ------
    Simonyan, Vedaldi, Zisserman 2013, arXiv:1312.6034; Sundararajan, Taly, Yan 2017, arXiv:1703.01365, eq. 1; Zeiler,
    Fergus 2013, arXiv:1311.2901; Captum: Kokhlikyan et al. 2020, arXiv:2009.07896.
    """
    # Here, because the import takes a second and few tasks ask for it.
    from captum.attr import IntegratedGradients, Occlusion, Saliency

    window = (1, *(patch or (-(-x.shape[2] // PATCHES), -(-x.shape[3] // PATCHES))))
    found: dict[str, list[np.ndarray]] = {"gradients": [], "integrated_gradients": [], "occlusion": []}
    for start in range(0, len(x), BATCH):
        part = torch.from_numpy(x[start : start + BATCH]).to(memory_format=torch.channels_last)
        with torch.no_grad():
            target = said(part).argmax(dim=1)
        differentiable = part.clone().requires_grad_(True)
        found["gradients"].append(_array(Saliency(said).attribute(differentiable, target=target)))
        path = IntegratedGradients(said).attribute(part, target=target, n_steps=STEPS, internal_batch_size=4 * BATCH)
        found["integrated_gradients"].append(_array(path))
        with torch.no_grad():
            hidden = Occlusion(said).attribute(part, window, strides=window, target=target)
        found["occlusion"].append(_array(hidden))
    return {method: np.concatenate(parts) for method, parts in found.items()}


def _array(attribution: torch.Tensor) -> np.ndarray:
    return attribution.detach().abs().to(torch.float32).numpy()
