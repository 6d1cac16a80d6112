"""Where the time of a training goes, what to change first, and how many nodes a deadline or a budget asks for."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kilonode import config
from kilonode.errors import UserError
from kilonode.records import Json, conditions, figure, read_json
from kilonode.scaling import curves, model, predict, quality, shares, terms

EXAMPLES = """The shares come from metrics.json of a training; node counts are judged by the model of
`kilonode scaling predict` fitted to all records given, with more epochs for larger batches.

examples:
  kilonode scaling advise results/CASE/demo/TASK/seed-0/metrics.json
  kilonode scaling advise n2/metrics.json n8/metrics.json --deadline 12      hours
  kilonode scaling advise n8/metrics.json --budget 2000 --max-nodes 512      node hours
  kilonode scaling advise weak.csv --deadline 6 --samples 262144 --epochs 50 --batch 64 --critical-batch 400
"""
NETWORKS = {"aries": terms.ARIES, "slingshot": terms.SLINGSHOT}
PAYS = 1.41
"""Least gain in time to quality from twice the nodes: sqrt(2), half of what is ideal on a logarithmic scale."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("records", nargs="+", type=Path, help="metrics.json of trainings, or records as for predict")
    parser.add_argument("--deadline", type=float, metavar="HOURS", help="to be done in so long")
    parser.add_argument("--budget", type=float, metavar="NODE_HOURS", help="to spend at most so much")
    parser.add_argument("--max-nodes", type=int, default=1024, metavar="N", help="of the machine (default 1024)")
    parser.add_argument("--epochs", type=float, metavar="N", help="to the wanted quality (default: as recorded)")
    parser.add_argument("--batch", type=float, metavar="B", help="global batch of --epochs (default: as recorded)")
    parser.add_argument("--samples", type=float, metavar="N", help="of an epoch (default: as recorded)")
    parser.add_argument(
        "--critical-batch", type=float, metavar="B", help="default: the record's noise scale, or the smallest published"
    )
    parser.add_argument("--batch-per-node", type=float, metavar="B", help="where the records do not say it")
    parser.add_argument("--network", choices=sorted(NETWORKS), default="aries", help="of the nodes (default aries)")


def run(options: argparse.Namespace) -> Json:
    """Name the largest loss; with a deadline or a budget, recommend nodes."""
    for name in ("deadline", "budget", "epochs", "batch", "samples", "critical_batch", "batch_per_node", "max_nodes"):
        value = getattr(options, name)
        if value is not None and not 0 < value < float("inf"):
            raise UserError(f"expected a positive number, got {value:g} (--{name.replace('_', '-')}); correct it")
    if options.max_nodes < model.FIRST:
        raise UserError(f"expected at least {model.FIRST} nodes, got {options.max_nodes} (--max-nodes); raise it")
    trainings = [record for path in options.records if (record := _training(path)) is not None]
    rows = _losses(trainings[-1], NETWORKS[options.network]) if trainings else []
    if options.deadline is not None or options.budget is not None:
        rows += _nodes(options, trainings[-1] if trainings else None)
    elif not trainings:
        raise UserError(
            f"expected metrics.json of a training, or --deadline or --budget, got neither ({options.records[0]}); "
            "give one of them"
        )
    return {"figures": rows, "conditions": conditions(seeds=[0])}


def _training(path: Path) -> Json | None:
    """The record, if the file is that of a training."""
    if path.suffix != ".json":
        return None
    content = read_json(path)
    if not isinstance(content, dict) or content.get("bench") != "train":
        return None
    config.check(content, config.schema("bench"), str(path))
    return content


def _losses(record: Json, network: terms.Network) -> list[Json]:
    found = shares.of_training(record, network)
    if found is None:
        raise UserError(
            "expected shares of time in the record of a training, got none (metrics.json); run train and finish again"
        )
    rows = [figure("share of time: compute", found.compute)]
    for name in sorted(found.lost, key=found.lost.__getitem__, reverse=True):
        note: Json = {"note": found.advice} if name == found.largest else {}
        rows.append(figure(f"share of time: {name}", found.lost[name], **note))
    return rows


@dataclass(frozen=True)
class Work:
    """What is to be trained: ``epochs`` at a global ``batch``, ``samples`` an epoch, and the critical batch."""

    epochs: float
    batch: float
    samples: float
    critical: float
    source: str
    outside: float
    """Time in steps over all time: validation and checkpoints take the rest."""

    def hours(self, rate: np.ndarray, batch: np.ndarray) -> np.ndarray:
        """Hours to the same quality at ``rate`` samples/s with a global ``batch``, arrays of one shape."""
        fewest = self.epochs / quality.epochs(1.0, self.critical, self.batch)
        epochs = quality.epochs(fewest, self.critical, batch)
        return epochs * self.samples / rate / self.outside / 3600


