"""The stage explain from a store to its files, and where each case says that the truth is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import safetensors.torch
import torch

from kilonode import config
from kilonode.cases import contract, names
from kilonode.errors import UserError
from kilonode.evaluation.evaluate import write_curves
from kilonode.explain import explain, saliency
from kilonode.records import write_json
from kilonode.training.build import build

CASE, TASK = "reactor_neutrinos", "autoencoder"


@pytest.fixture(scope="module")
def explained(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the rule leaves it, of a network of random weights: it has learned nothing."""
    home = tmp_path_factory.mktemp("explained")
    with pytest.MonkeyPatch.context() as patch:
        settings = config.task(CASE, "toy", TASK)
        settings["explain"] |= {"points": 60, "seeds": 2, "perplexity": 10}
        settings["explain"]["saliency"] |= {"samples": 24, "untrained": 4}
        patch.setattr(config, "task", lambda *arguments: settings)
        torch.manual_seed(11)
        model = build(CASE, TASK, settings["model"], (2, 8, 24))
        safetensors.torch.save_file(dict(model.state_dict()), home / "weights.safetensors")
        write_json(home / "metrics.json", {"history": [{"epoch": 0, "train_loss": 1.0, "validation_loss": 1.0}]})
        write_curves(home / "curves.h5", {}, {})
        paths = {"weights": "weights.safetensors", "curves": "curves.h5", "history": "metrics.json"}
        paths |= {"output": "explanation.json", "figures": "figures", "embedding": "maps.h5"}
        folder: dict[str, Any] = {key: home / name for key, name in paths.items()}
        explain.run(CASE, TASK, "toy", toy / "store/pairs/index.json", seed=4, **folder)
        first = (home / "maps.h5").read_bytes()
        shutil.move(home / "maps.h5", home / "before.h5")
        explain.run(CASE, TASK, "toy", toy / "store/pairs/index.json", seed=4, **folder)
        assert (home / "maps.h5").read_bytes() == first  # no time, no host, no other bits
    return home


def test_the_maps_are_of_the_samples_they_name(explained: Path, toy: Path) -> None:
    with h5py.File(explained / "maps.h5") as file, h5py.File(toy / "store/pairs/test-00000.h5") as store:
        assert dict(file.attrs) == {
            "case": CASE, "data": "toy", "task": TASK, "seed": 4, "method": "openTSNE", "perplexity": 10.0,
        }  # fmt: skip
        assert file["maps"].shape == (2, 60, 2)
        assert file["thumbnails"].shape == (60, 8, 24)
        np.testing.assert_array_equal(file["sample_id"][()], store["sample_id"][:60])
        np.testing.assert_array_equal(file["columns/kind"][()], store["y_pair"][:60])
        assert json.loads(file["columns/kind"].attrs["labels"])["2"] == "lithium-9"
        nuisances = {name for name, column in file["columns"].items() if column.attrs["nuisance"]}
        assert nuisances == {"prompt charge", "run"}
        assert set(file["columns"]) == set(config.task(CASE, "toy", TASK)["columns"])


def test_the_record_scores_saliency_against_truth_with_its_controls(explained: Path) -> None:
    record = json.loads((explained / "explanation.json").read_text())
    config.check({key: record[key] for key in ("bench", "figures", "conditions")}, config.schema("bench"), "it")
    known = [row for row in record["figures"] if row.get("question") == "saliency"]
    methods = {row["method"] for row in known if row["metric"] == "truth_auc"}
    mine = {"gradients", "integrated_gradients", "occlusion"}
    assert methods == mine | {f"{name}_random_weights" for name in mine} | {"input_brightness"}
    assert {row["method"] for row in known if row["metric"] == "truth_auc_over_random_weights"} == mine
    for row in known:
        assert row["seed"] == 4
        assert row["n"] == 24
        assert row["interval"][0] <= row["value"] <= row["interval"][1]
    captions = record["captions"]
    assert sorted(captions) == sorted(path.stem for path in (explained / "figures").iterdir())
    assert "above the brightness of the input." in captions["saliency_truth"]


def test_a_network_that_has_learned_nothing_does_not_beat_random_weights(explained: Path) -> None:
    record = json.loads((explained / "explanation.json").read_text())
    by = {(row.get("metric"), row.get("method")): row for row in record["figures"]}
    for method in ("gradients", "integrated_gradients", "occlusion"):
        low, high = by["truth_auc_over_random_weights", method]["interval"]
        assert low < 0 < high


