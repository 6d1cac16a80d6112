"""Networks: the published classifiers of whole-detector images, and an autoencoder for what is ordinary.

Inputs arrive as log(1 + value) over one scale, rows along eta, columns along phi, which closes on itself. Each image is
first turned so that its hottest column is column 0: an event turned about the beam is the same event, and convolutions
that go around are alone not enough for that, because pooling and wide layers know their columns.

Shape legend: B batch, C channels, H rows (eta), W columns (phi), F features, K classes, T filters; h, w what is left of
H, W after pooling or strides.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from kilonode.cases.contract import Batch, Model, chosen
from kilonode.cases.layers import PeriodicConv2d, uniform

STAGES = {"dense": 3, "pooled": 5}
DEFAULTS: dict[str, dict[str, Any]] = {
    "classifier": {
        "variant": "dense", "periodic": True, "filters": 16, "features": 64, "dropout": 0.2,
        "weights": [1.0] * 6,
    },
    "anomaly": {"periodic": True, "filters": [16, 16, 8], "code": 16},
}  # fmt: skip


def build(task: str, settings: Mapping[str, Any], shape: tuple[int, int, int]) -> Model:
    """Build the network of a task.

    Parameters
    ----------
    task : {"classifier", "anomaly"}
        Which network.
    settings : Mapping
        ``task.model`` of case.yaml; see there. Missing keys take ``DEFAULTS``.
    shape : (int, int, int)
        (C, H, W) of an input; any, but the classifier needs 8 (dense) or 32 (pooled) rows and columns.

    Returns
    -------
    Model
        In training mode, initialised from torch's global generator.

    Raises
    ------
    ValueError
        An unknown task, setting or choice, or a shape too small to pool.
    """
    settings = chosen(task, settings, DEFAULTS)
    if task == "anomaly":
        return Autoencoder(shape, settings["filters"], settings["code"], settings["periodic"])
    if settings["variant"] not in STAGES:
        raise ValueError(f"model setting variant needs one of {tuple(STAGES)}, got {settings['variant']!r}")
    smallest = 2 ** STAGES[settings["variant"]]
    if min(shape[1:]) < smallest:
        raise ValueError(f"variant {settings['variant']} needs {smallest} rows and columns, got {tuple(shape[1:])}")
    return Classifier(shape, settings)


class Classifier(nn.Module):
    """Stages of conv 3x3, ReLU, max-pool 2, dropout; then a wide layer (dense) or the mean (pooled); one logit a class.

    With 128 filters, 512 features and 64 x 64 pixels: that of NERSC/hep_cnn_benchmark and eracah/atlas_dl; five
    stages of 128 filters and the mean: that of Kurth et al. 2017, arXiv:1708.05256. Ours: dropout takes whole
    filters (one number each instead of one a pixel); circular padding in phi; two classes became six.
    """

    class_weight: torch.Tensor

    def __init__(self, shape: tuple[int, int, int], settings: Mapping[str, Any]) -> None:
        super().__init__()
        channels, height, width = shape
        filters, stages = settings["filters"], STAGES[settings["variant"]]
        self.periodic, self.rate = settings["periodic"], float(settings["dropout"])
        sizes = [channels] + [filters] * stages
        self.convs = nn.ModuleList(
            PeriodicConv2d(before, after, 3, periodic=self.periodic) for before, after in pairwise(sizes)
        )
        self.wide: nn.Linear | None = None
        last = filters
        if settings["variant"] == "dense":
            last = settings["features"]
            self.wide = nn.Linear(filters * (height >> stages) * (width >> stages), last)
        self.logits = nn.Linear(last, len(settings["weights"]))
        self.register_buffer("class_weight", torch.tensor(settings["weights"], dtype=torch.float32), persistent=False)

    def features(self, x_BCHW: torch.Tensor, key_B: torch.Tensor | None = None) -> torch.Tensor:
        """Give the penultimate layer, (B, F); with keys, in training mode, under dropout."""
        x_BThw = together(turned(x_BCHW) if self.periodic else x_BCHW)
        keep = self._keep(x_BCHW, key_B)
        for number, conv in enumerate(self.convs):
            # Largest first, then cut at zero: the same numbers as the other way around, with a quarter of the work.
            x_BThw = functional.relu(functional.max_pool2d(conv(x_BThw), 2))
            if keep is not None:
                x_BThw = x_BThw * keep[number][:, :, None, None]
        if self.wide is None:
            return x_BThw.mean((2, 3))
        return functional.relu(self.wide(x_BThw.flatten(1)))

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Logits, (B, K)."""
        logits_BK: torch.Tensor = self.logits(self.features(x_BCHW))
        return logits_BK

    def losses(self, batch: Batch) -> torch.Tensor:
        """Cross-entropy of each sample times the weight of its class, (B,)."""
        assert batch.y is not None, "the classifier needs labels; give the task a target"
        logits_BK = self.logits(self.features(batch.x, batch.key))
        return functional.cross_entropy(logits_BK, batch.y, reduction="none") * self.class_weight[batch.y]

    def _keep(self, x_BCHW: torch.Tensor, key_B: torch.Tensor | None) -> list[torch.Tensor] | None:
        """0 or 1 / (1 - rate) for each filter of each stage, drawn from the keys; None where nothing is dropped."""
        if not self.training or self.rate == 0 or key_B is None:
            return None
        sizes = [int(conv.conv.out_channels) for conv in self.convs]  # type: ignore[union-attr, arg-type]
        drawn_BF = uniform(key_B, sum(sizes)) >= self.rate
        return list((drawn_BF.to(x_BCHW.dtype) / (1 - self.rate)).split(sizes, dim=1))  # type: ignore[no-untyped-call]


