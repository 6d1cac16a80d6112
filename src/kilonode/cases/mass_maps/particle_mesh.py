"""The engine for claims: gravity on a particle mesh, seen along a light cone.

Particles start from second-order displacements of a Gaussian field and fall in steps of the growth factor D. In linear
theory the velocity dx/dD is constant, and each kick keeps that exactly, so ten steps give the growth of large scales
without error. Of every snapshot only three projections are kept; a light cone stacks them, turned and shifted.

Source: Feng et al. 2016, arXiv:1603.00476; in terms of D: List, Hahn 2024, arXiv:2301.09655.

Shape legend: P particles a side, M cells a side of the force mesh, G of a projected plane, W pixels a side of a map.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from scipy import fft

from kilonode.cases.mass_maps.lognormal import ARCMIN
from kilonode.cases.mass_maps.theory import SOURCE_Z, Cosmology, linear_power

START = 0.1
"""Scale factor of the first positions."""


@dataclass(frozen=True)
class Snapshot:
    """One box at one time: ``planes`` (3, G, G) is the overdensity integrated along each axis, Mpc/h."""

    a: float
    planes: np.ndarray

    @cached_property
    def sums(self) -> np.ndarray:
        """Running sums of the planes along their rows, float64 (3, G + 1, G): light cones take differences of them."""
        return np.stack([_sums(plane) for plane in self.planes])


def box(rng: np.random.Generator, cosmology: Cosmology, settings: Mapping[str, Any]) -> list[Snapshot]:
    """Evolve one box.

    Parameters
    ----------
    rng : Generator
        Its first P^3 normal numbers are the initial field.
    cosmology : Cosmology
        Of the power spectrum, growth and light cone.
    settings : Mapping
        ``box`` Mpc/h; ``particles`` P a side; ``plane`` G; ``steps`` from a = 0.1 to today.

    Returns
    -------
    list of Snapshot
        Those that a light cone to the sources needs, earliest first.
    """
    length, particles = float(settings["box"]), int(settings["particles"])
    first = displacements(rng, cosmology, length, particles)
    second = second_order(first, length, particles)
    times = np.linspace(START, 1, int(settings["steps"]) + 1)
    growth, momentum = cosmology.growth(times), cosmology.momentum(times)
    begin = np.float32(growth[0])
    where = lattice(length, particles) + begin * first + begin**2 * second
    speed: np.ndarray = first + 2 * begin * second
    earliest = cosmology.scale_factor(cosmology.distance(SOURCE_Z)) - (times[1] - times[0])
    found = []
    for step in range(len(times) - 1):
        half = np.float32((growth[step + 1] - growth[step]) / 2)
        where += half * speed
        kept = np.float32(momentum[step] / momentum[step + 1])
        middle = np.float32((growth[step + 1] + growth[step]) / 2)
        speed = kept * speed + (1 - kept) / middle * pull(where, length, particles)
        where += half * speed
        if times[step + 1] > earliest:
            found.append(Snapshot(float(times[step + 1]), projections(where, length, int(settings["plane"]))))
    return found


def displacements(rng: np.random.Generator, cosmology: Cosmology, length: float, particles: int) -> np.ndarray:
    """Zel'dovich displacements for D = 1, float32 (3, P^3) Mpc/h, of a Gaussian field with the linear spectrum."""
    white = fft.rfftn(rng.standard_normal((particles,) * 3, dtype=np.float32), overwrite_x=True)
    waves = _waves(length, particles)
    square = np.asarray(sum(wave**2 for wave in waves))
    square[0, 0, 0] = 1
    k, power = linear_power(cosmology)
    amplitude = np.exp(0.5 * np.interp(0.5 * np.log(square), np.log(k), np.log(power)))
    amplitude[0, 0, 0] = 0
    modes = white * (amplitude * (particles / length) ** 1.5 / square).astype(np.float32)
    shape = (particles,) * 3
    return np.stack([fft.irfftn(1j * wave.astype(np.float32) * modes, s=shape).ravel() for wave in waves])


def second_order(first: np.ndarray, length: float, particles: int) -> np.ndarray:
    """What second-order perturbation theory adds to displacements (3, P^3) for D = 1; it grows as D^2.

    Without it the first steps lack the tides' share, and today's power at k = 0.5 is several per cent too small.

    Source
    ------
    Crocce, Pueblas, Scoccimarro 2006, arXiv:astro-ph/0606505, with D_2 = -3/7 D^2.
    """
    shape = (particles,) * 3
    waves = [1j * wave.astype(np.float32) for wave in _waves(length, particles)]
    modes = [fft.rfftn(axis.reshape(shape)) for axis in first]

    def slope(of: int, along: int) -> np.ndarray:
        return np.asarray(fft.irfftn(waves[along] * modes[of], s=shape))

    stretch = [slope(axis, axis) for axis in range(3)]
    tide = sum(
        (stretch[i] * stretch[j] - slope(i, j) ** 2 for i, j in itertools.combinations(range(3), 2)), np.zeros(shape)
    )
    square = -np.asarray(sum(wave**2 for wave in waves)).real
    square[0, 0, 0] = 1
    source = fft.rfftn(tide.astype(np.float32)) * np.float32(3 / 7) / square
    return np.stack([fft.irfftn(wave * source, s=shape).ravel() for wave in waves])


def lattice(length: float, particles: int) -> np.ndarray:
    """Undisturbed positions, float32 (3, P^3) Mpc/h."""
    side = (np.arange(particles, dtype=np.float32) + 0.5) * np.float32(length / particles)
    return np.stack([axis.ravel() for axis in np.meshgrid(side, side, side, indexing="ij")])


