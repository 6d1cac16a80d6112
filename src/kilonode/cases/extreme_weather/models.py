"""Networks: the published patch classifiers, a pyramid and a residual one for every size; ``detector``, ``unet``.

Inputs arrive standardised channel by channel with training statistics.

Shape legend: B batch, C channels, H rows, W columns, F features, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from kilonode.cases.contract import Batch, Model, chosen
from kilonode.cases.extreme_weather import detector, unet

PATCHES: dict[str, Any] = {
    "variant": "published",
    "kernels": [5, 5],
    "filters": [16, 32],
    "pools": [2, 2],
    "dense": 500,
    "classes": 2,
}
DEFAULTS: dict[str, dict[str, Any]] = {"patches": PATCHES, "boxes": detector.DEFAULTS}
VARIANTS = {"patches": ("published", "pyramid", "residual"), "boxes": ("cells", "unet")}
BINS = (1, 2, 4)
"""Sides of the pyramid's grids of pooled places (He et al. 2014, arXiv:1406.4729)."""


def build(task: str, settings: Mapping[str, Any], shape: tuple[int, ...]) -> Model:
    """Build the network of a task.

    Parameters
    ----------
    task : str
        A name that begins with ``patches`` or ``boxes``.
    settings : Mapping
        ``task.model`` of case.yaml; see there. Missing keys take ``DEFAULTS``.
    shape : tuple of int
        (C, H, W) of an input; boxes in time: (C, T, H, W).

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
    if settings["variant"] not in VARIANTS[kind]:
        raise ValueError(f"variant needs one of {', '.join(VARIANTS[kind])}, got {settings['variant']!r}")
    if kind == "boxes":
        return (unet.build if settings["variant"] == "unet" else detector.build)(settings, shape)
    if not len(settings["kernels"]) == len(settings["filters"]) == len(settings["pools"]):
        raise ValueError("kernels, filters and pools need one entry for each convolution")
    if len(shape) != 3:
        raise ValueError(f"a patch needs channels, rows and columns, got {tuple(shape)}")
    if settings["variant"] == "published":
        network: _Classifier = Published(shape, settings)
    else:
        network = (Pyramid if settings["variant"] == "pyramid" else Residual)(shape[0], settings)
    network.apply(detector.he)
    return network


class _Classifier(nn.Module):
    """What both networks share: a dense layer's features, logits, cross-entropy."""

    def features(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Give the penultimate layer, (B, F)."""
        return functional.relu(self.dense(self.seen(x_BCHW)))  # type: ignore[operator]

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Logits, (B, K)."""
        logits_BK: torch.Tensor = self.logits(self.features(x_BCHW))  # type: ignore[operator]
        return logits_BK

    def losses(self, batch: Batch) -> torch.Tensor:
        """Cross-entropy of each sample, (B,)."""
        assert batch.y is not None, "the classifier needs labels; give the task a target"
        return functional.cross_entropy(self(batch.x), batch.y, reduction="none")


class Published(_Classifier):
    """Convolutions without padding, each with rectifier and pooling; one dense layer; logits.

    Source
    ------
    yunjieliu/Machine-Learning: kernels 5 and 5, filters 16 and 32, pools 2 and 2, 500 (cyclones); 12 and 12, 8 and 16,
    3 and 2, 200 (rivers). Initial weights here are He's, not uniform.
    """

    def __init__(self, shape: tuple[int, ...], settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.encoder = nn.Sequential()
        channels, height, width = shape
        for kernel, filters, pool in zip(settings["kernels"], settings["filters"], settings["pools"], strict=True):
            # Largest first, then cut at zero: the same numbers as the other way around, with less work.
            self.encoder.extend([nn.Conv2d(channels, filters, kernel), nn.MaxPool2d(pool), nn.ReLU()])
            channels, height, width = filters, (height - kernel + 1) // pool, (width - kernel + 1) // pool
        if min(height, width) < 1:
            raise ValueError(f"patches of {tuple(shape)} are too small for kernels {settings['kernels']}")
        self.dense = nn.Linear(channels * height * width, settings["dense"])
        self.logits = nn.Linear(settings["dense"], settings["classes"])

    def seen(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """All places of the last convolution, (B, places)."""
        return self.encoder(x_BCHW).flatten(1)


class Pyramid(_Classifier):
    """Four convolutions 3x3, pooled into grids of 1, 2 and 4: the same weights take patches of any size.

    The article announces one network for all patches; this is the usual way to have it.
    """

    def __init__(self, channels: int, settings: Mapping[str, Any]) -> None:
        super().__init__()
        filters = settings["filters"]
        self.encoder = nn.Sequential()
        for count in (filters[0], filters[0], filters[-1], filters[-1]):
            self.encoder.extend([nn.Conv2d(channels, count, 3, padding=1), nn.ReLU()])
            if len(self.encoder) % 4 == 0:
                self.encoder.append(nn.MaxPool2d(2))
            channels = count
        self.dense = nn.Linear(channels * sum(side**2 for side in BINS), settings["dense"])
        self.logits = nn.Linear(settings["dense"], settings["classes"])

    def seen(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """The largest value in each place of each grid, (B, places)."""
        maps = self.encoder(x_BCHW)
        return torch.cat([functional.adaptive_max_pool2d(maps, side).flatten(1) for side in BINS], dim=1)


class Residual(_Classifier):
    """A small modern network for patches of any size: three residual blocks, means and largest values of all places.

    Source
    ------
    He et al. 2016 (arXiv:1603.05027), blocks that normalise first; GroupNorm (Wu and He 2018, arXiv:1803.08494) for
    BatchNorm, so that a sample does not see its batch.
    """

    def __init__(self, channels: int, settings: Mapping[str, Any]) -> None:
        super().__init__()
        few, many = settings["filters"][0], settings["filters"][-1]
        self.stem = nn.Conv2d(channels, few, 3, 2, 1)
        self.blocks = nn.Sequential(_Block(few, few, 1), _Block(few, many, 2), _Block(many, 2 * many, 2))
        self.dense = nn.Linear(4 * many, settings["dense"])
        self.logits = nn.Linear(settings["dense"], settings["classes"])

    def seen(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Mean and largest value of each channel, (B, channels)."""
        maps = self.blocks(self.stem(x_BCHW))
        return torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], dim=1)


class _Block(nn.Module):
    """Normalise, rectify, convolve, twice; what came in is added."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(4, count) for count in (inputs, outputs))
        self.convs = nn.ModuleList([nn.Conv2d(inputs, outputs, 3, stride, 1), nn.Conv2d(outputs, outputs, 3, 1, 1)])
        self.past = nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inputs, H, W) -> (B, outputs, H / stride, W / stride)."""
        out = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            out = conv(functional.relu(norm(out)))
        passed: torch.Tensor = self.past(x)
        return passed + out
