"""Small made-up records of runs, as the stages write them: for tests of what gathers and shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

from kilonode.records import conditions, figure, write_json

SHADE = [40, 80, 120, 160, 200]
"""Grey of the first thumbnails."""
PLACE = (0.25, 0.75)
"""Where the map has sample 1003, as shares of its square."""


def run(folder: Path, task: str, seed: int, shift: float = 0.0, groups: int = 30) -> Path:
    """A finished run; ``shift`` is added to the network's values. Returns its ``evaluation.json``."""
    place = folder / f"reactor_neutrinos/toy/{task}/seed-{seed}"
    (place / "figures").mkdir(parents=True)
    value = 0.9 + 0.01 * seed + shift
    named = {"case": "reactor_neutrinos", "data": "toy", "task": task, "seed": seed, "n": 300, "groups": groups}
    network, metric = ("network", "accuracy") if task == "classifier" else ("code", "linear_auc")
    asked = {"question": "class", "about": "which class a sample belongs to"}

    def row(name: str, method: str, role: str, value: float, half: float, **more: Any) -> dict[str, Any]:
        return figure(
            f"{task}/{name}/{method}", value, interval=(value - half, value + half), metric=name, method=method,
            role=role, **asked, **named, **more,
        )  # fmt: skip

    rows = [
        row(metric, network, "network", value, 0.02),
        row(metric, "boosted_trees", "baseline", 0.8, 0.03),
        row(metric, "knn", "baseline", 0.7, 0.03),
        row(metric, "label_rule", "oracle", 0.99, 0.005),
        row(f"{metric}_gain_on_boosted_trees", network, "network", value - 0.8, 0.02, against="boosted_trees"),
    ]
    made = conditions(seeds=[seed])
    about = {"title": "Reactor antineutrinos", "question": "Does it?", "task": "a small network", "article": "79 %"}
    sizes = {"rows": {"train": 600, "validation": 100, "test": 300}, "parameters": 1234, "split_sha256": "ab" * 32}
    settings = {"model": {"features": 8}, "training": {"lr": 0.01}}
    told = {"source": "simulation reactor_neutrinos-1", "simulated": True}
    record = {"bench": "evaluate", "figures": rows, "conditions": {**made, **about, **sizes, **settings, **told}}
    write_json(place / "evaluation.json", record)
    write_json(place / "metrics.json", _metrics(made))
    write_json(place / "explanation.json", _explanation(made))
    (place / "weights.safetensors").write_bytes(bytes([seed, len(task)]))
    Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30).astype(np.uint8)).save(
        place / "figures/examples.png"
    )
    _maps(place / "maps.h5")
    return place / "evaluation.json"


def _metrics(made: dict[str, Any]) -> dict[str, Any]:
    values = {"best_epoch": 3.0, "epochs": 4.0, "samples_per_s": 5000.0}
    history = [{"epoch": k, "train_loss": 2.0 / k, "validation_loss": 2.2 / k} for k in range(1, 5)]
    more = {"backend": "horovod", "mpi": "MPICH 5", "ranks": 2, "threads": 1}
    figures = [figure(name, value) for name, value in values.items()]
    return {"bench": "train", "figures": figures, "history": history, "conditions": {**made, **more}}


def _explanation(made: dict[str, Any]) -> dict[str, Any]:
    rows = [figure(f"tsne/{k}", 0.95, metric="trustworthiness") for k in range(2)]
    told = {"method": "gradients", "question": "saliency", "role": "network"}
    rows.append(figure("saliency/auc", 0.6, interval=(0.55, 0.65), metric="truth_auc", **told))
    gain = {"metric": "truth_auc_over_random_weights", "against": "gradients_random_weights", **told}
    rows.append(figure("saliency/gain", -0.01, interval=(-0.03, 0.01), **gain))
    captions = {"examples": "Test samples.", "learning_curve": "Loss.", "tsne": "Maps."}
    return {"bench": "explain", "figures": rows, "captions": captions, "conditions": {**made, "seeds": [0, 1]}}


def _maps(path: Path) -> None:
    """Five samples: the corners of a square and one within, two seeds."""
    corners = np.array([[0, 0], [1, 0], [1, 1], PLACE, [0, 1]], np.float32)
    with h5py.File(path, "w") as file:
        file["maps"] = np.stack([corners, 1 - corners])
        file["sample_id"] = np.arange(1000, 1005)
        kind = file.create_dataset("columns/kind", data=np.array([0, 1, 0, 1, 0]))
        kind.attrs.update(labels=json.dumps({"0": "QCD", "1": "gluino"}), unit="1", nuisance=False)
        charge = file.create_dataset("columns/total_charge", data=np.arange(5) + 0.5)
        charge.attrs.update(unit="p.e.", nuisance=True)
        file["thumbnails"] = np.array(SHADE, np.uint8)[:, None, None] * np.ones((1, 16, 16), np.uint8)
        file.attrs.update(method="openTSNE", perplexity=3.0)


def scaling(folder: Path) -> Path:
    """A record as ``kilonode scaling run --json`` prints it."""
    rows = [
        figure(f"weak-real, {count} ranks: {what}", value * (count if what == "samples_per_s" else 1))
        for count in (1, 2, 4)
        for what, value in (("samples_per_s", 1000.0), ("efficiency, step", 1.0 - 0.02 * count))
    ]
    write_json(folder / "scaling.json", {"bench": "scaling run", "figures": rows, "conditions": conditions(seeds=[0])})
    return folder / "scaling.json"
