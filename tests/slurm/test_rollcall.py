"""The roll call inside an allocation of four nodes; `make test-kilonode` does it with 1,024."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kilonode.records import read_json

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("testbed")]
REPOSITORY = Path(__file__).resolve().parents[2]


def test_all_nodes_of_an_allocation_answer(tmp_path: Path) -> None:
    for name in ("workflow", "slurm"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = ["sbatch", "--wait", "-N4", "--time=5", "slurm/allocation.sbatch", "--snakefile", "workflow/rollcall.smk"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + "".join(path.read_text() for path in tmp_path.glob("slurm-*.out"))
    figures = {row["name"]: row for row in read_json(tmp_path / "results/rollcall/summary.json")["figures"]}
    assert (figures["nodes_answered"]["value"], figures["nodes_answered"]["met"]) == (4, True)
    assert {name for name in figures if name.startswith("called_")} == {"called_1", "called_2", "called_4"}
    assert sorted(row["name"] for row in read_json(tmp_path / "results/rollcall/4.json")["answers"]) == [
        f"nid000{k}" for k in (1, 2, 3, 4)
    ]
    assert (tmp_path / "results/rollcall/summary.png").is_file()


def test_two_tasks_of_a_node_have_neighbouring_ranks() -> None:
    """What the answers assume of srun: blocks."""
    code = "import os; print(os.environ['SLURM_NODEID'], os.environ['SLURM_PROCID'])"
    command = ["srun", "-N4", "-n8", "--ntasks-per-node=2", sys.executable, "-c", code]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert sorted(tuple(map(int, line.split())) for line in told.splitlines()) == [(k // 2, k) for k in range(8)]
