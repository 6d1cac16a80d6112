"""What one node says when all are called: ``python answer.py PLAN``, one task a node.

Its line on stdout holds its name and number, and for each of its ranks what the engine's own rules give it to do.
Hardly anything is imported, not even json: the time of a thousand answers is to be that of the launch.
"""

from __future__ import annotations

import os
import sys
import time

from kilonode.data.shares import dealt, part

TYPE_CHECKING = False  # typing's own costs as much as Python itself
if TYPE_CHECKING:
    from collections.abc import Mapping

MARK = "kilonode-answer "
"""In front of each answer: whatever else a launcher prints is passed over."""


def answer(plan: Mapping[str, int], environment: Mapping[str, str]) -> dict[str, object]:
    """The shares of one node.

    Parameters
    ----------
    plan : mapping
        ``shards`` of the data set, samples of a global ``batch`` and of the ``last`` one, ``ranks_per_node``.
    environment : mapping
        As srun makes it; without it this is the only node.

    Returns
    -------
    dict
        ``node`` of ``nodes``, its ``name``, the shards it ``reads`` for all when the data are staged, and ``ranks``:
        number, ``shards`` to write, ``batch`` and ``last``: first and last + 1 of its samples. Shards are told as
        start, stop and step: srun mixes lines of more than 1 KiB.
    """
    node, nodes = int(environment.get("SLURM_NODEID", 0)), int(environment.get("SLURM_STEP_NUM_NODES", 1))
    per_node = plan["ranks_per_node"]
    size = nodes * per_node
    return {
        "node": node,
        "nodes": nodes,
        "name": environment.get("SLURMD_NODENAME", "here"),
        "reads": _ends(dealt(plan["shards"], node, nodes)),
        "ranks": [
            {
                "rank": rank,
                "shards": _ends(dealt(plan["shards"], rank, size)),
                "batch": part(plan["batch"], rank, size),
                "last": part(plan["last"], rank, size),
            }
            for rank in range(node * per_node, (node + 1) * per_node)  # blocks, as srun distributes them
        ],
    }


def _ends(items: range) -> tuple[int, int, int]:
    return items.start, items.stop, items.step


def main() -> None:
    """Print the answer, as Python writes it, with the time at which this began; PLAN is ``name=number ...``."""
    began = time.time()
    plan = {name: int(value) for name, _, value in (word.partition("=") for word in sys.argv[1:])}
    sys.stdout.write(f"{MARK}{ ({'began': began, **answer(plan, os.environ)})!r}\n")


if __name__ == "__main__":
    main()
