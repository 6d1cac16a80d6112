"""Classical statistics of convergence maps: power spectrum, peaks, moments, histogram, Minkowski functionals.

All functions take maps (N, H, W) and give float64 (N, F). Thresholds are fixed values of kappa: what a map's own scale
says about cosmology must not be divided out.

Shape legend: N maps, H rows, W columns, F features, T thresholds, K peaks.
"""

from __future__ import annotations

import numpy as np
from scipy import fft, ndimage
from scipy.stats import kurtosis, skew

BINS = 12
"""Logarithmic bins of the power spectrum, from one wave a map to the shortest."""
SMOOTHING = (0.0, 1.0, 2.0)
"""Gaussian smoothing before counting, pixels."""
PEAK_EDGES = np.linspace(-0.01, 0.11, 13)
"""Heights between which peaks are counted; one more bin below and above."""
VALUE_EDGES = np.linspace(-0.04, 0.08, 13)
"""Values between which pixels are counted; one more bin below and above."""
LEVELS = np.linspace(-0.02, 0.05, 8)
"""Thresholds of the Minkowski functionals."""


def smoothed(maps: np.ndarray, pixels: float) -> np.ndarray:
    """Maps after a Gaussian of this standard deviation in pixels, mirrored at the edges."""
    if pixels == 0:
        return maps
    found: np.ndarray = ndimage.gaussian_filter(maps, (0, pixels, pixels), mode="reflect", truncate=3.0)
    return found


def power(maps: np.ndarray, bins: int = BINS) -> tuple[np.ndarray, np.ndarray]:
    """Mean power of the modes in each bin.

    Returns
    -------
    waves, power
        Waves a pixel at the middle of each bin (F,), and power (N, F): the mean of |mode|^2 / pixels.
    """
    height, width = maps.shape[1:]
    waves = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)).ravel()
    edges = np.geomspace(0.999 / max(height, width), 0.5, bins + 1)
    square = np.abs(fft.rfft2(maps.astype(np.float32))).reshape(len(maps), -1) ** 2 / (height * width)
    number = np.digitize(waves, edges)
    found = [square[:, number == k].mean(axis=1) for k in range(1, bins + 1) if (number == k).any()]
    middle = [waves[number == k].mean() for k in range(1, bins + 1) if (number == k).any()]
    return np.array(middle), np.stack(found, axis=1).astype(np.float64)


def power_spectrum(maps: np.ndarray) -> np.ndarray:
    """Logarithm of the binned power."""
    return np.log(power(maps)[1] + 1e-30)


def is_peak(maps: np.ndarray) -> np.ndarray:
    """Which pixels are above all their eight neighbours, bool (N, H, W); the border is left out."""
    peak = np.zeros(maps.shape, bool)
    middle = maps[:, 1:-1, 1:-1]
    above = np.ones(middle.shape, bool)
    height, width = maps.shape[1:]
    for down in range(3):
        for right in range(3):
            if (down, right) != (1, 1):
                above &= middle > maps[:, down : height - 2 + down, right : width - 2 + right]
    peak[:, 1:-1, 1:-1] = above
    return peak


def peak_counts(maps: np.ndarray) -> np.ndarray:
    """Peaks by height, log(1 + count), at each smoothing."""
    found = []
    for pixels in SMOOTHING:
        smooth = smoothed(maps, pixels)
        found.append(np.log1p(_counts(smooth, is_peak(smooth), PEAK_EDGES)))
    return np.hstack(found)


def moments(maps: np.ndarray) -> np.ndarray:
    """Logarithm of the variance, skewness and kurtosis of the pixels, at each smoothing."""
    found = []
    for pixels in SMOOTHING:
        flat = smoothed(maps, pixels).reshape(len(maps), -1).astype(np.float64)
        found += [np.log(flat.var(axis=1) + 1e-30), skew(flat, axis=1), kurtosis(flat, axis=1)]
    return np.stack(found, axis=1)


def histogram(maps: np.ndarray) -> np.ndarray:
    """Pixels by value, log(1 + count), at each smoothing."""
    every = np.ones(maps.shape, bool)
    return np.hstack([np.log1p(_counts(smoothed(maps, pixels), every, VALUE_EDGES)) for pixels in SMOOTHING])


def minkowski(maps: np.ndarray) -> np.ndarray:
    """Area, boundary and Euler characteristic of the pixels above each threshold, as shares of all, at each smoothing.

    Pixels touch at their sides: the characteristic is pixels minus touching pairs plus full squares of four.
    """
    count = maps[0].size
    found = []
    for pixels in SMOOTHING:
        smooth = smoothed(maps, pixels)
        for level in LEVELS:
            high = smooth > level
            beside, below = high[:, :, 1:] & high[:, :, :-1], high[:, 1:] & high[:, :-1]
            square = below[:, :, 1:] & below[:, :, :-1]
            area, pairs, squares = (_total(high), _total(beside) + _total(below), _total(square))
            found += [area, 4 * area - 2 * pairs, area - pairs + squares]
    return np.stack(found, axis=1) / count


STATISTICS = {
    "power_spectrum": power_spectrum,
    "peak_counts": peak_counts,
    "moments": moments,
    "histogram": histogram,
    "minkowski": minkowski,
}


def brightest(maps: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Give the highest peaks of each map.

    Returns
    -------
    place, height
        int64 (N, K, 2), column and row; (N, K) their values, falling. A map with fewer peaks has its highest pixels
        after them.
    """
    flat = maps.reshape(len(maps), -1)
    rank = np.where(is_peak(maps).reshape(flat.shape), flat + 2 * (np.abs(flat).max() + 1), flat)
    best = np.argpartition(rank, -count, axis=1)[:, -count:]
    best = np.take_along_axis(best, np.argsort(-np.take_along_axis(rank, best, axis=1), axis=1), axis=1)
    row, column = np.divmod(best, maps.shape[2])
    return np.stack([column, row], axis=2), np.take_along_axis(flat, best, axis=1)


def _total(mask: np.ndarray) -> np.ndarray:
    """How many are set, float64 (N,)."""
    return np.count_nonzero(mask, axis=(1, 2)).astype(np.float64)


def _counts(maps: np.ndarray, chosen: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Chosen pixels in each bin of value, (N, len(edges) + 1)."""
    bins = len(edges) + 1
    sample, *_ = np.nonzero(chosen)
    number = np.searchsorted(edges, maps[chosen], side="right")
    return np.bincount(sample * bins + number, minlength=len(maps) * bins).reshape(len(maps), bins).astype(np.float64)
