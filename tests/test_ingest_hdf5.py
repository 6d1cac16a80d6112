"""HDF5: ragged hits by offsets and counts, columns of compound datasets, blocks of a fixed size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from small_ingest import Json, field, ingested, kept, real, refused, said, write_mapping

from kilonode.cases.ragged import Ragged
from kilonode.data import ingest

HITS = {"offsets": "hits/_indices/index", "counts": "hits/_indices/n_items"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three samples of 2, 0 and 3 elements, told in every way there is."""
    path = tmp_path / "mine.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(5.0)
        file["y"] = np.arange(5.0) * 10
        file["vector"] = np.arange(10.0).reshape(5, 2)
        file["counts"] = [2, 0, 3]
        file["starts"] = [0, 2, 2]
        file["offsets"] = [0, 2, 2, 5]
        file["gap"] = [0, 2, 3]
        file["falling"] = [0, 3, 2, 5]
        file["short"] = [2, 0, 2]
        file["run"] = [1, 1, 2]
        file["byte"] = np.array([1, 1, 2], np.uint8)
        file["positions"] = np.eye(3)
        file["speed"] = 299792458
        file["table"] = np.array([(1, 2.5), (3, 4.5), (5, 6.5)], [("number", "<i4"), ("energy", "<f8")])
        file["x"].attrs.update({"unit": "ns", "long_name": "time", "clock": "white rabbit", "odd": np.zeros((9, 9))})
        file["holes"] = np.array([1.0, np.nan, 3.0])
        file["endless"] = np.array([1.0, np.inf, 3.0])
    return path


def test_real_hits_stay_in_their_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "SHARD_BYTES", 8 << 20)
    path = real("km3net/atmospheric_muons_sample.h5")
    time = {"hits": field(["hits/time", "hits/tot"], unit="ns", **HITS), "dom": field("hits/dom_id", **HITS)}
    found = ingested(tmp_path, "hdf5", path, {**time, "group": {"dataset": "event_info/group_id"}})
    hits = found["arrays"]["hits"]
    assert len(found["index"]["shards"]) > 3
    assert len(hits) == 500
    assert hits.values.shape == (2_228_941, 2)
    assert found["fields"]["hits"]["layout"] == "ragged"
    with h5py.File(path) as file:
        assert np.array_equal(hits.values[:, 0], file["hits/time"][()])
        assert np.array_equal(hits.values[:, 1], file["hits/tot"][()])
        assert np.array_equal(hits.counts, file["hits/_indices"]["n_items"])
        # the source says the event of each hit a second time
        events = np.repeat(found["arrays"]["group"], hits.counts)
        assert np.array_equal(events, file["hits/group_id"][()])


@pytest.mark.parametrize(
    "how",
    [{"counts": "counts"}, {"offsets": "offsets"}, {"offsets": "starts"}, {"offsets": "starts", "counts": "counts"}],
)
def test_samples_of_unequal_length(tmp_path: Path, source: Path, how: Json) -> None:
    columns = {"hits": field(["x", "y"], **how), "vector": field("vector", **how), "e": field("table/energy")}
    found = ingested(tmp_path / "out", "hdf5", source, {**columns, "group": {"dataset": "run"}})["arrays"]
    assert found["hits"].values.tolist() == [[0, 0], [1, 10], [2, 20], [3, 30], [4, 40]]
    assert found["vector"].values.tolist() == np.arange(10.0).reshape(5, 2).tolist()
    assert found["hits"].offsets.tolist() == found["vector"].offsets.tolist() == [0, 2, 2, 5]
    assert found["e"].tolist() == [2.5, 4.5, 6.5]


def test_the_source_says_units_and_more(tmp_path: Path, source: Path) -> None:
    found = ingested(tmp_path / "out", "hdf5", source, {"t": said("x", counts="counts")})
    words = found["fields"]["t"]
    assert (words["unit"], words["long_name"], words["attributes"]) == ("ns", "time", {"x": {"clock": "white rabbit"}})
    mine = ingested(tmp_path / "mine", "hdf5", source, {"t": field("x", unit="s", counts="counts")})
    assert mine["fields"]["t"]["unit"] == "s"


def test_shared_arrays_and_blocks_as_groups(tmp_path: Path, source: Path) -> None:
    columns = {
        "e": field("table/energy"),
        "place": field("positions", layout="shared"),
        "c": field("speed", layout="shared"),
        "group": {"block": 2},
    }
    found = ingested(tmp_path / "out", "hdf5", source, columns)
    assert found["arrays"]["place"].tolist() == np.eye(3).tolist()
    assert found["arrays"]["c"] == 299792458
    assert found["fields"]["place"]["shape"] == [3, 3]
    assert found["arrays"]["group"].tolist() == [0, 0, 1]


def test_another_axis_may_be_the_sample(tmp_path: Path, source: Path) -> None:
    found = ingested(tmp_path / "out", "hdf5", source, {"v": field("vector", sample_axis=1)})["arrays"]
    assert found["v"].tolist() == np.arange(10.0).reshape(5, 2).T.tolist()


