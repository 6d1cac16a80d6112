"""Networks: the denoising autoencoder of the original work, and the supervised network of four hidden layers.

Inputs arrive as convergence over one scale, with unit root mean square and no shift: zero is the mean density, and
that is what corruption writes.

Shape legend: B batch, C channels, H rows, W columns, F features, K classes; h, w a sixteenth of H, W; T filters.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from kilonode.cases.contract import Batch, Model, chosen
from kilonode.cases.layers import Corruption, uniform

HALVINGS = 4
COARSE = 4
"""Pixels a side of a cell of the coarse map that goes to the code and back without bending."""
SLOPE = 0.1
"""Of the autoencoder's rectifiers below zero: with none, a step too large leaves it silent for good."""
DEFAULTS: dict[str, dict[str, Any]] = {
    "autoencoder": {"filters": 32, "code": 2048, "corruption": 0.3, "augment": True},
    "classifier": {"filters": 32, "features": 2048, "classes": 2, "pooled": False, "augment": True},
}


def build(task: str, settings: Mapping[str, Any], shape: tuple[int, int, int]) -> Model:
    """Build the network of a task.

    Parameters
    ----------
    task : str
        ``autoencoder``, or a name that begins with ``classifier``: one for each pair of cosmologies.
    settings : Mapping
        ``task.model`` of case.yaml; see there. Missing keys take ``DEFAULTS``.
    shape : (int, int, int)
        (C, H, W) of an input; H and W multiples of 16.

    Returns
    -------
    Model
        In training mode, initialised from torch's global generator.

    Raises
    ------
    ValueError
        An unknown task or setting, or a shape the network cannot take.
    """
    kind = task.partition("_")[0]
    settings = chosen(kind, settings, DEFAULTS)
    if any(side % 2**HALVINGS for side in shape[1:]):
        raise ValueError(f"a map needs sides that are multiples of {2**HALVINGS}, got {tuple(shape)}")
    filters, augment = settings["filters"], settings["augment"]
    network: Autoencoder | Classifier
    if kind == "classifier":
        network = Classifier(shape, filters, settings["features"], settings["classes"], settings["pooled"], augment)
    else:
        network = Autoencoder(shape, filters, settings["code"], Corruption(settings["corruption"]), augment)
    network.apply(_he)
    if isinstance(network, Autoencoder):
        nn.init.zeros_(network.coarse_from_code.weight)  # begins at the mean, not at noise
    return network


def turned(x_BCHW: torch.Tensor, key_B: torch.Tensor) -> torch.Tensor:
    """Each map under one of the eight symmetries of the square, chosen by its key: the sky has no up and no left."""
    # The complement of the key: a corruption of the same key must not be tied to the turn.
    mirror, flip, swap = (column[:, None, None, None] < 0.5 for column in uniform(~key_B, 3).T)
    x_BCHW = torch.where(mirror, x_BCHW.flip(-1), x_BCHW)
    x_BCHW = torch.where(flip, x_BCHW.flip(-2), x_BCHW)
    return torch.where(swap, x_BCHW.transpose(-1, -2), x_BCHW) if x_BCHW.shape[-1] == x_BCHW.shape[-2] else x_BCHW


