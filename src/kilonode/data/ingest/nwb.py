"""Neurodata Without Borders through pynwb: time series, tables of trials and events, spike times.

Columns are named as in the file: ``acquisition/eeg`` (moments x channels, converted to its unit),
``intervals/trials/start_time``, ``units/spike_times`` (ragged: one sample a unit).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kilonode.cases.ragged import Ragged
from kilonode.data import shard
from kilonode.data.ingest._column import Clock, Column, Columns, column


@contextmanager
def opened(path: Path) -> Iterator[Columns]:
    """Every time series and every column of a table; data in other files are refused."""
    from hdmf.common import DynamicTable
    from pynwb import NWBHDF5IO, TimeSeries

    with shard.opened_foreign(path):
        pass
    with NWBHDF5IO(str(path), "r") as io:
        columns = {}
        for item in io.read().objects.values():
            if isinstance(item, TimeSeries) and hasattr(item.data, "dtype"):
                columns[_place(item.data).removesuffix("/data")] = partial(_series, item)
            elif isinstance(item, DynamicTable):
                for name in item.colnames:
                    found = item[name]
                    values = found.target if hasattr(found, "target") else found
                    if hasattr(values.data, "name"):  # references, as an electrode's to its group, have none
                        columns[_place(values.data)] = partial(_of_table, found, values)
        yield columns


def _place(data: Any) -> str:
    return str(data.name).lstrip("/")


def _series(series: Any) -> Column:
    """Moments along the first axis; stored numbers times the conversion of the series, and of each channel."""
    data = series.data
    scale = np.asarray(series.conversion * np.asarray(getattr(series, "channel_conversion", None) or 1.0))
    small = data.dtype.itemsize <= 2 or data.dtype == np.float32
    dtype = np.dtype(np.float32 if small else np.float64)

    def read(start: int, stop: int, axis: int) -> np.ndarray:
        block = data[(slice(None),) * axis + (slice(start, stop),)]
        return (block * scale + series.offset).astype(dtype)

    stamps = series.timestamps
    clock = Clock(at=lambda k: float(stamps[k])) if stamps is not None else Clock(series.starting_time, series.rate)
    about = series.description if series.description != "no description" else series.name
    attributes = {"name": series.name, "comments": series.comments}
    return Column(tuple(data.shape), dtype, read, str(series.unit), about, attributes, clock=clock)


def _of_table(index: Any, values: Any) -> Column:
    """A column of a table: dense, or ragged if the table keeps the end of each row's values."""
    flat = column(values.data, {**values.data.attrs, "long_name": values.description})
    if index is values:
        return flat
    ends = np.asarray(index.data[()], np.int64)

    def read(start: int, stop: int, axis: int) -> Ragged:
        offsets = np.concatenate([[0], ends])[start : stop + 1]
        return Ragged(flat.read(int(offsets[0]), int(offsets[-1]), 0), offsets - offsets[0])

    return Column((len(ends), *flat.shape[1:]), flat.dtype, read, flat.unit, flat.long_name, {}, jagged=True)
