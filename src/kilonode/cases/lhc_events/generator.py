"""Collisions from Pythia 8: one instance a process, seeded anew for every block of events.

An instance takes half a second to set up, so it is kept; a block's events depend on its seed alone all the same
(tested: blocks in any order, and from a fresh instance). What Pythia learns on the way, its estimate of the cross
section, is not used: cross sections are those of ``PROCESSES``.

Shape legend: N events, P particles of all events together.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import awkward as ak
import numpy as np
import pythia8mc

from kilonode.cases.lhc_events.spectrum import slha

ENERGY_GEV = 13000.0
MOST_SEED = 900_000_000
MB_TO_FB = 1e12
LUMINOSITY_FB = 36.0
STABLE_MM = 10.0  # what flies farther than this meets the detector: K0S, Lambda, charged hyperons


@dataclass(frozen=True)
class Process:
    """What is generated: its number in the data, Pythia's settings and its cross section in mb (None: not stated)."""

    number: int
    settings: tuple[str, ...]
    cross_section_mb: float | None = None
    masses: tuple[float, float] | None = None


def _qcd(number: int, low: int, high: int, cross_section_mb: float) -> Process:
    limits = (f"PhaseSpace:pTHatMin = {low}", f"PhaseSpace:pTHatMax = {high}")
    return Process(number, ("HardQCD:all = on", *limits), cross_section_mb)


def _gluino(number: int, gluino: int, neutralino: int, cross_section_mb: float | None = None) -> Process:
    made = ("SUSY:gg2gluinogluino = on", "SUSY:qqbar2gluinogluino = on")
    return Process(number, made, cross_section_mb, (float(gluino), float(neutralino)))


TO_TOPS = ("Zprime:gmZmode = 3", "32:m0 = 3000.", "32:onMode = off", "32:onIfAny = 6")
# Cross sections of the slices: Pythia's own, to 1 %; those of eracah/atlas_dl, config/DelphesXSec, agree to 1 %
# (400-800: 1.997e-6, 800-1300: 4.138e-8). Gluinos: 0.02530 pb, next-to-leading order, LHC SUSY Cross Section Working
# Group, 13 TeV. Slices are narrow where the spectrum is steep: then more of what is made passes, and no event weighs
# much more than its neighbours.
PROCESSES = {
    "qcd_300_400": _qcd(0, 300, 400, 6.70e-6),
    "qcd_400_600": _qcd(1, 400, 600, 1.800e-6),
    "qcd_600_800": _qcd(2, 600, 800, 1.858e-7),
    "qcd_800_1300": _qcd(3, 800, 1300, 4.138e-8),
    "qcd_1300": _qcd(4, 1300, 7000, 1.686e-9),
    "gluino": _gluino(5, 1400, 850, 2.530e-11),
    "gluino_1200_650": _gluino(6, 1200, 650),
    "gluino_1200_1050": _gluino(7, 1200, 1050),
    "gluino_1600_650": _gluino(8, 1600, 650),
    "gluino_1600_1050": _gluino(9, 1600, 1050),
    "zprime": Process(10, ("NewGaugeBoson:ffbar2gmZZprime = on", *TO_TOPS)),
    "minimum_bias": Process(11, ("SoftQCD:nonDiffractive = on",)),
}


@dataclass(frozen=True)
class Particles:
    """Final particles of N events and what is known of how they were made.

    ``event`` int64 (P,), rising; ``code`` int64 (P,), PDG; ``momentum`` float64 (P, 4): px, py, pz, E in GeV.
    ``hard`` float64 (N, 5): pT of the hard process, masses of gluino and neutralino, sum of the partons' pT (GeV),
    and how many partons.
    """

    event: np.ndarray
    code: np.ndarray
    momentum: np.ndarray
    hard: np.ndarray

    @property
    def events(self) -> int:
        """How many events, those without particles too."""
        return len(self.hard)


