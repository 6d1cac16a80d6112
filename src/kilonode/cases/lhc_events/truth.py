"""Where the energy of the hard process went: the fat jets of an event.

The store holds no directions of partons. Jets stand for them: what the clustering, which knows all towers, found. They
are therefore made from what the image shows, and brightness alone is a strong guess at them.

Shape legend: N events, C channels, n pixels an axis.
"""

from __future__ import annotations

import numpy as np

from kilonode.cases.contract import Arrays
from kilonode.cases.lhc_events.detector import ETA, wrapped
from kilonode.cases.lhc_events.jets import RADIUS, SHOWN

FIRST, EACH = 4, 4
"""Columns of ``features`` before the jets, and of each jet: pT, eta, phi, mass."""


def pixels(task: str, fields: Arrays, shape: tuple[int, ...]) -> np.ndarray:
    """Pixels within the radius of one of the five leading fat jets.

    Parameters
    ----------
    task : str
        Any.
    fields : Arrays
        ``features`` (N, 24), see ``jets.features``.
    shape : tuple of int
        (C, n, n) of an image: eta in [-2.5, 2.5], phi in [-pi, pi).

    Returns
    -------
    ndarray
        bool (N, 1, n, n).
    """
    rows, columns = shape[1:]
    at_eta = ((np.arange(rows) + 0.5) / rows * 2 * ETA - ETA)[:, None]
    at_phi = ((np.arange(columns) + 0.5) / columns * 2 * np.pi - np.pi)[None]
    jets = fields["features"][:, FIRST : FIRST + SHOWN * EACH].reshape(-1, SHOWN, EACH)
    found = np.zeros((len(jets), rows, columns), bool)
    for number in range(SHOWN):
        pt, eta, phi = (jets[:, number, column, None, None] for column in range(3))
        distance = (at_eta - eta) ** 2 + wrapped(at_phi - phi) ** 2
        found |= (pt > 0) & (distance <= RADIUS**2)
    return found[:, None]
