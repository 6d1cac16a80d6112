"""Stage ``simulate``: make a case's raw shards on any number of ranks, with the same bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kilonode import comm, config
from kilonode.cases import contract
from kilonode.cases.contract import Tables
from kilonode.data import raw


def run(case: str, data: str, output: Path) -> None:
    """Simulate one tier of a case.

    Parameters
    ----------
    case : str
        A case's name.
    data : str
        A tier: toy, demo or article.
    output : Path
        The index to write, ``.../raw/index.json``; shards stand beside it.
    """
    ranks = comm.start()
    settings = config.resolve(case, data)
    simulation = settings["simulation"]
    simulator = contract.load(case).simulate
    per_shard = int(simulation["groups_per_shard"])
    groups = int(simulation["groups"])

    def make(start: int, stop: int) -> Tables:
        parts = [simulator.simulate(int(simulation["seed"]), group, simulation) for group in range(start, stop)]
        return {
            table: {name: np.concatenate([part[table][name] for part in parts]) for name in columns}
            for table, columns in parts[0].items()
        }

    # The number of groups is no attribute: a longer run keeps the shards it has.
    physics = {key: value for key, value in simulation.items() if key != "groups"}
    attributes = {
        "case": case,
        "simulated": True,
        "source": f"{case}-{simulation['version']}",
        "config": physics,
        "seed": simulation["seed"],
    }
    extents = [(start, min(start + per_shard, groups)) for start in range(0, groups, per_shard)]
    raw.write(output, f"simulate {case}", extents, make, settings["tables"], attributes, ranks)
    ranks.close()