def scoring() -> list[tuple[str, str]]:
    """Every task whose saliency is scored."""
    tasks = [(case, task, found) for case in names() for task, found in config.resolve(case, "toy")["tasks"].items()]
    return [(case, task) for case, task, found in tasks if "saliency" in found["explain"]]


@pytest.mark.parametrize("case", ["mass_maps", "lhc_events", "reactor_neutrinos"])
def test_a_case_with_a_known_place_of_what_matters_scores_it(case: str) -> None:
    assert case in {name for name, _ in scoring()}


@pytest.mark.parametrize(("case", "task"), scoring())
def test_a_scored_task_says_in_words_what_is_true_and_reads_no_more_than_it_names(case: str, task: str) -> None:
    settings = config.task(case, "toy", task)
    asked = settings["explain"]["saliency"]
    assert asked["about"]
    assert set(asked["fields"]) <= set(config.resolve(case, "toy")["tables"][settings["table"]])


def test_true_pixels_of_a_mass_map_surround_its_peaks() -> None:
    halos = np.full((1, 20, 4), -50, np.float32)
    halos[0, 0, :2] = 5, 9  # column, row
    truth = contract.load("mass_maps").truth.pixels("any", {"truth/halos": halos}, (1, 32, 32))
    assert truth.shape == (1, 1, 32, 32)
    assert truth[0, 0, 9, 5]
    assert truth[0, 0, 9, 8]
    assert not truth[0, 0, 5, 9]
    assert truth.sum() == 29  # a disc of radius 3


def test_true_pixels_of_a_collision_go_around_in_azimuth() -> None:
    features = np.zeros((1, 24), np.float32)
    features[0, 4:8] = 500, 0, np.pi - 0.05, 100  # pT, eta, phi, mass of the first jet
    truth = contract.load("lhc_events").truth.pixels("any", {"features": features}, (3, 64, 64))[0, 0]
    assert truth[32, 63]
    assert truth[32, 0]  # the other side of phi = pi
    assert not truth[32, 32]
    area = truth.mean() * 5 * 2 * np.pi
    assert area == pytest.approx(np.pi, rel=0.05)


def test_true_tubes_of_a_flash_face_it_and_muons_have_none() -> None:
    event = np.zeros((2, 2, 6), np.float32)
    event[0, 0, :4] = 4, 1.5, 0, 1.0  # MeV; at +x, high up
    event[0, 1, :4] = 8, -1.5, 0, -1.0
    event[1, :, 5] = 5  # muons
    truth = contract.load("reactor_neutrinos").truth.pixels("any", {"truth/event": event}, (2, 8, 24))
    assert truth.shape == (2, 2, 8, 24)
    assert truth[0].mean() == pytest.approx(0.25, abs=0.02)
    assert truth[0, 0, 5, 0]  # column 0 faces +x
    assert not truth[0, 0, 5, 12]
    assert truth[0, 1, 2, 12]
    assert not truth[1].any()


def test_a_mapping_does_not_inherit_the_truth_of_a_simulation() -> None:
    mapping = "examples/muon_images/mapping.yaml"
    assert "saliency" not in config.task(CASE, mapping, TASK)["explain"]
    assert "saliency" in config.task(CASE, "toy", TASK)["explain"]


def test_truth_that_no_table_holds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = config.read_yaml(config.case_file(CASE))
    whole["tasks"][TASK]["explain"]["saliency"]["fields"] = ["truth/evnt"]
    monkeypatch.setattr(config, "read_yaml", lambda path: whole)
    with pytest.raises(UserError, match=r"explain\.saliency, got 'truth/evnt' .* did you mean 'truth/event'"):
        config.resolve(CASE, "toy")


def test_samples_without_truth_are_not_scored(toy: Path) -> None:
    from kilonode.data.store import Store
    from kilonode.evaluation.network import Network

    settings = config.task(CASE, "toy", "classifier")
    settings["explain"]["saliency"]["samples"] = 10
    test = Store(toy / "store/singles/index.json", "test", truth=True)
    network = Network(CASE, "classifier", settings, test, None)
    found = saliency.scored(CASE, "classifier", settings, network, test, np.arange(40))
    assert len(found.inputs) == 10
    assert found.truth.reshape(10, -1).any(axis=1).all()
    assert [row["n"] for row in found.rows] == [10] * len(found.rows)
    kinds = np.isin(test.take("truth/event", np.arange(40))[:, 5], (5, 6))
    assert kinds.any()  # there were muons and flashers among the first
