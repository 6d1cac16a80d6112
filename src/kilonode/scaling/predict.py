"""What more nodes will give: fits samples/s measured on few nodes, predicts many, with a 90 % interval."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from kilonode.errors import UserError
from kilonode.records import Json, complete, conditions, figure
from kilonode.scaling import curves, model, validate

EXAMPLES = """A CSV file has columns nodes,samples_per_s,batch_per_node (samples of one node in a step), a line a run;
a count may occur again. JSON: a list of objects with the same keys, or metrics.json of trainings at several counts.

examples:
  kilonode scaling predict weak.csv --nodes 256,512,1024 --figure weak.png
  kilonode scaling predict n2/metrics.json n4/metrics.json n8/metrics.json --json
  kilonode scaling predict --validate --json         the model against public curves up to 1,024 nodes
  kilonode scaling predict --validate --tail linear  the same with the linear term alone
"""
TAILS = {"both": model.EXPONENTS, "linear": (1.0,), "root": (0.5,)}
CHECKED = 1024
"""Nodes up to which public curves check the model."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("records", nargs="*", type=Path, help="CSV or JSON, one weak-scaling curve in all of them")
    parser.add_argument(
        "--nodes", type=_counts, default=(128, 256, 512, 1024), metavar="N,N,...", help="default 128,256,512,1024"
    )
    parser.add_argument(
        "--batch-per-node", type=float, metavar="B", help="samples of a node in a step, where the records do not say it"
    )
    parser.add_argument("--validate", action="store_true", help="predict the public curves from 64 nodes instead")
    parser.add_argument(
        "--tail",
        choices=sorted(TAILS),
        default="both",
        help="what grows at large counts: P, root of P (default both)",
    )
    parser.add_argument("--figure", type=Path, metavar="PATH", help="draw it: .png, .svg or .pdf")


def run(options: argparse.Namespace) -> Json:
    """Predict, or validate."""
    if options.validate == bool(options.records):
        raise UserError(
            f"expected either records or --validate, got {'both' if options.validate else 'neither'} (predict); "
            "give files of your own, or --validate alone"
        )
    if options.validate:
        rows, held = validate.report(TAILS[options.tail])
        panels = [(one.curve, one.fit, validate.LIMIT) for one in held]
    else:
        curve = curves.read(options.records, options.batch_per_node)
        fitted = model.fit(curve, prior(curve, TAILS[options.tail]))
        rows, panels = _rows(curve, fitted, options.nodes), [(curve, fitted, max(options.nodes))]
    if options.figure is not None:
        from kilonode.scaling import figures  # matplotlib takes a second

        _save(figures.compared(panels) if options.validate else figures.predicted(*panels[0]), options.figure)
    return {"figures": rows, "conditions": conditions(seeds=[0])}


def prior(curve: curves.Curve, exponents: tuple[float, ...]) -> model.Prior:
    """From the public curves; a curve that goes beyond their fits itself says how large its tail may be (2 errors)."""
    given = model.prior(curves.shipped(), exponents=exponents)
    if curve.nodes.max() <= validate.LIMIT:
        return given
    own = {x: one.value + 2 * one.error for x in exponents if (one := model.tail(curve, x)) is not None and one.is_seen}
    return replace(given, largest={x: max(size, own.get(x, 0.0)) for x, size in given.largest.items()})


def _counts(text: str) -> tuple[int, ...]:
    """Node counts, rising."""
    try:
        counts = sorted({int(word) for word in text.split(",")})
    except ValueError:
        counts = [0]
    if counts[0] < model.FIRST:
        raise argparse.ArgumentTypeError(f"expected node counts of at least {model.FIRST}, got {text!r}; write 128,256")
    return tuple(counts)


def _rows(curve: curves.Curve, fitted: model.Fit, nodes: tuple[int, ...]) -> list[Json]:
    """What the fit says of the counts asked for, and how well it holds those it saw."""
    known = curve.part(curve.nodes >= model.FIRST)
    first = float(known.nodes.min())
    steps, records = fitted.draws(np.array(nodes)), fitted.step(np.array(nodes))
    ratio = fitted.draws(np.array([first])) / steps
    rows = []
    for i, count in enumerate(nodes):
        middle, low, high = (float(curve.batch_per_node * count / step) for step in records[:, i])
        note: Json = {"note": f"beyond {CHECKED} nodes no public curve checks it"} if count > CHECKED else {}
        rows.append(figure(f"rate at {count} nodes", middle, "samples/s", (high, low), **note))
        rows.append(_of_draws(f"step efficiency at {count} nodes, {first:.0f} being 1", ratio[:, i]))
    worst = abs(fitted.step(known.nodes)[0] / known.step_s - 1).max()
    return [
        *rows,
        _of_draws("step without growth, c", fitted.base, "s"),
        _of_draws("growth a doubling, s", fitted.growth),
        _of_draws(f"tail at {nodes[-1]} nodes, g P^x", fitted.tail * float(nodes[-1]) ** fitted.exponent, "s"),
        figure("weight of the linear tail", float((fitted.exponent == 1).mean())),
        figure("in-sample error, worst point", float(worst), points=len(known.nodes)),
        figure("effective draws", fitted.effective, note="of importance sampling; below 500 the digits are rough"),
    ]


def _of_draws(name: str, draws: np.ndarray, unit: str = "1") -> Json:
    low, middle, high = (float(value) for value in np.quantile(draws, [0.05, 0.5, 0.95]))
    return figure(name, middle, unit, (low, high))


def _save(drawn: object, path: Path) -> None:
    """Write the figure, atomically; its suffix says the format."""
    kind = path.suffix.lower().lstrip(".")
    if kind not in ("png", "svg", "pdf"):
        raise UserError(f"expected .png, .svg or .pdf, got {path.suffix or 'no suffix'} ({path}); choose one of them")
    with complete(path) as temporary:
        drawn.savefig(temporary, format=kind, dpi=150)  # type: ignore[attr-defined] # typing it would import matplotlib
