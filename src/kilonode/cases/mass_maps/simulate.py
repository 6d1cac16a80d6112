"""All maps of one realisation, for each table: a box or a set of fields, cut into maps, with noise on top.

The realisation is the split group. Its number decides its cosmology (even: class 0 of a pair, odd: class 1), so the two
classes never share a seed. Everything depends on (seed, group, settings) and nothing else. Matter and shape noise have
streams of their own: the same maps exist at every noise level.

Shape legend: N maps, H rows, W columns, K peaks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kilonode.cases.contract import Arrays, Tables
from kilonode.cases.mass_maps import lognormal, particle_mesh, statistics
from kilonode.cases.mass_maps.lognormal import ARCMIN
from kilonode.cases.mass_maps.theory import PAIRS, SOURCE_Z, Cosmology
from kilonode.errors import UserError, near

CASE_ID = 3
MATTER, NOISE, BOX = 0, 1, 4
"""Streams; 2 (label errors) and 3 (augmentation) are kept for others."""
SHAPE_NOISE = 0.26
"""Intrinsic ellipticity of a galaxy, rms a component (our choice)."""
PIXELS = 128
PEAKS = 20
ENGINES = ("lognormal", "pm")
LENS_MASS = 1.6629e18
"""c^2 / (4 pi G), Msun/Mpc."""


def simulate(seed: int, group: int, settings: Mapping[str, Any]) -> Tables:
    """Make all maps of one realisation.

    Parameters
    ----------
    seed : int
        Seed of the data set.
    group : int
        Number of the realisation; its parity is the class.
    settings : Mapping
        ``engine`` (lognormal, pm); ``tables``: name -> ``pair`` of cosmologies and number of ``maps``; ``arcmin`` a
        pixel; ``galaxies`` per arcmin^2, null for no noise; ``smoothing`` after the noise, pixels; for the engine pm
        also what ``particle_mesh.box`` takes.

    Returns
    -------
    Tables
        The fields, shapes and dtypes of case.yaml.

    Raises
    ------
    UserError
        An engine or a pair that there is not.
    """
    asked = _tables(settings)
    pairs = {wanted["pair"] for _, wanted in asked} if settings["engine"] == "pm" else set()
    boxes = {pair: _box(seed, group, pair, settings) for pair in pairs}
    return {
        name: _table(seed, group, number, wanted, boxes.get(wanted["pair"], []), settings)
        for number, (name, wanted) in enumerate(asked)
    }


def noise_sigma(galaxies: float | None, arcmin: float) -> float:
    """Shape noise of one pixel: none for no galaxy density, ``SHAPE_NOISE`` / sqrt(galaxies in the pixel) else."""
    return SHAPE_NOISE / np.sqrt(galaxies * arcmin**2) if galaxies else 0.0


def observed(clean: np.ndarray, white: np.ndarray, sigma: float, smoothing: float) -> np.ndarray:
    """Noise on top of clean maps (N, H, W), then smoothing; float32."""
    noisy = (clean + sigma * white).astype(np.float32)
    return statistics.smoothed(noisy, smoothing)


def _tables(settings: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Name and wishes of each table, after a look at the settings."""
    asked: list[tuple[tuple[str, ...], str, str]] = [(ENGINES, str(settings["engine"]), "simulation.engine")]
    for name, spec in settings["tables"].items():
        asked.append((tuple(PAIRS), str(spec["pair"]), f"simulation.tables.{name}.pair"))
    for known, word, where in asked:
        if word not in known:
            raise UserError(f"expected one of {', '.join(known)}, got {word!r} ({where}); {near(word, known)}")
    return list(settings["tables"].items())


def _box(seed: int, group: int, pair: str, settings: Mapping[str, Any]) -> list[particle_mesh.Snapshot]:
    """The realisation's box of one pair of cosmologies; tables of that pair see it along light cones of their own."""
    rng = _stream(seed, BOX, group, list(PAIRS).index(pair))
    return particle_mesh.box(rng, Cosmology(*PAIRS[pair][group % 2]), settings)


def _table(
    seed: int,
    group: int,
    number: int,
    wanted: Mapping[str, Any],
    box: list[particle_mesh.Snapshot],
    settings: Mapping[str, Any],
) -> Arrays:
    count, arcmin = int(wanted["maps"]), float(settings["arcmin"])
    classes = (Cosmology(*PAIRS[wanted["pair"]][0]), Cosmology(*PAIRS[wanted["pair"]][1]))
    label = group % 2
    rng = _stream(seed, MATTER, group, number)
    if settings["engine"] == "lognormal":
        clean = lognormal.draw(rng, classes[label], count, PIXELS, arcmin)
        ratio = lognormal.log_ratio(clean, classes, arcmin)
    else:
        length = float(settings["box"])
        cones = [particle_mesh.light_cone(rng, classes[label], box, length, PIXELS, arcmin) for _ in range(count)]
        clean, ratio = np.stack(cones), np.zeros(count)
    galaxies = settings["galaxies"]
    white = _stream(seed, NOISE, group, number).standard_normal(clean.shape, dtype=np.float32)
    place, height = statistics.brightest(clean, PEAKS)
    mass = height * lens_mass(classes[label], arcmin)
    parameters = [classes[label].omega_m, classes[label].sigma8, galaxies or 0.0, arcmin]
    return {
        "kappa": observed(clean, white, noise_sigma(galaxies, arcmin), float(settings["smoothing"])),
        "cosmology": np.full(count, label, np.uint8),
        "group": np.full(count, group, np.int64),
        "patch": np.arange(count, dtype=np.int64),
        "sample_id": group * count + np.arange(count, dtype=np.int64),
        "truth/kappa_clean": clean.astype(np.float32),
        "truth/params": np.tile(np.array(parameters, np.float32), (count, 1)),
        "truth/halos": np.concatenate([place, height[..., None], mass[..., None]], axis=2).astype(np.float32),
        "truth/log_ratio": ratio.astype(np.float32),
    }


def lens_mass(cosmology: Cosmology, arcmin: float) -> float:
    """Mass in one pixel for kappa = 1, Msun/h, were all of it half way to the sources (critical surface density)."""
    far = float(cosmology.distance(SOURCE_Z))
    scale = float(cosmology.scale_factor(far / 2))
    return LENS_MASS * scale * far * (arcmin * ARCMIN) ** 2


def _stream(seed: int, stream: int, group: int, table: int) -> np.random.Generator:
    """Random numbers of one stream of one realisation of one table."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(CASE_ID, stream, 0, group, table)))
