"""Write simulated events as a ROOT file, for those whose tools read nothing else.

Shape legend: N events.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import uproot

from kilonode.cases.contract import Tables
from kilonode.records import complete


def to_root(path: Path, tables: Tables) -> None:
    """Write each table as a tree, one branch a field; ``/`` in a name becomes ``_``.

    Parameters
    ----------
    path : Path
        The file; complete or not at all.
    tables : Tables
        What ``simulate.simulate`` gave: arrays (N, ...) of one length a table.
    """
    with complete(path) as temporary, uproot.recreate(temporary) as file:
        for table, columns in tables.items():
            branches = {name.replace("/", "_"): np.ascontiguousarray(array) for name, array in columns.items()}
            tree = file.mktree(table, {name: (array.dtype, array.shape[1:]) for name, array in branches.items()})
            tree.extend(branches)
