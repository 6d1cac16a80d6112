"""Frames turned around the axis by random angles, with their boxes: few sequences hold few places of storms.

Shape legend: B batch, C channels, T frames of a day, H rows, W columns, N rows of boxes.
"""

from __future__ import annotations

import torch

from kilonode.cases.layers import uniform


def angles(key: torch.Tensor, width: int) -> torch.Tensor:
    """Columns, int64 (B,), by which samples are turned: a function of their keys (B,) alone."""
    return (uniform(key, 1)[:, 0] * width).long()


def rolled(x: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    """Fields (B, ..., W), each sample moved eastwards by its number of columns (B,)."""
    return torch.stack([one.roll(int(columns), -1) for one, columns in zip(x, by, strict=True)])


def turned(x: torch.Tensor, boxes: torch.Tensor, key: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each sample turned by a random number of columns, with its boxes: nothing else changes.

    Parameters
    ----------
    x : Tensor (B, C, [T,] H, W)
        Fields.
    boxes : int Tensor (B, [T,] N, 5)
        As in ``detector.encoded``.
    key : int64 Tensor (B,)
        As in ``angles``.
    """
    width = x.shape[-1]
    by = angles(key, width)
    first = boxes[..., 1] + by.view(-1, *[1] * (boxes.ndim - 2))
    moved = torch.where(boxes[..., 4] >= 0, first % width - boxes[..., 1], 0)
    return rolled(x, by), torch.stack(
        [boxes[..., 0], boxes[..., 1] + moved, boxes[..., 2], boxes[..., 3] + moved, boxes[..., 4]], -1
    )