def test_what_is_missing_is_filled_counted_and_told(
    tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "SHARD_BYTES", 8)  # a shard a sample
    for _ in range(2):  # again, with the shards of the first run
        found = ingested(tmp_path / "out", "hdf5", source, {"h": field("holes", fill=-1)})
        assert found["arrays"]["h"].tolist() == [1, -1, 3]
        assert found["index"]["remarks"] == {"samples/h": {"filled": 1}}
        assert capsys.readouterr().err == "ingest mine.h5: samples/h: filled 1\n"


@pytest.mark.parametrize(
    ("columns", "lines"),
    [
        (
            {"a": field("x", counts="gap"), "b": field("x", counts="short"), "c": field("x", offsets="falling")},
            [
                "expected the samples of 'x' to follow one another over all its 5 elements, "
                f"got 3 samples from 0 to {n} (F); check offsets and counts"
                for n in (5, 4, 5)
            ],
        ),
        (
            {"a": said("y", counts="counts")},
            [f"expected a {key} of 'y', got none (F); add `{key}:` to samples/a" for key in ("unit", "long_name")],
        ),
        (
            {
                "a": field("x", layout="ragged"),
                "b": field("table/energy", fill=0.5),
                "c": field("run", fill=0.5),
                "d": field("byte", fill=-1),
            },
            [
                "expected `offsets` or `counts` of ragged 'x', got neither (samples/a in the mapping); add one",
                "expected a number that fits 'run' (int64), got 0.5 (samples/c.fill); change it",
                "expected a number that fits 'byte' (uint8), got -1 (samples/d.fill); change it",
            ],
        ),
        (
            {"a": field("endless", fill=0)},
            ["expected finite values in 'endless', got inf at (1,) and 0 more (F); mend them at the source"],
        ),
        (
            {"a": field("vector", sample_axis=2), "b": field("vector", sample_axis="time")},
            [
                "expected a sample axis within the shape (5, 2) of 'vector', got 2; change it",
                "expected an axis of 'vector', got 'time' (F); its axes have no names: give a number",
            ],
        ),
        (
            {"a": field("table/energie")},
            ["expected dataset 'table/energie', got none (F); did you mean 'table/energy'?"],
        ),
        (
            {"a": field("run", stamp=[2, 2]), "b": field("x", counts="counts", epochs={"times": "x"})},
            [
                "expected images of 2 axes and a size of their own, got 'run' (F); change `stamp` or leave it out",
                "expected one way to cut 'x' into samples, got counts and epochs (samples/b in the mapping); "
                "choose one",
            ],
        ),
    ],
)
def test_every_mistake_is_a_line(tmp_path: Path, source: Path, columns: Json, lines: list[str]) -> None:
    assert sorted(set(refused(tmp_path / "out", "hdf5", source, columns))) == sorted(set(lines))


@pytest.mark.mpi
def test_three_ranks_write_the_same_bytes(tmp_path: Path, mpiexec: Callable[..., Any]) -> None:
    rng = np.random.default_rng(0)
    counts = rng.poisson(800, 3000)
    values = rng.normal(size=(counts.sum(), 8))
    values[::1_000_003] = np.nan
    with h5py.File(tmp_path / "mine.h5", "w") as file:
        file["x"], file["counts"], file["place"] = values, counts, rng.random((5, 3))
    columns = {"x": field("x", counts="counts", fill=0), "place": field("place", layout="shared")}
    one = ingested(tmp_path / "one", "hdf5", tmp_path / "mine.h5", columns)
    mapping = write_mapping(tmp_path / "three", "hdf5", columns)
    what = ("--case", "reactor_neutrinos", "--data", mapping, "--input", tmp_path / "mine.h5")
    done = mpiexec(3, "-m", "kilonode", "ingest", *what, "--output", tmp_path / "three/raw/index.json")
    assert done.returncode == 0, done
    three = kept(tmp_path / "three/raw/index.json")
    assert len(one["index"]["shards"]) > 2
    assert three["index"]["shards"] == one["index"]["shards"]
    assert (
        three["index"]["remarks"] == one["index"]["remarks"] == {"samples/x": {"filled": int(np.isnan(values).sum())}}
    )
    assert done.stderr.count("samples/x: filled") == 1


def test_an_unknown_format_names_the_known(tmp_path: Path, source: Path) -> None:
    known = ["fits", "hdf5", "mesh", "netcdf", "npz", "nwb", "root", "zarr"]
    (line,) = refused(tmp_path / "out", "hdf", source, {"x": field("x")})
    assert f"got 'hdf' is not one of {known}" in line


def test_ragged_is_the_type_of_the_engine(tmp_path: Path, source: Path) -> None:
    found = ingested(tmp_path / "out", "hdf5", source, {"x": field("x", counts="counts")})["arrays"]["x"]
    assert isinstance(found, Ragged)
    assert [sample.tolist() for sample in np.split(found.values, found.offsets[1:-1])] == [[0, 1], [], [2, 3, 4]]
