"""Ask a trained classifier about somebody else's collisions: score each event, draw the hardest.

    python examples/cms_events/score.py --raw results/cms/raw/index.json \
        --store results/lhc_events/demo/store/events/index.json \
        --weights results/lhc_events/demo/classifier/seed-0/weights.safetensors --tier demo --output results/cms

Shape legend: N events, n pixels an axis.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from kilonode import config
from kilonode.cases.lhc_events import collisions, figures, jets, search
from kilonode.cases.lhc_events.samples import sample
from kilonode.cases.ragged import concatenate
from kilonode.data.raw import Raw
from kilonode.data.store import Store
from kilonode.evaluation.network import Network
from kilonode.records import Json, write_json

SHOWN = 3


def events(raw: Path, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 3, n, n) and features (N, 24) of ingested particles."""
    source = Raw(raw, "particles")
    names = [name for name in ("pt", "eta", "phi", "code", "charge") if name in source.fields]
    shards = [source.columns(number, names) for number in range(len(source.rows))]
    found = {name: concatenate([shard[name].array for shard in shards]) for name in names}
    counts = found["pt"].counts
    values = {name: ragged.values for name, ragged in found.items()}
    unknown = np.zeros(len(values["pt"]), np.int64)
    code, charge = (values.get(name, unknown) for name in ("code", "charge"))
    event = np.repeat(np.arange(len(counts)), counts)
    return collisions.pictures(event, values["pt"], values["eta"], values["phi"], code, charge, len(counts), pixels)


def main() -> None:
    """Write ``scores.json`` and ``events.png``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("raw", "store", "weights", "output"):
        parser.add_argument(f"--{name}", required=True, type=Path)
    parser.add_argument("--tier", default="demo", choices=config.TIERS, help="of the training (default demo)")
    asked = parser.parse_args()
    settings = config.task("lhc_events", asked.tier, "classifier")
    stores = {split: Store(asked.store, split, truth=True) for split in ("train", "test")}
    network = Network("lhc_events", "classifier", settings, stores["test"], asked.weights)
    image, table = events(asked.raw, network.shape[-1])
    ratio = search.likelihood_ratio(network, sample(stores["train"]), settings["model"]["weights"])
    test = sample(stores["test"])
    known, score = ratio(stores["test"].read("image")), ratio(image)
    background = test.label == 0
    above = [float(test.weight[background & (known >= one)].sum() / test.weight[background].sum()) for one in score]
    passes = jets.preselected(table)
    rows: list[Json] = [
        {
            "event": number,
            "score": float(score[number]),
            "share_of_simulated_QCD_above": above[number],
            "transverse_energy_GeV": float(image[number, 0].sum()),
            "fat_jets": int(table[number, jets.COUNT]),
            "passes_preselection": bool(passes[number]),
        }
        for number in range(len(image))
    ]
    asked.output.mkdir(parents=True, exist_ok=True)
    write_json(asked.output / "scores.json", {"trained_on": "simulated events", "events": rows})
    hardest = np.argsort(-image[:, 0].sum((1, 2)))[:SHOWN]
    names = [f"event {number}, score {score[number]:.1f}" for number in hardest]
    figures.display(image[hardest], table[hardest], names).savefig(asked.output / "events.png")
    print(f"{len(rows)} events, {int(passes.sum())} pass the preselection; {asked.output}/scores.json, events.png")


if __name__ == "__main__":
    main()
