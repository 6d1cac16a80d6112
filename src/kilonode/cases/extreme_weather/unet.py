"""A U-Net that names every pixel of the globe; storms are the connected regions of a class, and their boxes.

It learns from masks that are painted from the labelled boxes and the fields alone, never from the truth: an ellipse for
a round storm; for a river the pixels of its box with as much water vapour as the box has on average, each against the
mean of its row of the globe. Frames that nobody looked at teach it nothing, and pixels outside the sector of longitudes
in which rivers are labelled nothing of rivers. Longitude is periodic, and every operation sees a neighbourhood and
nothing more.

Shape legend: B batch, C = 16 channels, H rows, W columns, F filters, K classes, N rows of boxes.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from kilonode.cases.contract import Batch
from kilonode.cases.extreme_weather import areas, detector, earth, turns
from kilonode.cases.extreme_weather.labels import SECTOR
from kilonode.cases.extreme_weather.rules import AR, CLASSES, Found
from kilonode.cases.extreme_weather.world import CHANNELS, INDEX
from kilonode.cases.layers import pad_periodic

FILTERS = 32
"""Of the first level, at width 1; every level has twice as many as the one above."""
SURE = 0.15
"""Probability of a pixel's likeliest storm from which on the pixel belongs to one."""
WEIGHTS = (1.0, 5.0, 6.0, 2.0, 4.0)
"""Of a pixel of nothing and of each class in the loss (ours): about the fourth root of how much rarer the class is."""
MOSTLY = 3.0
"""Logit of nothing before training: nearly all pixels belong to none."""
LEAST = 1e11
"""Area of a storm, m2, at least."""


def build(settings: Mapping[str, Any], shape: tuple[int, ...]) -> UNet:
    """The U-Net for inputs (C, H, W)."""
    cell = 2 ** (settings["levels"] - 1)
    if len(shape) != 3 or shape[0] != len(CHANNELS) or shape[1] % cell or shape[2] % cell:
        raise ValueError(
            f"the U-Net needs {len(CHANNELS)} channels, and rows and columns that are multiples of {cell}, "
            f"got {tuple(shape)}"
        )
    if settings["classes"] != len(CLASSES):
        raise ValueError(f"the U-Net needs {len(CLASSES)} classes, got {settings['classes']}")
    filters = [max(4, round(FILTERS * settings["width"])) * 2**level for level in range(settings["levels"])]
    network = UNet(shape[0], filters, settings["classes"])
    network.is_frugal, network.turns = settings["checkpoint"], settings["turn"]
    network.apply(detector.he)
    assert network.logits.bias is not None
    with torch.no_grad():
        network.logits.bias[0] = MOSTLY
    return network


class Pair(nn.Module):
    """Two convolutions 3x3 with rectifiers; longitude goes around, beyond the poles stands the last row again."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(inputs, outputs, 3), nn.Conv2d(outputs, outputs, 3)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inputs, H, W) -> (B, outputs, H, W)."""
        for conv in self.convs:
            x = functional.relu(conv(pad_periodic(x, (1, 1), axes=(-1,), mode_other="edge")))
        return x


