"""NetCDF through xarray: version 4 by h5netcdf, the classic format by scipy. CF packing is undone.

Packed values (``scale_factor``, ``add_offset``) become floats, and missing ones (``_FillValue``, ``missing_value``)
NaN. Integers that are not packed stay integers, with missing ones masked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kilonode.data import shard
from kilonode.data.ingest._column import Column, Columns, block, described, is_there

CLASSIC = b"CDF"
"""First bytes of the classic format."""


@contextmanager
def opened(path: Path) -> Iterator[Columns]:
    """Every variable of the root group, coordinates too."""
    import xarray

    is_there(path, "a NetCDF file")
    with path.open("rb") as stream:
        classic = stream.read(3) == CLASSIC
    if not classic:
        with shard.opened_foreign(path):
            pass  # links and virtual datasets of other files are refused
    engine = "scipy" if classic else "h5netcdf"
    with xarray.open_dataset(path, engine=engine, decode_cf=False, cache=False) as data:
        yield {str(name): partial(_column, str(name), variable) for name, variable in data.variables.items()}


def _column(name: str, variable: Any) -> Column:
    from xarray.conventions import decode_cf_variable

    attributes = dict(variable.attrs)
    missing = [attributes[key] for key in ("_FillValue", "missing_value") if key in attributes]
    whole = variable.dtype.kind in "iu" and not {"scale_factor", "add_offset"} & attributes.keys()
    values = variable if whole else decode_cf_variable(name, variable, decode_times=False)

    def read(start: int, stop: int, axis: int) -> np.ndarray:
        found = values[block(values.shape, start, stop, axis)].to_numpy()
        return np.ma.masked_array(found, np.isin(found, missing)) if whole and missing else found

    return Column(
        values.shape, np.dtype(values.dtype), read, **described(attributes), dims=tuple(map(str, values.dims))
    )
