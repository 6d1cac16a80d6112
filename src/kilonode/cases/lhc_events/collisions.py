"""Collisions that somebody else recorded or simulated, drawn as the simulation draws its own.

An experiment reconstructs particles (or only jets) where our simulation has towers and tracks: what its detector did to
them is done already, so nothing is smeared here.

Shape legend: N events, P particles of all events, n pixels an axis.
"""

from __future__ import annotations

import numpy as np

from kilonode.cases.lhc_events import detector, jets
from kilonode.cases.lhc_events.detector import MUON, Towers, Tracks

ELECTROMAGNETIC = (11, 22)


def pictures(
    event: np.ndarray,
    pt: np.ndarray,
    eta: np.ndarray,
    phi: np.ndarray,
    code: np.ndarray,
    charge: np.ndarray,
    events: int,
    pixels: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw reconstructed particles, and find fat jets among them.

    Parameters
    ----------
    event : int64 (P,)
        Number of the event, rising.
    pt, eta, phi : float (P,)
        Transverse momentum in GeV and direction; phi in radians, any turn.
    code, charge : int (P,)
        PDG code (muons leave no energy; electrons and photons are electromagnetic) and charge; 0 where not known.
    events : int
        N.
    pixels : int
        n.

    Returns
    -------
    (ndarray, ndarray)
        float32 (N, 3, n, n), as ``detector.images``: a pixel of the first channel is the sum of the pT of its particles
        but muons; float32 (N, 24), as ``jets.features``.
    """
    energetic, charged = np.abs(code) != MUON, charge != 0
    inside = energetic & (np.abs(eta) < detector.ETA)
    em = np.isin(np.abs(code), ELECTROMAGNETIC)
    pt, eta, phi = pt.astype(np.float64), eta.astype(np.float64), detector.wrapped(phi.astype(np.float64))
    towers = Towers(event[inside], eta[inside], phi[inside], pt[inside], em[inside])
    tracks = Tracks(event[charged], eta[charged], phi[charged])
    table = jets.features(jets.fat_jets(towers, events), events)
    return detector.images(towers, tracks, np.arange(events), pixels), table
