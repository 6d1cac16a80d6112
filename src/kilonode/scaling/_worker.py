"""What every measured training runs on each of its ranks: ``python -m kilonode.scaling._worker PLAN RECORD SINCE``.

It is the training stage's own loop with its validation, records and checkpoints, on the plan's rules. Rank 0 writes
the record, in the shape of metrics.json: `kilonode scaling advise`, `history` and `predict` read it as any training's.
"""

from __future__ import annotations

import copy
import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kilonode import comm, launch
from kilonode.data.loader import Loader, Share
from kilonode.errors import EXIT_USER, UserError
from kilonode.records import Json, conditions, figure, write_json
from kilonode.scaling.plan import Plan, of_json, settings


@dataclass(frozen=True)
class Seen:
    """A rank as it saw itself: node, machine, cores it may use, largest memory, cores that it and its machine used."""

    node: str
    machine: str
    cores: list[int]
    memory_mb: float
    own: float
    busy: float


class Dummy:
    """The first share of a loader, again and again: what training would do if reading cost nothing."""

    def __init__(self, loader: Loader) -> None:
        self.steps = loader.steps
        with closing(loader.epoch(0)) as shares:
            self._share = copy.deepcopy(next(shares))

    def epochs(self, first: int, start: int, end: int) -> Generator[Share, None, None]:
        """As many shares as the loader would give."""
        for _ in range((end - first) * self.steps - start):
            yield self._share


def run(plan: Plan, record: Path, since: float) -> None:
    """Train as planned; rank 0 writes the record.

    Parameters
    ----------
    plan : Plan
        What to measure.
    record : Path
        To write.
    since : float
        When the ranks were launched, seconds since 1970.
    """
    os.environ["OMP_NUM_THREADS"] = str(plan.threads)  # read when torch is imported
    ranks = comm.start("horovod")  # before torch: mpi4py must own MPI
    if ranks.size != plan.ranks:
        raise UserError(f"expected {plan.ranks} ranks, got {ranks.size} (the launcher); see kilonode doctor")
    from kilonode.bench._steps import steps
    from kilonode.training.stop import Watch

    state = record.with_suffix(".state")
    if ranks.is_root:
        shutil.rmtree(state, ignore_errors=True)  # of a run that was killed: a rate is measured in one piece
        state.mkdir(parents=True)
    ranks.barrier()
    made = steps(plan.case, plan.task, settings(plan), Path(plan.store), ranks, plan.seed, state)
    trainer = made.trainer
    if plan.input == "dummy":
        trainer.training = Dummy(made.loader)
    before = trainer.evaluate()
    began, used = time.monotonic(), _cpu_seconds()
    status = trainer.fit(Watch(ranks, "", time.monotonic()))
    if status != "complete":
        raise UserError(
            f"expected a training to its end, got one that {status} ({plan.name}); lower training.lr, or "
            "leave this layout out"
        )
    spent = tuple((now - then) / (time.monotonic() - began) for now, then in zip(_cpu_seconds(), used, strict=True))
    seen = ranks.gather(Seen(_node(), os.uname().nodename, sorted(os.sched_getaffinity(0)), _memory_mb(), *spent))
    if seen is not None:
        history = [json.loads(line) for line in (state / "metrics.jsonl").read_text().splitlines()]
        for epoch in history:
            epoch["elapsed_s"] = epoch["time"] - since
        rows = figures(history, before, trainer.progress.spent.summary()["shares"], [one.memory_mb for one in seen])
        rows.append(figure("cores used by others", others(seen), "1", note="while it trained, on the busiest machine"))
        rows.append(figure("parameters", sum(parameter.numel() for parameter in trainer.model.parameters())))
        rows += [figure(name, value) for name, value in (_counted(made) if ranks.size == 1 else {}).items()]
        under = {**_under(plan, ranks), **made.choice, **place(seen, plan.threads)}
        content = {"figures": rows, "history": history, "conditions": conditions(seeds=[plan.seed], **under)}
        write_json(record, {"bench": "train", **content})
        shutil.rmtree(state)
    ranks.close()


def _under(plan: Plan, ranks: comm.Comm) -> Json:
    """The plan as conditions of a record; ``asked`` is its precision, ``over`` what a series counts."""
    said = {**vars(plan), "asked": plan.precision, "data": plan.tier, "over": "nodes" if plan.nodes else "ranks"}
    return {**said, "backend": ranks.backend, "mpi": ranks.library, "job": os.environ.get("SLURM_JOB_ID")}


