"""Starting ranks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

RANKS = Path(__file__).with_name("ranks.py")
Done = subprocess.CompletedProcess[str]
Start = Callable[..., Done]
ELSEWHERE = ("PMI_", "PMIX_", "OMPI_", "PALS_", "SLURM_", "HYDRA_", "MPIR_CVAR_", "HOROVOD_", "KILONODE_")


@pytest.fixture(scope="session")
def bare() -> dict[str, str]:
    """An environment without a launcher or its settings, with this Python's programs first."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ELSEWHERE)}
    return {**kept, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture(scope="session")
def ranks(bare: dict[str, str]) -> Start:
    """``ranks(n, program, ..., hosts="n1:1,n2:2", env={})``: run a program of ``ranks.py``, or a command, on n ranks."""
    mpiexec = shutil.which("mpiexec", path=bare["PATH"])
    if mpiexec is None:
        pytest.skip("mpiexec is not on PATH")

    def start(
        size: int, *program: object, hosts: str = "", env: dict[str, str] | None = None, command: bool = False
    ) -> Done:
        nodes = ["-launcher", "fork", "-hosts", hosts] if hosts else []  # makes hydra see nodes of these names
        words = [str(word) for word in program]
        words = words if command else [sys.executable, str(RANKS), *words]
        return subprocess.run(
            [mpiexec, *nodes, "-n", str(size), *words],
            env={**bare, **(env or {})},
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )

    return start


@pytest.fixture(scope="session")
def good(ranks: Start) -> Start:
    """The same, for what must end well and without noise."""

    def start(*arguments: object, **options: object) -> Done:
        done = ranks(*arguments, **options)
        assert (done.returncode, done.stderr) == (0, "")
        return done

    return start
