"""How cortex answers articulators: electrodes with weights for single articulators and for pairs, gain, saturation.

Shape legend: N trials, E 85 electrodes, A 6 articulators, P 15 pairs of them, T moments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kilonode.cases.ecog_speech.speech import ARTICULATORS

ROWS, COLUMNS, PITCH_MM = 17, 5, 4.0
ELECTRODES = ROWS * COLUMNS
RATE_HZ, BEFORE_S, SAMPLES = 200.0, 0.5, 250
"""Of the window: 250 samples from 500 ms before to 750 ms after the consonant-vowel transition."""
SOMATOTOPY = ("larynx", "jaw", "lips", "tongue tip", "tongue body", "velum")
"""Order along the long side of the grid."""
CENTRES_S, WIDTHS_S = (-0.1, 0.12), (0.06, 0.1)
"""When consonant and vowel are at their height, and for how long (standard deviations)."""
REACH = 1.8
"""Width of an articulator's patch in pitches."""
LAG_S = 0.03
FEEDBACK_S, FEEDBACK_WIDTH_S = 0.3, 0.08
"""Hearing oneself: its height after the transition, and its width."""
PAIRS = [(a, b) for a in range(len(ARTICULATORS)) for b in range(a)]


@dataclass(frozen=True)
class Subject:
    """One cortex: ``linear`` (2, E, A), ``pairs`` (2, E, P), ``lag_s`` (E,), ``heard`` (E, 57), ``bad`` (E,)."""

    linear: np.ndarray
    pairs: np.ndarray
    lag_s: np.ndarray
    heard: np.ndarray
    bad: np.ndarray


def positions() -> np.ndarray:
    """Electrodes on the grid, float64 (E, 2), mm."""
    rows, columns = np.divmod(np.arange(ELECTRODES), COLUMNS)
    return PITCH_MM * np.stack([rows, columns], axis=1).astype(np.float64)


def subject(rng: np.random.Generator, settings: Mapping[str, Any]) -> Subject:
    """Draw a cortex.

    Parameters
    ----------
    rng : Generator
        Of the subject alone.
    settings : Mapping
        ``interaction``: spread of pair weights over the weights; ``vowel_scale``; ``bad``: lowest and highest number
        of bad electrodes.
    """
    where = positions() / PITCH_MM
    middles = np.linspace(1.5, ROWS - 2.5, len(SOMATOTOPY))
    order = [SOMATOTOPY.index(name) for name in ARTICULATORS]
    linear = np.empty((2, ELECTRODES, len(ARTICULATORS)))
    for phase in range(2):
        centre = np.stack([middles[order], rng.uniform(1, COLUMNS - 2, len(ARTICULATORS))], axis=1)
        distance = np.linalg.norm(where[:, None] - centre[None], axis=2)
        linear[phase] = np.exp(-0.5 * (distance / REACH) ** 2) * rng.lognormal(0, 0.5, distance.shape)
    scale = np.array([1.0, float(settings["vowel_scale"])])[:, None, None]
    mean = np.stack([(linear[..., a] + linear[..., b]) / 2 for a, b in PAIRS], axis=-1)
    pairs = float(settings["interaction"]) * mean * rng.normal(size=mean.shape)
    low, high = settings["bad"]
    bad = np.zeros(ELECTRODES, bool)
    bad[rng.permutation(ELECTRODES)[: rng.integers(low, high + 1)]] = True
    lag = rng.normal(0, LAG_S, ELECTRODES)
    heard = rng.normal(size=(ELECTRODES, 57)) * (rng.uniform(size=(ELECTRODES, 1)) < 0.2)
    return Subject(scale * linear, scale * pairs, lag, heard, bad)


def drive(cortex: Subject, articulators: np.ndarray) -> np.ndarray:
    """How strongly each electrode is driven in both phases: articulators (N, 2, A) -> (N, 2, E)."""
    products = np.stack([articulators[..., a] * articulators[..., b] for a, b in PAIRS], axis=-1)
    single = np.einsum("npa,pea->npe", articulators, cortex.linear)
    return np.asarray(single + np.einsum("npk,pek->npe", products, cortex.pairs))


def response(
    cortex: Subject, articulators: np.ndarray, latent: np.ndarray, syllable: np.ndarray, settings: Mapping[str, Any]
) -> np.ndarray:
    """The amplitude without noise, float64 (N, E, T).

    Parameters
    ----------
    cortex : Subject
        Who.
    articulators : float (N, 2, 6)
        Of each trial.
    latent : float (N, 5)
        Gain; onset of consonant and vowel in s beside their usual ones; durations over their usual ones.
    syllable : int (N,)
        For auditory feedback alone.
    settings : Mapping
        ``saturation`` and ``feedback``.
    """
    time = np.arange(SAMPLES) / RATE_HZ - BEFORE_S
    driven = drive(cortex, articulators)
    total = np.zeros((len(articulators), ELECTRODES, SAMPLES))
    for phase in range(2):
        centre = CENTRES_S[phase] + latent[:, 1 + phase, None] + cortex.lag_s[None]
        width = WIDTHS_S[phase] * latent[:, 3 + phase, None, None]
        total += driven[:, phase, :, None] * np.exp(-0.5 * ((time - centre[..., None]) / width) ** 2)
    if settings["feedback"]:
        bump = np.exp(-0.5 * ((time - FEEDBACK_S) / FEEDBACK_WIDTH_S) ** 2) * (time > 0.15)
        total += float(settings["feedback"]) * cortex.heard.T[syllable][:, :, None] * bump
    limit = float(settings["saturation"])
    return np.asarray(limit * np.tanh(latent[:, :1, None] * total / limit))
