"""A small store to train on, and commands on several ranks of this machine."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from kilonode import config
from kilonode.cases import SMALL
from kilonode.errors import UserError

ELSEWHERE = ("PMI_", "PMIX_", "OMPI_", "PALS_", "SLURM_", "HYDRA_", "OMP_NUM_THREADS", "KILONODE_STOP")
"""What another launcher has set: with it, a rank would look for ranks that are not there."""


def case_arguments(parser: argparse.ArgumentParser, case: str = SMALL) -> None:
    """Options that choose what is trained."""
    parser.add_argument("--case", default=case, metavar="NAME", help=f"what is trained (default {case})")
    parser.add_argument("--task", metavar="NAME", help="one of its tasks (default: its first)")
    parser.add_argument("--data", default="toy", metavar="TIER", help="of the simulation (default toy)")
    parser.add_argument("--store", type=Path, metavar="PATH", help="index of a store that is there already")


def task_of(options: argparse.Namespace) -> str:
    """The task that is asked for, or the case's first."""
    return str(options.task or next(iter(config.resolve(options.case, options.data)["tasks"])))


def store_of(options: argparse.Namespace, folder: Path) -> Path:
    """Index of the store that is asked for, or of one made in ``folder``."""
    if options.store is not None:
        return Path(options.store).absolute()
    return store(options.case, options.data, config.task(options.case, options.data, task_of(options))["table"], folder)


def store(case: str, data: str, table: str, folder: Path) -> Path:
    """Simulate and preprocess one table of a case; the index of its store."""
    from kilonode.data import preprocess, simulate

    index = folder / "store" / table / "index.json"
    raw = folder / "raw" / "index.json"
    if not raw.exists():
        print(f"bench: simulating {case}, tier {data}", file=sys.stderr, flush=True)
        simulate.run(case, data, raw)
    if not index.exists():
        preprocess.run(case, data, table, raw, index)
    return index


def environment(**more: str) -> dict[str, str]:
    """Give this process's, without what a launcher left in it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ELSEWHERE)}
    return {**kept, "PYTHONWARNINGS": "ignore", **more}


def mpiexec(ranks: int, *words: object, wrapper: tuple[str, ...] = ()) -> list[str]:
    """The command that runs ``python WORDS`` on so many ranks.

    Raises
    ------
    UserError
        No mpiexec beside this Python or on the PATH.
    """
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    launcher = shutil.which("mpiexec", path=places)
    if launcher is None:
        raise UserError("expected mpiexec to start ranks with, got none on the PATH; run `make env`")
    return [launcher, "-n", str(ranks), *wrapper, sys.executable, *(str(word) for word in words)]


def output(command: list[str], timeout_s: float = 300.0, **more: str) -> str:
    """What a command prints; its last words are the reason if it fails.

    Raises
    ------
    RuntimeError
        It fails or takes too long.
    """
    try:
        done = subprocess.run(
            command, env=environment(**more), capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"no end after {timeout_s:.0f} s: {' '.join(command)}") from error
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout
