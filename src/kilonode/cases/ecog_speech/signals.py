"""From volts on the cortex to the amplitude of 70-150 Hz: what is done to a recording before any decoder sees it.

Each step works on one block, (E electrodes, T moments), and looks at no other, so blocks may go to any ranks.

Source
------
The chain of Bouchard et al. 2013, Nature 495, 327, as Livezey et al. 2019 (arXiv:1803.09807) describe it: common
average reference, notch at the mains, Gaussian bank with logarithmic spacing, Hilbert amplitude averaged over the bank.
"""

from __future__ import annotations

import numpy as np
from scipy import fft

BAND_HZ = (70.0, 150.0)
BANDS = 8
MAINS_HZ = 60.0


def common_average(volts: np.ndarray, bad: np.ndarray) -> np.ndarray:
    """Subtract the mean of the good electrodes from all; bad ones do not enter it. (E, T) -> (E, T)."""
    good = np.setdiff1d(np.arange(len(volts)), bad)
    return np.asarray(volts - volts[good].mean(axis=0, keepdims=True))


def notched(volts: np.ndarray, rate_hz: float, width_hz: float = 1.0) -> np.ndarray:
    """Remove the mains frequency and its harmonics by a Gaussian notch in the spectrum."""
    frequency = fft.rfftfreq(volts.shape[1], 1 / rate_hz)
    keep = np.ones_like(frequency)
    for harmonic in np.arange(MAINS_HZ, rate_hz / 2, MAINS_HZ):
        keep *= 1 - np.exp(-0.5 * ((frequency - harmonic) / width_hz) ** 2)
    return np.asarray(fft.irfft(fft.rfft(volts, axis=1) * keep, volts.shape[1], axis=1))


def centres_hz() -> np.ndarray:
    """Centres of the bank, evenly spaced in the logarithm within the band."""
    edges = np.geomspace(*BAND_HZ, BANDS + 1)
    return np.asarray(np.sqrt(edges[1:] * edges[:-1]))


def amplitude(volts: np.ndarray, rate_hz: float) -> np.ndarray:
    """Hilbert amplitude of each band of a Gaussian bank, averaged: (E, T) volts -> (E, T) volts, never negative."""
    samples = volts.shape[1]
    spectrum, frequency = fft.fft(volts, axis=1), fft.fftfreq(samples, 1 / rate_hz)
    total = np.zeros(volts.shape)
    for centre in centres_hz():
        width = centre * (BAND_HZ[1] / BAND_HZ[0]) ** (1 / BANDS) - centre
        window = 2 * np.exp(-0.5 * ((frequency - centre) / width) ** 2) * (frequency > 0)
        total += np.abs(fft.ifft(spectrum * window, axis=1))
    return total / BANDS


def resampled(x: np.ndarray, rate_hz: float, wanted_hz: float) -> np.ndarray:
    """Another rate, by cutting the spectrum: (E, T) -> (E, T wanted / rate)."""
    count = round(x.shape[1] * wanted_hz / rate_hz)
    spectrum = fft.rfft(x, axis=1)[:, : count // 2 + 1]
    return np.asarray(fft.irfft(spectrum, count, axis=1) * (count / x.shape[1]))


def windows(x: np.ndarray, moments: np.ndarray, before: int, samples: int) -> np.ndarray:
    """Cut windows around moments: (E, T) and int (N,) -> (N, E, samples).

    Raises
    ------
    ValueError
        A window reaches beyond the recording.
    """
    start = moments - before
    if start.min() < 0 or start.max() + samples > x.shape[1]:
        raise ValueError(f"windows need {samples} moments inside a recording of {x.shape[1]}, got {start.min()} and "
                         f"{start.max()} as first ones")  # fmt: skip
    return np.asarray(x[:, start[:, None] + np.arange(samples)].transpose(1, 0, 2))


def bad_electrodes(x: np.ndarray, limit: float = 0.5) -> np.ndarray:
    """Electrodes whose amplitude has no memory from sample to sample: (N, E, T) at 200 Hz -> sorted numbers.

    Cortex changes slowly, a loose contact does not. To be asked of training blocks alone.
    """
    centred = x - x.mean(axis=2, keepdims=True)
    memory = (centred[..., 1:] * centred[..., :-1]).sum(axis=(0, 2)) / (centred**2).sum(axis=(0, 2))
    return np.flatnonzero(memory < limit)
