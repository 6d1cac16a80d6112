"""The fields of one file, ready for random access.

Bare data are mapped where they lie: rows in any order at the speed of memory, and no lock of HDF5. Compressed data
are decoded a chunk at a time, outside HDF5 as well, so that several threads may do it at once (hpc notes, 7.2).

Shape legend: N rows of one file, M elements of a ragged field.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from kilonode.cases.ragged import Ragged, elements, ends
from kilonode.errors import DataError

CHUNK_BYTES = 1 << 20
"""About this much is read, or decoded, at a time: long enough for a disk, short enough for many at hand."""
BLOSC = 32001
"""The HDF5 filter of compressed data; a chunk is one Blosc buffer, which numcodecs decodes."""


def chunk_rows(row_bytes: int) -> int:
    """Whole rows of a chunk."""
    return max(1, CHUNK_BYTES // max(row_bytes, 1))


class Mapped:
    """Rows that lie bare in a file.

    Attributes
    ----------
    array : ndarray
        (N, ...), read only.
    chunk_rows : int
        Rows that are fetched ahead together.
    """

    def __init__(self, array: np.ndarray, whole: mmap.mmap | None = None, offset: int = 0) -> None:
        self.array, self._whole, self._offset = array, whole, offset
        self.shape, self.dtype = array.shape, array.dtype
        self._row_bytes = array.nbytes // max(len(array), 1)
        self.chunk_rows = chunk_rows(self._row_bytes)
        self.chunk_bytes = self.chunk_rows * self._row_bytes
        # As opaque items: one copy a row, and no copy of the whole where HDF5 did not align it.
        self._items = opaque(array) if self._row_bytes else array

    def fetch(self, number: int) -> None:
        """Ask the system to read a chunk; it goes on while we do other things."""
        start, stop = self._pages(number)
        if self._whole is not None and stop > start:
            self._whole.madvise(mmap.MADV_WILLNEED, start, stop - start)

    def _pages(self, number: int) -> tuple[int, int]:
        start = self._offset + number * self.chunk_bytes
        stop = min(start + self.chunk_bytes, self._offset + self.array.nbytes)
        return start - start % mmap.PAGESIZE, stop

    def decode(self, number: int, out: np.ndarray) -> None:
        """Copy a chunk to ``out`` (chunk_rows, ...), of which the last chunk may fill a part."""
        rows = self.array[number * self.chunk_rows : (number + 1) * self.chunk_rows]
        out[: len(rows)] = rows

    def gather(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Copy chosen rows, int64 (B,) rising, to ``out`` (B, ...)."""
        if len(rows) and self._row_bytes:
            np.take(self._items, rows, out=opaque(out), mode="clip")


class Packed:
    """Rows in compressed chunks, each given as its bytes and whether they are bare: what does not shrink stays so."""

    def __init__(
        self, shape: tuple[int, ...], dtype: np.dtype, rows: int, buffers: list[tuple[memoryview, bool]], path: Path
    ) -> None:
        self.shape, self.dtype, self.chunk_rows, self._buffers, self._path = shape, dtype, rows, buffers, path
        self.chunk_bytes = rows * dtype.itemsize * int(np.prod(shape[1:]))

    @property
    def array(self) -> np.ndarray:
        """All rows (N, ...)."""
        out = np.empty(self.shape, self.dtype)
        self.gather(np.arange(len(out)), out)
        return out

    def decode(self, number: int, out: np.ndarray) -> None:
        """Decode a chunk to ``out`` (chunk_rows, ...). Several threads may do so at once."""
        from numcodecs import blosc  # not for those who read bare data

        content, bare = self._buffers[number]
        try:
            if bare:
                out.reshape(-1).view(np.uint8)[:] = np.frombuffer(content, np.uint8)
            else:
                blosc.decompress(content, out)
        except (RuntimeError, ValueError) as error:
            raise DataError(
                f"expected chunk {number} as it was written, got {error} ({self._path}); rerun its stage"
            ) from None

    def gather(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Copy chosen rows, int64 (B,) rising, to ``out`` (B, ...); chunks are decoded and thrown away."""
        numbers = rows // self.chunk_rows
        chunk = np.empty((self.chunk_rows, *self.shape[1:]), self.dtype)
        for start, stop in pairwise(np.flatnonzero(np.diff(numbers, prepend=-1, append=-1))):
            self.decode(int(numbers[start]), chunk)
            np.take(chunk, rows[start:stop] - numbers[start] * self.chunk_rows, axis=0, out=out[start:stop])


class Runs:
    """Bare rows in several stretches: HDF5 keeps its own notes between the chunks of a file."""

    def __init__(self, parts: list[Mapped]) -> None:
        self.parts, self._starts = parts, ends(np.array([len(part.array) for part in parts]))
        self.shape, self.dtype = (int(self._starts[-1]), *parts[0].shape[1:]), parts[0].dtype

    @property
    def array(self) -> np.ndarray:
        """All rows (N, ...)."""
        return np.concatenate([part.array for part in self.parts])

    def gather(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Copy chosen rows, int64 (B,) rising, to ``out`` (B, ...)."""
        gather(self.parts, self._starts, rows, out)


def gather(parts: Sequence[Mapped | Packed], starts: np.ndarray, rows: np.ndarray, out: np.ndarray) -> None:
    """Copy chosen rows, int64 (B,) rising, of several columns that begin at ``starts``, to ``out`` (B, ...)."""
    cuts = np.searchsorted(rows, starts)
    for number in np.flatnonzero(cuts[1:] > cuts[:-1]).tolist():
        start, stop = cuts[number], cuts[number + 1]
        parts[number].gather(rows[start:stop] - starts[number], out[start:stop])


Plain = Mapped | Packed | Runs


@dataclass(frozen=True)
class Jagged:
    """Samples of unequal length: a column of elements, and where each sample begins, int64 (N + 1,)."""

    values: Plain
    offsets: np.ndarray

    @property
    def array(self) -> Ragged:
        """All samples."""
        return Ragged(self.values.array, self.offsets)


Column = Plain | Jagged


def take(column: Column, rows: np.ndarray) -> Any:
    """Chosen rows, int64 (B,) rising, of a field of one file."""
    if isinstance(column, Jagged):
        counts = column.offsets[rows + 1] - column.offsets[rows]
        return Ragged(take(column.values, elements(column.offsets, rows)), ends(counts))
    out = np.empty((len(rows), *column.shape[1:]), column.dtype)
    column.gather(rows, out)
    return out


def columns(file: h5py.File, path: Path, fields: dict[str, Any], prefix: str = "") -> dict[str, Column]:
    """Every field of an open file that has a sample axis; the file may be closed afterwards.

    Parameters
    ----------
    file : h5py.File
        The file, verified.
    path : Path
        Where it is.
    fields : dict
        Field -> description.
    prefix : str
        Group of the fields, ending in a slash, or nothing.
    """
    with path.open("rb") as stream:
        whole = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)  # one a file: each keeps a descriptor
    found: dict[str, Column] = {}
    for name, spec in fields.items():
        layout = spec.get("layout", "dense")
        if layout == "dense":
            found[name] = _column(file[f"{prefix}{name}"], whole, path)
        elif layout == "ragged":
            offsets = _column(file[f"{prefix}{name}/offsets"], whole, path)
            found[name] = Jagged(_column(file[f"{prefix}{name}/values"], whole, path), offsets.array)
    return found


