"""What the communication benchmark starts on several ranks: ``python -m kilonode.bench._ranks WHAT JSON``.

Rank 0 prints one JSON value. Times are those of the slowest rank.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kilonode import comm
from kilonode.bench._measure import seconds, turns
from kilonode.bench._steps import Steps, settings_of, steps

Times = dict[str, list[float]]


def allreduce(plan: dict[str, Any]) -> dict[str, Times] | None:
    """Seconds of one allreduce of so many bytes, by Horovod and by mpi4py, in turns."""
    ranks = comm.start("horovod")
    import horovod.torch as hvd
    import torch
    from mpi4py import MPI

    torch.set_num_threads(1)
    world = MPI.COMM_WORLD.Dup()
    found = {}
    for size in plan["sizes"]:
        array = np.zeros(size // 4, np.float32)
        tensor = torch.from_numpy(array)  # the same memory: numpy asks for huge pages, torch does not

        def by_horovod(tensor: torch.Tensor = tensor, name: str = f"bytes.{size}") -> None:
            hvd.allreduce_(tensor, op=hvd.Sum, name=name)

        def by_mpi4py(array: np.ndarray = array) -> None:
            world.Allreduce(MPI.IN_PLACE, array)

        sides = {"horovod": _together(ranks, by_horovod), "mpi4py": _together(ranks, by_mpi4py)}
        found[str(size)] = turns(sides, plan["rounds"], f"comm: allreduce of {size} bytes", warm=5, show=ranks.is_root)
    ranks.close()
    return found if ranks.is_root else None


def _together(ranks: comm.Comm, action: Callable[[], object]) -> Callable[[], float]:
    """The slowest rank's seconds of an action that all begin at once."""

    def measured() -> float:
        ranks.barrier()
        return max(ranks.allgather(seconds(action)))

    return measured


def initialised(plan: dict[str, Any]) -> Times:
    """Seconds of a few real steps of one rank, with and without Horovod's thread beside them, in turns."""
    import horovod.torch as hvd
    import mpi4py.MPI  # noqa: F401 - it must own MPI_Init

    for name, value in comm.horovod_settings(1, crowded=False).items():
        os.environ.setdefault(name, value)
    made = _steps(plan, comm.Comm())

    def with_horovod() -> float:
        hvd.init()
        spent = seconds(few)
        hvd.shutdown()
        return spent

    def few() -> None:
        made.take(plan["steps"])

    return turns({"without": lambda: seconds(few), "with": with_horovod}, plan["rounds"], "comm: hvd.init")


def overlap(plan: dict[str, Any]) -> Times | None:
    """Seconds of the same steps with and without their reductions, and of the reductions alone, in turns."""
    ranks = comm.start("horovod")
    import horovod.torch as hvd
    import torch

    silent = comm.Comm()
    silent.rank, silent.size = ranks.rank, ranks.size  # the same share, added to nobody's
    joined, alone = _steps(plan, ranks), _steps(plan, silent)
    gradients = [torch.zeros_like(parameter) for parameter in joined.trainer.model.parameters()]
    size = -(-len(gradients) // comm.GRADIENT_GROUPS)
    groups = [gradients[k : k + size] for k in range(0, len(gradients), size)]

    def reduce() -> None:
        for _ in range(plan["steps"]):
            handles = [
                hvd.grouped_allreduce_async_(group, op=hvd.Sum, name=f"alone.{k}") for k, group in enumerate(groups)
            ]
            for handle in handles:
                hvd.synchronize(handle)

    sides = {
        "steps with reductions": _together(ranks, lambda: joined.take(plan["steps"])),
        "steps without": _together(ranks, lambda: alone.take(plan["steps"])),
        "reductions alone": _together(ranks, reduce),
    }
    found = turns(sides, plan["rounds"], "comm: overlap", warm=3, show=ranks.is_root)
    found["parameters"] = [float(sum(gradient.numel() for gradient in gradients))]
    ranks.close()
    return found if ranks.is_root else None


def throughput(plan: dict[str, Any]) -> list[float] | None:
    """Samples/s of windows of real steps, all ranks together."""
    ranks = comm.start("horovod")
    made, samples = _steps(plan, ranks), 0

    def few() -> None:
        nonlocal samples
        samples = made.take(plan["steps"])

    measured = _together(ranks, few)
    measured()  # warms the response cache
    spent = [(measured(), samples) for _ in range(plan["rounds"])]
    made.close()
    ranks.close()
    return [count / duration for duration, count in spent] if ranks.is_root else None


def _steps(plan: dict[str, Any], ranks: comm.Comm) -> Steps:
    """The planned training, with the planned number of threads."""
    settings = settings_of(plan["case"], plan["data"], plan["task"], threads=plan["threads"])
    settings["model"].update(plan["model"])
    return steps(plan["case"], plan["task"], settings, Path(plan["store"]), ranks)


if __name__ == "__main__":
    plan = json.loads(sys.argv[2])
    answer = globals()[sys.argv[1]](plan)
    if answer is not None:
        print(json.dumps(answer))
