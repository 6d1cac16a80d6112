"""Galaxies as a sky has them: their properties, drawn together, and their light through atmosphere and pixels.

Fluxes and sizes depend on magnitude, shapes and bulges on the type. What neither a Gaussian profile nor a network
knows is the structure: star-forming knots along spiral arms, on rings, or off the centre of irregular galaxies.

Shape legend: K knots, T rows and columns of the oversampled structure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import IntEnum
from functools import cache
from typing import Any

import numpy as np

from kilonode.errors import UserError

PIXEL = 0.396
"""Arcsec."""
SIDE = 69
MOFFAT_BETA = 3.5
MEDIAN_SIZE = 2.0
"""Half-light radius at the brightest magnitude, arcsec."""
BRIGHTEST, RANGE = 19.0, 3.0
"""Magnitudes."""
OVERSAMPLED, EXTENT = 48, 3.0
"""Rows and columns of the structure's own image, and its half-width in half-light radii."""
TRUNCATED = 5.0
"""Where bulges end, in their own half-light radii."""


class Kind(IntEnum):
    """Morphological type."""

    EARLY = 0
    SPIRAL = 1
    RING = 2
    IRREGULAR = 3


SHARES = (0.25, 0.45, 0.10, 0.20)
"""Of each kind."""
SIZE_OF = (0.8, 1.15, 1.2, 0.9)
"""Factor on the half-light radius by kind: discs are larger than ellipticals of one magnitude."""


@dataclass(frozen=True)
class Galaxy:
    """The numbers that make one galaxy; the order is that of ``truth/params``, without what the stamp adds."""

    flux: float
    """electron"""
    mag: float
    half_light_radius: float
    """Of the disc before shear and seeing, arcsec."""
    q: float
    """Axis ratio of the disc."""
    angle: float
    """rad, from the x axis."""
    bulge_fraction: float
    sersic_index: float
    """Of the bulge, in steps of 0.1."""
    g1: float
    g2: float
    dx: float
    """Centroid shift, pixels."""
    dy: float
    structure_fraction: float
    """Share of the disc's light that is in knots."""
    arm_count: int
    pitch: float
    """Of spiral arms, deg."""
    ring_radius: float
    """In half-light radii."""
    kind: Kind

    def numbers(self) -> list[float]:
        """All but the kind, in order."""
        return [float(getattr(self, field.name)) for field in fields(self) if field.name != "kind"]


PARAMS = (*(field.name for field in fields(Galaxy) if field.name != "kind"), "snr", "n_neighbours")
"""Names of the columns of ``truth/params``."""


@cache
def galsim() -> Any:
    """GalSim, or one line that says how to get it."""
    try:
        import galsim as package  # type: ignore[import-untyped]
    except ImportError:
        raise UserError("expected GalSim to draw galaxies, got no such package; `pip install galsim`") from None
    return package


def draw(rng: np.random.Generator, settings: Mapping[str, Any]) -> Galaxy:
    """The properties of one galaxy.

    Parameters
    ----------
    rng : Generator
        Physics stream of the sample.
    settings : Mapping
        ``zero_point`` (magnitude of one electron), ``shear`` (standard deviation of each component) and
        ``structure`` (factor on the share of light in knots; 0: smooth galaxies).
    """
    mag = BRIGHTEST + RANGE * rng.beta(3, 1.2)
    kind = Kind(rng.choice(len(SHARES), p=SHARES))
    size = MEDIAN_SIZE * np.exp(-0.15 * (mag - BRIGHTEST) + 0.35 * rng.standard_normal()) * SIZE_OF[kind]
    q = 0.2 + 0.8 * rng.beta(4, 2)
    bulge = rng.beta(0.8, 2)
    if kind is Kind.EARLY:
        q, bulge = 0.5 + 0.5 * q, 1 - 0.5 * bulge
    elif kind is Kind.IRREGULAR:
        bulge *= 0.2
    # Bright galaxies with large bulges have steep ones.
    index = 1.5 + 2.5 * bulge + 0.25 * (BRIGHTEST + RANGE - mag) + 0.3 * rng.standard_normal()
    share = 0.0 if kind is Kind.EARLY else float(settings["structure"]) * rng.uniform(0.05, 0.35)
    g1, g2 = rng.normal(0, float(settings["shear"]), 2)
    dx, dy = rng.uniform(-0.4, 0.4, 2)
    angle, arms, pitch, ring = rng.uniform(0, np.pi), rng.integers(2, 5), rng.uniform(10, 30), rng.uniform(0.6, 1.2)
    return Galaxy(
        10 ** (-0.4 * (mag - float(settings["zero_point"]))), mag, size, q, angle, bulge,
        round(float(np.clip(index, 1.0, 5.0)), 1), g1, g2, dx, dy, share,
        int(arms) if kind is Kind.SPIRAL else 0, pitch if kind is Kind.SPIRAL else 0.0,
        ring if kind is Kind.RING else 0.0, kind,
    )  # fmt: skip


