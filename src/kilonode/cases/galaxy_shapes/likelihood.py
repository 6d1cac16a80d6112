"""Maximum-likelihood fits of a light profile to many images at once, each with its own noise.

Every pixel is normal with the profile's mean (and a constant sky offset) and variance 1 + photon * light: the sky's
noise is the unit, and light brings the noise of its own photons. Damped Fisher scoring climbs the exact likelihood of
all images together; each has its own damping and leaves when it is at the top.

Shape legend: N images, n pixels of one, P parameters; the last parameter is the sky offset.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

LN_2PI = float(np.log(2 * np.pi))
TOLERANCE = 1e-3
"""Nats: an image whose likelihood gained less in a step, twice, is at the top."""
ITERATIONS = 60
AT_ONCE = 64


class Profile(Protocol):
    """A shape of light with parameters; ``self`` may know more of every image, such as its seeing."""

    def start(self, x: np.ndarray) -> np.ndarray:
        """First guesses (N, P) for images (N, n)."""

    def light(self, params: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Light (N, n) of these parameters (N, P) for images of these numbers, without the sky."""

    def slopes(self, params: np.ndarray, rows: np.ndarray, light: np.ndarray) -> np.ndarray:
        """Derivative of the light by every parameter but the sky, (N, P - 1, n)."""


@dataclass(frozen=True)
class Fitted:
    """The best profile of every image."""

    params: np.ndarray
    """(N, P)"""
    mean: np.ndarray
    """(N, n) with the sky offset, float32."""
    variance: np.ndarray
    """(N, n), at least 1, float32."""
    log_likelihood: np.ndarray
    """(N,) nats, of pixels in units of the sky's noise."""
    settled: np.ndarray
    """(N,) whether the climb ended by itself."""


def log_normal(x: np.ndarray, mean: np.ndarray, variance: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Log density of independent normal pixels (N, n), summed: (N,) nats; ``weight`` 0 leaves a pixel out."""
    terms = (x - mean) ** 2 / variance + np.log(variance) + LN_2PI
    return np.asarray(-0.5 * (terms if weight is None else terms * weight).sum(axis=1, dtype=np.float64))


def fit(profile: Profile, x: np.ndarray, photon: np.ndarray, weight: np.ndarray | None = None) -> Fitted:
    """Fit a profile to every image.

    Parameters
    ----------
    profile : Profile
        What is fitted.
    x : float32 (N, n)
        Pixels, units of the sky's noise.
    photon : float (N,)
        Variance of one unit of light: 1 / sqrt(sky_var) for pixels that were electrons.
    weight : float32 (N, n), optional
        0 for pixels that do not count.
    """
    params = profile.start(x)
    settled = np.zeros(len(x), bool)
    mean, variance = np.empty_like(x, np.float32), np.empty_like(x, np.float32)
    for first in range(0, len(x), AT_ONCE):
        rows = np.arange(first, min(first + AT_ONCE, len(x)))
        params[rows], settled[rows] = _climb(profile, x, photon, weight, params[rows], rows)
        mean[rows], variance[rows] = _moments(params[rows], profile.light(params[rows], rows), photon[rows])
    return Fitted(params, mean, variance, log_normal(x, mean, variance, weight), settled)


def _moments(params: np.ndarray, light: np.ndarray, photon: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of the pixels."""
    return light + params[:, -1:].astype(np.float32), 1 + photon[:, None].astype(np.float32) * light


def _climb(
    profile: Profile, x: np.ndarray, photon: np.ndarray, weight: np.ndarray | None, start: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The best parameters of some images, and which of them settled."""
    params, damping = start.copy(), np.full(len(rows), 1e-2)
    light = profile.light(params, rows)
    best = _score(x, light, params, photon, weight, rows)
    calm, active = np.zeros(len(rows), int), np.arange(len(rows))
    for _ in range(ITERATIONS):
        here = rows[active]
        step = _step(profile, x, photon, weight, params[active], here, light[active], damping[active])
        tried = params[active] + step
        seen = profile.light(tried, here)
        score = _score(x, seen, tried, photon, weight, here)
        better = score > best[active]
        gain = np.where(better, score - best[active], 0)
        taken = active[better]
        params[taken], light[taken], best[taken] = tried[better], seen[better], score[better]
        damping[active] *= np.where(better, 0.2, 8.0)
        small = np.where(better, gain < TOLERANCE, damping[active] > 1e6)
        calm[active] = np.where(small, calm[active] + 1, 0)
        active = active[calm[active] < 2]
        if not len(active):
            break
    return params, calm >= 2


def _score(
    x: np.ndarray,
    light: np.ndarray,
    params: np.ndarray,
    photon: np.ndarray,
    weight: np.ndarray | None,
    rows: np.ndarray,
) -> np.ndarray:
    """Log likelihood of each image; minus infinity where the profile left the numbers."""
    with np.errstate(all="ignore"):
        mean, variance = _moments(params, light, photon[rows])
        score = log_normal(x[rows], mean, variance, None if weight is None else weight[rows])
    return np.where(np.isfinite(score), score, -np.inf)


def _step(
    profile: Profile, x: np.ndarray, photon: np.ndarray, weight: np.ndarray | None,
    params: np.ndarray, rows: np.ndarray, light: np.ndarray, damping: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Damped Fisher scoring: gradient and expected curvature of the exact likelihood, mean and variance both."""
    slopes = profile.slopes(params, rows, light)
    mean, variance = _moments(params, light, photon[rows])
    counted = np.ones_like(mean) if weight is None else weight[rows]
    residual, share = x[rows] - mean, photon[rows, None].astype(np.float32)
    by_mean = counted * residual / variance
    by_light = by_mean + 0.5 * counted * share * (residual**2 / variance - 1) / variance
    information = counted * (1 / variance + 0.5 * share**2 / variance**2)
    count = params.shape[1]
    gradient, fisher = np.empty((len(rows), count)), np.empty((len(rows), count, count))
    gradient[:, :-1], gradient[:, -1] = (slopes @ by_light[:, :, None])[..., 0], by_mean.sum(axis=1)
    fisher[:, :-1, :-1] = (slopes * information[:, None]) @ slopes.transpose(0, 2, 1)
    fisher[:, :-1, -1] = fisher[:, -1, :-1] = (slopes @ (counted / variance)[:, :, None])[..., 0]
    fisher[:, -1, -1] = (counted / variance).sum(axis=1)
    diagonal = np.einsum("npp->np", fisher)  # a view
    diagonal *= 1 + damping[:, None]
    diagonal += 1e-6
    return np.clip(np.linalg.solve(fisher, gradient[..., None])[..., 0], -1.5, 1.5)
