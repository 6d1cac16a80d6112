"""Samples cut out of larger things: epochs of a recording around events, stamps of images of several sizes.

Shape legend: N events, T moments of an epoch, C channels; H, W rows and columns of a stamp.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable
from typing import Any

import numpy as np

from kilonode.cases.ragged import Ragged
from kilonode.data.ingest._part import Part, part
from kilonode.errors import DataError
from kilonode.records import Json

BLOCK = 1 << 20
"""Markers are looked through in blocks of this many moments."""


def epochs(series: Part, read: Callable[[int, int], Any], spec: Json) -> tuple[int, Callable[[int, int], Any], int]:
    """Cut a recording around events.

    Parameters
    ----------
    series : Part
        Moments along the first axis.
    read : callable
        Moments from start to stop (n, ...).
    spec : dict
        ``times``: a column of times in s, on the series' clock; or ``markers``: a column beside the series whose
        value becomes another one, not 0, where an event begins. ``before``, ``after`` in s: without both, the one
        moment of the event. ``rate`` in Hz, if the source does not say it.

    Returns
    -------
    rows, cut, length
        N; ``cut(start, stop)`` giving epochs (n, T, ...), or (n, ...) of one moment; T.
    """
    onsets = _marked(series, spec["markers"]) if "markers" in spec else _timed(series, spec)
    window = {"before", "after"} & spec.keys()
    first, length = 0, 1
    if window:
        rate = _rate(series, spec)
        first = -round(spec.get("before", 0) * rate)
        length = round(spec.get("after", 0) * rate) - first
    outside = (onsets + first < 0) | (onsets + first + length > series.rows)
    if length < 1 or outside.any():
        raise DataError(
            f"expected epochs of at least one moment inside the {series.rows} of {series.name!r}, got {length} moments "
            f"and {int(outside.sum())} epochs that stick out ({series.source.path}); change `before` or `after`"
        )

    def cut(start: int, stop: int) -> Any:
        begins = [int(onset) + first for onset in onsets[start:stop]]
        if "times" in spec and series.column.clock and series.column.clock.at:
            _no_gap(series, begins, length, spec)
        blocks = [read(begin, begin + length) for begin in begins]
        if not blocks:
            nothing = read(0, 0)
            blocks = [np.empty((length, *nothing.shape[1:]), nothing.dtype)]
        together = np.stack(blocks)[: stop - start]
        return together if window else together[:, 0]

    return len(onsets), cut, length


def _marked(series: Part, name: str) -> np.ndarray:
    """Moments (N,) at which a marker begins."""
    markers = part(series.source, series.field, name, {})
    if markers.rows != series.rows or markers.shape:
        raise DataError(
            f"expected one marker for each of the {series.rows} moments of {series.name!r}, got shape "
            f"{markers.column.shape} in {name!r} ({series.source.path}); map another column"
        )
    found, last = [], 0
    for start in range(0, markers.rows, BLOCK):
        block = markers.read(start, min(start + BLOCK, markers.rows))
        before = np.concatenate([[last], block[:-1]])
        found.append(np.flatnonzero((block != 0) & (block != before)) + start)
        last = block[-1]
    return np.concatenate(found)


def _rate(series: Part, spec: Json) -> float:
    """Moments a second."""
    clock = series.column.clock
    rate = spec.get("rate") or (clock.rate if clock else None)
    if not rate:
        raise DataError(
            f"expected a sampling rate of {series.name!r}, got none ({series.source.path}); add `rate: <Hz>` to epochs"
        )
    return float(rate)


def _timed(series: Part, spec: Json) -> np.ndarray:
    """Moments (N,) nearest to, or first after, times in s."""
    events = part(series.source, series.field, spec["times"], {})
    if events.shape or events.column.jagged:
        raise DataError(f"expected one time an event in {events.name!r}, got shape {events.column.shape}")
    times, clock = events.read(0, events.rows), series.column.clock
    if clock and clock.at:
        return np.array([bisect.bisect_left(range(series.rows), t, key=clock.at) for t in times], np.int64)
    start = clock.start if clock else 0.0
    return np.rint((times - start) * _rate(series, spec)).astype(np.int64)


def _no_gap(series: Part, begins: list[int], length: int, spec: Json) -> None:
    """A recording with times of its own may have paused; an epoch over a pause is refused."""
    at = series.column.clock.at if series.column.clock else None
    lasts = (length - 1) / _rate(series, spec) if length > 1 else 0.0
    for begin in begins if at else []:
        have = at(begin + length - 1) - at(begin) if at else 0.0
        if abs(have - lasts) > 1 / _rate(series, spec):
            raise DataError(
                f"expected {lasts:.6g} s from the first to the last moment of an epoch of {series.name!r}, got "
                f"{have:.6g} s at moment {begin} ({series.source.path}); check `rate`, or leave that event out"
            )


def stamps(images: Part, size: list[int]) -> Callable[[int, int], np.ndarray]:
    """Cut or pad images to (H, W) about their centres; what is cut off is remarked.

    Where a difference is odd, the extra row or column falls at the end of what is padded, or is cut there.
    """
    sizes = images.column.sizes
    if sizes is None or sizes(0, 1).shape[1:] != (len(size),):
        raise DataError(
            f"expected images of {len(size)} axes and a size of their own, got {images.name!r} ({images.source.path}); "
            "change `stamp` or leave it out"
        )

    def cut(start: int, stop: int) -> np.ndarray:
        block = images.read(start, stop)
        pixels = np.split(block.values, block.offsets[1:-1]) if isinstance(block, Ragged) else block
        out = np.zeros((stop - start, *size), block.dtype)
        for stamp, flat, shape in zip(out, pixels, sizes(start, stop), strict=False):
            image = flat.reshape(shape)
            into, of = zip(*(_overlap(have, want) for have, want in zip(shape, size, strict=True)), strict=True)
            stamp[into] = image[of]
            if image[of].size < image.size:
                lost = float(image.sum(dtype=np.float64) - image[of].sum(dtype=np.float64))
                images.source.remark(images.field, images_cut=1, sum_cut_off=lost)
        images.source.remark(images.field, sum_kept=float(out.sum(dtype=np.float64)))
        return out

    return cut


def _overlap(have: int, want: int) -> tuple[slice, slice]:
    """Where an axis of an image lies in its stamp, and which part of it."""
    common = min(have, want)
    into, of = (want - common) // 2, (have - common) // 2
    return slice(into, into + common), slice(of, of + common)
