"""What happens in the scintillator: where each kind of event leaves how much energy, and what is true of it.

Every function draws from the physics stream it is given and knows nothing of tubes, but for the flasher, which
is light made by a tube itself. Numbers without a source are our choice; the rest is described, and partly
marked *unverified*, in the literature of such detectors: shapes are right, the last digits are not claimed.

Shape legend: F flashes, K light points of a flash, H 8 rings, W 24 columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from kilonode.cases.reactor_neutrinos.detector import COLUMNS, RINGS, SCINTILLATOR_M, TARGET_M, TUBES_M

ELECTRON_MEV = 0.511
ANNIHILATION_M = 0.12  # mean way of an annihilation photon
POSITRON_SHAPE, POSITRON_SCALE_MEV, POSITRON_MOST_MEV = 4.2, 0.75, 8.0  # gamma law for flux times cross-section
CAPTURE_MEV, SPILL_MEV, SPILL_SHARE = 8.0, 4.5, 0.15  # photons of a capture; the least of them kept when some escape
PHOTON_M = 0.175  # mean way of a capture photon (0.15 to 0.20)
CAPTURE_US = 28.0
PAIR_WINDOW_US = 200.0  # chance pairs are uniform up to here
LITHIUM_MS, LITHIUM_MEV = 257.0, 11.5  # mean life (half-life 178 ms); effective end point
MUON_GAP_MS = 2000.0  # mean time between shower muons
RADIO_LEAST_MEV, RADIO_SCALE_MEV = 0.7, 0.6
LINES_MEV, LINE_SHARES = (1.46, 2.61), (0.15, 0.10)  # K-40 and Tl-208 on the U/Th continuum
SINGLE_LEAST_MEV, SINGLE_SCALE_MEV = 0.3, 0.4
WALL_M = 0.25  # mean depth of radioactivity below the scintillator's surface
MUON_MEV_PER_M, MUON_LEAST_M, MUON_POINTS = 200.0, 0.5, 32
FLASHER_PE = (150.0, 2500.0)


class Process(IntEnum):
    """Last column of ``truth/event``."""

    POSITRON = 0
    CAPTURE = 1
    RADIOACTIVE = 2
    NEUTRON_LIKE = 3
    ELECTRON = 4
    MUON = 5
    FLASHER = 6
    LOW_ENERGY = 7


@dataclass(frozen=True)
class Flashes:
    """Light points of F flashes."""

    position: np.ndarray
    """float64 (F, K, 3), m."""
    energy: np.ndarray
    """float64 (F, K), MeV; 0 for points a flash does not have."""
    truth: np.ndarray
    """float32 (F, 6): energy MeV, vertex x, y, z m, time us after the first flash (0 here), process."""

    @property
    def centre(self) -> np.ndarray:
        """Mean position of the light, float64 (F, 3), m."""
        return np.asarray((self.position * self.energy[..., None]).sum(1) / self.energy.sum(1)[:, None])


def in_target(rng: np.random.Generator, n: int) -> np.ndarray:
    """Points anywhere in the target, float64 (n, 3), m."""
    radius, phi = TARGET_M * np.sqrt(rng.random(n)), 2 * np.pi * rng.random(n)
    height = TARGET_M * rng.uniform(-1, 1, n)
    return np.stack([radius * np.cos(phi), radius * np.sin(phi), height], axis=-1)


def near_wall(rng: np.random.Generator, n: int) -> np.ndarray:
    """Points close to the surface of the scintillator, float64 (n, 3), m."""
    barrel = rng.random(n) < 2 / 3  # its share of the surface of a cylinder as high as wide
    depth = np.minimum(rng.exponential(WALL_M, n), SCINTILLATOR_M)
    u, side, phi = rng.random(n), rng.uniform(-1, 1, n), 2 * np.pi * rng.random(n)
    radius = np.where(barrel, SCINTILLATOR_M - depth, SCINTILLATOR_M * np.sqrt(u))
    height = np.where(barrel, SCINTILLATOR_M * side, np.sign(side) * (SCINTILLATOR_M - depth))
    return np.stack([radius * np.cos(phi), radius * np.sin(phi), height], axis=-1)


def captured(rng: np.random.Generator, vertex: np.ndarray, mean_m: float) -> np.ndarray:
    """Where the neutron born at `vertex` ends: a random walk, so a normal step on each axis.

    A neutron that would leave the scintillator is put on its surface.
    """
    step = rng.standard_normal(vertex.shape) * mean_m / np.sqrt(8 / np.pi)  # mean length of three normal steps
    return _inside(vertex + step)


def positron(rng: np.random.Generator, vertex: np.ndarray) -> Flashes:
    """Prompt flash of an antineutrino: kinetic energy at the vertex, two photons back to back."""
    n = len(vertex)

    def spectrum(kinetic: np.ndarray) -> np.ndarray:
        return np.asarray(kinetic ** (POSITRON_SHAPE - 1) * np.exp(-kinetic / POSITRON_SCALE_MEV))

    kinetic = _from_density(rng, n, POSITRON_MOST_MEV, spectrum)
    way = rng.exponential(ANNIHILATION_M, (n, 2, 1)) * np.array([1, -1])[:, None] * _directions(rng, (n, 1))
    energy = np.stack([kinetic, np.full(n, ELECTRON_MEV), np.full(n, ELECTRON_MEV)], axis=-1)
    position = np.concatenate([vertex[:, None], _inside(vertex[:, None] + way)], axis=1)
    return Flashes(position, energy, _truth(energy, vertex, Process.POSITRON))


def capture(rng: np.random.Generator, vertex: np.ndarray, process: Process = Process.CAPTURE) -> Flashes:
    """Delayed flash: 8 MeV in 3 to 5 photons; in 15 % some escape, with a tail down to 4.5 MeV."""
    n = len(vertex)
    total = np.where(rng.random(n) < SPILL_SHARE, rng.uniform(SPILL_MEV, CAPTURE_MEV, n), CAPTURE_MEV)
    share = rng.exponential(size=(n, 5)) * (np.arange(5) < rng.integers(3, 6, n)[:, None])
    energy = total[:, None] * share / share.sum(1, keepdims=True)
    way = rng.exponential(PHOTON_M, (n, 5, 1)) * _directions(rng, (n, 5))
    return Flashes(_inside(vertex[:, None] + way), energy, _truth(energy, vertex, process))


def electron(rng: np.random.Generator, vertex: np.ndarray) -> Flashes:
    """Prompt flash of lithium-9: one point, allowed beta spectrum without Coulomb correction."""

    def allowed(kinetic: np.ndarray) -> np.ndarray:
        total = kinetic + ELECTRON_MEV
        return np.asarray(np.sqrt(np.maximum(total**2 - ELECTRON_MEV**2, 0)) * total * (LITHIUM_MEV - kinetic) ** 2)

    return _point(vertex, _from_density(rng, len(vertex), LITHIUM_MEV, allowed), Process.ELECTRON)


def radioactive(rng: np.random.Generator, n: int) -> Flashes:
    """Singles that pass for a prompt flash: continuum and two lines, near the wall."""
    continuum = RADIO_LEAST_MEV + rng.exponential(RADIO_SCALE_MEV, n)
    u = rng.random(n)
    edges = np.cumsum(LINE_SHARES)
    energy = np.select([u < edges[0], u < edges[1]], LINES_MEV, continuum)
    return _point(near_wall(rng, n), energy, Process.RADIOACTIVE)


def low_energy(rng: np.random.Generator, n: int) -> Flashes:
    """All the other singles: weaker still, near the wall."""
    energy = SINGLE_LEAST_MEV + rng.exponential(SINGLE_SCALE_MEV, n)
    return _point(near_wall(rng, n), energy, Process.LOW_ENERGY)


def muon(rng: np.random.Generator, n: int) -> Flashes:
    """Tracks through the scintillator; even the shortest gives far more than 3000 pe."""
    begin, end = tracks(rng, n, SCINTILLATOR_M)
    length = np.linalg.norm(end - begin, axis=-1)
    along = (np.arange(MUON_POINTS) + 0.5) / MUON_POINTS
    position = begin[:, None] + along[:, None] * (end - begin)[:, None]
    deposit = MUON_MEV_PER_M * np.maximum(length, MUON_LEAST_M) / MUON_POINTS
    energy = np.repeat(deposit[:, None], MUON_POINTS, axis=1)
    return Flashes(position, energy, _truth(energy, position.mean(1), Process.MUON))


def tracks(rng: np.random.Generator, n: int, size_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Straight downward ways through a cylinder as high as wide, zenith angle as cos squared.

    Returns
    -------
    begin, end : float64 (n, 3)
        Where a track enters and leaves, m.
    """
    through = in_target(rng, n) * size_m / TARGET_M
    cosine, phi = rng.random(n) ** (1 / 3), 2 * np.pi * rng.random(n)
    sine = np.sqrt(1 - cosine**2)
    way = np.stack([sine * np.cos(phi), sine * np.sin(phi), -cosine], axis=-1)
    square = np.maximum(sine**2, 1e-12)
    middle = -(through[:, :2] * way[:, :2]).sum(-1) / square
    reach = np.sqrt(np.maximum(middle**2 + (size_m**2 - (through[:, :2] ** 2).sum(-1)) / square, 0))
    top, bottom = (size_m - through[:, 2]) / -cosine, (size_m + through[:, 2]) / cosine
    begin, end = np.maximum(middle - reach, top), np.minimum(middle + reach, bottom)
    return through + begin[:, None] * way, through + end[:, None] * way


