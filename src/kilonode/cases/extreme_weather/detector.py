"""The detector: an encoder to a grid of cells, three heads that box, find and name storms, and a decoder.

Frames that nobody looked at feed the decoder alone. Every operation sees a neighbourhood and nothing more, also the
normalisation (over the channels of one cell), so that the globe can be cut over ranks. Longitude is periodic.

Shape legend: B batch, C channels, T frames (absent in 2-D), H rows, W columns; h, w the grid of cells; F filters;
N rows of boxes. Head channels: 0-1 place in the cell, 2-3 log2 of height and width in cells, 4-5 empty and object,
6-9 classes.
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
from kilonode.cases.extreme_weather import areas, turns
from kilonode.cases.extreme_weather.rules import Found
from kilonode.cases.layers import pad_periodic

DEFAULTS: dict[str, Any] = {
    "variant": "cells",
    "levels": 3,
    "width": 0.125,
    "reconstruction": 10.0,
    "checkpoint": False,
    "turn": True,
    "classes": 4,
}
FILTERS = (128, 256, 512, 768, 1024, 1280)
SLOPE = 0.1
PLACE, SIZE, EMPTY = 5.0, 7.0, 0.5
"""Weights in the loss (eracah/hur-detect)."""
BOX, OBJECT = 4, 6
"""Head channels before the objectness, and before the classes."""
UNLABELLED = -2
"""In the first row of boxes: nobody looked at this frame."""
SURE = 0.02
"""Confidence of the boxes that curves are drawn from, at least."""


def build(settings: Mapping[str, Any], shape: tuple[int, ...]) -> Detector:
    """The detector for inputs (C, H, W) or (C, T, H, W)."""
    halvings = 2 ** settings["levels"]
    if len(shape) not in (3, 4) or shape[-1] % halvings or shape[-2] % halvings:
        raise ValueError(f"fields need rows and columns that are multiples of {halvings}, got {tuple(shape)}")
    if not 1 <= settings["levels"] <= len(FILTERS):
        raise ValueError(f"levels needs 1 to {len(FILTERS)}, got {settings['levels']}")
    filters = [max(8, round(count * settings["width"])) for count in FILTERS[: settings["levels"]]]
    network = Detector(shape[0], filters, settings["classes"], len(shape) == 4)
    network.weight, network.is_frugal = settings["reconstruction"], settings["checkpoint"]
    network.turns = settings["turn"]
    network.apply(he)
    return network


class Halving(nn.Module):
    """Convolution 5x5 of stride 2 (in time 3, of stride 1), and the way back with the same weights."""

    def __init__(self, inputs: int, outputs: int, in_time: bool) -> None:
        super().__init__()
        self.in_time = in_time
        kind = nn.Conv3d if in_time else nn.Conv2d
        self.conv = kind(inputs, outputs, (3, 5, 5) if in_time else (5, 5), (1, 2, 2) if in_time else (2, 2))  # type: ignore[arg-type]
        self.back = nn.Parameter(torch.zeros(inputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inputs, [T,] H, W) -> (B, outputs, [T,] H/2, W/2)."""
        pad = (1, 2, 2) if self.in_time else (2, 2)
        out: torch.Tensor = self.conv(pad_periodic(x, pad, axes=(-1,), mode_other="edge"))
        return out

    def up(self, x: torch.Tensor) -> torch.Tensor:
        """(B, outputs, [T,] h, w) -> (B, inputs, [T,] 2h, 2w): transposed, one cell of margin cut off again."""
        height, width = 2 * x.shape[-2], 2 * x.shape[-1]
        pad = (1, 1, 1) if self.in_time else (1, 1)
        wide = pad_periodic(x, pad, axes=(-1,), mode_other="edge")
        if self.in_time:
            full = functional.conv_transpose3d(wide, self.conv.weight, self.back, (1, 2, 2))[:, :, 2:-2]
        else:
            full = functional.conv_transpose2d(wide, self.conv.weight, self.back, (2, 2))
        return full[..., 4 : 4 + height, 4 : 4 + width]


class Head(nn.Module):
    """Convolution 3x3 on the cells; of stride 2 in time, so that the labelled frames come out."""

    def __init__(self, inputs: int, outputs: int, in_time: bool) -> None:
        super().__init__()
        self.pad = (1, 1, 1) if in_time else (1, 1)
        self.conv = nn.Conv3d(inputs, outputs, 3, (2, 1, 1)) if in_time else nn.Conv2d(inputs, outputs, 3)

    def forward(self, code: torch.Tensor) -> torch.Tensor:
        """(B, F, [T,] h, w) -> (B, outputs, [T/2,] h, w)."""
        out: torch.Tensor = self.conv(pad_periodic(code, self.pad, axes=(-1,), mode_other="edge"))
        return out


