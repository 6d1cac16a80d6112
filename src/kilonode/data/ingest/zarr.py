"""Zarr version 3, through zarr-python: a folder of arrays. Version 2 is refused: its filters may unpickle."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from kilonode.data.ingest._column import Columns, column, is_there
from kilonode.errors import DataError


@contextmanager
def opened(path: Path) -> Iterator[Columns]:
    """Arrays by their path in the group; a store that is one array calls it ``array``."""
    import zarr

    is_there(path, "the folder of a Zarr store", folder=True)
    if (path / ".zgroup").exists() or (path / ".zarray").exists():
        raise DataError(f"expected Zarr version 3, got version 2 ({path}); convert it with `zarr migrate v3`")
    root = zarr.open(store=path, mode="r", zarr_format=3)
    arrays = {"array": root} if isinstance(root, zarr.Array) else dict(root.members(max_depth=None))
    yield {
        name: partial(column, array, array.attrs.asdict(), dims=_dims(array))
        for name, array in arrays.items()
        if isinstance(array, zarr.Array)
    }


def _dims(array: Any) -> tuple[str, ...]:
    return tuple(str(name) for name in array.metadata.dimension_names or ())
