"""Where the light of a flash goes: the tubes that a point at the true vertex lights most.

Shape legend: N samples, C flashes, H rings, W columns.
"""

from __future__ import annotations

import numpy as np

from kilonode.cases.contract import Arrays
from kilonode.cases.reactor_neutrinos.detector import COLUMNS, RINGS, light
from kilonode.cases.reactor_neutrinos.events import Process

SHARE = 0.25
"""Of the tubes, for each flash."""
NO_POINT = (Process.MUON, Process.FLASHER)
"""A track, and light that a tube makes: of these the truth names one point, which is not where their light goes."""


def pixels(task: str, fields: Arrays, shape: tuple[int, ...]) -> np.ndarray:
    """The quarter of the tubes that get most light, by the optics of the simulation without its noise.

    Parameters
    ----------
    task : str
        Any.
    fields : Arrays
        ``truth/event`` (N, 6), or (N, C, 6) where a sample has several flashes.
    shape : tuple of int
        (C, 8, 24) of an input.

    Returns
    -------
    ndarray
        bool (N, C, 8, 24); none where a flash is no point.
    """
    truth = fields["truth/event"].reshape(-1, 6).astype(np.float64)
    expected = light(truth[:, None, 1:4], np.ones((len(truth), 1))).reshape(len(truth), -1)
    least = np.quantile(expected, 1 - SHARE, axis=1, keepdims=True)
    found = (expected >= least) & ~np.isin(truth[:, 5:], NO_POINT)
    return found.reshape(-1, shape[0], RINGS, COLUMNS)