def generate(process: str, count: int, seed: int, multiparton: bool = False) -> Particles:
    """Make a block of events.

    Parameters
    ----------
    process : str
        A key of ``PROCESSES``.
    count : int
        Events to try; the few that Pythia cannot finish are missing.
    seed : int
        In [1, 900,000,000].
    multiparton : bool
        Whether several pairs of partons of the same protons may meet; takes three times as long.
    """
    if count < 1:
        return _nothing()
    pythia = _instance(process, multiparton)
    pythia.rndm.init(seed)
    return _flat(pythia.nextBatch(count).prt, PROCESSES[process].masses or (0.0, 0.0))


@cache
def _instance(process: str, multiparton: bool) -> Any:
    """Set up Pythia once a process of the machine."""
    chosen = PROCESSES[process]
    soft = process == "minimum_bias"
    pythia = pythia8mc.Pythia("", False)
    settings = [
        "Print:quiet = on",
        "SLHA:verbose = 0",
        f"Beams:eCM = {ENERGY_GEV}",
        "Random:setSeed = on",
        "Random:seed = 1",
        "ParticleDecays:limitTau0 = on",
        f"ParticleDecays:tau0Max = {STABLE_MM}",
        f"PartonLevel:MPI = {'on' if multiparton or soft else 'off'}",
        *chosen.settings,
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".slha") as file:
        if chosen.masses:
            file.write(slha(*chosen.masses))
            file.flush()
            settings.append(f"SLHA:file = {file.name}")
        refused = [line for line in settings if not pythia.readString(line)]
        if refused or not pythia.init():
            raise RuntimeError(f"expected Pythia to start for {process}, got a refusal of {refused or 'its settings'}")
    return pythia


def _flat(particles: Any, masses: tuple[float, float]) -> Particles:
    """Pythia's record as flat arrays."""
    final = particles[particles.status > 0]
    momentum = np.stack([np.asarray(ak.flatten(final.p[axis])) for axis in ("px", "py", "pz", "e")], axis=1)
    counts = np.asarray(ak.num(final))
    return Particles(
        event=np.repeat(np.arange(len(counts)), counts),
        code=np.asarray(ak.flatten(final.id)).astype(np.int64),
        momentum=momentum,
        hard=_hard(particles, masses),
    )


def _hard(particles: Any, masses: tuple[float, float]) -> np.ndarray:
    """What is known of the hard process, (N, 5); see ``Particles.hard``."""
    status = abs(particles.status)
    outgoing = particles[status == 23]
    pt = np.hypot(outgoing.p.px, outgoing.p.py)
    # The last step before hadrons: partons that strings were made of.
    ending = particles[((status >= 71) & (status <= 74)) & ((abs(particles.id) < 6) | (particles.id == 21))]
    jets = np.hypot(ending.p.px, ending.p.py)
    hardest = ak.fill_none(ak.max(ak.concatenate([pt, np.hypot(*_mothers(particles))], axis=1), axis=1), 0.0)
    energetic = jets > 20.0
    columns = [hardest, np.full(len(particles), masses[0]), np.full(len(particles), masses[1])]
    columns += [ak.sum(jets, axis=1), ak.sum(energetic, axis=1)]
    return np.stack([np.asarray(column, np.float64) for column in columns], axis=1)


def _mothers(particles: Any) -> tuple[Any, Any]:
    """Transverse momentum of what decays at once: gluinos, Z'."""
    chosen = particles[abs(particles.status) == 22]
    return chosen.p.px, chosen.p.py


def _nothing() -> Particles:
    return Particles(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros((0, 5)))


def together(parts: Mapping[str, Particles]) -> Particles:
    """Several blocks as one, events numbered through in the order given."""
    offsets = np.cumsum([0, *(part.events for part in parts.values())])
    event = [part.event + offset for part, offset in zip(parts.values(), offsets, strict=False)]
    fields = [[getattr(part, name) for part in parts.values()] for name in ("code", "momentum", "hard")]
    return Particles(np.concatenate(event), *(np.concatenate(field) for field in fields))
