"""Optics and electronics of the simulated detector: light points in, charge and time of each tube out.

Nothing here knows what kind of event made the light (``events``) or how samples are put together (``simulate``).
The sizes follow a published detector in round numbers and are *unverified*; values without a source are our choice.

Shape legend: F flashes, K light points of a flash, P points, H 8 rings, W 24 columns (periodic).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

RINGS, COLUMNS = 8, 24
TUBE_RADIUS_M = 2.3
RING_SPACING_M = 0.5
MIRROR_Z_M = 2.1  # reflectors at both ends of the cylinder
TARGET_M = 1.55  # radius and half height of the volume where antineutrinos are looked for
SCINTILLATOR_M = 1.95  # radius and half height of all that gives light

PE_PER_MEV = 160.0  # for a flash in the centre (162 widely quoted, unverified)
REFLECTIVITY = 0.9
ATTENUATION_M = 10.0
NEAREST_M = 0.15  # no point is nearer to a tube than this, or 1/d^2 would run away
SCATTERED = 0.03  # isotropic light on top of the direct and mirrored light
CROSS_TALK = 0.01  # share of a tube's pe that shows up in its two neighbours on the ring

ONE_PE_SPREAD = 0.3
GAIN_SPREAD = 0.03
GAIN_DRIFT = 0.01  # amplitude of the slow wave of each tube's gain over runs
DRIFT_RUNS = (100.0, 400.0)  # shortest and longest period of that wave
MOST_DEAD = 3
SATURATION_PE = 1000.0  # largest charge the electronics of one tube can tell

WINDOW_NS = (-1650.0, -1250.0)  # of the original data; hits outside are not recorded
FLASH_NS = -1600.0  # when the light of a flash is emitted
NS_PER_M = 1.5 / 0.299792458  # refractive index over the speed of light
FAST_NS, SLOW_NS, FAST_SHARE = 3.0, 20.0, 0.8  # scintillation decay; the share is our choice
JITTER_NS = 1.5

DETECTOR_STREAM = 1
BLOCK = 128  # points evaluated together: (128, 40, 24) float32 stay in the cache of one core

PHI = 2 * np.pi * np.arange(COLUMNS) / COLUMNS
RING_Z_M = (np.arange(RINGS) - (RINGS - 1) / 2) * RING_SPACING_M
TUBES_M = np.stack(
    [
        np.broadcast_to(TUBE_RADIUS_M * np.cos(PHI), (RINGS, COLUMNS)),
        np.broadcast_to(TUBE_RADIUS_M * np.sin(PHI), (RINGS, COLUMNS)),
        np.broadcast_to(RING_Z_M[:, None], (RINGS, COLUMNS)),
    ],
    axis=-1,
)
"""(8, 24, 3) x, y, z of the tubes in m."""

# The source itself and its mirror images: z -> sign * z + shift * MIRROR_Z_M, seen through so many reflections.
_IMAGES = [(1, 0, 0), (-1, 2, 1), (-1, -2, 1), (1, 4, 2), (1, -4, 2)]


@dataclass(frozen=True)
class Tubes:
    """State of the tubes of one detector in one run."""

    gain: np.ndarray
    """(8, 24) measured pe for each true pe."""
    dead: np.ndarray
    """(8, 24) bool; these tubes never see anything."""


def stream(seed: int, case_id: int, kind: int, level: int, index: int) -> np.random.Generator:
    """Give random numbers that belong to one group (level 0) or one detector (level 1), whoever draws them."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(case_id, kind, level, index))))


def tubes(seed: int, case_id: int, detector: int, group: int) -> Tubes:
    """Draw gains and dead tubes of a detector: the same in all its runs, but for a slow drift.

    Parameters
    ----------
    seed, case_id : int
        Of the data set and the case.
    detector : int
        Detector number.
    group : int
        Run number; the drift is a smooth function of it.

    Returns
    -------
    Tubes
        Gain spread 3 %, 0 to 3 dead tubes.
    """
    rng = stream(seed, case_id, DETECTOR_STREAM, 1, detector)
    shape = (RINGS, COLUMNS)
    gain = 1 + GAIN_SPREAD * rng.standard_normal(shape)
    phase, period = rng.uniform(0, 2 * np.pi, shape), rng.uniform(*DRIFT_RUNS, shape)
    dead = np.zeros(RINGS * COLUMNS, bool)
    dead[rng.permutation(dead.size)[: rng.integers(MOST_DEAD + 1)]] = True
    return Tubes(gain * (1 + GAIN_DRIFT * np.sin(2 * np.pi * group / period + phase)), dead.reshape(shape))


