"""Plain HDF5, through h5py. Columns of a compound dataset are named as if it were a group: ``table/column``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from kilonode.data import shard
from kilonode.data.ingest._column import Column, Columns, block, column, described


@contextmanager
def opened(path: Path) -> Iterator[Columns]:
    """Every dataset, by its path without the first slash; external links and virtual datasets are refused."""
    with shard.opened_foreign(path) as file:
        columns = {}
        for name in shard.names(file, path):
            dataset = file[name]
            columns[name] = partial(column, dataset, dataset.attrs)
            for part in dataset.dtype.names or ():
                columns[f"{name}/{part}"] = partial(_part, dataset, part)
        yield columns


def _part(dataset: h5py.Dataset, part: str) -> Column:
    """One column of a compound dataset."""

    def read(start: int, stop: int, axis: int) -> Any:
        return np.asarray(dataset.fields(part)[block(dataset.shape, start, stop, axis)])

    dtype = dataset.dtype[part]
    return Column((*dataset.shape, *dtype.shape), dtype.base, read, **described(dataset.attrs))
