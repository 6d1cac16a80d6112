"""Starts measured trainings, here or on the nodes of an allocation; what has a record is not measured again."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from kilonode.bench import _launch
from kilonode.errors import UserError
from kilonode.launch import LAUNCHED_BY
from kilonode.progress import progress
from kilonode.records import Json, read_json
from kilonode.scaling.plan import Plan


def measure(plans: Sequence[Plan], folder: Path, what: str) -> list[Json]:
    """The record of each plan, measured one after another in their order.

    Parameters
    ----------
    plans : sequence of Plan
        What to measure.
    folder : Path
        Records stand in its ``runs/``.
    what : str
        Named in the progress line.

    Raises
    ------
    UserError
        A run refuses what it was given.
    RuntimeError
        A run fails; its own words stand in ``runs/NAME.log``.
    """
    missing = [plan for plan in plans if not plan.record(folder).exists()]
    if len(missing) < len(plans):
        print(f"scaling: {len(plans) - len(missing)} of {len(plans)} runs have their records", file=sys.stderr)
    _refuse_less_than_a_batch(missing)
    for plan in progress(missing, len(missing), what):
        _one(plan, folder)
    return [read_json(plan.record(folder)) for plan in plans]


def _refuse_less_than_a_batch(plans: Sequence[Plan]) -> None:
    """A rate is that of whole batches."""
    from kilonode.data.store import Store  # h5py takes its time

    for index in sorted({plan.store for plan in plans}):
        rows, largest = Store(Path(index), "train").rows, max(plan.batch for plan in plans if plan.store == index)
        if rows < largest:
            raise UserError(
                f"expected at least {largest} samples, one whole batch, got {rows} ({index}); "
                "use a larger --tier, a smaller --batch or fewer ranks"
            )


def _one(plan: Plan, folder: Path) -> None:
    record = plan.record(folder)
    record.parent.mkdir(parents=True, exist_ok=True)
    log = record.with_suffix(".log")
    words = ["-m", "kilonode.scaling._worker", plan.to_json(), str(record), repr(time.time())]
    command, environment = launcher(plan, words)
    with log.open("wb") as stream:
        code = subprocess.run(
            command, env=environment, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL, check=False
        ).returncode
    lines = log.read_text(errors="replace").splitlines()
    said = [line.partition("kilonode: ")[2] for line in lines if "kilonode: expected" in line]
    if said and code:
        raise UserError(*dict.fromkeys(said))
    if code or not record.exists():
        last = "\n".join(lines[-20:])
        raise RuntimeError(f"a measured training ended with {code} ({log}):\n{last}")
    log.unlink()


def launcher(plan: Plan, words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The command that runs ``python WORDS`` on the plan's ranks, and its environment.

    Within an allocation a step of Slurm: ``KILONODE_SRUN`` and ``KILONODE_CPUS_PER_NODE`` are those of slurm/sites.
    Nodes, ranks and cores are always written: the allocation's own would leak into the step. Else mpiexec, and one
    rank without any launcher: the baseline has no Horovod, as a user's own training on one rank has none.
    """
    if not plan.nodes:
        here = [sys.executable, *words] if plan.ranks == 1 else _launch.mpiexec(plan.ranks, *words)
        return here, _launch.environment()
    per_node = plan.ranks // plan.nodes
    cpus = os.environ.get("KILONODE_CPUS_PER_NODE") or os.environ.get("SLURM_CPUS_ON_NODE", "1")
    step = ["srun", *shlex.split(os.environ.get("KILONODE_SRUN", "--mpi=pmi2")), "--kill-on-bad-exit=1"]
    step += ["-N", str(plan.nodes), "-n", str(plan.ranks), f"--ntasks-per-node={per_node}"]
    step += ["-c", str(max(1, int(cpus) // per_node)), sys.executable, *words]
    return step, {name: value for name, value in os.environ.items() if name not in (*LAUNCHED_BY, "OMP_NUM_THREADS")}


def in_allocation() -> bool:
    """Whether Slurm has granted nodes to this process, which is none of their ranks."""
    return "SLURM_JOB_ID" in os.environ and not any(name in os.environ for name in LAUNCHED_BY)


def store(case: str, tier: str, table: str, results: Path, given: Path | None) -> Path:
    """Index of the store: the one given, the workflow's, or one made now beside it."""
    if given is not None:
        if not given.is_file():
            raise UserError(f"expected the index of a store, got nothing ({given}, --store); check the path")
        return given.absolute()
    there = results / case / tier / "store" / table / "index.json"
    if not there.is_file():
        there = _launch.store(case, tier, table, results / "scaling" / "stores" / case / tier)
    return there.absolute()
