"""The best layout of one node for a task: ranks, threads, local batch and precision, each trained and measured."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from pathlib import Path

from kilonode.bench._measure import median
from kilonode.cases import SMALL
from kilonode.errors import UserError
from kilonode.records import Json, conditions, figure
from kilonode.scaling import layout, plan, sanity, start
from kilonode.scaling.plan import Plan
from kilonode.scaling.sanity import rate, value

EXAMPLES = f"""Every layout is trained for a few epochs with several seeds; its rate counts if its loss is right.
The best three and the defaults are then measured again, in turns; the fastest of that second measurement is chosen.

examples:
  kilonode scaling node --case {SMALL}
  kilonode scaling node --case {SMALL} --task classifier --write workflow/profiles/here
  kilonode run --case {SMALL} --profile here            trains with the layout that was written
  kilonode scaling node --case {SMALL} --batch 64,128   also what another global batch would gain
"""
FINALISTS = 3


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("--case", required=True, metavar="NAME", help="what is trained")
    parser.add_argument("--task", metavar="NAME", help="one of its tasks (default: its first)")
    parser.add_argument(
        "--tier", default="toy", choices=("toy", "demo", "article"), help="of the simulation (default toy)"
    )
    parser.add_argument("--store", type=Path, metavar="PATH", help="index of a store that is there already")
    parser.add_argument(
        "--batch", default="", metavar="N,N", help="global batches (default: the task's and twice that)"
    )
    parser.add_argument(
        "--precision", default="", metavar="NAME,NAME", help="default: fp32, and bf16 where it is native"
    )
    parser.add_argument("--epochs", type=int, default=4, metavar="N", help="of each training (default 4)")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="and seeds, of the sweep (default 3)")
    parser.add_argument("--finals", type=int, default=5, metavar="N", help="repeats of the finalists (default 5)")
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="PATH", help="default results")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="a profile with the best layout")
    parser.add_argument("--base", default="local", metavar="NAME", help="profile that it is made from (default local)")


def run(options: argparse.Namespace) -> Json:
    """Sweep, refuse what does not learn, measure the finalists again, choose, write."""
    task, settings = plan.task_of(options.case, options.tier, options.task)
    for name, least in (("epochs", 2), ("repeats", 2), ("finals", 1)):
        if getattr(options, name) < least:
            raise UserError(f"expected at least {least}, got {getattr(options, name)} (--{name}); raise it")
    base = layout.profile(options.base) if options.write is not None else None
    cores = len(os.sched_getaffinity(0))
    folder = options.results / "scaling" / options.case / options.tier / task
    store = start.store(options.case, options.tier, settings["table"], options.results, options.store)
    plans = _sweep(options, task, settings, str(store), cores)
    records = start.measure(_turns(plans, options.repeats), folder, "scaling node: sweep")
    swept = sanity.judged(_grouped(plans, records))
    finalists = _finalists(swept, plans, settings["training"], cores)
    # Other seeds than the sweep's: a second measurement, not the first one again.
    turns = _turns(finalists, options.finals, options.repeats)
    finals = _grouped(finalists, start.measure(turns, folder, "scaling node: finalists"))
    best = max(finals, key=lambda one: median([rate(record) for record in finals[one]])[0])
    rows = [*_swept_rows(swept), *_final_rows(finals, best, _defaults(finalists, settings["training"], cores))]
    rows += _roofline(options, task, best, finals[best], folder, cores)
    if base is not None:
        layout.write(options.write, base, best, settings["training"])
        print(f"scaling: wrote {options.write}/profile.yaml", file=sys.stderr)
    under = {"case": options.case, "task": task, "data": options.tier, "epochs": options.epochs}
    chosen = {"ranks": best.ranks, "threads": best.threads, "batch": best.batch, "precision": best.precision}
    seeds = list(range(options.repeats + options.finals))
    return {"figures": rows, "conditions": conditions(seeds=seeds, chosen=chosen, **under)}


def shapes(cores: int) -> list[tuple[int, int]]:
    """Ranks and threads that fill a node: powers of two and a rank a core, with all cores or all but one for each.

    The first is one rank with one thread: the reference. A full team of threads may lose much of its speed to Horovod's
    thread (docs/decisions.md), so that from three threads a rank on one core is also left free.
    """
    ranks = sorted({*(1 << k for k in range(cores.bit_length()) if 1 << k <= cores), cores})
    full = [(count, cores // count) for count in ranks]
    spare = [(count, threads - 1) for count, threads in full if threads > 2]
    return list(dict.fromkeys([(1, 1), *full, *spare]))


def _sweep(options: argparse.Namespace, task: str, settings: Json, store: str, cores: int) -> list[Plan]:
    """All layouts, the reference first."""
    from kilonode.training.precision import native_bf16

    own = settings["training"]["batch"]
    batches = plan.counts(options.batch) if options.batch else (own, 2 * own)
    precisions = options.precision.split(",") if options.precision else ["fp32", *(["bf16"] if native_bf16() else [])]
    unknown = sorted(set(precisions) - {"fp32", "bf16"})
    if unknown:
        raise UserError(f"expected fp32 or bf16, got {unknown[0]!r} (--precision); write fp32,bf16")
    plans = [
        Plan(options.case, task, options.tier, store, ranks, threads, batch, precision, options.epochs)
        for batch in (own, *(size for size in batches if size != own))
        for precision in precisions
        for ranks, threads in shapes(cores)
        if ranks <= batch
    ]
    return plans


def _turns(plans: list[Plan], repeats: int, first: int = 0) -> list[Plan]:
    """Every plan once a round, each round with a seed of its own; every other round backwards."""
    rounds = [[dataclasses.replace(one, repeat=k, seed=k) for one in plans] for k in range(first, first + repeats)]
    return [one for number, turn in enumerate(rounds) for one in (turn if number % 2 == 0 else reversed(turn))]


def _grouped(plans: list[Plan], records: list[Json]) -> dict[Plan, list[Json]]:
    """The records of each plan in the order of their rounds."""
    found: dict[Plan, list[Json]] = {one: [] for one in plans}
    for record in records:
        under = record["conditions"]
        fields = {field.name: under[field.name] for field in dataclasses.fields(Plan)}
        found[Plan(**{**fields, "nodes": 0, "precision": under["asked"], "repeat": 0, "seed": 0})].append(record)
    return {one: sorted(group, key=lambda record: record["conditions"]["repeat"]) for one, group in found.items()}


def _defaults(plans: list[Plan], training: Json, cores: int) -> dict[str, Plan]:
    """What one would do without measuring, at the task's own batch and precision."""
    threads, precision = training["threads"], training.get("precision", "fp32")
    shape = {"one rank, one thread": (1, 1), "one rank, all cores": (1, cores), "a rank a core": (cores, 1)}
    shape[f"profile local: 2 ranks, {threads} of the task's threads"] = (2, threads)
    kept = [one for one in plans if one.batch == training["batch"] and one.precision in (precision, "fp32")]
    return {name: one for name, size in shape.items() for one in kept if (one.ranks, one.threads) == size}


