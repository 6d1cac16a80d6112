"""What the tests of ingest adapters share: a mapping in a line, real files where they are, arrays as they were kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml

from kilonode.cases.ragged import Ragged, concatenate
from kilonode.data import ingest
from kilonode.errors import UserError

Json = dict[str, Any]
HOME = Path(__file__).parents[2] / "shared/data/real"
BLOCK = {"block": 1}


def real(name: str) -> Path:
    """A third-party file; the test is skipped where it is not there."""
    if not (HOME / name).is_file():
        pytest.skip(f"needs the third-party file {name} beside the checkout")
    return HOME / name


def field(dataset: str | list[str], **more: Any) -> Json:
    """A field of a mapping, with a unit and a long name unless they are None."""
    key = "dataset" if isinstance(dataset, str) else "datasets"
    words = {"unit": "m", "long_name": "x", **more}
    return {key: dataset, **{name: value for name, value in words.items() if value is not None}}


def said(dataset: str | list[str], **more: Any) -> Json:
    """A field whose unit and long name the source says."""
    return field(dataset, **{"unit": None, "long_name": None, **more})


def ingested(folder: Path, format: str, source: Path, columns: Json) -> Json:
    """Ingest one table: its arrays with all shards joined, its fields, and the index.

    ``columns`` gets a group of its own for each sample unless it has a group.
    """
    mapping = write_mapping(folder, format, columns)
    ingest.run("reactor_neutrinos", str(mapping), source, folder / "raw/index.json")
    return kept(folder / "raw/index.json")


def write_mapping(folder: Path, format: str, columns: Json) -> Path:
    """A mapping of one table."""
    folder.mkdir(parents=True, exist_ok=True)
    name = next(iter(columns))
    content = {
        "name": "mine",
        "case": "reactor_neutrinos",
        "format": format,
        "source": "a test",
        "simulated": True,
        "tables": {"samples": {"group": BLOCK, **columns}},
        "tasks": {"autoencoder": {"table": "samples", "input": {"field": name, "transform": "none"}}},
    }
    mapping = folder / "mapping.yaml"
    mapping.write_text(yaml.safe_dump(content))
    return mapping


def kept(path: Path) -> Json:
    """What a raw folder holds, all shards joined."""
    index = json.loads(path.read_text())
    described = index["tables"]["samples"]
    parts: dict[str, list[Any]] = {name: [] for name in described}
    for entry in index["shards"]:
        with h5py.File(path.parent / entry["file"]) as file:
            for name, found in parts.items():
                found.append(_array(file[f"samples/{name}"]))
    arrays = {
        name: found[0] if described[name].get("layout") == "shared" else concatenate(found)
        for name, found in parts.items()
    }
    return {"index": index, "fields": described, "arrays": arrays}


def _array(item: Any) -> np.ndarray | Ragged:
    return Ragged(item["values"][()], item["offsets"][()]) if isinstance(item, h5py.Group) else item[()]


def refused(folder: Path, format: str, source: Path, columns: Json) -> list[str]:
    """What is said of a mapping that cannot be, with the source as F; nothing may be written."""
    with pytest.raises(UserError) as caught:
        ingested(folder, format, source, columns)
    assert not (folder / "raw").exists()
    return [line.replace(str(source), "F") for line in caught.value.problems]
