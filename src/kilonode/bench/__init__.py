"""Benchmarks, one module each, found by the module's name: ``kilonode bench NAME [options]``.

A module has

``arguments(parser)``
    adds options of its own to an ``argparse.ArgumentParser`` (``--json`` and ``--strict`` are everybody's);
``run(options) -> Json``
    measures and returns ``{"figures": [...], "conditions": {...}}``: rows of ``records.figure``, and
    ``records.conditions(seeds=[...], ...)``. Progress goes to stderr (``progress.progress``), nothing to stdout.

The first line of its docstring is its help. Nothing big is imported at the top: the name of every module is listed by
``--help``, and mpi4py must come before torch. Names with ``_`` in front are helpers, not benchmarks: ``_measure``
(medians and intervals of interleaved rounds) and what other processes run.

Every ratio is measured in one run, its two sides taking turns, so that a machine that slows down slows both.
"""

from __future__ import annotations

import argparse
import json
from importlib import import_module
from pathlib import Path
from types import ModuleType

from kilonode.records import Json


def names() -> list[str]:
    """All benchmarks, sorted. Imports none."""
    return sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))


def parser(what: str) -> argparse.ArgumentParser:
    """The command line of one benchmark."""
    return command_line(f"bench {what}", import_module(f"{__name__}.{what}"))


def run(what: str, options: list[str]) -> int:
    """Carry out one of ``names()`` with the words of its own command line; its exit status."""
    return carry_out(f"bench {what}", import_module(f"{__name__}.{what}"), options)


def command_line(verb: str, module: ModuleType) -> argparse.ArgumentParser:
    """What ``kilonode VERB`` takes, for a module with ``arguments`` and perhaps ``EXAMPLES``."""
    own = argparse.ArgumentParser(
        prog=f"kilonode {verb}",
        description=str(module.__doc__).partition("\n\n")[0],
        epilog=getattr(module, "EXAMPLES", None),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    own.add_argument("--json", dest="json_output", action="store_true", help="one JSON object (schemas/bench.json)")
    own.add_argument("--strict", action="store_true", help="exit 1 if a target is missed")
    module.arguments(own)
    return own


def carry_out(verb: str, module: ModuleType, options: list[str]) -> int:
    """Measure, check the result against the schema and print it.

    Returns
    -------
    int
        0; 1 with ``--strict`` where a target is missed.
    """
    from kilonode import config

    chosen = command_line(verb, module).parse_args(options)
    found: Json = {"bench": verb.removeprefix("bench "), **module.run(chosen)}
    config.check(found, config.schema("bench"), verb)
    print(json.dumps(found, sort_keys=True) if chosen.json_output else table(found["figures"]))
    return int(chosen.strict and any(row["met"] is False for row in found["figures"]))


def table(figures: list[Json]) -> str:
    """One line a figure: name, value with unit, interval, and whether its target is met."""
    from kilonode.report.wording import number

    width = max((len(row["name"]) for row in figures), default=0)
    lines = []
    for row in figures:
        unit = "" if row["unit"] == "1" else f" {row['unit']}"
        interval = f"  [{number(row['interval'][0])}, {number(row['interval'][1])}]" if row["interval"] else ""
        target = "" if row["target"] is None else f"  target {number(row['target'])}"
        met = "" if row["met"] is None else ": met" if row["met"] else ": MISSED"
        note = f"  ({row['note']})" if row.get("note") else ""
        lines.append(f"{row['name']:<{width}}  {number(row['value'])}{unit}{interval}{target}{met}{note}")
    return "\n".join(lines)