def pull(where: np.ndarray, length: float, mesh: int) -> np.ndarray:
    """Minus the gradient of the inverse Laplacian of the overdensity, at the particles: float32 (3, P^3) Mpc/h.

    As many cells as particles: a finer mesh sees the undisturbed lattice as structure, and its force on a long wave
    comes out many times too strong.
    """
    corners = list(_clouds(where, length, mesh))
    density = np.zeros(mesh**3)
    for cell, share in corners:
        density += np.bincount(cell, share, mesh**3)
    contrast = (density * (mesh**3 / where.shape[1]) - 1).astype(np.float32).reshape((mesh,) * 3)
    modes = fft.rfftn(contrast, overwrite_x=True)
    waves = [wave.astype(np.float32) for wave in _waves(length, mesh)]
    square = np.asarray(sum(wave**2 for wave in waves))
    square[0, 0, 0] = 1
    modes *= _unsmoothed(mesh) / square
    found = np.zeros_like(where)
    for axis, wave in enumerate(waves):
        force = fft.irfftn(1j * wave * modes, s=contrast.shape, overwrite_x=True).ravel()
        for cell, share in corners:
            found[axis] += force[cell] * share
    return found


def projections(where: np.ndarray, length: float, cells: int) -> np.ndarray:
    """Overdensity integrated along each axis, float32 (3, G, G) Mpc/h."""
    planes = np.empty((3, cells, cells), np.float32)
    for axis in range(3):
        density = np.zeros(cells**2)
        for cell, share in _clouds(np.delete(where, axis, axis=0), length, cells):
            density += np.bincount(cell, share, cells**2)
        planes[axis] = length * (density.reshape(cells, cells) * (cells**2 / where.shape[1]) - 1)
    return planes


def _clouds(where: np.ndarray, length: float, cells: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Cloud in cell, in any number of dimensions: for each corner the flat cell and the share of every particle."""
    scaled = where * np.float32(cells / length)
    low = np.floor(scaled)
    part, index = scaled - low, low.astype(np.int64)
    sides = [(index % cells, 1 - part), ((index + 1) % cells, part)]
    for corner in itertools.product((0, 1), repeat=len(where)):
        cell, share = (first.copy() for first in (sides[corner[0]][0][0], sides[corner[0]][1][0]))
        for axis, up in enumerate(corner[1:], start=1):
            cell *= cells
            cell += sides[up][0][axis]
            share *= sides[up][1][axis]
        yield cell, share


@cache
def _unsmoothed(cells: int) -> np.ndarray:
    """What undoes two clouds in cell, one of the density and one of the force: float32 (M, M, M // 2 + 1)."""
    whole, half = np.sinc(np.fft.fftfreq(cells)) ** 4, np.sinc(np.fft.rfftfreq(cells)) ** 4
    return np.asarray((1 / (whole[:, None, None] * whole[None, :, None] * half)).astype(np.float32))


def _waves(length: float, cells: int) -> list[np.ndarray]:
    """Wavenumbers of the modes of a real transform along each axis, h/Mpc, ready to broadcast."""
    whole = 2 * np.pi * np.fft.fftfreq(cells, length / cells)
    half = 2 * np.pi * np.fft.rfftfreq(cells, length / cells)
    return [whole[:, None, None], whole[None, :, None], half[None, None, :]]


def light_cone(
    rng: np.random.Generator,
    cosmology: Cosmology,
    snapshots: list[Snapshot],
    length: float,
    pixels: int,
    arcmin: float,
) -> np.ndarray:
    """Stack the box along one line of sight: convergence in the Born approximation, float64 (W, W).

    One plane a box length, of the snapshot nearest in time, grown by linear theory to the plane's time, seen along a
    random axis, shifted, turned and mirrored. A pixel is the mean over its area, to the last part of a cell.
    """
    kappa = np.zeros((pixels, pixels))
    times = np.array([snapshot.a for snapshot in snapshots])
    for plane in range(int(cosmology.distance(SOURCE_Z) / length)):
        chi = (plane + 0.5) * length
        a = float(cosmology.scale_factor(chi))
        nearest = snapshots[int(np.abs(times - a).argmin())]
        sums = nearest.sums[rng.integers(3)]
        cells = sums.shape[1]
        width = arcmin * ARCMIN * chi * cells / length  # of a pixel, in cells
        rows, columns = rng.random((2, 1)) * cells + width * np.arange(pixels + 1)
        seen = _means(_sums(_means(sums, rows).T), columns).T
        flip, turn = rng.integers(2, size=2), rng.integers(2)
        seen = seen[:: 1 - 2 * flip[0], :: 1 - 2 * flip[1]]
        grown = cosmology.growth(a) / cosmology.growth(nearest.a)
        kappa += float(cosmology.lensing_weight(chi) * grown) * (seen.T if turn else seen)
    return kappa


def _sums(image: np.ndarray) -> np.ndarray:
    """Sum of all cells before each edge along the first axis: (G, ...) -> float64 (G + 1, ...)."""
    found = np.zeros((len(image) + 1, *image.shape[1:]))
    np.cumsum(image, axis=0, out=found[1:])
    return found


def _means(sums: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Mean of a periodic image between neighbouring edges, in cells, along its first axis.

    From running sums the cost does not depend on how many cells a pixel covers.

    Parameters
    ----------
    sums : float64 (G + 1, ...)
        ``_sums`` of the image.
    edges : float (W + 1,)
        Rising; may pass the end of the image any number of times.

    Returns
    -------
    float64 (W, ...)
    """
    low = np.floor(edges).astype(np.int64)
    part, (turns, inside) = (edges - low)[:, None], np.divmod(low, len(sums) - 1)
    before = (1 - part) * sums[inside] + part * sums[inside + 1] + turns[:, None] * sums[-1]
    return np.asarray(np.diff(before, axis=0) / np.diff(edges)[:, None])
