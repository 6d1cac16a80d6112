"""ROOT trees through uproot: flat branches are dense, those of unequal length ragged. Columns are ``tree/branch``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kilonode.cases.ragged import Ragged
from kilonode.data.ingest._column import Column, Columns, is_there

TREES = ["TTree", "ROOT::RNTuple"]
LEAF_LIST = re.compile(r".*/[A-Za-z]$")
"""A title such as ``Jet_Px[NJet]/F`` repeats the type and says nothing."""


@contextmanager
def opened(path: Path) -> Iterator[Columns]:
    """Every branch of every tree or ntuple; only the blocks asked for are unpacked, and none is kept."""
    import uproot

    is_there(path, "a ROOT file")
    # Not the mapped file that is uproot's default: a file read to its end would stay in memory as far as it has room.
    source = {"handler": uproot.MultithreadedFileSource, "num_workers": 1}
    with uproot.open(path, object_cache=None, array_cache=None, **source) as file:
        newest = _newest(file.classnames(filter_classname=TREES))
        trees = {name: file[f"{name};{cycle}"] for name, cycle in newest.items()}
        yield {
            f"{name}/{branch}": partial(_column, tree, branch)
            for name, tree in trees.items()
            for branch in tree.iterkeys()
        }


def _newest(keys: Any) -> dict[str, int]:
    """Tree -> its last cycle: earlier ones are backups that ROOT kept while writing."""
    cycles: dict[str, int] = {}
    for key in keys:
        name, _, cycle = key.rpartition(";")
        cycles[name] = max(int(cycle), cycles.get(name, 0))
    return cycles


def _column(tree: Any, name: str) -> Column:
    import awkward
    from awkward.contents import ListOffsetArray

    branch = tree[name]
    try:
        layout = branch.array(entry_stop=0).layout
        jagged = isinstance(layout, ListOffsetArray)
        one = awkward.to_numpy(layout.content if jagged else layout)
        shape, dtype = one.shape[1:], one.dtype
    except ValueError:  # objects, or lists of lists: refused as such
        jagged, shape, dtype = False, (), np.dtype(object)

    def read(start: int, stop: int, axis: int) -> Any:
        layout = branch.array(entry_start=start, entry_stop=stop).layout
        if not jagged:
            return awkward.to_numpy(layout)
        offsets = np.asarray(layout.offsets.data, np.int64)
        values = awkward.to_numpy(layout.content)[offsets[0] : offsets[-1]]
        return Ragged(values, offsets - offsets[0])

    title = getattr(branch, "title", None) or branch.description
    said = title if title != branch.name and not LEAF_LIST.match(title) else None
    return Column((tree.num_entries, *shape), dtype, read, long_name=said or None, jagged=jagged)