def on_track(rng: np.random.Generator, n: int) -> np.ndarray:
    """Points along muon tracks through the target, float64 (n, 3), m."""
    begin, end = tracks(rng, n, TARGET_M)
    return np.asarray(begin + rng.random((n, 1)) * (end - begin))


def flasher(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Light a tube makes itself: the tube, a spot on the opposite wall and a halo.

    Returns
    -------
    mean : float64 (n, 8, 24)
        Expected charge, pe.
    truth : float32 (n, 6)
        Energy is 0: nothing was deposited. The vertex is the tube.
    """
    tube = rng.integers(RINGS * COLUMNS, size=n)
    total = FLASHER_PE[0] * (FLASHER_PE[1] / FLASHER_PE[0]) ** rng.random(n)
    hot, spot = rng.uniform(0.25, 0.6, n), rng.uniform(0.3, 0.7, n)
    source = TUBES_M.reshape(-1, 3)[tube]
    target = source * [-1, -1, 1] + rng.normal(0, 0.5, (n, 3))
    near = np.exp(-((TUBES_M - target[:, None, None]) ** 2).sum(-1) / (2 * 0.6**2)) + 1e-9
    rest = (1 - hot)[:, None, None]
    share = spot[:, None, None]
    mean = rest * (share * near / near.sum((1, 2), keepdims=True) + (1 - share) / (RINGS * COLUMNS))
    mean.reshape(n, RINGS * COLUMNS)[np.arange(n), tube] += hot
    return mean * total[:, None, None], _truth(np.zeros((n, 1)), source, Process.FLASHER)


def _point(vertex: np.ndarray, energy: np.ndarray, process: Process) -> Flashes:
    """Flashes that leave all their energy in one point."""
    return Flashes(vertex[:, None], energy[:, None], _truth(energy[:, None], vertex, process))


def _truth(energy: np.ndarray, vertex: np.ndarray, process: Process) -> np.ndarray:
    columns = [energy.sum(1)[:, None], vertex, np.zeros((len(vertex), 1)), np.full((len(vertex), 1), int(process))]
    return np.concatenate(columns, axis=1).astype(np.float32)


def _directions(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Isotropic unit vectors, (*shape, 3)."""
    vector = rng.standard_normal((*shape, 3))
    return np.asarray(vector / np.linalg.norm(vector, axis=-1, keepdims=True))


def _inside(position: np.ndarray) -> np.ndarray:
    """Points outside the scintillator are moved onto its surface."""
    radius = np.linalg.norm(position[..., :2], axis=-1, keepdims=True)
    flat = position[..., :2] * np.minimum(1, SCINTILLATOR_M / np.maximum(radius, 1e-12))
    return np.concatenate([flat, np.clip(position[..., 2:], -SCINTILLATOR_M, SCINTILLATOR_M)], axis=-1)


def _from_density(
    rng: np.random.Generator, n: int, most: float, density: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Values in [0, most] by the inverse of the summed density on a fine grid."""
    grid = np.linspace(0, most, 2001)
    middle = density(0.5 * (grid[1:] + grid[:-1]))
    summed = np.concatenate([[0], np.cumsum(middle)])
    return np.asarray(np.interp(rng.random(n) * summed[-1], summed, grid))
