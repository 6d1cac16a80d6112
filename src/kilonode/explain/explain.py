"""Stage ``explain``: maps, saliency and figures of one trained network, from test groups only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from kilonode import config
from kilonode.cases import contract
from kilonode.cases.contract import Batch, Explanation
from kilonode.data.store import Store
from kilonode.evaluation.evaluate import read_curves
from kilonode.evaluation.network import Network
from kilonode.evaluation.read_outs import column
from kilonode.explain import attribute, embed
from kilonode.explain.curves import CAPTIONS, learning_curve
from kilonode.explain.save import save
from kilonode.records import Json, conditions, figure, read_json, write_json
from kilonode.training.loop import keys

SHOWN = 20
"""Samples drawn one by one."""
PROBED = 128
"""Samples whose gradients are averaged, at most."""
PROBED_BYTES = 8 << 20
"""Of these samples together; there is a gradient of this size for each unit."""


def run(
    case: str,
    task: str,
    data: str,
    store: Path,
    weights: Path,
    curves: Path,
    history: Path,
    output: Path,
    figures: Path,
    tuned: Path | None = None,
) -> None:
    """Explain one trained network.

    Parameters
    ----------
    case, task, data : str
        What was trained.
    store, weights, curves, history : Path
        What preprocess, train, evaluate and finish wrote.
    output : Path
        The record: trustworthiness of the maps, saliency scores with their control, and captions.
    figures : Path
        Folder of PNG files, complete or not at all.
    tuned : Path, optional
        Folder of the task's searches, as for ``train``.
    """
    settings = config.task(case, data, task, tuned)
    test = Store(store, "test", truth=True)
    network = Network(case, task, settings, test, weights)
    rows = np.arange(min(settings["explain"]["points"], test.rows))
    raw = test.take(network.scaler.field, rows)
    maps, trust = embed.tsne(network.features(raw), settings["explain"]["perplexity"], settings["explain"]["seeds"])
    probed = raw[: max(1, min(PROBED, PROBED_BYTES // raw[:1].nbytes))]
    saliency = attribute.gradients(network, probed, of_code=not settings.get("target"))
    scores = _saliency_scores(saliency, network, Network(case, task, settings, test, None), probed, settings)
    scored, arrays = read_curves(curves)
    explanation = Explanation(
        case=case,
        task=task,
        inputs=network.scaler(raw[:SHOWN]),
        corrupted=_corrupted(network, raw[:SHOWN]),
        outputs=_shown_outputs(network, raw[:SHOWN], settings),
        embedding=maps,
        trustworthiness=trust,
        saliency=saliency.mean(axis=1),
        curves=scored,
        arrays=arrays,
        **_columns(case, task, settings, network, test, rows, raw),
    )
    drawn = {**_learning(history), **contract.load(case).figures.draw(explanation)}
    save(drawn, figures)
    captions = _captions(contract.load(case).figures.CAPTIONS, drawn)
    label = f"{case}/{config.data_name(data)}/{task}"
    found = [
        figure(f"{label}/tsne/trustworthiness/seed-{k}", value, metric="trustworthiness")
        for k, value in enumerate(trust)
    ]
    found += [
        figure(f"{label}/saliency/{name}", value, metric="follows_input", method=name) for name, value in scores.items()
    ]
    write_json(
        output,
        {
            "bench": "explain",
            "figures": found,
            "captions": captions,
            "conditions": conditions(
                seeds=list(range(settings["explain"]["seeds"])),
                points=len(rows),
                perplexity=settings["explain"]["perplexity"],
            ),
        },
    )


def _saliency_scores(
    saliency: np.ndarray, network: Network, control: Network, raw: np.ndarray, settings: Json
) -> dict[str, float]:
    """How far saliency follows the input's own brightness, for the trained network and for random weights."""
    inputs = network.scaler(raw)
    random = attribute.gradients(control, raw, of_code=not settings.get("target"))
    return {
        "trained": attribute.follows_input(saliency, inputs),
        "random_weights": attribute.follows_input(random, inputs),
    }


def _corrupted(network: Network, raw: np.ndarray) -> np.ndarray | None:
    """The inputs under training corruption, for a look; None where the model has none."""
    corruption = getattr(network.model, "corruption", None)
    if corruption is None:
        return None
    x = torch.from_numpy(network.scaler(raw))
    corruption.train()
    batch = Batch(x=x, y=None, key=torch.from_numpy(keys(0, 0, np.arange(len(raw)))))
    seen: np.ndarray = corruption(batch.x, batch.key).numpy()
    corruption.eval()
    return seen


def _shown_outputs(network: Network, raw: np.ndarray, settings: Json) -> np.ndarray:
    outputs = network.outputs(raw)
    if not settings.get("target") or outputs.ndim != 2:
        return outputs
    shifted = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    probabilities: np.ndarray = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities


def _columns(
    case: str, task: str, settings: Json, network: Network, store: Store, rows: np.ndarray, raw: np.ndarray
) -> Json:
    """What the maps are coloured by, as the case says: stored fields, or classical features of the inputs."""
    columns, labels, units = {}, {}, {}
    features = contract.load(case).baseline.features(task, network.scaler.select(raw))
    for name, spec in settings.get("columns", {}).items():
        units[name] = spec.get("unit", "1")
        if "feature" in spec:
            columns[name] = features[spec["feature"]][:, spec["index"][0]]
            continue
        columns[name] = column(store, spec["field"], spec.get("index"))[rows]
        if named := store.fields[spec["field"]].get("labels"):
            labels[name] = {int(value): text for value, text in named.items()}
    return {"columns": columns, "labels": labels, "units": units}


def _learning(history: Path) -> dict[str, Figure]:
    return {"learning_curve": learning_curve(read_json(history)["history"])}


def _captions(of_case: dict[str, str], drawn: dict[str, Figure]) -> dict[str, str]:
    known = {**CAPTIONS, **of_case}
    return {name: known[name] for name in drawn}
