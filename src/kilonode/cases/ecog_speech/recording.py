"""A block as it comes from the amplifier, and as Neurodata Without Borders (NWB) keeps it.

Volts at 400 Hz: activity of 70-150 Hz whose strength follows the response, slow noise, the mains, what all electrodes
share. A file of this form is read by ``processed`` and, its amplitude, by ``kilonode ingest``.

Shape legend: N trials, E 85 electrodes, T moments of a window, M moments of the recording.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from scipy import fft

from kilonode.cases.ecog_speech import signals
from kilonode.cases.ecog_speech.cortex import BEFORE_S, ELECTRODES, RATE_HZ, SAMPLES, positions

VOLTS_HZ = 400.0
TRIAL_S, REST_S = 1.5, 1.0
"""From one transition to the next; before the first and after the last."""
BASE = 0.5
"""Activity of 70-150 Hz at rest, on the scale of the response."""
SCALE_V = 2e-5
MAINS, SLOW, SHARED = 2.0, 3.0, 1.0
"""Mains, 1/f noise and what all electrodes share, on the same scale."""


def moments(count: int, rate_hz: float) -> np.ndarray:
    """Samples at which syllables pass from consonant to vowel, int64 (N,)."""
    return np.round((REST_S + TRIAL_S * (0.5 + np.arange(count))) * rate_hz).astype(np.int64)


def volts(
    signal: np.ndarray, bad: np.ndarray, rng: np.random.Generator, settings: Mapping[str, Any]
) -> tuple[np.ndarray, float]:
    """A recording of one block, float64 (E, M) in V, and its rate in Hz.

    Parameters
    ----------
    signal : float (N, E, T)
        The response at 200 Hz.
    bad : bool (E,)
        Electrodes without cortex.
    rng : Generator
        Of the noise.
    settings : Mapping
        ``noise``.
    """
    count = round((2 * REST_S + TRIAL_S * len(signal)) * VOLTS_HZ)
    strength = np.full((ELECTRODES, count), BASE)
    fine = np.repeat(signal, round(VOLTS_HZ / RATE_HZ), axis=2)
    for trial, moment in enumerate(moments(len(signal), VOLTS_HZ)):
        start = moment - round(BEFORE_S * VOLTS_HZ)
        strength[:, start : start + fine.shape[2]] += np.maximum(fine[trial], -BASE)
    strength[bad] = 0
    frequency = fft.rfftfreq(count, 1 / VOLTS_HZ)
    fast = _filtered(rng, (ELECTRODES, count), ((frequency > 70) & (frequency < 150)).astype(float))
    slow = _filtered(rng, (ELECTRODES + 1, count), 1 / np.maximum(frequency, 1.0))
    mains = np.sin(2 * np.pi * signals.MAINS_HZ * np.arange(count) / VOLTS_HZ)
    noise = float(settings["noise"])
    total = strength * fast + noise * SLOW * slow[:ELECTRODES] + SHARED * noise * slow[ELECTRODES:] + MAINS * mains
    total += 0.1 * noise * rng.normal(size=total.shape)
    total[bad] = 10 * rng.normal(size=(int(bad.sum()), count))
    return SCALE_V * total, VOLTS_HZ


def _filtered(rng: np.random.Generator, shape: tuple[int, int], gain: np.ndarray) -> np.ndarray:
    """Noise of this spectrum and spread 1."""
    found = fft.irfft(fft.rfft(rng.normal(size=shape), axis=1) * gain, shape[1], axis=1)
    return np.asarray(found / found.std(axis=1, keepdims=True))


def high_gamma(recorded: np.ndarray, bad: np.ndarray) -> np.ndarray:
    """The whole chain up to the z-score: volts (E, M) at 400 Hz -> amplitude (E, M / 2) at 200 Hz."""
    clean = signals.notched(signals.common_average(recorded, bad), VOLTS_HZ)
    found = signals.resampled(signals.amplitude(clean, VOLTS_HZ), VOLTS_HZ, RATE_HZ)
    return np.asarray((found - found.mean(axis=1, keepdims=True)) / found.std(axis=1, keepdims=True))


def processed(recorded: np.ndarray, count: int, bad: np.ndarray) -> np.ndarray:
    """Windows of the amplitude, (N, E, T), from a recording in V."""
    return signals.windows(high_gamma(recorded, bad), moments(count, RATE_HZ), round(BEFORE_S * RATE_HZ), SAMPLES)


def write_nwb(path: Path, trials: Mapping[str, Any], recorded: np.ndarray, block: int) -> None:
    """Write one block as NWB: volts, amplitude, electrodes with places and quality, trials with labels.

    Parameters
    ----------
    path : Path
        ``.nwb`` to write.
    trials : Mapping
        From ``simulate.block``.
    recorded : float (E, M)
        From ``volts``.
    block : int
        Its number: column ``block`` of the trials.
    """
    from pynwb import NWBHDF5IO, NWBFile
    from pynwb.ecephys import ElectricalSeries

    file = NWBFile(
        session_description="SIMULATED recording of spoken syllables (kilonode ecog_speech); no human subject",
        identifier=f"simulated-subject-{trials['subject']}-block-{block}",
        session_start_time=datetime(2000, 1, 1, tzinfo=UTC),
    )
    group = file.create_electrode_group("grid", "17 x 5 grid", "simulated", file.create_device("simulated amplifier"))
    file.add_electrode_column("bad", "no contact with cortex")
    for (along, across), is_bad in zip(positions() * 1e-3, trials["bad"], strict=True):
        file.add_electrode(x=along, y=across, z=0.0, location="simulated", group=group, bad=bool(is_bad))
    region = file.create_electrode_table_region(list(range(ELECTRODES)), "all electrodes")
    file.add_acquisition(
        ElectricalSeries(name="ecog", data=recorded.T.astype(np.float32), electrodes=region, rate=VOLTS_HZ)
    )
    amplitude = high_gamma(recorded, np.flatnonzero(trials["bad"])).T.astype(np.float32)
    module = file.create_processing_module("ecephys", "amplitude of 70-150 Hz, z-score within the block")
    module.add(
        ElectricalSeries(
            name="high_gamma", data=amplitude, electrodes=region, rate=RATE_HZ, description="z-score, not V"
        )
    )
    for name, text in (("transition_time", "consonant to vowel, s"), ("syllable", "3 x consonant + vowel"),
                       ("block", "recording block")):  # fmt: skip
        file.add_trial_column(name, text)
    for number, moment in zip(trials["y"], moments(len(trials["y"]), VOLTS_HZ) / VOLTS_HZ, strict=True):
        file.add_trial(start_time=moment - BEFORE_S, stop_time=moment + SAMPLES / RATE_HZ - BEFORE_S,
                       transition_time=moment, syllable=int(number), block=block)  # fmt: skip
    with NWBHDF5IO(str(path), "w") as io:
        io.write(file)


def read_nwb(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Windows (N, E, T) made anew from the volts of a file, its syllables (N,), its bad electrodes."""
    from pynwb import NWBHDF5IO

    with NWBHDF5IO(str(path), "r") as io:
        file = io.read()
        bad = np.flatnonzero(file.electrodes["bad"][:])
        y = np.asarray(file.trials["syllable"][:])
        when = np.asarray(file.trials["transition_time"][:])
        found = high_gamma(np.asarray(file.acquisition["ecog"].data[:]).T.astype(np.float64), bad)
    return signals.windows(found, np.round(when * RATE_HZ).astype(int), round(BEFORE_S * RATE_HZ), SAMPLES), y, bad
