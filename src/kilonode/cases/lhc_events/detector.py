"""A parametric detector: magnetic field, calorimeter towers with resolution and thresholds, tracks, images.

Every particle of all events at once; random numbers come from the generator that is handed in.

Shape legend: N events, P particles, T towers of all events, n bins an axis of an image.

Source
------
The ATLAS-like card of Delphes 3 (de Favereau et al. 2014, arXiv:1307.6346; cards/delphes_card_ATLAS.tcl): geometry,
energy shares, resolutions, thresholds, tracking efficiency. Ours: a tower's position is drawn uniformly in its cell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kilonode.cases.lhc_events.generator import Particles

ETA = 2.5
FIELD_T, RADIUS_M, HALF_LENGTH_M = 2.0, 1.15, 3.51
ECAL_CELLS, HCAL_CELLS = (288, 360), (50, 36)  # eta x phi: 0.0174 x 1 degree and 0.1 x 10 degrees
ECAL_MIN_GEV, HCAL_MIN_GEV, SIGNIFICANCE = 0.5, 1.0, 2.0
BARREL_HCAL, BARREL_TRACKS = 1.7, 1.5
TRACK_MIN_GEV = 0.1
# PDG codes of particles that reach the detector: charge of the particle (its antiparticle has the opposite).
CHARGE = {11: -1, 13: -1, 211: 1, 321: 1, 2212: 1, 3112: -1, 3222: 1, 3312: -1, 3334: -1, 411: 1, 431: 1, 521: 1}
INVISIBLE = (12, 14, 16, 1000022)
MUON = 13
ELECTROMAGNETIC = (11, 22, 111)
MIXED, MIXED_SHARE = (310, 3122), 0.3  # K0S and Lambda decay on their way: part of the energy is photons


@dataclass(frozen=True)
class Towers:
    """Energy deposits; all (T,): ``event`` rising, ``eta``, ``phi`` in [-pi, pi), ``et`` in GeV, ``em`` or hadronic."""

    event: np.ndarray
    eta: np.ndarray
    phi: np.ndarray
    et: np.ndarray
    em: np.ndarray


@dataclass(frozen=True)
class Tracks:
    """Charged particles that were found; all (K,): ``event``, ``eta`` and ``phi`` of the momentum."""

    event: np.ndarray
    eta: np.ndarray
    phi: np.ndarray


def calorimeter(particles: Particles, rng: np.random.Generator) -> Towers:
    """Bend, collect, smear, cut.

    Parameters
    ----------
    particles : Particles
        Final particles of N events.
    rng : Generator
        Of the detector's noise.

    Returns
    -------
    Towers
        Within |eta| < 2.5, above threshold.
    """
    code = np.abs(particles.code)
    seen = ~np.isin(code, (*INVISIBLE, MUON))
    px, py, pz, energy = particles.momentum[seen].T
    event, code, charge = particles.event[seen], code[seen], _charge(particles.code[seen])
    pt, eta, phi = polar(px, py, pz)
    phi, reaches = bent(pt, eta, phi, charge)
    inside = reaches & (np.abs(eta) < ETA)
    event, eta, phi, energy, code = (array[inside] for array in (event, eta, phi, energy, code))
    share = np.select([np.isin(code, ELECTROMAGNETIC), np.isin(code, MIXED)], [1.0, MIXED_SHARE], 0.0)
    em = _layer(event, eta, phi, energy * share, ECAL_CELLS, rng, em=True)
    had = _layer(event, eta, phi, energy * (1 - share), HCAL_CELLS, rng, em=False)
    joined = [np.concatenate([getattr(em, name), getattr(had, name)]) for name in Towers.__dataclass_fields__]
    order = np.argsort(joined[0], kind="stable")
    return Towers(*(array[order] for array in joined))


def tracks(particles: Particles, rng: np.random.Generator) -> Tracks:
    """Find charged particles, with the efficiency of their momentum and direction."""
    charged = _charge(particles.code) != 0
    px, py, pz, _ = particles.momentum[charged].T
    pt, eta, phi = polar(px, py, pz)
    barrel, hard = np.abs(eta) < BARREL_TRACKS, pt > 1.0
    efficiency = np.select([barrel & hard, barrel, hard], [0.95, 0.70, 0.85], 0.60)
    efficiency *= (pt > TRACK_MIN_GEV) & (np.abs(eta) < ETA)
    found = rng.random(len(pt)) < efficiency
    return Tracks(particles.event[charged][found], eta[found], phi[found])


def images(towers: Towers, found: Tracks, events: np.ndarray, bins: int) -> np.ndarray:
    """Draw chosen events as images.

    Parameters
    ----------
    towers, found
        Of all events.
    events : int64 (N,)
        Which to draw, rising.
    bins : int
        n, bins along eta in [-2.5, 2.5] and along phi in [-pi, pi).

    Returns
    -------
    float32 (N, 3, n, n)
        Transverse energy of all towers, of electromagnetic ones (GeV), and number of tracks; an event in which
        nothing was seen is all zeros.
    """
    em = towers.em
    layers = [
        histogram(towers.event, towers.eta, towers.phi, towers.et, events, bins),
        histogram(towers.event[em], towers.eta[em], towers.phi[em], towers.et[em], events, bins),
        histogram(found.event, found.eta, found.phi, np.ones(len(found.eta)), events, bins),
    ]
    return np.stack(layers, axis=1)


def histogram(
    event: np.ndarray, eta: np.ndarray, phi: np.ndarray, weight: np.ndarray, events: np.ndarray, bins: int
) -> np.ndarray:
    """Sum weights in bins of (eta, phi): float32 (N, n, n); phi goes around, what lies beyond |eta| 2.5 is left out."""
    row = np.searchsorted(events, event)
    wanted = (row < len(events)) & (np.abs(eta) < ETA)
    wanted[wanted] = events[row[wanted]] == event[wanted]
    i = np.minimum(((eta[wanted] + ETA) / (2 * ETA) * bins).astype(np.int64), bins - 1)
    j = ((phi[wanted] + np.pi) / (2 * np.pi) * bins).astype(np.int64) % bins
    flat = (row[wanted] * bins + i) * bins + j
    summed = np.bincount(flat, weight[wanted], len(events) * bins * bins)
    return summed.reshape(len(events), bins, bins).astype(np.float32)


def polar(px: np.ndarray, py: np.ndarray, pz: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Transverse momentum, pseudorapidity (at most 20) and azimuth in [-pi, pi)."""
    pt = np.hypot(px, py)
    return pt, np.clip(np.arcsinh(pz / np.maximum(pt, 1e-9)), -20, 20), wrapped(np.arctan2(py, px))