def expose(galaxy: Galaxy, psf_fwhm: float, rng: np.random.Generator) -> np.ndarray:
    """The expected image of a galaxy behind shear, seeing and pixels, float64 (69, 69), electron.

    Parameters
    ----------
    galaxy : Galaxy
        What is seen.
    psf_fwhm : float
        Seeing, arcsec.
    rng : Generator
        Places the knots.
    """
    light = _light(galaxy, rng).shear(g1=galaxy.g1, g2=galaxy.g2)
    return stamp(light, psf_fwhm, (galaxy.dx, galaxy.dy))


def neighbour(galaxy: Galaxy, psf_fwhm: float, rng: np.random.Generator) -> np.ndarray:
    """The expected image of a smooth galaxy beside this one: 1 to 3 magnitudes fainter, 6 to 16 arcsec away."""
    distance, angle = rng.uniform(6, 16) / PIXEL, rng.uniform(0, 2 * np.pi)
    flux = galaxy.flux * 10 ** (-0.4 * rng.uniform(1, 3))
    size = MEDIAN_SIZE * np.exp(-0.3 + 0.35 * rng.standard_normal())
    disc = galsim().Exponential(half_light_radius=size, flux=flux)
    disc = disc.shear(q=0.2 + 0.8 * rng.beta(4, 2), beta=rng.uniform(0, np.pi) * galsim().radians)
    return stamp(disc, psf_fwhm, (distance * np.cos(angle), distance * np.sin(angle)))


def stamp(light: Any, psf_fwhm: float, offset: tuple[float, float]) -> np.ndarray:
    """A GalSim profile seen through the atmosphere on the pixels of a stamp; ``offset`` in pixels from its centre."""
    seen = galsim().Convolve(light, galsim().Moffat(beta=MOFFAT_BETA, fwhm=psf_fwhm))
    image: np.ndarray = seen.drawImage(nx=SIDE, ny=SIDE, scale=PIXEL, offset=offset, dtype=float).array
    return np.maximum(image, 0)  # the transform leaves ripples of 1e-6 of the peak


def _light(galaxy: Galaxy, rng: np.random.Generator) -> Any:
    """Bulge, disc and structure, in the plane of the sky."""
    package, size = galsim(), galaxy.half_light_radius
    turned = {"beta": galaxy.angle * package.radians}
    disc_flux = galaxy.flux * (1 - galaxy.bulge_fraction)
    knots = disc_flux * galaxy.structure_fraction
    disc = package.Exponential(half_light_radius=size, flux=disc_flux - knots)
    if knots > 0:
        disc = disc + _structure(galaxy, knots, rng)
    radius = 0.4 * size
    bulge = package.Sersic(
        galaxy.sersic_index,
        half_light_radius=radius,
        flux=galaxy.flux * galaxy.bulge_fraction,
        trunc=TRUNCATED * radius,
    )
    return disc.shear(q=galaxy.q, **turned) + bulge.shear(q=1 - 0.3 * (1 - galaxy.q), **turned)


def _structure(galaxy: Galaxy, flux: float, rng: np.random.Generator) -> Any:
    """Knots as an oversampled image of the disc's plane."""
    x, y = _places(galaxy, int(rng.integers(8, 41)), rng)
    grid = np.linspace(-EXTENT, EXTENT, OVERSAMPLED)
    weight, width = rng.gamma(2.0, size=len(x)), rng.uniform(0.08, 0.2, len(x))
    across = np.exp(-0.5 * ((grid - x[:, None]) / width[:, None]) ** 2)
    along = np.exp(-0.5 * ((grid - y[:, None]) / width[:, None]) ** 2)
    image_TT = (along * (weight / width**2)[:, None]).T @ across
    scale = 2 * EXTENT / (OVERSAMPLED - 1) * galaxy.half_light_radius
    return galsim().InterpolatedImage(
        galsim().Image(image_TT, scale=scale), x_interpolant="linear", flux=flux,
        calculate_stepk=False, calculate_maxk=False,
    )  # fmt: skip


def _places(galaxy: Galaxy, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Where the knots are, in half-light radii: on logarithmic arms, on the ring, or off the centre."""
    if galaxy.kind is Kind.IRREGULAR:
        centre = rng.normal(0, 0.4, 2)
        x, y = centre[:, None] + 0.6 * rng.standard_normal((2, count))
    else:
        if galaxy.kind is Kind.SPIRAL:
            radius = rng.uniform(0.4, 2.2, count)
            turn = np.log(radius / 0.4) / np.tan(np.radians(galaxy.pitch))
            angle = turn + 2 * np.pi * rng.integers(0, galaxy.arm_count, count) / galaxy.arm_count
        else:
            radius, angle = np.full(count, galaxy.ring_radius), rng.uniform(0, 2 * np.pi, count)
        radius = radius + 0.06 * rng.standard_normal(count)
        x, y = radius * np.cos(angle), radius * np.sin(angle)
    return np.clip(x, -2.5, 2.5), np.clip(y, -2.5, 2.5)
