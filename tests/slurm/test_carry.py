"""Environment and data on a disk of each node: the testbed's nodes have one each, at the same path."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_faults import RUN, Allocation

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.usefixtures("testbed")]
REPOSITORY = Path(__file__).resolve().parents[2]
LOCAL = Path("/run/kilonode-testbed/local")
# What each node sees: its name, whose Python it runs, and where a module and a program of the environment lie.
SEEN = "import os, sys, thing; print(os.environ['SLURMD_NODENAME'], sys.prefix, thing.__file__)"
JOB = """#!/bin/bash
set -eu
local="$(slurm/carry.sh environment "$1")"
srun -N4 -n4 "$local/bin/python" -c "$2"
srun -N4 -n4 "$local/bin/program"
"""


def call(*command: str | Path, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_every_node_runs_its_own_copy_of_the_environment(tmp_path: Path) -> None:
    (tmp_path / "slurm").symlink_to(REPOSITORY / "slurm")
    environment = tmp_path / "environment"
    call(sys.executable, "-m", "venv", "--without-pip", environment, folder=tmp_path)
    packages = next(environment.glob("lib/python*/site-packages"))
    (packages / "thing.py").write_text("")
    (environment / "bin/program").write_text(f"#!{environment}/bin/python\nimport sys; print('program', sys.prefix)\n")
    (environment / "bin/program").chmod(0o755)
    (tmp_path / "job").write_text(JOB)
    for turn in (1, 2):
        said = call("salloc", "-N4", "bash", "job", LOCAL / "deep", SEEN, folder=tmp_path)
        assert ("carry.sh: packed " in said) is (turn == 1), said
        lines = [line.split() for line in said.splitlines() if line.strip()]
        carried = (
            LOCAL / "deep" / next(line[-1] for line in lines if line[:2] == ["carry.sh:", "to"]).split("/")[-1][:-1]
        )
        seen = sorted(line for line in lines if line[0].startswith("nid"))
        module = carried / packages.relative_to(environment) / "thing.py"
        assert seen == [[f"nid000{k}", str(carried), str(module)] for k in (1, 2, 3, 4)]
        assert said.count(f"program {carried}\n") == 4
    assert not list(LOCAL.iterdir())  # this shell is on no node


@pytest.mark.long
def test_a_training_reads_the_store_of_its_node(toy: Path, tmp_path: Path) -> None:
    """The environment is the real one: a minute for packing and handing it on."""
    allocation = Allocation.make(tmp_path, toy)
    allocation.plan()
    index = allocation.folder / RUN.parents[1] / "store/pairs/index.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KILONODE_LOCAL", str(LOCAL))
        job = allocation.submit()
    assert allocation.end(job, 400) == "COMPLETED", allocation.logs()
    assert allocation.weights.exists()
    inside = ["srun", "-N4", "-n4", "sh", "-c", f"cat {LOCAL}/*/index.json | cmp - {index} && echo $SLURMD_NODENAME"]
    done = subprocess.run(inside, capture_output=True, text=True, env=os.environ, check=False)
    assert len(done.stdout.split()) == 2, done.stdout + done.stderr  # the two nodes of the job
