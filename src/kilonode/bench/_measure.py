"""Medians and their intervals, of sides that took turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from kilonode.progress import progress

RESAMPLES = 2000


def median(values: Sequence[float] | np.ndarray) -> tuple[float, tuple[float, float]]:
    """Median and the 95 % interval of it: percentiles of resampled medians, always the same for the same values."""
    array = np.asarray(values, dtype=float)
    drawn = np.random.default_rng(0).integers(0, len(array), (RESAMPLES, len(array)))
    low, high = np.percentile(np.median(array[drawn], axis=1), [2.5, 97.5])
    return float(np.median(array)), (float(low), float(high))


def ratio(
    above: Sequence[float] | np.ndarray, below: Sequence[float] | np.ndarray
) -> tuple[float, tuple[float, float]]:
    """Median, with interval, of the ratios of two sides that took turns, round by round."""
    return median(np.asarray(above, dtype=float) / np.asarray(below, dtype=float))


def geometric_mean(values: Sequence[float]) -> float:
    """Of positive numbers."""
    return float(np.exp(np.mean(np.log(values))))


def turns(
    sides: Mapping[str, Callable[[], float]], rounds: int, what: str, warm: int = 1, show: bool = True
) -> dict[str, list[float]]:
    """Call every side once a round and keep what it returns.

    The order turns around from round to round: whoever is always first after the other pays for its caches.

    Parameters
    ----------
    sides : mapping of str to function
        Each measures itself once and returns the number.
    rounds : int
        How often.
    what : str
        Named in the progress line.
    warm : int
        Rounds before, of which nothing is kept.
    show : bool
        Whether this process prints the progress.
    """
    found: dict[str, list[float]] = {name: [] for name in sides}
    for number in progress(range(warm + rounds), warm + rounds, what, show):
        for name in list(sides) if number % 2 else reversed(list(sides)):
            value = sides[name]()
            if number >= warm:
                found[name].append(value)
    return found


def seconds(action: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start
