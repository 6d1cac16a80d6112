"""Syllables and the articulators that speak them: 19 consonants x 3 vowels, six numbers each for both phases.

Rows follow the phonetic classes of the sounds (labial, coronal, dorsal; voiced; nasal); the sizes are our choice.
"""

from __future__ import annotations

import numpy as np

CONSONANTS = ("b", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "sh", "t", "th", "v", "w", "y", "z")
VOWELS = ("aa", "ee", "oo")
SYLLABLES = tuple(consonant + vowel for consonant in CONSONANTS for vowel in VOWELS)
ARTICULATORS = ("lips", "tongue tip", "tongue body", "larynx", "jaw", "velum")
NOISE = 0.12
"""Spread of each articulator from trial to trial; the oracle knows it."""
COARTICULATION = 0.25
"""Share of the way that lips and jaw of the consonant have gone toward the vowel."""
CONSONANT_TARGETS = np.array([
    # lips  tip  body  larynx jaw velum
    [1.0, 0.0, 0.0, 0.8, 0.5, 0.0],  # b
    [0.0, 1.0, 0.2, 0.8, 0.5, 0.0],  # d
    [0.7, 0.0, 0.0, 0.0, 0.4, 0.0],  # f
    [0.0, 0.0, 1.0, 0.8, 0.4, 0.0],  # g
    [0.0, 0.0, 0.0, 0.1, 0.1, 0.0],  # h
    [0.0, 0.0, 1.0, 0.0, 0.4, 0.0],  # k
    [0.0, 0.8, 0.4, 0.8, 0.3, 0.0],  # l
    [1.0, 0.0, 0.0, 0.8, 0.5, 1.0],  # m
    [0.0, 1.0, 0.2, 0.8, 0.5, 1.0],  # n
    [1.0, 0.0, 0.0, 0.0, 0.5, 0.0],  # p
    [0.3, 0.6, 0.6, 0.8, 0.3, 0.0],  # r
    [0.0, 0.9, 0.3, 0.0, 0.7, 0.0],  # s
    [0.3, 0.7, 0.6, 0.0, 0.7, 0.0],  # sh
    [0.0, 1.0, 0.2, 0.0, 0.5, 0.0],  # t
    [0.0, 0.8, 0.0, 0.0, 0.4, 0.0],  # th
    [0.7, 0.0, 0.0, 0.8, 0.4, 0.0],  # v
    [0.8, 0.0, 0.5, 0.8, 0.2, 0.0],  # w
    [0.0, 0.3, 0.9, 0.8, 0.2, 0.0],  # y
    [0.0, 0.9, 0.3, 0.8, 0.7, 0.0],  # z
])  # fmt: skip
VOWEL_TARGETS = np.array([
    [0.0, 0.0, 0.4, 0.8, 1.0, 0.0],  # aa
    [0.0, 0.2, 0.9, 0.8, 0.1, 0.0],  # ee
    [1.0, 0.0, 0.5, 0.8, 0.2, 0.0],  # oo
])  # fmt: skip
PLACES = {"labial": "bfmpvw", "coronal": ("d", "l", "n", "r", "s", "sh", "t", "th", "z"), "dorsal": "ghky"}
"""Where the tract is narrow: three groups of consonants (h, which narrows nothing above the larynx, with dorsals)."""


def consonant_of(syllable: np.ndarray) -> np.ndarray:
    """Number of the consonant of syllables numbered 0..56."""
    return syllable // len(VOWELS)


def vowel_of(syllable: np.ndarray) -> np.ndarray:
    """Number of the vowel of syllables numbered 0..56."""
    return syllable % len(VOWELS)


def place_of(syllable: np.ndarray) -> np.ndarray:
    """0 labial, 1 coronal, 2 dorsal."""
    table = np.array([next(k for k, group in enumerate(PLACES.values()) if name in group) for name in CONSONANTS])
    found: np.ndarray = table[consonant_of(syllable)]
    return found


def targets(syllable: np.ndarray) -> np.ndarray:
    """Mean articulators of syllables, float64 (N, 2, 6): consonant, already shaped by the vowel, and vowel."""
    consonant, vowel = CONSONANT_TARGETS[consonant_of(syllable)].copy(), VOWEL_TARGETS[vowel_of(syllable)]
    moved = [ARTICULATORS.index(name) for name in ("lips", "jaw")]
    consonant[:, moved] += COARTICULATION * (vowel[:, moved] - consonant[:, moved])
    return np.stack([consonant, vowel], axis=1)
