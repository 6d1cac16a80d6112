"""Series of real trainings on more and more ranks or nodes: records, three efficiencies, CSV, figures, history."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from kilonode.cases import SMALL
from kilonode.errors import UserError
from kilonode.records import Json, conditions, write_json
from kilonode.scaling import chain, gather, plan, start
from kilonode.scaling.plan import INPUTS, MODES, Plan

EXAMPLES = f"""Weak: every rank keeps --batch (the task's own batch, unless given); strong: all ranks share it.
A run that has a record is not measured again: the same line continues, and once more only gathers.

examples:
  kilonode scaling run --case {SMALL} --ranks 1,2                      this machine
  kilonode scaling run --case {SMALL} --ranks 1,2 --data dummy         the same without reading
  sbatch -N 64 --wrap "kilonode scaling run --case {SMALL} --nodes 1,2,4,8,16,32,64"       inside one allocation
  kilonode scaling run --case {SMALL} --nodes 1,2,4 --submit="-A m0000 -q regular -t 30"   a chain of jobs
  kilonode scaling predict results/scaling/{SMALL}/toy/classifier/weak-real.csv
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("--case", required=True, metavar="NAME", help="what is trained")
    parser.add_argument("--task", metavar="NAME", help="one of its tasks (default: its first)")
    parser.add_argument(
        "--tier", default="toy", choices=("toy", "demo", "article"), help="of the simulation (default toy)"
    )
    parser.add_argument("--store", type=Path, metavar="PATH", help="index of a store that is there already")
    parser.add_argument("--ranks", metavar="N,N,...", help="on this machine")
    parser.add_argument("--nodes", metavar="N,N,...", help="under Slurm")
    parser.add_argument("--ranks-per-node", type=int, metavar="N", help="with --nodes (default: the site's, or 1)")
    parser.add_argument("--mode", default="weak", choices=MODES, help="default weak")
    parser.add_argument("--data", dest="input", default="real", choices=INPUTS, help="real, or one batch from memory")
    parser.add_argument(
        "--batch", type=int, metavar="N", help="of a rank (weak) or of all (strong); default the task's"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="of a rank (default: the task's)")
    parser.add_argument("--precision", choices=("fp32", "bf16", "auto"), help="default: the task's")
    parser.add_argument("--epochs", type=int, default=5, metavar="N", help="the first gives no rate (default 5)")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="of every count (default 3)")
    parser.add_argument(
        "--quality", type=float, metavar="LOSS", help="validation loss to reach (default: all reached it)"
    )
    parser.add_argument("--submit", metavar="OPTIONS", help="a chain of jobs; what sbatch is told, may be empty")
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="PATH", help="default results")


def run(options: argparse.Namespace) -> Json:
    """Measure what has no record, then gather all records of the task."""
    counts, over = _counts(options)
    task, settings = plan.task_of(options.case, options.tier, options.task)
    folder = options.results / "scaling" / options.case / options.tier / task
    store = start.store(options.case, options.tier, settings["table"], options.results, options.store)
    plans = _plans(options, task, settings["training"], str(store), counts, over)
    under: Json = {"case": options.case, "task": task, "data": options.tier, "mode": options.mode, "over": over}
    if options.submit is not None:
        rows = chain.submit(counts, options.submit, folder, plans)
        return {"figures": rows, "conditions": conditions(seeds=[0], **under)}
    fresh = [one for one in plans if not one.record(folder).exists()]
    start.measure(plans, folder, f"scaling run: {options.mode}, {options.input}")
    rows = gather.gather(folder, options.quality)
    rows += gather.remember([one.record(folder) for one in fresh], options.results / "scaling" / "history.jsonl")
    found: Json = {"figures": rows, "conditions": conditions(seeds=[0], **under)}
    write_json(folder / "scaling.json", {"bench": "scaling run", **found})  # the report of the workflow shows it
    print(f"scaling: records, tables and figures are in {folder}", file=sys.stderr)
    return found


def _counts(options: argparse.Namespace) -> tuple[tuple[int, ...], str]:
    """What is counted, and whether these are ranks or nodes."""
    if (options.ranks is None) == (options.nodes is None):
        raise UserError(
            f"expected either --ranks or --nodes, got {'neither' if options.ranks is None else 'both'}; "
            "--ranks 1,2 on this machine, --nodes 1,2,4 under Slurm"
        )
    if options.epochs < 2 or options.repeats < 1:
        raise UserError("expected at least 2 epochs and 1 repeat (--epochs, --repeats); the first epoch gives no rate")
    if options.nodes is None:
        if options.submit is not None:
            raise UserError("expected --nodes beside --submit, got --ranks; jobs are counted in nodes")
        return plan.counts(options.ranks), "ranks"
    counts = plan.counts(options.nodes)
    if options.submit is None:
        if not start.in_allocation():
            raise UserError(
                "expected an allocation of Slurm, got none (--nodes); use salloc or sbatch, or add --submit"
            )
        granted = int(os.environ.get("SLURM_JOB_NUM_NODES", "1"))
        if counts[-1] > granted:
            raise UserError(f"expected at most {granted} nodes, those of the allocation, got {counts[-1]} (--nodes)")
    return counts, "nodes"


def _plans(
    options: argparse.Namespace, task: str, training: Json, store: str, counts: tuple[int, ...], over: str
) -> list[Plan]:
    """Every run in the order in which it is measured.

    On this machine counts take turns, so that a machine that slows down slows all. Under Slurm the largest comes first
    with all its repeats: if time runs out, what is missing fits a smaller allocation.
    """
    per_node = options.ranks_per_node or int(os.environ.get("KILONODE_RANKS_PER_NODE", "1"))
    size = options.batch or training["batch"]
    made = []
    for repeat in range(options.repeats):
        for count in counts if repeat % 2 == 0 else reversed(counts):
            ranks = count if over == "ranks" else count * per_node
            batch = size * ranks if options.mode == "weak" else size
            if batch < ranks:
                raise UserError(
                    f"expected a sample for each of {ranks} ranks, got a batch of {batch} (--batch); raise it"
                )
            made.append(
                Plan(
                    options.case,
                    task,
                    options.tier,
                    store,
                    ranks,
                    options.threads or training["threads"],
                    batch,
                    options.precision or training.get("precision", "fp32"),
                    options.epochs,
                    nodes=count if over == "nodes" else 0,
                    mode=options.mode,
                    input=options.input,
                    repeat=repeat,
                )
            )
    return made if over == "ranks" else sorted(made, key=lambda one: -one.nodes)