def wrapped(phi: np.ndarray) -> np.ndarray:
    """The angle in [-pi, pi)."""
    return (phi + np.pi) % (2 * np.pi) - np.pi


def bent(pt: np.ndarray, eta: np.ndarray, phi: np.ndarray, charge: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Azimuth at the calorimeter, and whether a particle gets there: slow charged ones curl up in the field.

    Forward particles leave through the end, at a smaller radius.
    """
    radius = np.minimum(RADIUS_M, HALF_LENGTH_M / np.maximum(np.abs(np.sinh(eta)), 1e-9))
    sine = 0.3 * FIELD_T * radius * charge / (2 * np.maximum(pt, 1e-9))
    reaches = np.abs(sine) < 1
    return wrapped(phi - np.arcsin(np.clip(sine, -1, 1))), reaches


def resolution(energy: np.ndarray, eta: np.ndarray, em: bool) -> np.ndarray:
    """Standard deviation of a tower's energy, GeV."""
    if em:
        return np.sqrt((0.0017 * energy) ** 2 + 0.101**2 * energy)
    inner = (0.0302 * energy) ** 2 + 0.5205**2 * energy + 1.59**2
    outer = (0.05 * energy) ** 2 + 0.706**2 * energy
    return np.sqrt(np.where(np.abs(eta) < BARREL_HCAL, inner, outer))


def _layer(
    event: np.ndarray,
    eta: np.ndarray,
    phi: np.ndarray,
    energy: np.ndarray,
    cells: tuple[int, int],
    rng: np.random.Generator,
    em: bool,
) -> Towers:
    """Sum the energy of each cell, smear it and keep what stands out."""
    rows, columns = cells
    i = np.minimum(((eta + ETA) / (2 * ETA) * rows).astype(np.int64), rows - 1)
    j = ((phi + np.pi) / (2 * np.pi) * columns).astype(np.int64) % columns
    hit = energy > 0
    cell, inverse = np.unique(((event * rows + i) * columns + j)[hit], return_inverse=True)
    true = np.bincount(inverse, energy[hit], len(cell))
    inside = rng.random((2, len(cell)))  # where in its cell a tower stands
    at_eta = ((cell // columns) % rows + inside[0]) / rows * 2 * ETA - ETA
    at_phi = wrapped((cell % columns + inside[1]) / columns * 2 * np.pi - np.pi)
    measured = _log_normal(true, resolution(true, at_eta, em), rng)
    least = np.maximum(ECAL_MIN_GEV if em else HCAL_MIN_GEV, SIGNIFICANCE * resolution(measured, at_eta, em))
    kept = measured > least
    et = (measured / np.cosh(at_eta))[kept]
    return Towers((cell // (rows * columns))[kept], at_eta[kept], at_phi[kept], et, np.full(kept.sum(), em))


def _log_normal(mean: np.ndarray, sigma: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Positive numbers of this mean and standard deviation, as Delphes smears energies."""
    width = np.sqrt(np.log1p((sigma / mean) ** 2))
    return np.asarray(mean * np.exp(width * rng.standard_normal(len(mean)) - width**2 / 2))


def _charge(code: np.ndarray) -> np.ndarray:
    """Charge of each particle, in units of the proton's."""
    codes = np.array(sorted(CHARGE))
    at = np.minimum(np.searchsorted(codes, np.abs(code)), len(codes) - 1)
    charges = np.array([CHARGE[int(known)] for known in codes])
    return np.where(codes[at] == np.abs(code), charges[at] * np.sign(code), 0)
