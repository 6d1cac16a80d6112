"""A real recording through the same decoders: a P300 speller, 16 electrodes on the scalp, targets among other flashes.

``python -m kilonode.cases.ecog_speech.eeg RECORDING.npz TRIALS.npz`` makes trials of it, which ``kilonode run --data
p300.yaml --input TRIALS.npz`` takes in. What is wrong with the recording is said, not hidden: the amplifier's start-up
reaches millions of uV, so the filter starts after it; and the description names 16 sensors for 17 columns.

Source
------
Korczowski et al. 2019, https://doi.org/10.5281/zenodo.2649006 (hal-02126068); one session of one subject.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from scipy.signal import butter, sosfiltfilt

from kilonode.cases.ecog_speech import signals
from kilonode.errors import DataError

RATE_HZ = 128.0
SENSORS = 16
"""Named in the description; the columns after these are left out, since nobody says what they are."""
BAND_HZ = (1.0, 16.0)
WINDOW_S = 1.0
SETTLED_S = 8.0
"""The transients of the start-up end within 4 s; as much again is left to the filter."""
LARGEST = 4.0
"""Robust spreads at which the signal is cut: blinks reach 40."""
BLOCKS = 8


def trials(data: np.ndarray, stim: np.ndarray) -> dict[str, np.ndarray]:
    """Cut a recording into trials.

    Parameters
    ----------
    data : float (M, 17)
        uV at 128 Hz.
    stim : int (M,)
        At the onset of a flash 1 (no target) or 2 (target), else 0.

    Returns
    -------
    dict
        ``x`` float32 (N, 16, 128), uV over the robust spread of each electrode; ``kind`` int16 (N,), 0 or 1;
        ``block`` int64 (N,): eighths of the session, in time.

    Raises
    ------
    DataError
        Events before the recording has settled, or too few columns.
    """
    if data.ndim != 2 or data.shape[1] < SENSORS:
        raise DataError(f"expected at least {SENSORS} columns, got shape {data.shape}; is it this recording?")
    onsets = np.flatnonzero(stim)
    start = round(SETTLED_S * RATE_HZ)
    if onsets.min() < start:
        raise DataError(f"expected events after {SETTLED_S:.0f} s, got one after {onsets.min() / RATE_HZ:.1f} s")
    settled = data[start:, :SENSORS].astype(np.float64)
    sections = butter(4, BAND_HZ, "bandpass", fs=RATE_HZ, output="sos")
    filtered = sosfiltfilt(sections, settled, axis=0)
    spread = 1.4826 * np.median(np.abs(filtered - np.median(filtered, axis=0)), axis=0)
    samples = round(WINDOW_S * RATE_HZ)
    scaled = np.clip(filtered / spread, -LARGEST, LARGEST)
    cut = signals.windows(scaled.T, onsets - start, 0, samples)
    return {
        "x": cut.astype(np.float32),
        "kind": (stim[onsets] - 1).astype(np.int16),
        "block": np.arange(len(onsets), dtype=np.int64) * BLOCKS // len(onsets),
    }


def main(source: Path, output: Path) -> None:
    """Read a recording, say what was left out, write its trials."""
    with np.load(source, allow_pickle=False) as archive:
        data, stim = archive["data"], archive["stim"].astype(np.int64)
    found = trials(data, stim)
    largest = float(np.abs(data[: round(SETTLED_S * RATE_HZ)]).max())
    columns = f"{data.shape[1] - SENSORS} column of {data.shape[1]}"
    print(f"left out: the first {SETTLED_S:.0f} s (up to {largest:.3g} uV), {columns}")
    print(f"{len(found['kind'])} trials, {int(found['kind'].sum())} targets, {BLOCKS} blocks ({output})")
    np.savez(output, **found)  # type: ignore[arg-type]  # numpy's stub has a bool among its keywords


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