class Autoencoder(nn.Module):
    """Four convolutions 5x5 of stride 2, two dense layers, four transposed convolutions 4x4 of stride 2.

    17.1 million parameters with 32 filters and a code of 2048, of which the dense pair holds 16.8. Ours: beside them
    a coarse map goes to the code and back by two linear layers (4.2 million), so that what PCA finds is within reach
    of the first steps; without them forty steps on 32 maps give back the mean alone.

    Source
    ------
    shiwangi27/deep_learning_cosmology, layer by layer; rectified but for the code and the end.
    """

    def __init__(
        self, shape: tuple[int, int, int], filters: int, code: int, corruption: Corruption, augment: bool
    ) -> None:
        super().__init__()
        self.corruption = corruption
        self.augment = augment
        channels, height, width = shape
        self.small = (2 * filters, height >> HALVINGS, width >> HALVINGS)
        flat = self.small[0] * self.small[1] * self.small[2]
        down = [channels, filters, filters, 2 * filters, 2 * filters]
        up = [2 * filters, 2 * filters, filters, filters, channels]
        self.encoder = nn.Sequential()
        for before, after in itertools.pairwise(down):
            self.encoder.extend([nn.Conv2d(before, after, 5, stride=2, padding=2), nn.LeakyReLU(SLOPE)])
        self.to_code, self.from_code = nn.Linear(flat, code), nn.Linear(code, flat)
        self.coarse = (channels, height // COARSE, width // COARSE)
        self.coarse_to_code = nn.Linear(math.prod(self.coarse), code)
        self.coarse_from_code = nn.Linear(code, math.prod(self.coarse))
        self.decoder = nn.Sequential()
        for before, after in itertools.pairwise(up):
            self.decoder.extend([nn.ConvTranspose2d(before, after, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE)])
        del self.decoder[-1]

    def features(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Give the code, (B, F); not rectified: of a narrow code that is, all numbers die at once."""
        coarse_BF: torch.Tensor = self.coarse_to_code(functional.avg_pool2d(x_BCHW, COARSE).flatten(1))
        return coarse_BF + self.to_code(self.encoder(x_BCHW).flatten(1))

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Reconstruct: (B, C, H, W)."""
        code_BF = self.features(x_BCHW)
        fine_BCHW: torch.Tensor = self.decoder(
            functional.leaky_relu(self.from_code(code_BF), SLOPE).view(-1, *self.small)
        )
        coarse = self.coarse_from_code(code_BF).view(-1, *self.coarse)
        return fine_BCHW + functional.interpolate(coarse, scale_factor=float(COARSE), mode="bilinear")

    def losses(self, batch: Batch) -> torch.Tensor:
        """Mean squared error against the uncorrupted map, (B,)."""
        x_BCHW = turned(batch.x, batch.key) if self.training and self.augment else batch.x
        out_BCHW = self(self.corruption(x_BCHW, batch.key))
        return ((out_BCHW - x_BCHW) ** 2).flatten(1).mean(1)


class Classifier(nn.Module):
    """Four times convolution 5x5, pooling by 2, batch normalisation, rectifier; one dense layer; one logit a class.

    The normalisation is ours: two cosmologies differ in how strong a filter answers by a few per cent of an answer that
    all maps share, and without it 5,040 maps seen five times taught nothing (loss 0.693, the logarithm of two).

    ``pooled``: the dense layer sees the mean of each filter over the map instead of all places; a statistic of the map,
    which can be learned from few maps.
    """

    def __init__(
        self, shape: tuple[int, int, int], filters: int, features: int, classes: int, pooled: bool, augment: bool
    ) -> None:
        super().__init__()
        self.pooled = pooled
        self.augment = augment
        channels, height, width = shape
        sizes = [channels, filters, filters, 2 * filters, 2 * filters]
        self.encoder = nn.Sequential()
        for before, after in itertools.pairwise(sizes):
            # Largest first, then the rest: a quarter of the work.
            self.encoder.extend(
                [nn.Conv2d(before, after, 5, padding=2), nn.MaxPool2d(2), nn.BatchNorm2d(after), nn.ReLU()]
            )
        places = 1 if pooled else (height >> HALVINGS) * (width >> HALVINGS)
        self.dense = nn.Linear(2 * filters * places, features)
        self.logits = nn.Linear(features, classes)

    def features(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Give the penultimate layer, (B, F)."""
        seen_BThw = self.encoder(x_BCHW)
        return functional.relu(self.dense(seen_BThw.mean((2, 3)) if self.pooled else seen_BThw.flatten(1)))

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Logits, (B, K)."""
        logits_BK: torch.Tensor = self.logits(self.features(x_BCHW))
        return logits_BK

    def losses(self, batch: Batch) -> torch.Tensor:
        """Cross-entropy of each sample, (B,)."""
        assert batch.y is not None, "the classifier needs labels; give the task a target"
        x_BCHW = turned(batch.x, batch.key) if self.training and self.augment else batch.x
        return functional.cross_entropy(self(x_BCHW), batch.y, reduction="none")


def _he(layer: nn.Module) -> None:
    """Weights as He et al. 2015 (arXiv:1502.01852) draw them for rectifiers, no bias."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)
