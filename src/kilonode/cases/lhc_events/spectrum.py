"""The supersymmetric spectrum as an SLHA file: one gluino, one neutralino, all else out of reach.

R-parity is broken by the coupling of three quarks alone: gluino -> q qbar neutralino, neutralino -> u d s. An event
with two gluinos has ten quarks and no missing energy.

Source
------
Skands et al. 2004, hep-ph/0311123 (format); Dreiner, Richardson, Seymour 2000, hep-ph/9912407 (decays through
baryon-number violation); the masses are those of arXiv:1708.05256.
"""

from __future__ import annotations

from itertools import product

HEAVY_GEV = 5000.0
GLUINO, NEUTRALINO = 1000021, 1000022
QUARKS = (1, 2, 3, 4, 5)
OUT_OF_REACH = (
    *(1000000 + k for k in (1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15, 16, 23, 24, 25, 35, 37)),
    *(2000000 + k for k in (1, 2, 3, 4, 5, 6, 11, 13, 15)),
)
MIXINGS = {"NMIX": 4, "UMIX": 2, "VMIX": 2, "STOPMIX": 2, "SBOTMIX": 2, "STAUMIX": 2}


def slha(gluino: float, neutralino: float) -> str:
    """Write the spectrum.

    Parameters
    ----------
    gluino, neutralino : float
        Masses, GeV; the gluino must be the heavier one by more than two bottom quarks.

    Returns
    -------
    str
        Text of an SLHA file that Pythia accepts.

    Raises
    ------
    ValueError
        The gluino could not decay.
    """
    if gluino <= neutralino + 10:
        raise ValueError(f"gluino needs a mass above neutralino + 10 GeV, got {gluino} and {neutralino} GeV")
    masses = {25: 125.0, GLUINO: gluino, NEUTRALINO: neutralino, **dict.fromkeys(OUT_OF_REACH, HEAVY_GEV)}
    lines = [
        *_block("MODSEL", ["1 0", "4 1"]),
        *_block("MINPAR", ["3 1.0E+01"]),
        *_block("MASS", [f"{code} {mass:.6E}" for code, mass in masses.items()]),
        *_block("ALPHA", ["-1.0E-01"]),
        *_block("HMIX Q= 1.0E+03", ["1 5.0E+03", "2 1.0E+01", "3 2.44E+02", "4 2.5E+07"]),
    ]
    for name, size in MIXINGS.items():
        cells = product(range(1, size + 1), repeat=2)
        lines += _block(name, [f"{i} {j} {float(i == j):.1f}" for i, j in cells])
    share = 1 / len(QUARKS)
    lines += _decay(GLUINO, [(share, (NEUTRALINO, quark, -quark)) for quark in QUARKS])
    lines += _decay(NEUTRALINO, [(0.5, (2, 1, 3)), (0.5, (-2, -1, -3))])
    return "\n".join(lines) + "\n"


def _block(name: str, entries: list[str]) -> list[str]:
    return [f"BLOCK {name}", *(f"  {entry}" for entry in entries)]


def _decay(particle: int, channels: list[tuple[float, tuple[int, ...]]]) -> list[str]:
    lines = [f"DECAY {particle} 1.0E+00"]
    return lines + [f"  {share:.6f} {len(to)} {' '.join(map(str, to))}" for share, to in channels]