def light(position: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """Compute the charge each tube expects from point-like deposits, before cross-talk.

    Parameters
    ----------
    position : float (F, K, 3)
        Where light is made, m; within the tubes' radius.
    energy : float (F, K)
        Deposited energy, MeV; 0 for points a flash does not have.

    Returns
    -------
    float64 (F, 8, 24)
        Expected pe. A flash of 1 MeV in the centre gives 160 in total.
    """
    lit = energy > 0
    seen = _seen(position[lit]) * energy[lit][:, None, None].astype(np.float32)
    owner = np.nonzero(lit)[0]
    mean = np.zeros((len(energy), RINGS, COLUMNS))
    if len(owner):
        first = np.flatnonzero(np.diff(owner, prepend=-1))
        mean[owner[first]] = np.add.reduceat(seen, first, axis=0)
    mean += SCATTERED * mean.mean(axis=(1, 2), keepdims=True)
    return mean * _pe_per_light()


def respond(
    mean: np.ndarray, centre: np.ndarray, state: Tubes, rng: np.random.Generator, dark: float
) -> tuple[np.ndarray, np.ndarray]:
    """Record the expected light as the electronics would.

    Scintillation is drawn as two Poisson processes, so that the earliest of n exponential delays is one
    exponential of mean tau / n: exact, and no loop over photons. The jitter acts on the earliest hit only.

    Parameters
    ----------
    mean : float (F, 8, 24)
        Expected pe of each tube.
    centre : float (F, 3)
        Where the light comes from on average, m; sets the travel times.
    state : Tubes
        Gains and dead tubes of this run.
    rng : Generator
        Detector noise; drawn only here.
    dark : float
        Mean dark counts of a tube, pe.

    Returns
    -------
    charge, time : float32 (F, 8, 24)
        pe, and ns of the earliest hit; both 0 where nothing was seen.
    """
    talk = 0.5 * CROSS_TALK * (np.roll(mean, 1, -1) + np.roll(mean, -1, -1))
    mean = np.where(state.dead, 0, (1 - CROSS_TALK) * mean + talk)  # moving Poisson counts about leaves Poisson counts
    fast, slow = rng.poisson(FAST_SHARE * mean), rng.poisson((1 - FAST_SHARE) * mean)
    noise = rng.poisson(np.where(state.dead, 0, dark), mean.shape)
    count = fast + slow + noise
    spread = ONE_PE_SPREAD * np.sqrt(count) * rng.standard_normal(mean.shape, np.float32)
    charge = np.clip((count + spread) * state.gain, 0, SATURATION_PE)

    wait = np.minimum(_earliest(fast, FAST_NS, rng), _earliest(slow, SLOW_NS, rng))
    travel = NS_PER_M * np.sqrt(((TUBES_M - centre[:, None, None, :]) ** 2).sum(-1))
    hit = FLASH_NS + travel + wait + JITTER_NS * rng.standard_normal(mean.shape, np.float32)
    at_random = WINDOW_NS[0] + (WINDOW_NS[1] - WINDOW_NS[0]) * rng.random(mean.shape, np.float32)
    time = np.minimum(hit, np.where(noise > 0, at_random, np.inf))
    recorded = (charge > 0) & (time >= WINDOW_NS[0]) & (time <= WINDOW_NS[1])
    time = np.where(recorded, time, 0)
    return charge.astype(np.float32), time.astype(np.float32)


def _earliest(count: np.ndarray, tau_ns: float, rng: np.random.Generator) -> np.ndarray:
    """Smallest of `count` exponential delays; infinite where there is none."""
    delay = tau_ns * rng.standard_exponential(count.shape, np.float32)
    return np.where(count > 0, delay / np.maximum(count, 1), np.inf)


def _seen(position: np.ndarray) -> np.ndarray:
    """Light of a unit deposit at P points on each tube, without normalisation: float32 (P, 8, 24)."""
    x, y, z = position.astype(np.float32).T
    along = x[:, None] * np.cos(PHI).astype(np.float32) + y[:, None] * np.sin(PHI).astype(np.float32)
    facing = np.maximum(TUBE_RADIUS_M - along, 0)  # distance times the cosine at the tube
    flat = np.maximum((x**2 + y**2)[:, None] + TUBE_RADIUS_M * (TUBE_RADIUS_M - 2 * along), 0)
    sign, shift, mirrors = (np.array(column, np.float32) for column in zip(*_IMAGES, strict=True))
    image_z = sign * z[:, None] + shift * np.float32(MIRROR_Z_M)
    high = (RING_Z_M.astype(np.float32)[:, None] - image_z[:, None, :]) ** 2  # (P, H, images)
    weight = (REFLECTIVITY**mirrors / (4 * np.pi)).astype(np.float32)
    seen = np.empty((len(x), RINGS, COLUMNS), np.float32)
    for start in range(0, len(x), BLOCK):
        part = slice(start, start + BLOCK)
        square = np.maximum(flat[part, None, None, :] + high[part, :, :, None], np.float32(NEAREST_M**2))
        distance = np.sqrt(square)
        term = np.exp(distance * np.float32(-1 / ATTENUATION_M)) / (square * distance)
        seen[part] = (term * weight[:, None]).sum(axis=2) * facing[part, None, :]
    return seen


@cache
def _pe_per_light() -> float:
    """Give the scale that makes 1 MeV in the centre 160 pe, scattered light included."""
    return PE_PER_MEV / (float(_seen(np.zeros((1, 3))).sum(dtype=np.float64)) * (1 + SCATTERED))
