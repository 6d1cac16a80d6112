"""All trials of one recording block: syllables through articulators and cortex, with noise, z-scored within the block.

The block is the split group. Everything depends on (seed, block, settings) alone: the subject's cortex and the list of
its syllables are drawn from the subject's own stream, which every block of it repeats.

Shape legend: N trials of a block, E 85 electrodes, T 250 moments at 200 Hz.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.signal import lfilter

from kilonode.cases.contract import Tables
from kilonode.cases.ecog_speech import cortex, recording, speech
from kilonode.cases.ecog_speech.cortex import ELECTRODES, Subject

CASE_ID = 4
PHYSICS, NOISE = 0, 1
MEMORY = 0.95
"""Of the noise, from one sample at 200 Hz to the next: much at low frequencies, as cortex has."""
COMMON = 0.3
"""Spread of the noise that all electrodes share, over that of each."""


def stream(seed: int, which: int, kind: int, number: int) -> np.random.Generator:
    """A generator of its own for each purpose."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(CASE_ID, which, kind, number)))


def who(seed: int, group: int, settings: Mapping[str, Any]) -> tuple[int, Subject]:
    """Number and cortex of the subject whose block it is."""
    number = group // int(settings["blocks"])
    return number, cortex.subject(stream(seed, PHYSICS, 2, number), settings)


def syllables(seed: int, number: int, settings: Mapping[str, Any]) -> np.ndarray:
    """Every syllable that a subject says, in order of trials, int64; classes as uneven as settings say."""
    rng = stream(seed, PHYSICS, 3, number)
    total, classes = int(settings["blocks"]) * int(settings["per_block"]), len(speech.SYLLABLES)
    share = rng.uniform(1, float(settings["uneven"]), classes)
    share[rng.permutation(classes)[: int(settings["missing"])]] = 0
    ends = np.round(np.cumsum(share) / share.sum() * total).astype(np.int64)
    return np.asarray(rng.permutation(np.repeat(np.arange(classes), np.diff(ends, prepend=0))))


def simulate(seed: int, group: int, settings: Mapping[str, Any]) -> Tables:
    """Make one block.

    Parameters
    ----------
    seed : int
        Seed of the data set.
    group : int
        Block number over all subjects; the subject is ``group // settings["blocks"]``.
    settings : Mapping
        As in case.yaml: counts, noise, gain, saturation, jitter; ``signal``: ``amplitude`` makes the 70-150 Hz
        amplitude itself, ``voltage`` a recording of volts at 400 Hz, which goes through ``signals.amplitude``.

    Returns
    -------
    Tables
        ``trials`` with the fields, shapes and dtypes of case.yaml.
    """
    trials = block(seed, group, settings)
    noise = stream(seed, NOISE, 0, group)
    if settings["signal"] == "voltage":
        volts, _ = recording.volts(trials["signal"], trials["bad"], noise, settings)
        x = recording.processed(volts, len(trials["y"]), np.flatnonzero(trials["bad"]))
    else:
        x = zscored(trials["signal"] + _noise(noise, trials["signal"].shape, trials["bad"], settings))
    y, count = trials["y"], len(trials["y"])
    return {
        "trials": {
            "x": x.astype(np.float32),
            "syllable": y.astype(np.int16),
            "consonant": speech.consonant_of(y).astype(np.int16),
            "vowel": speech.vowel_of(y).astype(np.int16),
            "subject": np.full(count, trials["subject"], np.int64),
            "group": np.full(count, group, np.int64),
            "sample_id": group * int(settings["per_block"]) + np.arange(count, dtype=np.int64),
            "truth/articulators": trials["articulators"].astype(np.float32),
            "truth/latent": trials["latent"].astype(np.float32),
            "truth/bad": np.tile(trials["bad"].astype(np.uint8), (count, 1)),
        }
    }


def block(seed: int, group: int, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What happens in a block before any noise: ``signal`` (N, E, T), ``y``, ``articulators``, ``latent``, ``bad``."""
    number, brain = who(seed, group, settings)
    count, place = int(settings["per_block"]), group % int(settings["blocks"])
    y = syllables(seed, number, settings)[place * count : (place + 1) * count]
    rng = stream(seed, PHYSICS, 0, group)
    articulators = speech.targets(y) + rng.normal(0, speech.NOISE, (count, 2, len(speech.ARTICULATORS)))
    latent = np.concatenate(
        [
            rng.lognormal(0, float(settings["gain"]), (count, 1)),
            rng.normal(0, 1e-3 * float(settings["jitter_ms"]), (count, 2)),
            rng.uniform(0.8, 1.2, (count, 2)),
        ],
        axis=1,
    )
    drift = 1 + float(settings["drift"]) * rng.uniform(-1, 1, (1, ELECTRODES)) * np.linspace(-1, 1, count)[:, None]
    signal = cortex.response(brain, articulators, latent, y, settings) * drift[:, :, None]
    signal[:, brain.bad] = 0
    return {
        "signal": signal,
        "y": y,
        "articulators": articulators,
        "latent": latent,
        "bad": brain.bad,
        "subject": number,
    }


def _noise(
    rng: np.random.Generator, shape: tuple[int, ...], bad: np.ndarray, settings: Mapping[str, Any]
) -> np.ndarray:
    """Noise with memory in each electrode and one that all share; a bad electrode has white noise alone."""
    count, electrodes, samples = shape
    white = rng.normal(size=(count, electrodes + 1, samples))
    loose = white[:, :electrodes][:, bad].copy()
    start = white[..., :1] * (MEMORY / np.sqrt(1 - MEMORY**2))  # as if it had always run
    coloured = np.sqrt(1 - MEMORY**2) * lfilter([1.0], [1.0, -MEMORY], white, axis=2, zi=start)[0]
    total = coloured[:, :electrodes] + COMMON * coloured[:, electrodes:]
    total[:, bad] = loose
    return np.asarray(float(settings["noise"]) * total)


def zscored(x: np.ndarray) -> np.ndarray:
    """Each electrode with mean 0 and spread 1 over all trials and moments of its block."""
    return np.asarray((x - x.mean(axis=(0, 2), keepdims=True)) / x.std(axis=(0, 2), keepdims=True))