class Autoencoder(nn.Module):
    """Convolutions 3x3 of stride 2, a small code, and the same backwards; linear output.

    Trained on ordinary events alone; how badly it gives an event back says how unusual that is.
    """

    def __init__(self, shape: tuple[int, int, int], filters: list[int], code: int, periodic: bool) -> None:
        super().__init__()
        channels, height, width = shape
        self.periodic = periodic
        self.sizes = [(height, width)]
        for _ in filters:
            height, width = -(-height // 2), -(-width // 2)
            self.sizes.append((height, width))
        chain = [channels, *filters]
        pairs = list(pairwise(chain))
        self.down = nn.ModuleList(PeriodicConv2d(a, b, 3, stride=2, periodic=periodic) for a, b in pairs)
        self.up = nn.ModuleList(PeriodicConv2d(b, a, 3, periodic=periodic) for a, b in reversed(pairs))
        self.last = filters[-1]
        self.code = nn.Linear(self.last * height * width, code)
        self.back = nn.Linear(code, self.last * height * width)

    def features(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Give the code, (B, F)."""
        code_BF: torch.Tensor = self._encoded(turned(x_BCHW) if self.periodic else x_BCHW)
        return code_BF

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Reconstruct: (B, C, H, W)."""
        if not self.periodic:
            return self._decoded(self._encoded(x_BCHW))
        column_B = hottest(x_BCHW)
        return turn(self._decoded(self._encoded(turn(x_BCHW, column_B))), -column_B)

    def losses(self, batch: Batch) -> torch.Tensor:
        """Mean squared error over all pixels of each sample, (B,)."""
        return ((self(batch.x) - batch.x) ** 2).flatten(1).mean(1)

    def _encoded(self, x_BThw: torch.Tensor) -> torch.Tensor:
        x_BThw = together(x_BThw)
        for conv in self.down:
            x_BThw = functional.relu(conv(x_BThw))
        code_BF: torch.Tensor = self.code(x_BThw.flatten(1))
        return code_BF

    def _decoded(self, code_BF: torch.Tensor) -> torch.Tensor:
        height, width = self.sizes[-1]
        x_BThw = together(functional.relu(self.back(code_BF)).view(-1, self.last, height, width))
        for number, conv in enumerate(self.up):
            rows, columns = self.sizes[-2 - number]
            x_BThw = conv(functional.interpolate(x_BThw, scale_factor=2.0)[..., :rows, :columns])
            if number + 1 < len(self.up):
                x_BThw = functional.relu(x_BThw)
        return x_BThw


def together(x_BThw: torch.Tensor) -> torch.Tensor:
    """Lay all channels of a pixel side by side: convolutions take a third of the time, at inference too."""
    return x_BThw.contiguous(memory_format=torch.channels_last)


def hottest(x_BCHW: torch.Tensor) -> torch.Tensor:
    """Find the column with the largest sum over channels and rows: int64 (B,) in [0, W); the first of equal ones."""
    return x_BCHW.detach().sum((1, 2)).argmax(1)


def turned(x_BCHW: torch.Tensor) -> torch.Tensor:
    """Roll each image so that its hottest column is column 0."""
    return turn(x_BCHW, hottest(x_BCHW))


def turn(x_BCHW: torch.Tensor, column_B: torch.Tensor) -> torch.Tensor:
    """Roll each image so that its given column becomes column 0."""
    width = x_BCHW.shape[-1]
    index_BW = (column_B[:, None] + torch.arange(width, device=x_BCHW.device)) % width
    return x_BCHW.gather(3, index_BW[:, None, None, :].expand(x_BCHW.shape))


def layers(model: nn.Module, x: np.ndarray) -> np.ndarray:
    """Shape (channels, rows, columns) after the input and after each layer with weights, int64 (L, 3)."""
    shapes = [x.shape[1:]]
    hooks = [
        module.register_forward_hook(lambda _, __, out: shapes.append((*out.shape[1:], 1, 1)[:3]))
        for module in model.modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        model(torch.from_numpy(x))
    for hook in hooks:
        hook.remove()
    return np.array(shapes, np.int64)
