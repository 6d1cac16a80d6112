"""LHC events in files of other programs: ROOT and back, and collisions of an experiment through a trained network."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pythia8mc", reason="the LHC case needs pythia8mc")
pytest.importorskip("fastjet", reason="the LHC case needs fastjet")

from small_ingest import field, ingested, real

from kilonode import config
from kilonode.cases.lhc_events import collisions, detector, export
from kilonode.cases.lhc_events.simulate import simulate as generate
from kilonode.data import ingest, preprocess, simulate
from kilonode.data.raw import Raw
from kilonode.training import finish, train

EXAMPLE = Path(__file__).parents[2] / "examples/cms_events"


def test_events_come_back_from_a_root_file_through_ingest(tmp_path):
    few = {"pixels": 16, "per_block": {"gluino": 6}, "unseen": {}}
    events = generate(1, 0, few)["events"]
    export.to_root(tmp_path / "events.root", {"events": events})
    names = {"image": "GeV", "weight": "1", "process": "1", "truth_generated": "1"}
    columns = {name: field(f"events/{name}", unit=unit) for name, unit in names.items()}
    arrays = ingested(tmp_path, "root", tmp_path / "events.root", columns)["arrays"]
    for name in ("image", "weight", "process"):
        np.testing.assert_array_equal(arrays[name], events[name])
    np.testing.assert_array_equal(arrays["truth_generated"], events["truth/generated"])


def test_particles_are_drawn_as_the_simulation_draws_its_own():
    """A photon, a pion, a muon, and a pion beyond the tracker, one event; nothing in the second."""
    code, charge = np.array([22, -211, 13, 211]), np.array([0, -1, -1, 1])
    pt, eta, phi = np.array([300.0, 200.0, 50.0, 40.0]), np.array([0.1, 0.2, 0.0, 2.7]), np.array([0.0, 0.1, 1.0, 4.0])
    image, table = collisions.pictures(np.zeros(4, np.int64), pt, eta, phi, code, charge, 2, 16)
    assert image[0].sum((1, 2)).tolist() == [500, 300, 2]
    assert not image[1].any()
    assert table[0, :2] == pytest.approx([1, np.sqrt(2 * 300 * 200 * (np.cosh(0.1) - np.cos(0.1)))], rel=1e-5)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A small store and a classifier that was trained on it, made by the verbs."""
    home = tmp_path_factory.mktemp("toy")
    few = {"groups": 4, "groups_per_shard": 4, "unseen": {}}
    small = config.merged(config.resolve("lhc_events", "toy"), {"simulation": few})
    small["tasks"]["classifier"]["training"] |= {"epochs": 1, "warmup_epochs": 0}
    resolve = config.resolve
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "resolve", lambda case, data: small if data == "toy" else resolve(case, data))
        simulate.run("lhc_events", "toy", home / "raw/index.json")
        preprocess.run("lhc_events", "toy", "events", home / "raw/index.json", home / "store/index.json")
        train.run("lhc_events", "classifier", "toy", 0, home / "store/index.json", home / "state", "mpi4py", "")
        finish.run(home / "state", home / "weights.safetensors", home / "metrics.json")
        yield home


@pytest.mark.parametrize(
    ("mapping", "source", "events"),
    [
        ("mapping", "pfnano.root", 10),
        ("jets", "nano_dimuon.root", 40),
    ],
)
def test_cms_events_go_through_ingest_imaging_and_a_trained_classifier(
    toy, tmp_path, monkeypatch, mapping, source, events
):
    path = real(f"collider/{source}")
    ingest.run("lhc_events", str(EXAMPLE / f"{mapping}.yaml"), path, tmp_path / "raw/index.json")
    paths = {"raw": tmp_path / "raw/index.json", "store": toy / "store/index.json", "output": tmp_path}
    words = [f"--{name}={path}" for name, path in {**paths, "weights": toy / "weights.safetensors"}.items()]
    monkeypatch.setattr(sys, "argv", ["score.py", "--tier=toy", *words])
    script = runpy.run_path(str(EXAMPLE / "score.py"), run_name="__main__")
    found = json.loads((tmp_path / "scores.json").read_text())["events"]
    assert len(found) == events
    assert np.isfinite([row["score"] for row in found]).all()
    assert all(0 <= row["share_of_simulated_QCD_above"] <= 1 for row in found)
    assert (tmp_path / "events.png").stat().st_size > 20_000
    columns = Raw(tmp_path / "raw/index.json", "particles").columns(0, ["pt", "eta"])
    pt, eta = (columns[name].array for name in ("pt", "eta"))
    if mapping == "mapping":
        muon = np.abs(Raw(tmp_path / "raw/index.json", "particles").columns(0, ["code"])["code"].array.values) == 13
    else:
        muon = np.zeros(len(pt.values), bool)
    seen = np.where((np.abs(eta.values) < detector.ETA) & ~muon, pt.values.astype(np.float64), 0)
    expected = np.bincount(np.repeat(np.arange(events), pt.counts), seen, events)
    image, _ = script["events"](tmp_path / "raw/index.json", 64)
    np.testing.assert_allclose(image[:, 0].sum((1, 2)), expected, rtol=1e-5)
    np.testing.assert_allclose([row["transverse_energy_GeV"] for row in found], expected, rtol=1e-5)