def _column(dataset: Any, whole: mmap.mmap, path: Path) -> Plain:
    offset = dataset.id.get_offset() if dataset.chunks is None else None
    if dataset.chunks is not None and dataset.id.get_num_chunks():
        infos: list[Any] = []
        dataset.id.chunk_iter(infos.append)
        infos.sort(key=lambda info: info.chunk_offset)
        if _filters(dataset) == [BLOSC]:
            view = memoryview(whole)
            buffers = [
                (view[info.byte_offset : info.byte_offset + info.size], bool(info.filter_mask)) for info in infos
            ]
            return Packed(dataset.shape, dataset.dtype, dataset.chunks[0], buffers, path)
        if runs := _runs(dataset, infos, whole):
            return runs[0] if len(runs) == 1 else Runs(runs)
    if offset is None:  # empty, or compressed by somebody else
        return Mapped(dataset[()])
    return _bare(whole, offset, dataset.shape, dataset.dtype)


def _filters(dataset: Any) -> list[int]:
    plist = dataset.id.get_create_plist()
    return [plist.get_filter(k)[0] for k in range(plist.get_nfilters())]


def _runs(dataset: Any, infos: list[Any], whole: mmap.mmap) -> list[Mapped]:
    """Stretches of bare chunks of whole rows that follow one another; none if the chunks are not such."""
    size = dataset.dtype.itemsize * int(np.prod(dataset.chunks))
    complete = len(infos) == -(-dataset.shape[0] // dataset.chunks[0])
    if dataset.chunks[1:] != dataset.shape[1:] or not complete or _filters(dataset):
        return []
    offsets = np.array([info.byte_offset for info in infos])
    cuts = np.flatnonzero(np.diff(offsets, prepend=-size, append=offsets[-1] - size) != size)
    firsts = np.minimum(cuts * dataset.chunks[0], dataset.shape[0])
    shapes = [(int(rows), *dataset.shape[1:]) for rows in np.diff(firsts)]
    return [_bare(whole, int(offsets[cut]), shape, dataset.dtype) for cut, shape in zip(cuts, shapes, strict=False)]


def _bare(whole: mmap.mmap, offset: int, shape: tuple[int, ...], dtype: np.dtype) -> Mapped:
    content = np.frombuffer(whole, np.uint8, dtype.itemsize * int(np.prod(shape)), offset)
    return Mapped(content.view(dtype).reshape(shape), whole, offset)


def aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Room for an array that begins on a page of memory."""
    nbytes = dtype.itemsize * int(np.prod(shape))
    room = np.empty(nbytes + mmap.PAGESIZE, np.uint8)
    start = -room.ctypes.data % mmap.PAGESIZE
    return room[start : start + nbytes].view(dtype).reshape(shape)


def opaque(array: np.ndarray) -> np.ndarray:
    """(N, ...) as (N,) items without a type: copied as they are, aligned or not."""
    flat = array.reshape(len(array), int(np.prod(array.shape[1:])))
    return flat.view(np.dtype((np.void, flat.shape[1] * flat.itemsize)))[:, 0]
