"""Did the network memorise: two of them trained on disjoint halves, and asked what they have in common.

If both learned the distribution and not their images, an unseen galaxy is as likely under one as under the other, and
its code lies as near to codes of images the network was trained on as to codes of the other half. Idea: Kadkhodaie et
al. 2024, arXiv:2310.02557, for diffusion models; here for a variational autoencoder, as in arXiv:2503.23127.

Shape legend: N images, n = H W pixels, L latent numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors

from kilonode.cases.contract import Batch
from kilonode.cases.galaxy_shapes import models
from kilonode.cases.galaxy_shapes.scores import tensor

LARGEST = 1500
"""Training images of one half; more would take longer than the training that is examined."""
EPOCHS, RATE, BATCH, CLIP = 4, 2e-3, 16, 5.0


@dataclass(frozen=True)
class Halves:
    """What two networks of disjoint halves say."""

    own: np.ndarray
    """Bound of the training images under the network that saw them minus under the other, nats."""
    unseen: np.ndarray
    """Bound of unseen images under the first network minus under the second, nats."""
    nearer_own: np.ndarray
    """Whether an unseen image's code lies nearer to the half the network saw than to the other: one half by chance."""
    distance: tuple[float, float]
    """Median distance to the nearest code of the half it saw and of the other, in standard deviations of codes."""


def compare(settings: Mapping[str, Any], train: np.ndarray, groups: np.ndarray, test: np.ndarray) -> Halves:
    """Train twice, on halves of the training fields, and compare.

    Parameters
    ----------
    settings : Mapping
        ``task.model`` of case.yaml.
    train : float32 (N, n)
        Training images.
    groups : int (N,)
        Their fields: no field is in both halves.
    test : float32 (N, n)
        Unseen images.
    """
    odd = np.searchsorted(np.unique(groups), groups) % 2 == 1
    parts = [train[odd == which][:LARGEST] for which in (False, True)]
    first, second = (trained(settings, part) for part in parts)
    own = [bounds(first, parts[0]) - bounds(second, parts[0]), bounds(second, parts[1]) - bounds(first, parts[1])]
    codes = [code(first, images) for images in (*parts, test)]
    scale = codes[2].std(axis=0)
    size = min(map(len, parts))
    near = [nearest(seen[:size] / scale, codes[2] / scale) for seen in codes[:2]]
    distance = (float(np.median(near[0])), float(np.median(near[1])))
    return Halves(np.concatenate(own), bounds(first, test) - bounds(second, test), near[0] < near[1], distance)


def trained(settings: Mapping[str, Any], x: np.ndarray) -> Any:
    """A network of these images, after a fixed number of epochs; its randomness is its own."""
    state = torch.get_rng_state()
    torch.manual_seed(0)
    side = round(x.shape[1] ** 0.5)
    model: Any = models.build("density", settings, (1, side, side))
    torch.set_rng_state(state)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    order = np.random.default_rng(0)
    steps = -(-len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * steps)
    for epoch in range(EPOCHS):
        for rows in np.array_split(order.permutation(len(x)), steps):
            key = torch.from_numpy(rows + len(x) * epoch)
            loss = model.losses(Batch(tensor(x[rows]), None, key)).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            schedule.step()
    return model.eval()


def bounds(model: Any, x: np.ndarray) -> np.ndarray:
    """Evidence lower bound of each image, nats (N,)."""
    with torch.no_grad():
        parts = [
            -model.losses(Batch(some := tensor(x[k : k + 256]), None, torch.arange(len(some))))
            for k in range(0, len(x), 256)
        ]
    return torch.cat(parts).double().numpy()


def code(model: Any, x: np.ndarray) -> np.ndarray:
    """Posterior mean of each image, (N, L)."""
    with torch.no_grad():
        return torch.cat([model.features(tensor(x[k : k + 256])) for k in range(0, len(x), 256)]).numpy()


def nearest(train: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Distance of each row to the nearest training row, (N,)."""
    return np.asarray(NearestNeighbors(n_neighbors=1).fit(train).kneighbors(x)[0][:, 0])
