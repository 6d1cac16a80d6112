"""FITS through astropy: tables, images, and many images of several sizes.

``1/MAG``, ``CATALOG/MAG``  a column of a table, by the number or name of its HDU
``0``, ``SCI``              the array of an HDU; its first axis is the sample
``images``                  all image HDUs, one sample each: dense if they are of one size, else flattened
``images/shape``            rows and columns of each of them
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from kilonode.cases.ragged import ragged
from kilonode.data.ingest._column import Column, Columns, column, described, is_there

KEPT = ("TELESCOP", "INSTRUME", "FILTER", "EXPTIME", "DATE-OBS", "OBJECT")
"""Keywords of an image that travel with it."""


@contextmanager
def opened(path: Path) -> Iterator[Columns]:
    """Columns as listed above. Tables are read at their place in the file, images by sections."""
    from astropy.io import fits

    is_there(path, "a FITS file")
    with fits.open(path, memmap=False) as file, path.open("rb") as stream:
        with warnings.catch_warnings():  # of what is cut off astropy would only warn, and leave it out
            warnings.filterwarnings("error", message="(?s).*(truncated|Error validating)")
            len(file)
        columns: dict[str, Any] = {}
        images = [hdu for hdu in file if hdu.is_image and hdu.header["NAXIS"] > 0]
        for number, hdu in enumerate(file):
            names = [str(number), *([hdu.name] if hdu.name and hdu.name not in columns else [])]
            for name in names:
                if hdu in images:
                    columns[name] = partial(_array, hdu)
                for part in [] if hdu.is_image else hdu.columns.names:
                    columns[f"{name}/{part}"] = partial(_of_table, hdu, part, stream)
        if len(images) > 1 and len({len(hdu.shape) for hdu in images}) == 1:
            columns |= {"images": partial(_images, images), "images/shape": partial(_sizes, images)}
        yield columns


def _array(hdu: Any) -> Column:
    return column(_Section(hdu), _said(hdu.header))


class _Section:
    """An image as it will come out: scaled by BSCALE and BZERO, in the machine's byte order."""

    def __init__(self, hdu: Any) -> None:
        self._hdu, self.shape = hdu, hdu.shape
        self.dtype = hdu.section[tuple(slice(0, 1) for _ in hdu.shape)].dtype.newbyteorder("=")

    def __getitem__(self, place: Any) -> np.ndarray:
        return np.asarray(self._hdu.section[place])


def _said(header: Any) -> dict[str, Any]:
    return {"unit": header.get("BUNIT", ""), **{key: header[key] for key in KEPT if key in header}}


def _images(images: list[Any]) -> Column:
    """All image HDUs: (N, H, W), or jagged with flattened pixels."""
    shapes = np.array([hdu.shape for hdu in images], np.int64)
    equal = (shapes == shapes[0]).all()

    def read(start: int, stop: int, axis: int) -> Any:
        arrays = [np.asarray(hdu.section[(slice(None),) * len(hdu.shape)]) for hdu in images[start:stop]]
        if equal:
            return np.stack(arrays) if arrays else np.empty((0, *shape[1:]), dtype)
        return ragged([np.empty(0, dtype), *(array.ravel() for array in arrays)])[1:]

    said = described(_said(images[0].header))
    shape = (len(images), *map(int, shapes[0])) if equal else (len(images),)
    dtype = _Section(images[0]).dtype
    return Column(shape, dtype, read, **said, jagged=not equal, sizes=lambda start, stop: shapes[start:stop])


def _sizes(images: list[Any]) -> Column:
    shapes = np.array([hdu.shape for hdu in images], np.int64)
    return column(shapes, {"unit": "pixel", "long_name": "rows and columns of the image"})


def _of_table(hdu: Any, part: str, stream: IO[bytes]) -> Column:
    """Rows of one column: astropy's own reader would take the whole table into memory."""
    spec, dtype = hdu.columns[part], hdu.columns.dtype.newbyteorder(">")
    begin, rows = hdu.fileinfo()["datLoc"], int(hdu.header["NAXIS2"])
    scale, zero = spec.bscale or 1, spec.bzero or 0
    logical, variable = spec.format.endswith("L"), "P" in str(spec.format) or "Q" in str(spec.format)
    field = dtype[part]
    packed = (scale, zero) != (1, 0)
    whole = field.base.kind in "iu" and float(scale).is_integer() and float(zero).is_integer()  # unsigned integers
    wide = np.dtype(np.int64 if whole else np.float64)
    kind = np.dtype(bool) if logical else wide if packed else field.base

    def read(start: int, stop: int, axis: int) -> Any:
        stream.seek(begin + start * dtype.itemsize)
        block = np.frombuffer(stream.read((stop - start) * dtype.itemsize), dtype)[part]
        if logical:
            return block == ord("T")
        values = block.astype(wide) * wide.type(scale) + wide.type(zero) if packed else block
        return values if spec.null is None else np.ma.masked_array(values, block == spec.null)

    refused = variable or spec.format.endswith("X") or type(hdu).__name__ != "BinTableHDU"
    said = {"unit": spec.unit or "", "long_name": hdu.header.comments[f"TTYPE{hdu.columns.names.index(part) + 1}"]}
    shape = (rows, *field.shape)
    return Column(shape, np.dtype(object) if refused else kind.newbyteorder("="), read, **described(said))
