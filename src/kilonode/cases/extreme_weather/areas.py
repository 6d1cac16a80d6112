"""Connected regions, their shape, and boxes on a globe whose columns close on themselves.

A box is (ymin, xmin, ymax, xmax) in pixels, its upper ends outside; xmin lies on the globe, xmax may lie beyond its
seam, so that an object on the seam has one box.

Shape legend: H rows, W columns, M and N boxes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import label

from kilonode.cases.extreme_weather.earth import DEGREE, RADIUS, Grid


@dataclass(frozen=True)
class Region:
    """One connected region: its pixels ``rows``, ``columns`` (unwrapped: they may exceed W), and shape in m and m2."""

    rows: np.ndarray
    columns: np.ndarray
    area: float
    length: float
    width: float

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Its bounding box."""
        first = int(self.columns.min())
        return int(self.rows.min()), first, int(self.rows.max()) + 1, int(self.columns.max()) + 1


def regions(mask: np.ndarray, grid: Grid, least: float) -> list[Region]:
    """All connected regions (by sides and corners) of a mask (H, W) of the globe, of at least this area (m2)."""
    numbers, count = label(mask, np.ones((3, 3)))
    for a, b in _seam(numbers):
        low, high = sorted((numbers[a, 0], numbers[b, -1]))
        if low and high and low != high:
            numbers[numbers == high] = low
    cell = RADIUS**2 * np.cos(grid.lat * DEGREE) * grid.step[0] * grid.step[1] * DEGREE**2
    sizes = np.bincount(numbers.ravel(), np.broadcast_to(cell[:, None], mask.shape).ravel(), count + 1)
    found = []
    for number in np.flatnonzero((sizes[1:] >= least) & (sizes[1:] > 0)) + 1:
        rows, columns = np.nonzero(numbers == number)
        found.append(_shaped(rows, _unwrapped(columns, mask.shape[1]), float(sizes[number]), grid))
    return found


def _seam(numbers: np.ndarray) -> list[tuple[int, int]]:
    """Rows of the first and the last column that touch."""
    height = len(numbers)
    return [(a, b) for a in range(height) for b in (a - 1, a, a + 1) if 0 <= b < height]


def _unwrapped(columns: np.ndarray, width: int) -> np.ndarray:
    """Columns cut open at the widest gap; the first one stays within the globe."""
    used = np.unique(columns)
    gaps = np.diff(np.append(used, used[0] + width))
    start = used[(int(gaps.argmax()) + 1) % len(used)]
    return np.asarray((columns - start) % width + start)


def _shaped(rows: np.ndarray, columns: np.ndarray, area: float, grid: Grid) -> Region:
    """Length along the principal axis, m, and width, area over length."""
    lat = grid.lat[rows]
    weight = np.cos(lat * DEGREE)
    place = np.stack([columns * grid.step[1] * np.average(weight), rows * grid.step[0]]) * DEGREE * RADIUS
    place -= np.average(place, axis=1, weights=weight)[:, None]
    _, axes = np.linalg.eigh(np.cov(place, aweights=weight) if len(rows) > 1 else np.eye(2))
    along = axes[:, 1] @ place
    length = float(along.max() - along.min()) + grid.pixel
    return Region(rows, columns, area, length, area / length)


def around(lat: float, lon: float, size: float, grid: Grid) -> tuple[int, int, int, int]:
    """The box of everything within ``size`` m of a place."""
    high = size / RADIUS / DEGREE
    wide = min(high / max(np.cos(lat * DEGREE), 0.2), 90.0)
    ymin = int(np.clip(np.floor((lat - high - grid.lat[0]) / grid.step[0] + 0.5), 0, len(grid.lat) - 1))
    ymax = int(np.clip(np.ceil((lat + high - grid.lat[0]) / grid.step[0] + 0.5), ymin + 1, len(grid.lat)))
    xmin = int(np.floor((lon - wide - grid.lon[0]) / grid.step[1] + 0.5))
    span = max(1, round(2 * wide / grid.step[1]))
    return ymin, xmin % len(grid.lon), ymax, xmin % len(grid.lon) + span


def iou(a: np.ndarray, b: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Intersection over union on the sphere of boxes a (M, 4) and b (N, 4), (M, N).

    A row counts by its area, so a box near a pole does not weigh what it weighs on the map; columns go around.

    Parameters
    ----------
    a, b : ndarray
        Boxes, pixels; whole or not.
    rows, columns : int
        H from pole to pole and W around the globe.
    """
    height = np.clip(
        _up(np.minimum(a[:, None, 2], b[None, :, 2]), rows) - _up(np.maximum(a[:, None, 0], b[None, :, 0]), rows),
        0,
        None,
    )
    width = np.zeros(height.shape)
    for turn in (-2, -1, 0, 1, 2):
        shifted = b[None, :, (1, 3)] + turn * columns
        both = np.minimum(a[:, None, 3], shifted[..., 1]) - np.maximum(a[:, None, 1], shifted[..., 0])
        width += np.clip(both, 0, None)
    shared = height * width
    size = [(_up(box[:, 2], rows) - _up(box[:, 0], rows)) * (box[:, 3] - box[:, 1]) for box in (a, b)]
    total = size[0][:, None] + size[1][None] - shared
    return np.asarray(np.where(total > 0, shared / np.maximum(total, 1e-12), 0.0))


def _up(row: np.ndarray, rows: int) -> np.ndarray:
    """Sine of the latitude of a row's lower edge: area from the south pole on, over 2 pi R^2."""
    return np.asarray(np.sin((np.clip(row, 0, rows) * 180 / rows - 90) * DEGREE))


def suppressed(boxes: np.ndarray, score: np.ndarray, rows: int, columns: int, most: float = 0.45) -> np.ndarray:
    """Which boxes (N, 4) stay, int (K,), best first: none overlaps a better one by more than ``most`` (NMS)."""
    order = np.argsort(-score, kind="stable")
    overlap = iou(boxes, boxes, rows, columns)
    kept: list[int] = []
    for number in order:
        if not kept or overlap[number, kept].max() <= most:
            kept.append(int(number))
    return np.array(kept, np.int64)
