"""``maps.h5`` of the stage explain, made small enough to travel inside the page.

Shape legend: S seeds, N samples, T thumbnails, h rows, w columns.
"""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

from kilonode.errors import UserError
from kilonode.records import Json

POINTS = 4000
"""Shown at most: more would neither be told apart on a screen nor fit."""
TILES = 20
"""Thumbnails in a row of the sheet."""


def packed(path: Path) -> Json:
    """What the page draws a map from.

    Returns
    -------
    dict
        ``maps``: base64 of uint16 (S, N, 2), each seed stretched to its square; ``columns``: of each its unit,
        labels or limits, and base64 of float32 (N,); ``sheet``: thumbnails as one picture; ``points``, ``of``.

    Raises
    ------
    UserError
        A file that is not what the stage explain writes.
    """
    try:
        with h5py.File(path) as file:
            maps = np.asarray(file["maps"][:, :POINTS], dtype=np.float64)
            columns = [_column(name, data) for name, data in file.get("columns", {}).items()]
            named = {
                "samples": [int(value) for value in file["sample_id"][:POINTS]],
                "of": int(file["maps"].shape[1]),
                "perplexity": float(file.attrs["perplexity"]),
                "method": str(file.attrs["method"]),
            }
            sheet = _sheet(file["thumbnails"][:]) if "thumbnails" in file else None
    except (OSError, KeyError) as error:
        raise UserError(f"expected maps as explain writes them, got {error} ({path}); rerun explain") from error
    low, high = maps.min(axis=1, keepdims=True), maps.max(axis=1, keepdims=True)
    middle, reach = (low + high) / 2, np.maximum((high - low).max(axis=2, keepdims=True), 1e-12)
    square = np.clip((maps - middle) / reach + 0.5, 0, 1)  # one scale for both axes: angles stay
    return {
        **named,
        "maps": _base64((square * 65535).round().astype("<u2")),
        "seeds": len(maps),
        "points": maps.shape[1],
        "columns": sorted(columns, key=lambda column: (column["nuisance"], not column["labels"])),
        "sheet": sheet,
    }


def _column(name: str, data: Any) -> Json:
    values = np.asarray(data[:POINTS])
    labels = json.loads(data.attrs["labels"]) if "labels" in data.attrs else None
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    limits = np.percentile(finite, [2, 98]) if len(finite) else np.zeros(2)  # a few large values would hide the rest
    return {
        "name": str(data.attrs.get("name", name)),  # as it was called: a path in HDF5 cannot hold a slash
        "unit": str(data.attrs.get("unit", "1")),
        "nuisance": bool(data.attrs.get("nuisance", False)),
        "labels": labels,
        "limits": [float(limits[0]), float(limits[1])],
        "values": _base64(values.astype("<f4")),
    }


def _sheet(tiles: np.ndarray) -> Json:
    """Thumbnails uint8 (T, h, w) side by side as one WebP picture; the last row is filled with black."""
    count, h, w = tiles.shape
    rows = -(-count // TILES)
    sheet = np.zeros((rows * TILES, h, w), np.uint8)
    sheet[:count] = tiles
    picture = sheet.reshape(rows, TILES, h, w).swapaxes(1, 2).reshape(rows * h, TILES * w)
    text = io.BytesIO()
    Image.fromarray(picture).save(text, "WEBP", quality=80, method=6)
    source = "data:image/webp;base64," + base64.b64encode(text.getvalue()).decode()
    return {"source": source, "count": count, "h": h, "w": w, "across": TILES}


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