def _work(options: argparse.Namespace, record: Json | None, curve: curves.Curve) -> Work:
    """From the options, else from the record; all that is missing is told at once."""
    values = {row["name"]: row["value"] for row in record["figures"]} if record else {}
    last = float(curve.nodes[-1]) if record is None else float(curves.of_training(record)["nodes"])
    batch = options.batch or (curve.batch_per_node * last if record else None)
    steps = record["history"][0].get("step") if record and record.get("history") else None
    samples = options.samples or (steps * curve.batch_per_node * last if steps else None)
    needed = {"--epochs": options.epochs or values.get("epochs"), "--batch": batch, "--samples": samples}
    missing = [name for name, value in needed.items() if value is None]
    if missing:
        raise UserError(
            f"expected the work to do, got no {', '.join(missing)} ({options.records[0]}); "
            "add them, or give metrics.json of a training"
        )
    least = min(quality.published(), key=lambda one: one.critical)
    known: list[tuple[Any, str]] = [
        (options.critical_batch, "--critical-batch"),
        (values.get("noise_scale"), "the record's noise scale"),
        (least.critical, f"not known: {least.task}, the smallest published"),
    ]
    critical, source = next((value, source) for value, source in known if value)
    outside = 1 - (values.get("share_validation") or 0.0) - (values.get("share_checkpoint") or 0.0)
    return Work(float(needed["--epochs"] or 0), float(batch or 0), float(samples or 0), critical, source, outside)


def _nodes(options: argparse.Namespace, record: Json | None) -> list[Json]:
    """Hours and node hours at each power of two, and the counts that meet what is asked."""
    curve = curves.read(options.records, options.batch_per_node)
    work = _work(options, record, curve)
    fitted = model.fit(curve, predict.prior(curve, model.EXPONENTS))
    counts = 2.0 ** np.arange(1, int(np.log2(options.max_nodes)) + 1)
    batch = curve.batch_per_node * counts
    hours = np.stack([work.hours(batch / step, batch) for step in fitted.step(counts)])
    rows = [figure("critical batch", work.critical, "samples", note=work.source)]
    if record is not None and "nodes" not in record["conditions"]:
        ranks = record["conditions"].get("ranks")
        rows.append(figure("nodes of the record", ranks, "nodes", note="not recorded: as if each rank had a node"))
    unit, scale = ("h", 1.0) if hours[0].max() > 0.1 else ("min", 60.0)
    for i, count in enumerate(counts):
        middle, low, high = (scale * float(value) for value in hours[:, i])
        note = f"batch {batch[i]:.0f}, {count * hours[0, i]:.4g} node hours"
        rows.append(figure(f"time at {count:.0f} nodes", middle, unit, (low, high), note=note))
    paying = [i for i in range(1, len(counts)) if hours[0, i - 1] / hours[0, i] >= PAYS]
    most = float(counts[max(paying)]) if paying else float(counts[0])
    rows.append(figure("largest count that pays", most, "nodes", note=f"twice as many gain less than {PAYS}x"))
    if options.deadline is not None:
        rows.append(_deadline(options.deadline, counts, hours))
    if options.budget is not None:
        rows.append(_budget(options.budget, counts, hours))
    return rows


def _deadline(deadline: float, counts: np.ndarray, hours: np.ndarray) -> Json:
    """The fewest nodes whose slowest expected time is in time; else those that are nearest."""
    enough = np.flatnonzero(hours[2] <= deadline)
    i = int(enough[0]) if len(enough) else int(hours[2].argmin())
    note = f"{hours[0, i]:.3g} h, at worst {hours[2, i]:.3g} h; {counts[i] * hours[0, i]:.4g} node hours"
    return figure(f"nodes to be done in {deadline:g} h", float(counts[i]), "nodes", met=bool(len(enough)), note=note)


def _budget(budget: float, counts: np.ndarray, hours: np.ndarray) -> Json:
    """The fastest count whose largest expected cost is within the budget; else the cheapest."""
    cost = counts * hours[2]
    cheap = np.flatnonzero(cost <= budget)
    i = int(cheap[hours[0, cheap].argmin()]) if len(cheap) else int(cost.argmin())
    note = f"{hours[0, i]:.3g} h; at worst {cost[i]:.4g} node hours"
    return figure(f"nodes for {budget:g} node hours", float(counts[i]), "nodes", met=bool(len(cheap)), note=note)