class Detector(nn.Module):
    """Encoder, heads, decoder.

    Source
    ------
    Racah et al. 2017 (arXiv:1612.02095) and eracah/hur-detect. Ours: place counts from the middle of the box, boxes go
    around the globe, the code is normalised over the channels of each cell, and in training every frame is turned
    around the axis by a random angle: few sequences hold few places of storms.
    """

    weight: float = DEFAULTS["reconstruction"]
    """Of the squared error of the decoder."""
    is_frugal: bool = DEFAULTS["checkpoint"]
    turns: bool = DEFAULTS["turn"]

    def __init__(self, channels: int, filters: list[int], classes: int, in_time: bool) -> None:
        super().__init__()
        self.in_time = in_time
        self.halvings = nn.ModuleList(Halving(a, b, in_time) for a, b in itertools.pairwise([channels, *filters]))
        self.norm = nn.LayerNorm(filters[-1])
        # The decoder begins near the mean field, not at noise; the original has no such factor.
        self.contrast = nn.Parameter(torch.full((channels, *[1] * (3 if in_time else 2)), 0.1))
        self.box = Head(filters[-1], BOX, in_time)
        self.object = Head(filters[-1], 2, in_time)
        self.kind = Head(filters[-1], classes, in_time)

    @property
    def cell(self) -> int:
        """Side of a cell, pixels."""
        return int(2 ** len(self.halvings))

    def code(self, x: torch.Tensor) -> torch.Tensor:
        """The cells, (B, F, [T,] h, w)."""
        for layer in self.halvings:
            x = functional.leaky_relu(self._run(layer, x), SLOPE)
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)

    def decoded(self, code: torch.Tensor) -> torch.Tensor:
        """The fields back from the cells, (B, C, [T,] H, W)."""
        for number, layer in reversed(list(enumerate(self.halvings))):
            code = self._run(layer.up, code)
            if number:
                code = functional.leaky_relu(code, SLOPE)
        return self.contrast * code

    def heads(self, code: torch.Tensor) -> torch.Tensor:
        """All head channels of all cells, (B, 10, [T/2,] h, w)."""
        return torch.cat([self.box(code), self.object(code), self.kind(code)], dim=1)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Mean of the code over cells and time, (B, F)."""
        return self.code(x).flatten(2).mean(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Head channels, (B, 10, [T/2,] h, w)."""
        return self.heads(self.code(x))

    def found(self, outputs: np.ndarray) -> list[Found]:
        """Boxes of frames from head channels (F, 10, h, w)."""
        return found(outputs, self.cell)

    def losses(self, batch: Batch) -> torch.Tensor:
        """Sum over cells of the losses of the heads where somebody looked, plus the weighted reconstruction, (B,)."""
        assert batch.y is not None, "the detector needs boxes; give the task a target"
        x, boxes = turns.turned(batch.x, batch.y, batch.key) if self.training and self.turns else (batch.x, batch.y)
        code = self.code(x)
        loss = torch.zeros(len(x), device=x.device)
        if self.weight:
            loss = loss + self.weight * ((self.decoded(code) - x) ** 2).flatten(1).mean(1)
        heads = self.heads(code)
        if self.in_time:  # one row a labelled frame
            heads, boxes = heads.movedim(2, 1).flatten(0, 1), boxes.flatten(0, 1)
        return loss + head_losses(heads, boxes, self.cell).view(len(loss), -1).mean(1)

    def _run(self, function: Any, x: torch.Tensor) -> torch.Tensor:
        """One layer; frugal: what it keeps for the gradient is computed again when it is needed."""
        if self.is_frugal and self.training and torch.is_grad_enabled():
            return checkpoint(function, x, use_reentrant=False)
        return function(x)


