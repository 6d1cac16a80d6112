"""Stage ``explain``: maps, saliency and figures of one trained network, from test groups only.

Shape legend: S seeds of maps, N samples, n samples drawn one by one, U units or classes.
"""

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
from kilonode.explain import attribute, embed, hierarchy, maps, saliency
from kilonode.explain.curves import learning_curve
from kilonode.explain.looks import CAPTIONS, against_truth, filters, nearest
from kilonode.explain.saliency import Scored
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
    embedding: Path,
    seed: int = 0,
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
        The record: trustworthiness of the maps, saliency scores with their controls, and captions.
    figures : Path
        Folder of PNG files, complete or not at all.
    embedding : Path
        ``maps.h5``: the maps with what they are coloured by (``maps.write``).
    seed : int
        Of the training.
    tuned : Path, optional
        Folder of the task's searches, as for ``train``.
    """
    settings = config.task(case, data, task, tuned)
    chosen = settings["explain"]
    test = Store(store, "test", truth=True)
    network = Network(case, task, settings, test, weights)
    rows = np.arange(min(chosen["points"], test.rows))
    raw = test.take(network.scaler.field, rows)
    features = network.features(raw)
    placed, trust = embed.tsne(features, chosen["perplexity"], chosen["seeds"], torch.get_num_threads())
    columns = _columns(case, task, settings, network, test, rows, raw)
    probed = raw[: max(1, min(PROBED, PROBED_BYTES // raw[:1].nbytes))]
    seen = attribute.gradients(network, probed, of_code=not settings.get("target"))
    scores = _follows_input(seen, network, Network(case, task, settings, test, None), probed, settings)
    known = saliency.scored(case, task, settings, network, test, rows) if "saliency" in chosen else None
    scored, arrays = read_curves(curves)
    explanation = Explanation(
        case=case,
        task=task,
        inputs=network.scaler(raw[:SHOWN]),
        corrupted=_corrupted(network, raw[:SHOWN]),
        outputs=_shown_outputs(network, raw[:SHOWN], settings),
        embedding=placed,
        trustworthiness=trust,
        saliency=seen.mean(axis=1),
        curves=scored,
        arrays=arrays,
        **{name: columns[name] for name in ("columns", "labels", "units")},
    )
    pictures = network.scaler(raw[: maps.THUMBNAILS])
    drawn = _of_every_case(network, features, pictures, read_json(history)["history"], known)
    drawn |= {**_class_tree(network, raw, test, rows, settings), **contract.load(case).figures.draw(explanation)}
    save(drawn, figures)
    named = {"case": case, "data": config.data_name(data), "task": task, "seed": seed}
    about = {**named, "method": "openTSNE", "perplexity": float(chosen["perplexity"])}
    maps.write(embedding, placed, test.take("sample_id", rows), columns, pictures, about)
    write_json(
        output,
        {
            "bench": "explain",
            "figures": _rows(named, trust, scores, known),
            "captions": _captions(contract.load(case).figures.CAPTIONS, drawn, known),
            "conditions": conditions(
                seeds=list(range(chosen["seeds"])), points=len(rows), perplexity=chosen["perplexity"]
            ),
        },
    )


def _rows(named: Json, trust: np.ndarray, scores: dict[str, float], known: Scored | None) -> list[Json]:
    """All numbers of the record."""
    label = f"{named['case']}/{named['data']}/{named['task']}"
    found = [
        figure(f"{label}/tsne/trustworthiness/seed-{k}", value, metric="trustworthiness")
        for k, value in enumerate(trust)
    ]
    found += [
        figure(f"{label}/saliency/{name}", value, metric="follows_input", method=name) for name, value in scores.items()
    ]
    return found + [
        {**row, **named, "name": "/".join([label, row["question"], row["metric"], row["method"]])}
        for row in (known.rows if known is not None else [])
    ]


def _captions(of_case: dict[str, str], drawn: dict[str, Figure], known: Scored | None) -> dict[str, str]:
    """One a figure; that of saliency beside the truth ends with what the intervals say."""
    captions = {**CAPTIONS, **of_case}
    if known is not None:
        captions["saliency_truth"] += f" {saliency.said(known.rows)}."
    return {name: captions[name] for name in drawn}


def _follows_input(
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
    columns, labels, units, nuisances = {}, {}, {}, []
    features = contract.load(case).baseline.features(task, network.scaler.select(raw))
    for name, spec in settings.get("columns", {}).items():
        units[name] = spec.get("unit", "1")
        nuisances += [name] * bool(spec.get("nuisance"))
        if "feature" in spec:
            columns[name] = features[spec["feature"]][:, spec["index"][0]]
            continue
        columns[name] = column(store, spec["field"], spec.get("index"))[rows]
        if named := store.fields[spec["field"]].get("labels"):
            labels[name] = {int(value): text for value, text in named.items()}
    return {"columns": columns, "labels": labels, "units": units, "nuisances": nuisances}


def _of_every_case(
    network: Network, features: np.ndarray, inputs: np.ndarray, history: list[Json], known: Scored | None
) -> dict[str, Figure]:
    """What needs no case to draw it; each where there is something to draw."""
    small = maps.thumbnails(inputs)
    drawn = {
        "learning_curve": learning_curve(history),
        "saliency_truth": against_truth(known) if known is not None else None,
        "filters": filters(network.model),
        "nearest": nearest(features, small) if small is not None else None,
    }
    return {name: one for name, one in drawn.items() if one is not None}


def _class_tree(network: Network, raw: np.ndarray, store: Store, rows: np.ndarray, settings: Json) -> dict[str, Figure]:
    """The tree of a task with four classes or more."""
    target = settings.get("target")
    if not target or store.fields[target]["shape"]:
        return {}
    confused, classes = hierarchy.confusion(network.outputs(raw), store.take(target, rows))
    names = {int(value): word for value, word in store.fields[target].get("labels", {}).items()}
    return {"class_tree": hierarchy.dendrogram(confused, classes, names)} if len(classes) >= hierarchy.LEAST else {}
