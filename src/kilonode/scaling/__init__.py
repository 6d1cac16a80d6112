"""How training scales: ``kilonode scaling WHAT [options]``; a module for each.

``node``
    the best layout of ranks, threads and precision on this node, each checked and measured; the roofline;
``run``
    series of real trainings on more and more ranks or nodes, here or under Slurm, and their efficiencies;
``predict``
    what more nodes will give, from records at few, with an interval; checked against public curves;
``advise``
    where the time of a training goes, what to change, and how many nodes a deadline or a budget asks for;
``simulate``
    what our schedule of messages costs at a thousand ranks, replayed in SimGrid;
``history``
    whether a training has become slower than earlier ones on the same kind of host.

A module has ``arguments(parser)`` and ``run(options) -> Json`` as a benchmark has (``kilonode.bench``), and prints the
same shape. ``terms`` has the formulas, ``model`` the fit, ``curves`` the data.
"""

from __future__ import annotations

import argparse
import json
from importlib import import_module

from kilonode.records import Json

MODULES = {"node": "node", "run": "series", **{name: name for name in ("predict", "advise", "simulate", "history")}}
"""Of each command; a module ``run`` would hide the function of this name."""
NAMES = tuple(MODULES)


def parser(what: str) -> argparse.ArgumentParser:
    """The command line of one of them."""
    module = import_module(f"{__name__}.{MODULES[what]}")
    own = argparse.ArgumentParser(
        prog=f"kilonode scaling {what}",
        description=str(module.__doc__).partition("\n\n")[0],
        epilog=module.EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    own.add_argument("--json", dest="json_output", action="store_true", help="one JSON object (schemas/bench.json)")
    own.add_argument("--strict", action="store_true", help="exit 1 if a target is missed")
    module.arguments(own)
    return own


def run(what: str, options: list[str]) -> int:
    """Do it, check the result against the schema and print it.

    Parameters
    ----------
    what : str
        One of ``NAMES``.
    options : list of str
        Words of its own command line.

    Returns
    -------
    int
        0; 1 with ``--strict`` where a target is missed.
    """
    from kilonode import config
    from kilonode.bench import table

    chosen = parser(what).parse_args(options)
    found: Json = {"bench": f"scaling {what}", **import_module(f"{__name__}.{MODULES[what]}").run(chosen)}
    config.check(found, config.schema("bench"), f"scaling {what}")
    print(json.dumps(found, sort_keys=True) if chosen.json_output else table(found["figures"]))
    return int(chosen.strict and any(row["met"] is False for row in found["figures"]))