def _finalists(swept: dict[Plan, sanity.Verdict], plans: list[Plan], training: Json, cores: int) -> list[Plan]:
    """The fastest that learn at the task's own batch, and the defaults."""
    sane = [one for one in swept if swept[one].right and one.batch == training["batch"]]
    if not sane:
        raise UserError(
            f"expected a layout that learns at batch {training['batch']}, got none; raise --epochs, "
            "or see the losses in the records"
        )
    best = sorted(sane, key=lambda one: swept[one].rate, reverse=True)[:FINALISTS]
    return list(dict.fromkeys([*best, *_defaults(plans, training, cores).values()]))


def words(one: Plan) -> str:
    """A layout in words."""
    return f"{one.ranks} x {one.threads}, {one.precision}, batch {one.batch}"


def _swept_rows(swept: dict[Plan, sanity.Verdict]) -> list[Json]:
    return [
        figure(f"sweep: {words(one)}", verdict.rate, "samples/s", verdict.interval, note=verdict.note)
        for one, verdict in swept.items()
    ]


def _final_rows(finals: dict[Plan, list[Json]], best: Plan, defaults: dict[str, Plan]) -> list[Json]:
    """Rates of the second measurement, and the chosen one against each default, round by round."""
    from kilonode.bench._measure import ratio

    rates = {one: [rate(record) for record in records] for one, records in finals.items()}
    rows = []
    for one in finals:
        middle, interval = median(rates[one])
        note: Json = {"note": "chosen"} if one == best else {}
        rows.append(figure(f"final: {words(one)}", middle, "samples/s", interval, **note))
    for name, one in defaults.items():
        gain, interval = ratio(rates[best], rates[one])
        rows.append(figure(f"chosen over {name}", gain, "1", interval, 1.0, gain >= 1))
    used = max(value(record, "cores used by others") for records in finals.values() for record in records)
    return [*rows, figure("cores used by others", used, "1", note="during the finals, at most; best is none")]


def _roofline(
    options: argparse.Namespace, task: str, best: Plan, records: list[Json], folder: Path, cores: int
) -> list[Json]:
    """Ceilings, and a dot for each task of the case in the chosen layout; the figure."""
    from kilonode.scaling import roofline

    precisions = sorted({"fp32", best.precision})
    found = roofline.ceilings(cores, precisions)
    dots = []
    table = plan.task_of(options.case, options.tier, task)[1]["table"]
    for name in [task, *(other for other in plan.tasks(options.case, options.tier) if other != task)]:
        _, settings = plan.task_of(options.case, options.tier, name)
        given = options.store if settings["table"] == table else None
        store = start.store(options.case, options.tier, settings["table"], options.results, given)
        own = dataclasses.replace(best, task=name, store=str(store), batch=settings["training"]["batch"])
        counting = dataclasses.replace(own, ranks=1, threads=cores)
        there = folder.with_name(name)
        measured = records if name == task else start.measure([own], there, f"scaling node: {name}")
        counted = start.measure([counting], there, f"scaling node: {name}, operations")
        dots.append(roofline.dot(f"{options.case}/{name}", counted[0], median([rate(one) for one in measured])[0]))
    path = folder / "roofline.png"
    layout.save(roofline.drawn(found, dots, cores), path)
    print(f"scaling: wrote {path}", file=sys.stderr)
    return [*found.rows, *roofline.rows(found, dots, best.precision)]
