"""All stamps of one field: galaxies with neighbours under one seeing, sky, photons and read noise.

The field is the split group. A stamp depends on (seed, its number, settings) and on its field's seeing, which depends
on (seed, field); so fields may be made in any order by any number of ranks. Physics and noise have streams of their
own: another noise, the same galaxies. A stamp that is too faint or too bright is drawn again with the next attempt,
never left out: no number is skipped.

Shape legend: N stamps, H, W 69 rows and columns, P properties.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kilonode.cases.contract import Tables
from kilonode.cases.galaxy_shapes import galaxies

CASE_ID = 1
PHYSICS, NOISE = 0, 1
FIELD, SAMPLE = 0, 1
ATTEMPTS = 200
VISIBLE = 0.5
"""A pixel belongs to a neighbour where that is brighter than this, in units of the sky's noise."""


def simulate(seed: int, group: int, settings: Mapping[str, Any]) -> Tables:
    """Make one field.

    Parameters
    ----------
    seed : int
        Seed of the data set.
    group : int
        Field number.
    settings : Mapping
        ``per_field`` stamps; ``sky`` and ``read_noise`` (electron); ``seeing`` (median FWHM, arcsec, scatter 0.1 in
        its logarithm); ``neighbours`` (mean number a stamp); ``neighbour_pixels``: kept, or sky: replaced by an empty
        sky; ``snr`` [least, most]; and what ``galaxies.draw`` takes.

    Returns
    -------
    Tables
        ``galaxies`` with the fields, shapes and dtypes of case.yaml.

    Raises
    ------
    ValueError
        An unknown choice, or no stamp within ``snr`` in 200 attempts.
    """
    if settings["neighbour_pixels"] not in ("kept", "sky"):
        raise ValueError(f"neighbour_pixels needs 'kept' or 'sky', got {settings['neighbour_pixels']!r}")
    count = int(settings["per_field"])
    seeing = float(settings["seeing"]) * np.exp(0.1 * stream(seed, PHYSICS, FIELD, group).standard_normal())
    stamps = [_stamp(seed, group * count + place, seeing, settings) for place in range(count)]
    columns = {name: np.stack([stamp[name] for stamp in stamps]) for name in stamps[0]}
    sky_var = variance(settings)
    return {
        "galaxies": {
            **columns,
            "sky_var": np.full(count, sky_var, np.float32),
            "psf_fwhm": np.full(count, seeing, np.float32),
            "group": np.full(count, group, np.int64),
            "sample_id": group * count + np.arange(count, dtype=np.int64),
        }
    }


def variance(settings: Mapping[str, Any]) -> float:
    """Known noise floor: photons of the sky and the read-out, electron^2."""
    return float(settings["sky"]) + float(settings["read_noise"]) ** 2


def stream(seed: int, of: int, level: int, *number: int) -> np.random.Generator:
    """Random numbers of a field (level 0) or a sample (level 1, number and attempt) for physics or noise."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(CASE_ID, of, level, *number)))


def _stamp(seed: int, number: int, seeing: float, settings: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """One stamp with its truth, in units of the sky's noise."""
    least, most = settings["snr"]
    sigma = np.sqrt(variance(settings))
    for attempt in range(ATTEMPTS):
        physics = stream(seed, PHYSICS, SAMPLE, number, attempt)
        galaxy = galaxies.draw(physics, settings)
        central = galaxies.expose(galaxy, seeing, physics)
        snr = float(np.linalg.norm(central) / sigma)
        if least <= snr <= most:
            break
    else:
        raise ValueError(f"expected a galaxy with S/N in {[least, most]}, got none in {ATTEMPTS} (simulation.snr)")
    beside = int(physics.poisson(float(settings["neighbours"])))
    others = sum((galaxies.neighbour(galaxy, seeing, physics) for _ in range(beside)), np.zeros_like(central))
    covered = others > VISIBLE * sigma
    expected = central + others
    if settings["neighbour_pixels"] == "sky":
        expected = np.where(covered, 0, expected)
    seen = exposure(expected, settings, stream(seed, NOISE, SAMPLE, number, attempt))
    return {
        "image": (seen / sigma).astype(np.float32),
        "truth/noiseless": (expected / sigma).astype(np.float32),
        "truth/neighbour_mask": covered.astype(np.uint8),
        "truth/kind": np.array(galaxy.kind, np.uint8),
        "truth/params": np.array([*galaxy.numbers(), snr, beside], np.float32),
    }


def exposure(expected: np.ndarray, settings: Mapping[str, Any], noise: np.random.Generator) -> np.ndarray:
    """What the camera reads of an expected image, sky subtracted, electron: photons, then Gaussian read noise.

    The read noise makes the counts continuous: a density of integers would be unbounded.
    """
    sky = float(settings["sky"])
    photons = noise.poisson(expected + sky)
    return np.asarray(photons - sky + noise.normal(0, float(settings["read_noise"]), expected.shape))
