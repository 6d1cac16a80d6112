"""The two profiles a referee asks for: the bivariate Gaussian of the article, and a Sersic profile behind the seeing.

Both are stretched by the same triangular matrix: radius^2 = (a dx + c dy)^2 + (b dy)^2, a and b positive by their
logarithms, so that scale and ellipticity are free and no bound is met.

Shape legend: N images, n = H W pixels, P parameters.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy import fft

from kilonode.cases.galaxy_shapes.galaxies import MOFFAT_BETA, PIXEL, galsim

SCALES = (1.2, 2.0, 3.5, 6.0)
"""Gaussian widths that a fit may start from, pixels."""
PADDED = 96
"""Rows and columns of the periodic grid a Sersic profile is convolved on."""
INDICES = (0.4, 6.0)
"""Least and largest Sersic index."""
DELTA = 2e-3


def offsets(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Column and row of every pixel from the centre of the stamp, float32 (n,)."""
    along = np.arange(side, dtype=np.float32) - (side - 1) / 2
    rows, columns = np.meshgrid(along, along, indexing="ij")
    return columns.ravel(), rows.ravel()


class Gaussian:
    """Log amplitude, centre (x, y), log a, log b, c, sky: the bivariate Gaussian, seven parameters."""

    count = 7

    def __init__(self, side: int) -> None:
        self.x, self.y = offsets(side)

    def start(self, x: np.ndarray) -> np.ndarray:
        """The round Gaussian at the centre that explains most, of several widths."""
        templates = np.exp(-0.5 * (self.x**2 + self.y**2) / np.array(SCALES, np.float32)[:, None] ** 2)
        amplitude = (x @ templates.T) / (templates**2).sum(axis=1)
        chosen = (amplitude**2 * (templates**2).sum(axis=1) * (amplitude > 0)).argmax(axis=1)
        params = np.zeros((len(x), self.count))
        params[:, 0] = np.log(np.maximum(amplitude[np.arange(len(x)), chosen], 0.1))
        params[:, 3] = params[:, 4] = -np.log(np.array(SCALES))[chosen]
        return params

    def _axes(self, params: np.ndarray) -> tuple[np.ndarray, ...]:
        values = params.astype(np.float32)
        dx, dy = self.x - values[:, 1:2], self.y - values[:, 2:3]
        a, b = np.exp(values[:, 3:4]), np.exp(values[:, 4:5])
        return dx, dy, a * dx + values[:, 5:6] * dy, b * dy, a

    def light(self, params: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """See ``likelihood.Profile``."""
        _, _, u, w, _ = self._axes(params)
        return np.asarray(np.exp(params[:, :1].astype(np.float32) - 0.5 * (u**2 + w**2)))

    def slopes(self, params: np.ndarray, rows: np.ndarray, light: np.ndarray) -> np.ndarray:
        """See ``likelihood.Profile``."""
        dx, dy, u, w, a = self._axes(params)
        b, c = np.exp(params[:, 4:5]).astype(np.float32), params[:, 5:6].astype(np.float32)
        parts = [np.ones_like(u), a * u, c * u + b * w, -a * u * dx, -w * w, -u * dy]
        found = np.stack(parts, axis=1)
        found *= light[:, None]
        return found


class Sersic:
    """Log flux, centre (x, y), log a, log b, c, index, sky: a Sersic profile behind a known Moffat seeing and pixels.

    The matrix acts on radii in half-light radii. Drawn in Fourier space on a periodic grid; the Hankel transform of
    the profile is a table over index and wave number (GalSim's own), interpolated linearly.

    Parameters
    ----------
    side : int
        Rows and columns of a stamp, at most 96.
    psf_fwhm : float (N,)
        Seeing of each image, arcsec.
    start : float (N, 7)
        Fitted Gaussians of the same images.
    """

    count = 8

    def __init__(self, side: int, psf_fwhm: np.ndarray, start: np.ndarray) -> None:
        self.side, self.gaussian = side, start
        ky, kx = np.meshgrid(2 * np.pi * fft.fftfreq(PADDED), 2 * np.pi * fft.rfftfreq(PADDED), indexing="ij")
        self.kx, self.ky = kx.ravel().astype(np.float32), ky.ravel().astype(np.float32)
        seeing, self.seen = np.unique(np.asarray(psf_fwhm, np.float64), return_inverse=True)
        pixel = np.sinc(self.kx / (2 * np.pi)) * np.sinc(self.ky / (2 * np.pi))
        self.transfer = np.stack([_moffat(float(fwhm), self.kx, self.ky) * pixel for fwhm in seeing]).astype(np.float32)

    def start(self, x: np.ndarray) -> np.ndarray:
        """From the fitted Gaussian: its flux and shape, a little smaller than the seeing makes it, index 1."""
        found = np.zeros((len(x), self.count))
        g = self.gaussian
        found[:, 0] = g[:, 0] + np.log(2 * np.pi) - g[:, 3] - g[:, 4]
        found[:, 1:3] = g[:, 1:3]
        found[:, 3:5] = g[:, 3:5]
        found[:, 5] = g[:, 5]
        found[:, 6] = -2.0
        found[:, 7] = g[:, 6]
        return found

    def _spectrum(self, params: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The centred profile's transform with seeing and pixels, (N, k) real."""
        a, b = np.exp(params[:, 3:4]).astype(np.float32), np.exp(params[:, 4:5]).astype(np.float32)
        c = params[:, 5:6].astype(np.float32)
        radius = np.hypot(self.kx / a, self.ky / b - c * self.kx / (a * b))
        flux = np.exp(params[:, :1]).astype(np.float32)
        return np.asarray(flux * _hankel(index(params[:, 6]), radius) * self.transfer[self.seen[rows]])

    def _image(self, spectrum: np.ndarray, params: np.ndarray) -> np.ndarray:
        middle = (self.side - 1) / 2
        shift = (params[:, 1:2] + middle) * self.kx + (params[:, 2:3] + middle) * self.ky
        wave = (spectrum * np.exp(-1j * shift.astype(np.float32))).reshape(len(params), PADDED, -1)
        image = fft.irfft2(wave, s=(PADDED, PADDED), workers=1)[:, : self.side, : self.side]
        return np.maximum(image, 0).reshape(len(params), -1).astype(np.float32, copy=False)

    def light(self, params: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """See ``likelihood.Profile``."""
        return self._image(self._spectrum(params, rows), params)

    def slopes(self, params: np.ndarray, rows: np.ndarray, light: np.ndarray) -> np.ndarray:
        """See ``likelihood.Profile``; differences, but for the flux."""
        found = np.empty((len(params), self.count - 1, light.shape[1]), np.float32)
        found[:, 0] = light
        spectrum = self._spectrum(params, rows)
        for place in range(1, self.count - 1):
            moved = params.copy()
            moved[:, place] += DELTA * (10 if place == 6 else 1)
            there = self._image(spectrum if place < 3 else self._spectrum(moved, rows), moved)
            found[:, place] = (there - light) / (moved[:, place] - params[:, place]).astype(np.float32)[:, None]
        return found


def index(free: np.ndarray) -> np.ndarray:
    """Sersic index within ``INDICES`` of an unbounded parameter."""
    low, high = INDICES
    return np.asarray(low + (high - low) / (1 + np.exp(-np.clip(free, -30, 30))))


def _moffat(fwhm: float, kx: np.ndarray, ky: np.ndarray) -> np.ndarray:
    """Transform of the seeing at wave numbers in 1 / pixel."""
    seeing = galsim().Moffat(beta=MOFFAT_BETA, fwhm=fwhm / PIXEL)
    radius = np.linspace(0, 1.01 * float(np.hypot(kx, ky).max()), 400)
    return np.interp(np.hypot(kx, ky), radius, [seeing.kValue(k, 0).real for k in radius])


LOG_K = np.linspace(np.log(1e-3), np.log(300.0), 256)
LOG_N = np.linspace(np.log(INDICES[0]), np.log(INDICES[1]), 40)


@cache
def _table() -> np.ndarray:
    """Transform of Sersic profiles of unit flux and half-light radius, float32 (index, wave number)."""
    profiles = [galsim().Sersic(float(n), half_light_radius=1.0) for n in np.clip(np.exp(LOG_N), *INDICES)]
    return np.array([[profile.kValue(k, 0).real for k in np.exp(LOG_K)] for profile in profiles], np.float32)


def _hankel(n: np.ndarray, k: np.ndarray) -> np.ndarray:
    """The table at indices (N,) and wave numbers (N, k)."""
    place = (np.log(n) - LOG_N[0]) / (LOG_N[1] - LOG_N[0])
    low = np.clip(place.astype(int), 0, len(LOG_N) - 2)
    part = (place - low)[:, None].astype(np.float32)
    rows = _table()[low] * (1 - part) + _table()[low + 1] * part
    where = (np.log(np.maximum(k, 1e-3)) - np.float32(LOG_K[0])) / np.float32(LOG_K[1] - LOG_K[0])
    left = np.clip(where.astype(np.int32), 0, len(LOG_K) - 2)
    step = np.clip(where - left, 0, 1)
    first = np.take_along_axis(rows, left, axis=1)
    return np.asarray(first + step * (np.take_along_axis(rows, left + 1, axis=1) - first))
