"""The engine with a known answer: a shifted lognormal field whose power spectrum and likelihood are exact.

kappa = KAPPA_0 (exp(g - variance / 2) - 1), g Gaussian on a periodic patch, with the correlation that gives kappa the
convergence power spectrum of theory. ln(1 + kappa / KAPPA_0) is Gaussian with known spectrum, so the likelihood ratio
of two cosmologies can be written down: no method can beat it.

Shape legend: N maps, H rows, W columns.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy import fft

from kilonode.cases.mass_maps.theory import Cosmology, convergence_power
from kilonode.errors import UserError

KAPPA_0 = 0.06
"""Most negative convergence: an empty line of sight (our choice)."""
ARCMIN = np.pi / 180 / 60


@cache
def patch_power(cosmology: Cosmology, pixels: int, arcmin: float) -> np.ndarray:
    """Theory's power of each mode of a periodic patch (H, W // 2 + 1), steradian; the mean as half a wave a patch.

    A patch without power in its mean would give away the variance by the mean of its logarithm.
    """
    multipoles, power = convergence_power(cosmology)
    rows = 2 * np.pi * np.fft.fftfreq(pixels, arcmin * ARCMIN)
    columns = 2 * np.pi * np.fft.rfftfreq(pixels, arcmin * ARCMIN)
    of_mode = np.hypot(rows[:, None], columns)
    of_mode[0, 0] = np.pi / (pixels * arcmin * ARCMIN)
    return np.asarray(np.exp(np.interp(np.log(of_mode), np.log(multipoles), np.log(power))))


@cache
def gaussian_spectrum(cosmology: Cosmology, pixels: int, arcmin: float) -> np.ndarray:
    """Variance of each Fourier mode of g (H, W // 2 + 1) for unitary transforms, and positive.

    The correlation of g is ln(1 + correlation of kappa / KAPPA_0^2) (Coles, Jones 1991, MNRAS 248, 1). No mode is
    negative for the cosmologies and patches of this case; the tests look.
    """
    area = (arcmin * ARCMIN) ** 2
    correlation = fft.irfft2(patch_power(cosmology, pixels, arcmin) / area, s=(pixels, pixels))
    spectrum = np.asarray(fft.rfft2(np.log1p(correlation / KAPPA_0**2)).real)
    if spectrum.min() <= 0:
        raise UserError(
            f"expected a field that is lognormal, got a negative mode (pixels of {arcmin} arcmin); try a larger pixel"
        )
    return spectrum


def draw(rng: np.random.Generator, cosmology: Cosmology, maps: int, pixels: int, arcmin: float) -> np.ndarray:
    """Draw independent maps, float64 (N, H, W), without noise."""
    spectrum = gaussian_spectrum(cosmology, pixels, arcmin)
    white = fft.rfft2(rng.standard_normal((maps, pixels, pixels)), norm="ortho")
    field = fft.irfft2(white * np.sqrt(spectrum), s=(pixels, pixels), norm="ortho")
    return np.asarray(KAPPA_0 * np.expm1(field - _variance(spectrum, pixels) / 2))


def log_ratio(kappa: np.ndarray, pair: tuple[Cosmology, Cosmology], arcmin: float) -> np.ndarray:
    """Log-likelihood of cosmology 1 minus that of 0 for noise-free maps (N, H, W), float64 (N,)."""
    logs = np.log1p(kappa / KAPPA_0)
    zero, one = (_log_likelihood(logs, gaussian_spectrum(of, kappa.shape[-1], arcmin)) for of in pair)
    return np.asarray(one - zero)


def _log_likelihood(logs: np.ndarray, spectrum: np.ndarray) -> np.ndarray:
    """Of ln(1 + kappa / KAPPA_0), up to a constant; (N,)."""
    pixels = logs.shape[-1]
    modes = fft.rfft2(logs + _variance(spectrum, pixels) / 2, norm="ortho")
    return np.asarray(-0.5 * (_counted(pixels) * (np.abs(modes) ** 2 / spectrum + np.log(spectrum))).sum(axis=(-2, -1)))


def _variance(spectrum: np.ndarray, pixels: int) -> float:
    """Variance of a pixel."""
    return float((spectrum * _counted(pixels)).sum() / pixels**2)


def _counted(pixels: int) -> np.ndarray:
    """How many modes of the whole plane each column of a half plane stands for: 2, but 1 at its edges."""
    counted = np.full(pixels // 2 + 1, 2.0)
    counted[0] = 1
    if pixels % 2 == 0:
        counted[-1] = 1
    return counted