def encoded(
    boxes_BN5: torch.Tensor, cell: int, grid: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Boxes as targets of cells; of two boxes with their middles in one cell the later one stays.

    Parameters
    ----------
    boxes_BN5 : int Tensor (B, N, 5)
        ymin, xmin, ymax, xmax, class in pixels; negative class: none.
    cell : int
        Side of a cell, pixels.
    grid : (int, int)
        h, w.

    Returns
    -------
    Tensor (B, 4, h, w), int64 Tensor (B, h, w), Tensor (B,)
        Box channels; class, -1 where a cell is empty; how many boxes were overwritten.
    """
    height, width = grid
    count = len(boxes_BN5)
    target = torch.zeros(count, BOX, height, width, device=boxes_BN5.device)
    kind = torch.full((count, height, width), -1, dtype=torch.int64, device=boxes_BN5.device)
    lost = torch.zeros(count, dtype=torch.int64, device=boxes_BN5.device)
    for row in boxes_BN5.unbind(1):
        here = torch.nonzero(row[:, 4] >= 0)[:, 0]
        ymin, xmin, ymax, xmax, label = row[here].unbind(1)
        y, x = (ymin + ymax) / 2 / cell, (xmin + xmax) / 2 / cell % width
        top, left = y.long().clamp(0, height - 1), x.long().clamp(0, width - 1)
        lost[here] += (kind[here, top, left] >= 0).long()
        size = torch.stack([ymax - ymin, xmax - xmin]).clamp(min=1) / cell
        target[here, :, top, left] = torch.stack([y - top, x - left, *size.log2()], dim=1)
        kind[here, top, left] = label
    return target, kind, lost


def head_losses(heads: torch.Tensor, boxes: torch.Tensor, cell: int) -> torch.Tensor:
    """Loss of each frame, (B,): place and size and class where there is an object, objectness everywhere.

    A frame that is labelled and empty teaches that it is empty; one that nobody looked at teaches nothing.
    """
    target, kind, _ = encoded(boxes, cell, (heads.shape[-2], heads.shape[-1]))
    has = (kind >= 0).float()
    apart = functional.smooth_l1_loss(heads[:, :BOX], target, reduction="none")
    chance = functional.log_softmax(heads[:, BOX:OBJECT], dim=1)
    named = functional.cross_entropy(heads[:, OBJECT:], kind.clamp(min=0), reduction="none")
    each = has * (PLACE * apart[:, :2].sum(1) + SIZE * apart[:, 2:].sum(1) - chance[:, 1] + named)
    each = each - EMPTY * (1 - has) * chance[:, 0]
    looked = (boxes[:, 0, 4] != UNLABELLED).float()
    return looked * each.sum((1, 2))


def decoded(heads: torch.Tensor, cell: int) -> torch.Tensor:
    """Boxes of all cells from head channels (B, 10, h, w): (B, h * w, 6) with class and confidence at the end."""
    height, width = heads.shape[-2:]
    top = torch.arange(height, device=heads.device)[:, None]
    left = torch.arange(width, device=heads.device)[None]
    y, x = (heads[:, 0] + top) * cell, (heads[:, 1] + left) * cell
    tall, wide = (cell * 2 ** heads[:, k].clamp(-4, 6) for k in (2, 3))
    xmin = (x - wide / 2) % (width * cell)
    chance, kind = heads[:, OBJECT:].softmax(1).max(1)
    sure = heads[:, BOX:OBJECT].softmax(1)[:, 1] * chance
    return torch.stack([y - tall / 2, xmin, y + tall / 2, xmin + wide, kind.float(), sure], dim=-1).flatten(1, 2)


def found(heads: np.ndarray, cell: int) -> list[Found]:
    """Boxes of every frame after suppression within each class, from head channels (F, 10, h, w)."""
    shape = (heads.shape[-2] * cell, heads.shape[-1] * cell)
    boxes = decoded(torch.from_numpy(heads), cell).numpy()
    return [_kept(frame[frame[:, 5] >= SURE], shape) for frame in boxes]


def _kept(said: np.ndarray, shape: tuple[int, int]) -> Found:
    chosen: list[int] = []
    for kind in np.unique(said[:, 4]):
        here = np.flatnonzero(said[:, 4] == kind)
        chosen += here[areas.suppressed(said[here, :4], said[here, 5], *shape)].tolist()
    one = said[chosen]
    middle = np.stack(
        [(one[:, 0] + one[:, 2]) / 2 * 180 / shape[0] - 90, one[:, (1, 3)].mean(1) * 360 / shape[1] % 360], 1
    )
    return Found(one[:, :4].astype(np.float64), one[:, 4].astype(np.int64), one[:, 5].astype(np.float64), middle)


def he(layer: nn.Module) -> None:
    """Weights as He et al. 2015 (arXiv:1502.01852) draw them for rectifiers, no bias."""
    if isinstance(layer, nn.Conv2d | nn.Conv3d | nn.Linear):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)