def figures(history: list[Json], before: float, shares: dict[str, float], memory_mb: list[float]) -> list[Json]:
    """The numbers of a run.

    Parameters
    ----------
    history : list of dict
        Its epochs, with ``elapsed_s`` since the launch; rates and steps are those after the first.
    before : float
        Validation loss of the weights before training.
    shares : dict
        Of the time of the whole run, by kind.
    memory_mb : list of float
        Largest memory of each rank, MB.
    """
    later = history[1:] or history
    losses = [epoch["validation_loss"] for epoch in history]
    rates = [epoch["samples_per_s"] for epoch in later]
    steps = {p: [epoch["step_ms"][p] for epoch in later] for p in ("p50", "p95", "p99", "p100")}
    waits = {kind: float(np.mean([epoch[kind] for epoch in later])) for kind in ("input_wait", "communication_wait")}
    return [
        figure(
            "samples_per_s", float(len(rates) / sum(1 / rate for rate in rates)), "samples/s", (min(rates), max(rates))
        ),
        *(figure(f"step_{p}", float(np.median(values)), "ms") for p, values in steps.items() if p != "p100"),
        figure("step_p100", max(steps["p100"]), "ms"),
        *(figure(kind, value) for kind, value in waits.items()),
        *(figure(f"share_{kind}", value) for kind, value in shares.items()),
        figure("memory", max(memory_mb), "MB", note="largest rank"),
        figure("memory of all ranks", sum(memory_mb), "MB"),
        figure("validation loss before", before),
        figure("best_validation_loss", min(losses)),
        figure("epochs", len(history), "epoch"),
        figure("first epoch ends", history[0]["elapsed_s"], "s"),
        figure("ends", history[-1]["elapsed_s"], "s"),
    ]


def others(seen: list[Seen]) -> float:
    """Cores that other programs used while it trained, on the machine where it was most: a measurement wants none."""
    machines = {one.machine for one in seen}
    own = {machine: sum(one.own for one in seen if one.machine == machine) for machine in machines}
    return max(max(one.busy for one in seen if one.machine == machine) - own[machine] for machine in machines)


def place(seen: list[Seen], threads: int) -> Json:
    """Where the ranks ran, and why their times are no measure of speed, if so.

    Parameters
    ----------
    seen : list of Seen
        Of each rank.
    threads : int
        Of a rank.
    """
    machines: dict[str, set[int]] = {}
    nodes: dict[str, set[str]] = {}
    for one in seen:
        machines.setdefault(one.machine, set()).update(one.cores)
        nodes.setdefault(one.machine, set()).add(one.node)
    wanted = {machine: threads * sum(1 for one in seen if one.machine == machine) for machine in machines}
    over = next((name for name, cores in machines.items() if wanted[name] > len(cores)), None)
    shared = next((name for name, on_it in nodes.items() if len(on_it) > 1), None)
    reason = None
    if shared is not None:
        reason = f"{len(nodes[shared])} nodes are one machine"
    if over is not None:
        reason = f"{wanted[over]} threads on {len(machines[over])} cores"
    names = sorted({one.node for one in seen})
    return {"nodes": len(names), "node_list": names, "functional": reason}


def _cpu_seconds() -> tuple[float, float]:
    """CPU time so far of this process, and of all of this machine (user, nice, system, interrupts; not idle)."""
    busy = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    ticks = sum(int(busy[k]) for k in (0, 1, 2, 5, 6))
    return time.process_time(), ticks / os.sysconf("SC_CLK_TCK")


def _node() -> str:
    return os.environ.get("SLURMD_NODENAME") or os.uname().nodename


def _memory_mb() -> float:
    """The largest that this process ever held, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def _counted(made: Any) -> dict[str, float]:
    """Floating-point operations and bytes of a forward and backward pass, a sample."""
    from kilonode.scaling.roofline import counted

    with closing(made.loader.epoch(0)) as shares:
        share = next(shares)
        flop, moved = counted(made.trainer.model, made.trainer.batch(share, 0))
    return {"flop_per_sample": flop / len(share.rows), "bytes_per_sample": moved / len(share.rows)}


if __name__ == "__main__":
    try:
        run(of_json(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
    except UserError as error:
        for line in launch.failed(error.problems, EXIT_USER):
            print(f"kilonode: {line}", file=sys.stderr)
        sys.exit(EXIT_USER)
