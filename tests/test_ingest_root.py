"""ROOT: flat and ragged branches of real collisions, components side by side, what uproot builds as objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import uproot
from small_ingest import field, ingested, real, refused, said

from kilonode.data import ingest

MUONS = [f"events/Muon_{name}" for name in ("E", "Px", "Py", "Pz")]


def test_real_muons_are_muons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "SHARD_BYTES", 20_000)
    columns = {"muons": field(MUONS, unit="GeV"), "number": field("events/NMuon", unit="1")}
    found = ingested(tmp_path, "root", real("collider/uproot-HZZ.root"), columns)
    muons = found["arrays"]["muons"]
    assert len(found["index"]["shards"]) > 3
    assert len(muons) == 2421
    assert np.array_equal(muons.counts, found["arrays"]["number"])
    energy, *momentum = muons.values.T.astype(np.float64)
    mass2 = energy**2 - sum(p**2 for p in momentum)
    assert np.median(np.sqrt(mass2.clip(0))[energy < 50]) == pytest.approx(0.10566, abs=0.01)
    pairs = muons.counts == 2
    first = muons.offsets[:-1][pairs]
    total = muons.values[first].astype(np.float64) + muons.values[first + 1]
    mass = np.sqrt((total[:, 0] ** 2 - (total[:, 1:] ** 2).sum(1)).clip(0))
    assert np.median(mass) == pytest.approx(91.19, abs=1.5)  # the Z boson


def test_real_candidates_of_simulated_events(tmp_path: Path) -> None:
    path = real("collider/pfnano.root")
    tracks = [f"Events/PFCands_{name}" for name in ("pt", "eta", "phi", "mass")]
    columns = {"candidates": field(tracks, unit="GeV"), "met": said("Events/CaloMET_pt", unit="GeV")}
    found = ingested(tmp_path, "root", path, {**columns, "group": {"dataset": "Events/event"}})
    assert len(found["arrays"]["candidates"].values) == 18_197
    assert len(found["arrays"]["group"]) == 10
    assert found["fields"]["met"]["long_name"] == "pt"  # the title of the branch
    with uproot.open(path) as file:
        assert np.array_equal(found["arrays"]["met"], file["Events/CaloMET_pt"].array(library="np"))


def test_objects_of_an_experiment_are_refused(tmp_path: Path) -> None:
    path = real("km3net/KM3NeT_00000133_JDAQEvent.root")
    (line,) = refused(tmp_path, "root", path, {"hits": field("KM3NET_EVENT/KM3NET_EVENT/triggeredHits")})
    assert line == "expected numbers in 'KM3NET_EVENT/KM3NET_EVENT/triggeredHits', got object (F); map another dataset"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "mine.root"
    with uproot.recreate(path) as file:
        file["t"] = {
            "flat": np.arange(6, dtype=np.float32),
            "grid": np.arange(24.0).reshape(6, 2, 2),
            "jet": [[1.0, 2.0], [], [3.0], [4.0, 5.0, 6.0], [], [7.0]],
            "lepton": [[1], [2], [], [3, 4], [5], []],
            "broken": [[1.0], [np.nan, 2.0], [], [], [], []],
        }
    return path


def test_flat_and_ragged_branches(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "SHARD_BYTES", 64)
    columns = {"flat": field("t/flat"), "grid": field("t/grid"), "jets": field("t/jet"), "two": field(["t/jet"] * 2)}
    found = ingested(tmp_path / "out", "root", source, columns)
    arrays = found["arrays"]
    assert len(found["index"]["shards"]) > 1
    assert arrays["flat"].tolist() == list(range(6))
    assert arrays["grid"].tolist() == np.arange(24.0).reshape(6, 2, 2).tolist()
    assert arrays["jets"].values.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert arrays["jets"].offsets.tolist() == [0, 2, 2, 3, 6, 6, 7]
    assert arrays["two"].values.T.tolist() == [[1, 2, 3, 4, 5, 6, 7]] * 2


def test_a_missing_value_of_a_sample_is_found(tmp_path: Path, source: Path) -> None:
    (line,) = refused(tmp_path / "out", "root", source, {"x": field("t/broken", unit="1")})
    assert line.startswith("expected finite values in 't/broken', got nan at (1, 0) and 0 more (F); declare `fill:")
    found = ingested(tmp_path / "filled", "root", source, {"x": field("t/broken", fill=0)})
    assert found["arrays"]["x"].values.tolist() == [1, 0, 2]
    assert found["index"]["remarks"] == {"samples/x": {"filled": 1}}


def test_components_must_belong_together(tmp_path: Path, source: Path) -> None:
    (line,) = refused(tmp_path / "out", "root", source, {"x": field(["t/jet", "t/lepton"])})
    assert line.startswith("expected as many elements in 't/lepton' as in 't/jet', got others")
    lines = refused(tmp_path / "out", "root", source, {"x": field(["t/jet", "t/flat"]), "y": field("t/jets")})
    assert lines == [
        "expected components of one kind and shape in 'samples/x', got {'t/jet': (), 't/flat': ()} (F); map others",
        "expected dataset 't/jets', got none (F); did you mean 't/jet'?",
    ]


def test_a_damaged_file_is_a_line(tmp_path: Path, source: Path) -> None:
    bad = tmp_path / "bad.root"
    bad.write_bytes(b"nothing of ROOT's" * 10)
    (line,) = refused(tmp_path / "out", "root", bad, {"x": field("t/flat")})
    assert line.startswith("expected a readable root file, got ")
