"""numpy's ``.npz`` and ``.npy`` (where the only array is called ``array``); nothing pickled is ever opened.

Blocks are read at their place in the file, since numpy itself reads members of an archive whole. A compressed member
is unpacked again from its start whenever a block lies before the last one.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from math import prod
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from kilonode.data.ingest._column import Column, Columns, is_there
from kilonode.errors import DataError


@contextmanager
def opened(path: Path) -> Iterator[Columns]:
    """Arrays by the names they were saved under."""
    is_there(path, "an .npz or .npy file")
    with ExitStack() as stack:
        if zipfile.is_zipfile(path):
            archive = stack.enter_context(zipfile.ZipFile(path))
            yield {
                member.filename.removesuffix(".npy"): partial(
                    _column, stack.enter_context(archive.open(member)), member.file_size, path
                )
                for member in archive.infolist()
                if member.filename.endswith(".npy")
            }
        else:
            yield {"array": partial(_column, stack.enter_context(path.open("rb")), path.stat().st_size, path)}


def _column(stream: IO[bytes], size: int, path: Path) -> Column:
    stream.seek(0)
    version = npy.read_magic(stream)
    header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = header(stream)
    begin = stream.tell()
    if not dtype.hasobject and begin + prod(shape) * dtype.itemsize != size:
        raise DataError(
            f"expected {prod(shape) * dtype.itemsize} bytes of an array {shape}, {dtype}, got {size - begin} ({path}); "
            "make or copy it again"
        )
    stored = shape[::-1] if fortran else shape  # Fortran's order is C's order of the axes turned round

    def read(start: int, stop: int, axis: int) -> np.ndarray:
        if not shape:
            stream.seek(begin)
            return np.frombuffer(stream.read(dtype.itemsize), dtype).reshape(())
        cut = len(shape) - 1 - axis if fortran else axis
        before, row = prod(stored[:cut]), prod(stored[cut + 1 :]) * dtype.itemsize
        out = np.empty((*stored[:cut], stop - start, *stored[cut + 1 :]), dtype)
        for number, block in enumerate(out.reshape(before, -1)):
            stream.seek(begin + (number * stored[cut] + start) * row)
            block[...] = np.frombuffer(stream.read(block.nbytes), dtype)
        return out.T if fortran else out

    return Column(shape, dtype, read)
