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
    settings = config.resolve(case, data)
    simulation = settings["simulation"]
    simulator = contract.load(case).simulate
    per_shard = int(simulation["groups_per_shard"])
    groups = range(int(simulation["groups"]))

    def make(number: int) -> Tables:
        parts = [
            simulator.simulate(int(simulation["seed"]), group, simulation)
            for group in groups[number * per_shard : (number + 1) * per_shard]
        ]
        return {
            table: {name: np.concatenate([part[table][name] for part in parts]) for name in columns}
            for table, columns in parts[0].items()
        }

    # The number of groups is not part of a shard's identity: a longer run keeps the shards it has.
    physics = {key: value for key, value in simulation.items() if key != "groups"}
    attributes = {
        "case": case,
        "simulated": True,
        "source": f"simulation {case}-{simulation['version']}",
        "config": physics,
        "seed": simulation["seed"],
    }
    ranks = comm.start()
    raw.write(output, f"simulate {case}", -(-len(groups) // per_shard), make, settings["tables"], attributes, ranks)
    ranks.close()