class UNet(nn.Module):
    """Down by pooling, up by transposed convolutions, joined with what was seen at each level on the way down.

    Source
    ------
    Ronneberger et al. 2015 (arXiv:1505.04597). Ours: the padding, so that the answer is as large as the input.
    """

    is_frugal: bool = False
    turns: bool = True

    def __init__(self, channels: int, filters: list[int], classes: int) -> None:
        super().__init__()
        steps = list(itertools.pairwise(filters))
        self.down = nn.ModuleList(Pair(a, b) for a, b in itertools.pairwise([channels, *filters]))
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2) for a, b in steps)
        self.join = nn.ModuleList(Pair(2 * a, a) for a, _ in steps)
        self.logits = nn.Conv2d(filters[0], classes + 1, 1)

    @property
    def cell(self) -> int:
        """Side of a pixel of the lowest level, in pixels of the input."""
        return int(2 ** len(self.up))

    def seen(self, x: torch.Tensor) -> list[torch.Tensor]:
        """What each level sees on the way down, (B, F, H / 2^level, W / 2^level) each."""
        levels: list[torch.Tensor] = []
        for layer in self.down:
            levels.append(self._run(layer, functional.max_pool2d(levels[-1], 2) if levels else x))
        return levels

    def code(self, x: torch.Tensor) -> torch.Tensor:
        """The lowest level, (B, F, h, w)."""
        return self.seen(x)[-1]

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Mean of the lowest level over all places, (B, F)."""
        return self.code(x).mean((2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of nothing and of each class, (B, K + 1, H, W)."""
        *levels, out = self.seen(x)
        for level, up, join in reversed(list(zip(levels, self.up, self.join, strict=True))):
            out = self._run(join, torch.cat([level, up(out)], dim=1))
        logits: torch.Tensor = self.logits(out)
        return logits

    def losses(self, batch: Batch) -> torch.Tensor:
        """Mean loss of the pixels of each frame, (B,); zero where nobody looked."""
        assert batch.y is not None, "the U-Net needs boxes; give the task a target"
        looked = batch.y[:, 0, 4] != detector.UNLABELLED
        rows = torch.nonzero(looked)[:, 0]
        if not len(rows):  # other ranks may wait for a gradient
            rows = rows.new_zeros(1)
        x, boxes, key = batch.x[rows], batch.y[rows], batch.key[rows]
        by = turns.angles(key, x.shape[-1]) if self.training and self.turns else torch.zeros_like(key)
        each = pixel_losses(turns.rolled(self(turns.rolled(x, by)), -by), painted(boxes, x))
        return torch.zeros(len(batch.x), device=x.device).index_copy(0, rows, looked[rows] * each.mean((1, 2)))

    def found(self, outputs: np.ndarray) -> list[Found]:
        """Boxes of frames from outputs (B, K + 1, H, W)."""
        return found(outputs)

    def _run(self, layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
        """One layer; frugal: what it keeps for the gradient is computed again when it is needed."""
        if self.is_frugal and self.training and torch.is_grad_enabled():
            return checkpoint(layer, x, use_reentrant=False)
        out: torch.Tensor = layer(x)
        return out


def painted(boxes_BN5: torch.Tensor, x_BCHW: torch.Tensor) -> torch.Tensor:
    """Class of every pixel by the boxes, int64 (B, H, W): 0 nothing, class + 1; of boxes on each other the later one.

    Parameters
    ----------
    boxes_BN5 : int Tensor (B, N, 5)
        ymin, xmin, ymax, xmax, class in pixels; negative class: none. xmax may lie beyond the seam.
    x_BCHW : Tensor (B, C, H, W)
        Fields, whatever the scale of each: water vapour tells where in its box a river is.
    """
    height, width = x_BCHW.shape[-2:]
    ymin, xmin, ymax, xmax, kind = boxes_BN5[..., None, None].unbind(2)  # (B, N, 1, 1) each
    row = torch.arange(height, device=x_BCHW.device)[:, None] + 0.5 - ymin
    column = (torch.arange(width, device=x_BCHW.device) - xmin) % width + 0.5
    tall, wide = (ymax - ymin).clamp(min=1), (xmax - xmin).clamp(min=1)
    inside = (row > 0) & (row < tall) & (column < wide)
    round_ = (2 * row / tall - 1) ** 2 + (2 * column / wide - 1) ** 2 <= 1
    water = x_BCHW[:, None, INDEX["TMQ"]]
    excess = water - water.mean(-1, keepdim=True)
    usual = (inside * excess).sum((2, 3), keepdim=True) / inside.sum((2, 3), keepdim=True).clamp(min=1)
    here = inside & torch.where(kind == AR, excess >= usual, round_) & (kind >= 0)
    mask = torch.zeros(x_BCHW.shape[0], height, width, dtype=torch.int64, device=x_BCHW.device)
    for number in range(boxes_BN5.shape[1]):
        mask = torch.where(here[:, number], kind[:, number].long() + 1, mask)
    return mask


def pixel_losses(logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Weighted cross-entropy of pixels, (B, H, W), of logits (B, K + 1, H, W) and a mask (B, H, W) as in ``painted``.

    Outside the sector in which rivers are labelled, a pixel without a storm may be a river or not: there the two
    count as one class. Columns are those of the globe, so frames that were turned must be turned back.
    """
    chance = logits.log_softmax(1)
    each = -chance.new_tensor(WEIGHTS)[mask] * chance.gather(1, mask[:, None])[:, 0]
    lon = (torch.arange(mask.shape[2], device=mask.device) + 0.5) * 360 / mask.shape[2]
    is_unknown = (mask == 0) & ((lon < SECTOR[0]) | (lon >= SECTOR[1]))
    return torch.where(is_unknown, -torch.logaddexp(chance[:, 0], chance[:, AR + 1]), each)


def found(outputs: np.ndarray) -> list[Found]:
    """Boxes around the connected regions of each class, by their mean probability, from logits (B, K + 1, H, W)."""
    chance = torch.from_numpy(outputs).softmax(1).numpy()
    return [_found(frame) for frame in chance]


def _found(chance: np.ndarray) -> Found:
    grid = earth.globe(*chance.shape[1:])
    likeliest = np.where(chance[1:].max(axis=0) >= SURE, chance[1:].argmax(axis=0), -1)
    rows = []
    for kind in range(len(chance) - 1):
        for region in areas.regions(likeliest == kind, grid, LEAST):
            sure = chance[kind + 1][region.rows, region.columns % len(grid.lon)].mean()
            lat = grid.lat[0] + region.rows.mean() * grid.step[0]
            lon = (grid.lon[0] + region.columns.mean() * grid.step[1]) % 360
            rows.append((*region.box, kind, sure, lat, lon))
    table = np.array(rows, np.float64).reshape(-1, 8)
    return Found(table[:, :4], table[:, 4].astype(np.int64), table[:, 5], table[:, 6:])
