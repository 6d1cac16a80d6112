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
from importlib import import_module
from types import ModuleType

from kilonode import bench

MODULES = {"node": "node", "run": "series", **{name: name for name in ("predict", "advise", "simulate", "history")}}
"""Of each command; a module ``run`` would hide the function of this name."""
NAMES = tuple(MODULES)


def parser(what: str) -> argparse.ArgumentParser:
    """The command line of one of them."""
    return bench.command_line(f"scaling {what}", _module(what))


def run(what: str, options: list[str]) -> int:
    """Carry out one of ``NAMES`` with the words of its own command line; its exit status."""
    return bench.carry_out(f"scaling {what}", _module(what), options)


def _module(what: str) -> ModuleType:
    return import_module(f"{__name__}.{MODULES[what]}")
