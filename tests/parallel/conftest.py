"""Starting ranks."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kilonode import cases, config

RANKS = Path(__file__).with_name("ranks.py")
Done = subprocess.CompletedProcess[str]
Start = Callable[..., Done]
ELSEWHERE = ("PMI_", "PMIX_", "OMPI_", "PALS_", "SLURM_", "HYDRA_", "MPIR_CVAR_", "HOROVOD_", "KILONODE_")


@pytest.fixture(scope="session")
def bare() -> dict[str, str]:
    """The environment without what a launcher or a site has set."""
    return {name: value for name, value in os.environ.items() if not name.startswith(ELSEWHERE)}


@pytest.fixture(scope="session")
def ranks(mpiexec: Start, bare: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Start:
    """``ranks(3, "bits", folder, nodes=(1, 2), env={})``: a program of ``ranks.py``, or a file, on 3 ranks.

    With ``nodes`` MPI believes in nodes of so many ranks each, all on this machine.
    """

    def start(size: int, program: str | Path, *arguments: object, nodes: tuple[int, ...] = (), env: Any = None) -> Done:
        more = dict(env or {})
        if nodes:
            hosts = tmp_path_factory.mktemp("hosts") / "hosts"
            hosts.write_text("".join(f"node{number}:{count}\n" for number, count in enumerate(nodes)))
            more |= {"HYDRA_LAUNCHER": "fork", "HYDRA_HOST_FILE": str(hosts)}
        words = [program] if isinstance(program, Path) else [RANKS, program]
        return mpiexec(size, *words, *(str(argument) for argument in arguments), env={**bare, **more})

    return start


@pytest.fixture(scope="session")
def good(ranks: Start) -> Start:
    """The same, for what must end well and without noise."""

    def start(*arguments: Any, **options: Any) -> Done:
        done = ranks(*arguments, **options)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        return done

    return start


@pytest.fixture(scope="session")
def stores(toy: Path, kilonode: Start, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``<case>/<table>/index.json`` of every case, toy tier."""
    home = tmp_path_factory.mktemp("stores")
    for case in cases.names():
        if case == "reactor_neutrinos":
            (home / case).symlink_to(toy / "store")
            continue
        what = ("--case", case, "--data", "toy")
        made = [kilonode("simulate", *what, "--output", home / f"raw/{case}/index.json", timeout=600)]
        for table in sorted({task["table"] for task in config.resolve(case, "toy")["tasks"].values()}):
            paths = ("--raw", home / f"raw/{case}/index.json", "--output", home / case / table / "index.json")
            made.append(kilonode("preprocess", *what, "--table", table, *paths, timeout=600))
        assert {done.returncode for done in made} == {0}, made
    return home
