"""Where the simulation has put what matters: near the true peaks of a map.

Shape legend: N maps, C channels, H rows, W columns.
"""

from __future__ import annotations

import numpy as np

from kilonode.cases.contract import Arrays
from kilonode.cases.mass_maps.importance import near_peaks


def pixels(task: str, fields: Arrays, shape: tuple[int, ...]) -> np.ndarray:
    """Pixels within ``importance.NEAR`` of one of the brightest peaks of the map without noise.

    Parameters
    ----------
    task : str
        Any.
    fields : Arrays
        ``truth/halos`` (N, K, 4): column, row, convergence, mass.
    shape : tuple of int
        (C, H, W) of an input.

    Returns
    -------
    ndarray
        bool (N, 1, H, W).
    """
    return near_peaks(fields["truth/halos"][..., :2], (shape[1], shape[2]))[:, None]
