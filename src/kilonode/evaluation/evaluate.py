"""Stage ``evaluate``: one trained network on the test groups, with intervals, beside the baselines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from sklearn.decomposition import PCA

from kilonode import config, intervals
from kilonode.cases import contract
from kilonode.data.lazily import Lazily
from kilonode.data.shard import TRUTH
from kilonode.data.split import SPLITS
from kilonode.data.store import Store
from kilonode.evaluation import classes, read_outs
from kilonode.evaluation.network import Network
from kilonode.progress import progress
from kilonode.records import Json, complete, conditions, figure, write_json

DECILES = 10
CURVE = ("label", "score", "weight")


def run(
    case: str,
    task: str,
    data: str,
    seed: int,
    store: Path,
    weights: Path,
    output: Path,
    curves: Path,
    tuned: Path | None = None,
) -> None:
    """Measure, and write the record and the scores behind it.

    Parameters
    ----------
    case, task, data, seed
        What was trained.
    store : Path
        Index of the store; test groups and truth are opened here.
    weights : Path
        What ``train`` wrote.
    output : Path
        The record, schemas/bench.json; each figure also has question, metric, method and role.
    curves : Path
        HDF5: ``curves/<question>/<method>/{label,score,weight}`` of the linear probes or of the classes, and
        ``arrays/<name>``, what the case measured for its figures.
    tuned : Path, optional
        Folder of the task's searches: configuration, classical methods, and answers on outer folds.
    """
    settings, resolved, simulated = (
        config.task(case, data, task, tuned),
        config.resolve(case, data),
        data in config.TIERS,
    )
    stores = {split: Store(store, split, truth=True) for split in SPLITS}
    network = Network(case, task, settings, stores["test"], weights)
    raw = Lazily(SPLITS, lambda split: stores[split].read(network.scaler.field))
    rows: list[Json] = []
    scores: read_outs.Curves = {}
    target = settings.get("target")
    if target and stores["test"].fields[target]["shape"] == []:
        rows, scores = classes.compare(contract.load(case), task, settings, network, raw, stores, tuned)
    elif not target:  # targets of other shapes are for the case's measures
        rows, scores = _codes(case, task, settings, network, raw, stores, simulated)
    trained = contract.Trained(task, settings, network, stores, raw, simulated, tuned)
    measured = measures.measure(trained) if (measures := contract.load(case).measures) else contract.Measured([])
    rows += measured.rows
    label = f"{case}/{config.data_name(data)}/{task}"
    named = {"case": case, "data": config.data_name(data), "task": task, "seed": seed}
    for row in rows:
        row.update(named, name="/".join([label, row["question"], row["metric"], row["method"]]))
    write_curves(curves, {**scores, **measured.curves}, measured.arrays)
    index = stores["test"].index
    write_json(
        output,
        {
            "bench": "evaluate",
            "figures": rows,
            "conditions": conditions(
                seeds=[seed],
                title=resolved["title"],
                question=resolved["question"] if simulated else "",
                task=settings.get("about", ""),
                article=settings.get("article", "") if simulated else "",
                source=index["source"],
                simulated=index["simulated"],
                split_sha256=index["split_sha256"],
                rows=index["rows"],
                model=settings["model"],
                training=settings["training"],
                parameters=sum(p.numel() for p in network.model.parameters()),
            ),
        },
    )


def _codes(
    case: str,
    task: str,
    settings: Json,
    network: Network,
    raw: Mapping[str, np.ndarray],
    stores: dict[str, Store],
    simulated: bool,
) -> tuple[list[Json], read_outs.Curves]:
    """The code of an unlabelled network against PCA of the same width and the case's classical features."""
    blocks, pca = representations(case, task, network, raw, stores, simulated)
    questions = settings.get("read_outs", {})
    rows, curves = _reconstruction(network, raw["test"], pca, stores["test"].read("group")), {}
    for name in progress(questions, len(questions), f"evaluate {case}/{task}"):
        question = read_outs.ask(name, questions[name], stores, blocks)
        found, scores = read_outs.answer(question, blocks)
        rows += found
        curves.update(scores)
    return rows, curves


def representations(
    case: str, task: str, network: Network, raw: Mapping[str, np.ndarray], stores: dict[str, Store], simulated: bool
) -> tuple[dict[str, dict[str, np.ndarray]], PCA]:
    """Every representation of every split: code, pca (same width, fitted on training groups), classical, oracle."""
    blocks: dict[str, dict[str, np.ndarray]] = {"code": {split: network.features(raw[split]) for split in SPLITS}}

    def flat(split: str) -> np.ndarray:  # one at a time: each is as large as its data
        return network.scaler(raw[split]).reshape(len(raw[split]), -1)

    x = flat("train")
    width = min(blocks["code"]["train"].shape[1], *x.shape)
    pca = PCA(n_components=width, svd_solver="randomized", random_state=0, copy=False).fit(x)  # x is spoilt
    del x
    blocks["pca"] = {split: pca.transform(flat(split)) for split in SPLITS}
    baseline = contract.load(case).baseline
    for split in SPLITS:
        for name, block in baseline.features(task, network.scaler.select(raw[split])).items():
            blocks.setdefault(name, {})[split] = block
        known = (name for name in stores[split].fields if name.startswith(TRUTH))
        truth = Lazily(known, stores[split].read)
        for name, block in (baseline.oracle(task, truth) if simulated else {}).items():
            blocks.setdefault(name, {})[split] = block
    return blocks, pca


def _reconstruction(network: Network, raw: np.ndarray, pca: PCA, groups: np.ndarray) -> list[Json]:
    """Mean squared error a pixel in the network's units, of network and PCA; also by decile of the input's size."""
    x = network.scaler(raw).reshape(len(raw), -1)
    errors = {
        "code": ((network.outputs(raw).reshape(len(raw), -1) - x) ** 2).mean(axis=1),
        "pca": ((pca.inverse_transform(pca.transform(x)) - x) ** 2).mean(axis=1),
    }
    resampled = intervals.resamples(groups)
    decile = np.argsort(np.argsort(network.scaler.select(raw).reshape(len(raw), -1).sum(axis=1))) * DECILES // len(raw)
    rows = []
    for method, error in errors.items():
        role = "network" if method == "code" else "baseline"
        labels: dict[str, Any] = {
            "question": "reconstruction",
            "method": method,
            "role": role,
            "n": len(raw),
            "about": "",
        }
        whole = intervals.bootstrap(intervals.mean(error), resampled)
        rows.append(figure("", whole.value, "1", whole.interval, metric="mse", **labels))
        for number in range(DECILES):
            value = float(error[decile == number].mean())
            rows.append(figure("", value, metric=f"mse_decile_{number + 1:02d}", **labels))
    return rows


def write_curves(path: Path, curves: read_outs.Curves, arrays: contract.Arrays) -> None:
    """Scores and arrays as HDF5, complete or not at all."""
    with complete(path) as temporary, h5py.File(temporary, "w") as file:
        for question, methods in curves.items():
            for method, columns in methods.items():
                for name, column in zip(CURVE, columns, strict=True):
                    file[f"curves/{question}/{method}/{name}"] = column
        for name, array in arrays.items():
            file[f"arrays/{name}"] = array


def read_curves(path: Path) -> tuple[read_outs.Curves, contract.Arrays]:
    """What ``write_curves`` wrote."""
    with h5py.File(path, "r") as file:
        curves = {
            question: {method: tuple(group[name][()] for name in CURVE) for method, group in methods.items()}
            for question, methods in file.get("curves", {}).items()
        }
        return curves, {name: array[()] for name, array in file.get("arrays", {}).items()}
