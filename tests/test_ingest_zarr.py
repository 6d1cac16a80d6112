"""Zarr version 3: chunks, compression, attributes; version 2, whose filters may unpickle, is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from small_ingest import field, ingested, refused, said

from kilonode.data import ingest


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "mine.zarr"
    root = zarr.open_group(path, mode="w", zarr_format=3)
    maps = root.create_group("sky").create_array(
        "maps", shape=(7, 4, 3), chunks=(2, 4, 3), dtype="f4", dimension_names=["sample", "y", "x"]
    )
    maps[:] = np.arange(84).reshape(7, 4, 3)
    maps.attrs.update({"unit": "K", "long_name": "temperature", "beam": "5 arcmin"})
    root.create_array("values", data=np.arange(9.0))
    root.create_array("counts", data=np.array([3, 0, 1, 1, 2, 0, 2]))
    return path


def test_blocks_attributes_and_ragged(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "SHARD_BYTES", 100)
    columns = {
        "maps": said("sky/maps"),
        "hits": field("values", counts="counts"),
        "x": field("sky/maps", sample_axis="sample"),
    }
    found = ingested(tmp_path / "out", "zarr", source, columns)
    words = found["fields"]["maps"]
    assert len(found["index"]["shards"]) > 2
    assert found["arrays"]["maps"].tolist() == found["arrays"]["x"].tolist() == np.arange(84).reshape(7, 4, 3).tolist()
    assert (words["unit"], words["long_name"], words["attributes"]["sky/maps"]) == (
        "K",
        "temperature",
        {"beam": "5 arcmin"},
    )
    assert found["arrays"]["hits"].offsets.tolist() == [0, 3, 3, 4, 5, 7, 7, 9]
    assert found["arrays"]["hits"].values.tolist() == list(range(9))


def test_a_changed_chunk_changes_the_hash(tmp_path: Path, source: Path) -> None:
    first = ingested(tmp_path / "a", "zarr", source, {"x": field("values"), "group": {"dataset": "values"}})
    zarr.open_group(source, mode="a")["values"][3] = 33
    second = ingested(tmp_path / "b", "zarr", source, {"x": field("values"), "group": {"dataset": "values"}})
    assert first["index"]["sha256_of_input"] != second["index"]["sha256_of_input"]
    assert second["arrays"]["x"][3] == 33


def test_every_mistake_is_a_line(tmp_path: Path, source: Path) -> None:
    assert refused(tmp_path / "out", "zarr", source, {"x": field("sky/map"), "y": field("values")}) == [
        "expected dataset 'sky/map', got none (F); did you mean 'sky/maps'?"
    ]
    (line,) = refused(tmp_path / "out", "zarr", source / "values/zarr.json", {"x": field("values")})
    assert line == "expected the folder of a Zarr store, got something else (F); check the path"
    (source / "zarr.json").write_text("damaged")
    (line,) = refused(tmp_path / "out", "zarr", source, {"x": field("values")})
    assert line.startswith("expected a readable zarr file, got ")


def test_version_2_is_refused(tmp_path: Path) -> None:
    old = tmp_path / "old.zarr"
    zarr.open_group(old, mode="w", zarr_format=2).create_array("x", data=np.arange(3.0))
    (line,) = refused(tmp_path / "out", "zarr", old, {"x": field("x")})
    assert line == "expected Zarr version 3, got version 2 (F); convert it with `zarr migrate v3`"
