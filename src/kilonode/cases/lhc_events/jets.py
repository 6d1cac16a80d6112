"""Fat jets, what is made of them, and the published selection.

The published numbers are of jets as anti-kT finds them: the analysis read ``FatJet.PT`` and ``FatJet.Mass`` of Delphes,
which are not groomed. Trimmed jets, as that analysis read from the experiment's own simulation, are an option.

Shape legend: N events, T towers, J fat jets of all events.

Source
------
eracah/atlas_dl, scripts/physics_selections.py and prepare_data.py, after the ATLAS search arXiv:1510.05436; anti-kT:
Cacciari, Salam, Soyez 2008, arXiv:0802.1189; trimming (kT 0.2, 5 %): Krohn, Thaler, Wang 2010, arXiv:0912.1342.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import awkward as ak
import fastjet
import numpy as np

from kilonode.cases.lhc_events.detector import Towers, wrapped

RADIUS, SUBJET_RADIUS, SUBJET_SHARE = 1.0, 0.2, 0.05
PT_MIN_GEV, ETA_MAX = 200.0, 2.0
LEADING_MIN_GEV, JETS_MIN = 440.0, 3
UNTRIMMED_MIN_GEV = 200.0  # trimming only takes away
DETA_MAX, MJ_4_GEV, MJ_5_GEV = 1.4, 800.0, 600.0
SHOWN = 5
FEATURES = (
    *("fat jets", "sum of jet masses", "eta difference", "HT"),
    *(f"{what} of jet {number}" for number in range(1, SHOWN + 1) for what in ("pT", "eta", "phi", "mass")),
)
COUNT, MASS_SUM, ETA_DIFFERENCE, HT = range(4)


@dataclass(frozen=True)
class Jets:
    """Fat jets, falling in pT within an event; all (J,), ``pt`` and ``mass`` in GeV."""

    event: np.ndarray
    pt: np.ndarray
    eta: np.ndarray
    phi: np.ndarray
    mass: np.ndarray


def fat_jets(towers: Towers, events: int, trimmed: bool = False) -> Jets:
    """Cluster towers with anti-kT R = 1.0, keep pT > 200 GeV and |eta| < 2.0.

    Parameters
    ----------
    towers : Towers
        Of all events; massless.
    events : int
        N.
    trimmed : bool
        Whether soft subjets are taken away first; what is left must pass the cuts.

    Returns
    -------
    Jets
        Of all events; those without a jet have none.
    """
    counts = np.bincount(towers.event, minlength=events)
    # FastJet wants no empty event; a tower of nothing adds nothing.
    event = np.concatenate([towers.event, np.flatnonzero(counts == 0)])
    order = np.argsort(event, kind="stable")
    padding = np.zeros(int((counts == 0).sum()))
    et, eta, phi = (np.concatenate([x, padding])[order] for x in (towers.et, towers.eta, towers.phi))
    vectors = np.stack([et * np.cos(phi), et * np.sin(phi), et * np.sinh(eta), et * np.cosh(eta)], axis=1)
    parts = _clustered(vectors, np.maximum(counts, 1), fastjet.antikt_algorithm, RADIUS, UNTRIMMED_MIN_GEV)
    jets_of = np.asarray(ak.num(parts, axis=1))
    constituents = ak.flatten(parts, axis=1)
    return _chosen((_trimmed if trimmed else _summed)(constituents), np.repeat(np.arange(events), jets_of))


def features(jets: Jets, events: int) -> np.ndarray:
    """Compute high-level features, float32 (N, 24) in the order of ``FEATURES``; 0 where there is no such jet."""
    first = np.searchsorted(jets.event, np.arange(events))
    rank = np.arange(len(jets.event)) - first[jets.event]
    table = np.zeros((events, len(FEATURES)))
    table[:, COUNT] = np.bincount(jets.event, minlength=events)
    four = rank < 4
    table[:, MASS_SUM] = np.bincount(jets.event[four], jets.mass[four], events)
    table[:, HT] = np.bincount(jets.event, jets.pt, events)
    for number in range(SHOWN):
        chosen = rank == number
        rows = jets.event[chosen]
        for position, values in enumerate((jets.pt, jets.eta, jets.phi, jets.mass)):
            table[rows, 4 + 4 * number + position] = values[chosen]
    two = table[:, COUNT] >= 2
    table[two, ETA_DIFFERENCE] = np.abs(table[two, 5] - table[two, 9])
    return table.astype(np.float32)


def preselected(table: np.ndarray) -> np.ndarray:
    """Whether events of these features (N, 24) have three fat jets, the leading one above 440 GeV: bool (N,)."""
    return np.asarray((table[:, COUNT] >= JETS_MIN) & (table[:, 4] > LEADING_MIN_GEV))


def signal_region(table: np.ndarray) -> np.ndarray:
    """Whether preselected events of these features (N, 24) pass the published cuts, bool (N,)."""
    count, mass = table[:, COUNT], table[:, MASS_SUM]
    heavy = ((count == 4) & (mass > MJ_4_GEV)) | ((count >= 5) & (mass > MJ_5_GEV))
    return np.asarray(preselected(table) & (table[:, ETA_DIFFERENCE] < DETA_MAX) & heavy)


def _clustered(vectors: np.ndarray, counts: np.ndarray, algorithm: Any, radius: float, least: float) -> Any:
    """Constituents of each jet of each event: awkward (event, jet, constituent) of px, py, pz, E."""
    fields = dict(zip(("px", "py", "pz", "E"), vectors.T, strict=True))
    events = ak.unflatten(ak.zip(fields, with_name="Momentum4D"), counts)
    return fastjet.ClusterSequence(events, fastjet.JetDefinition(algorithm, radius)).constituents(min_pt=least)


def _summed(jets: Any) -> np.ndarray:
    """Four-momentum of each jet (J, 4) from all its constituents."""
    return np.stack([np.asarray(ak.sum(jets[axis], axis=1)) for axis in ("px", "py", "pz", "E")], axis=1)


def _trimmed(jets: Any) -> np.ndarray:
    """Four-momentum of each jet (J, 4) from its subjets with at least 5 % of its pT."""
    counts, whole = np.asarray(ak.num(jets)), _summed(jets)
    if not len(counts):
        return whole
    flat = np.stack([np.asarray(ak.flatten(jets[axis])) for axis in ("px", "py", "pz", "E")], axis=1)
    subjets = _clustered(flat, counts, fastjet.kt_algorithm, SUBJET_RADIUS, 0.0)
    sums = np.stack([np.asarray(ak.flatten(ak.sum(subjets[axis], axis=2))) for axis in ("px", "py", "pz", "E")], axis=1)
    owner = np.repeat(np.arange(len(counts)), np.asarray(ak.num(subjets)))
    kept = np.hypot(*sums[:, :2].T) >= SUBJET_SHARE * np.hypot(*whole[:, :2].T)[owner]
    return np.stack([np.bincount(owner[kept], column[kept], len(counts)) for column in sums.T], axis=1)


def _chosen(vectors: np.ndarray, event: np.ndarray) -> Jets:
    """Jets of these four-momenta that pass the cuts, falling in pT within an event."""
    px, py, pz, energy = vectors.T
    pt = np.hypot(px, py)
    eta = np.arcsinh(pz / np.maximum(pt, 1e-9))
    mass = np.sqrt(np.maximum(energy**2 - px**2 - py**2 - pz**2, 0))
    kept = np.flatnonzero((pt > PT_MIN_GEV) & (np.abs(eta) < ETA_MAX))
    order = kept[np.lexsort((-pt[kept], event[kept]))]
    phi = wrapped(np.arctan2(py, px))
    return Jets(event[order], pt[order], eta[order], phi[order], mass[order])
