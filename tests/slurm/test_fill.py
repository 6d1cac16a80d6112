"""A mixed DAG fills one allocation: steps of four nodes, two and one share it by tokens, and none stands idle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.usefixtures("testbed"), pytest.mark.timeout(300)]
REPOSITORY = Path(__file__).resolve().parents[2]
STEP_S, NODES = 12, 4
# What a rank does: join the others where there is MPI, then keep its node for a while, and say when that was.
STEP = f"""
import json, os, sys, time
from pathlib import Path
began = time.time()
if sys.argv[2] == "mpi":
    from kilonode import comm
    assert comm.start().size == {NODES}
time.sleep(began + {STEP_S} - time.time())
node = os.environ["SLURMD_NODENAME"]
Path(sys.argv[1] + "." + node).write_text(json.dumps([node, began, time.time()]))
"""
# The rules have names, and so resources, of real ones in the profile; `halves` stands for jobs of some nodes.
SNAKEFILE = """
rule all:
    default_target: True
    input: "trained", "gathered"

rule simulate:
    output: touch("simulated")
    resources: nodes=1, launch="", layout=""
    shell: "{resources.launch} {resources.layout} python step.py times/simulate mpi"

rule evaluate:
    input: "simulated"
    output: touch("evaluated.{k}")
    resources: nodes=1, launch="", layout=""
    shell: "{resources.launch} {resources.layout} python step.py times/evaluate-{wildcards.k} alone"

rule halves:
    input: "simulated"
    output: touch("halved.{k}")
    resources: nodes=2
    shell: "srun -N 2 -n 2 -c 8 python step.py times/halves-{wildcards.k} alone"

rule gather:
    input: expand("evaluated.{k}", k=range(8))
    output: touch("gathered")
    shell: "sleep 2"

rule train:
    input: expand("evaluated.{k}", k=range(8)), expand("halved.{k}", k=range(2))
    output: touch("trained")
    resources: nodes=1, launch="", layout=""
    shell: "{resources.launch} {resources.layout} python step.py times/train mpi"
"""


@pytest.mark.long
def test_a_mixed_dag_keeps_nine_tenths_of_the_nodes_busy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One step of MPI on all nodes, eight of one node and two of two beside one another, a serial one, MPI again."""
    for name in ("workflow", "slurm"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "step.py").write_text(STEP)
    (tmp_path / "times").mkdir()
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = ["sbatch", "--wait", f"-N{NODES}", "--time=5", "slurm/allocation.sbatch"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + "".join(path.read_text() for path in tmp_path.glob("slurm-*.out"))

    times = sorted(json.loads(path.read_text()) for path in (tmp_path / "times").iterdir())
    assert len(times) == 4 + 8 + 2 * 2 + 4
    for (node, _, end), (other, begin, _) in pairwise(times):
        assert node != other or end <= begin, "two steps on one node"
    span = max(end for *_, end in times) - min(begin for _, begin, _ in times)
    busy = sum(end - begin for _, begin, end in times) / (NODES * span)
    with capsys.disabled():
        print(f"\nmixed DAG: {busy:.1%} of {NODES * span:.0f} node-seconds busy")
    assert busy >= 0.9
