"""Fields on the faces of an unstructured mesh (NetCDF with UGRID 1.0), as images of latitude by longitude.

The mesh stands in the file itself or in a file of the same name beside it that ends in ``.ug`` or ``.ugrid.nc``. Each
pixel is the mean of its four nearest faces, weighted by the inverse square of their distance on the sphere; the pixels
are as far apart as the faces. What is farther than two such steps from every face is missing.

Shape legend: F faces, H rows from south to north, W columns from west to east, K = 4 faces of a pixel.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kilonode.data.ingest._column import Column, Columns, described, is_there
from kilonode.data.ingest.netcdf import CLASSIC
from kilonode.errors import DataError

BESIDE = (".ug", ".ugrid.nc")
"""Ends of the name of a mesh's own file."""
NEAREST = 4
FAR = 2.0
"""Steps of the grid beyond which a face says nothing about a pixel."""
FACES = ("face_lat", "face_lon")


@dataclass(frozen=True)
class Regridding:
    """From faces to pixels: ``faces`` and their ``weights`` (H, W, K), ``missing`` bool (H, W); ``lat``, ``lon``."""

    lat: np.ndarray
    lon: np.ndarray
    faces: np.ndarray
    weights: np.ndarray
    missing: np.ndarray

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Values (..., F) on the pixels, a masked array (..., H, W)."""
        found = (values[..., self.faces] * self.weights).sum(axis=-1).astype(values.dtype)
        return np.ma.masked_array(found, np.broadcast_to(self.missing, found.shape))


def regridding(lat: np.ndarray, lon: np.ndarray) -> Regridding:
    """The way from faces at these places (F,), degrees, to a regular grid of about their spacing.

    Parameters
    ----------
    lat, lon : ndarray
        Middles of the faces, degrees; longitudes of any branch.

    Returns
    -------
    Regridding
        Where the faces go around the globe, so does the grid; else it spans them, also across Greenwich.
    """
    from scipy.spatial import cKDTree

    place = _on_sphere(lat, lon)
    tree = cKDTree(place)
    step = float(np.rad2deg(np.median(tree.query(place, 2)[0][:, 1])))
    west, span = _extent(lon, step)
    rows = lat.min() + np.arange(max(2, round((lat.max() - lat.min()) / step) + 1)) * step
    columns = west + np.arange(max(2, round(span / step) + (span < 360))) * step
    distance, faces = tree.query(_on_sphere(*np.meshgrid(rows, columns, indexing="ij")), min(NEAREST, len(lat)))
    weights = 1 / np.maximum(distance, 1e-9) ** 2
    missing = np.rad2deg(distance[..., 0]) > FAR * step
    return Regridding(rows, columns, faces, weights / weights.sum(axis=-1, keepdims=True), missing)


def _on_sphere(lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
    """Unit vectors, (..., 3)."""
    up, along = np.deg2rad(lat), np.deg2rad(lon)
    return np.stack([np.cos(up) * np.cos(along), np.cos(up) * np.sin(along), np.sin(up)], axis=-1)


def _extent(lon: np.ndarray, step: float) -> tuple[float, float]:
    """Westernmost longitude and span eastwards, degrees: what the widest gap between meridians leaves."""
    used = np.unique(lon % 360)
    gaps = np.diff(np.append(used, used[0] + 360))
    widest = int(gaps.argmax())
    if gaps[widest] <= 3 * step:
        return 0.0, 360.0
    return float(used[(widest + 1) % len(used)]), float(360 - gaps[widest])


@contextmanager
def opened(path: Path) -> Iterator[Columns]:
    """Every variable on faces, with ``lat`` and ``lon`` of the pixels; a snapshot gets an axis ``time`` of one."""
    is_there(path, "a NetCDF file")
    beside = next((other for end in BESIDE if (other := path.with_suffix(end)).is_file()), path)
    with ExitStack() as stack:
        data = stack.enter_context(_dataset(path))
        mesh = data if beside == path else stack.enter_context(_dataset(beside))
        missing = [name for name in FACES if name not in mesh.variables]
        if missing:
            raise DataError(
                f"expected the middles of a mesh's faces, got no variable {' and '.join(missing)} ({beside}); "
                f"put a UGRID file {path.stem}.ug beside the data, or use format netcdf"
            )
        (axis,) = mesh["face_lat"].dims
        grid = regridding(*(mesh[name].to_numpy().astype(np.float64) for name in FACES))
        yield {
            **{name: partial(_axis, values) for name, values in (("lat", grid.lat), ("lon", grid.lon))},
            **{
                str(name): partial(_field, str(name), variable, str(axis), grid, path)
                for name, variable in data.variables.items()
                if axis in variable.dims and variable.ndim > 0 and str(name) not in (axis, *FACES)
            },
        }


def _dataset(path: Path) -> Any:
    import xarray

    from kilonode.data import shard

    with path.open("rb") as stream:
        classic = stream.read(3) == CLASSIC
    if not classic:
        with shard.opened_foreign(path):
            pass  # links and virtual datasets of other files are refused
    return xarray.open_dataset(path, engine="scipy" if classic else "h5netcdf", decode_times=False, cache=False)


def _axis(values: np.ndarray) -> Column:
    def read(start: int, stop: int, axis: int) -> np.ndarray:
        return values[start:stop]

    return Column(values.shape, values.dtype, read, "degrees", "middle of the pixels")


def _field(name: str, variable: Any, axis: str, grid: Regridding, path: Path) -> Column:
    """One variable on the pixels; the axis of faces becomes the last two."""
    if variable.sizes[axis] <= grid.faces.max():
        count = variable.sizes[axis]
        raise DataError(
            f"expected {name!r} on {grid.faces.max() + 1} faces or more, got {count} ({path}); mesh of another file?"
        )
    leading = [str(dim) for dim in variable.dims if dim != axis]
    dims = leading if "time" in leading else ["time", *leading]
    shape = tuple(variable.sizes.get(dim, 1) for dim in dims) + grid.missing.shape

    def read(start: int, stop: int, cut: int) -> np.ndarray:
        values = variable.transpose(*leading, axis)
        here = dims[cut] if cut < len(dims) else None
        if here in leading:
            values = values.isel({here: slice(start, stop)})
        found = grid(values.to_numpy()).reshape([*(values.sizes.get(dim, 1) for dim in dims), *grid.missing.shape])
        return found if here in leading else found[(slice(None),) * cut + (slice(start, stop),)]

    return Column(shape, np.dtype(variable.dtype), read, **described(variable.attrs), dims=(*dims, "lat", "lon"))
