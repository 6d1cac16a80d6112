"""submit, status and doctor on four real Slurm nodes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kilonode.slurm import batch, sites
from kilonode.slurm.batch import Request

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.usefixtures("testbed")]
REPOSITORY = Path(__file__).resolve().parents[2]
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
ENVIRONMENT = {**os.environ, "PATH": PATH, "OMP_NUM_THREADS": "1"}
SLURM_SITES = [name for name in sites.names(REPOSITORY) if sites.read(name, REPOSITORY).scheduler == "slurm"]
UNKNOWN_HERE = re.compile(r"#SBATCH --(constraint|licenses|qos|partition|gres|gpus-per-node|core-spec)=")
"""Directives that only the site itself can check."""


def call(*command: str, folder: Path, code: int = 0, text: str | None = None) -> str:
    done = subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, input=text, capture_output=True, text=True, timeout=300, check=False
    )
    logs = "".join(path.read_text()[-3000:] for path in folder.glob("slurm-*.out"))
    assert done.returncode == code, f"{done.stdout}{done.stderr}{logs}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("it's $(a) checkout")
    for name in ("Snakefile", "workflow", "src"):
        (folder / name).symlink_to(REPOSITORY / name)
    subprocess.run(["cp", "-r", REPOSITORY / "slurm", folder], check=True)  # a test writes a site of its own
    return folder


@pytest.mark.parametrize("name", SLURM_SITES)
def test_slurm_takes_the_text_of_a_site(name: str, checkout: Path) -> None:
    site = sites.read(name, REPOSITORY)
    request = Request(str(checkout), 4, 30, min(site.ranks_per_node, 8), account="m0000", queue=site.queue)
    lines = batch.text(site, request).splitlines(keepends=True)
    text = "".join(line for line in lines if not UNKNOWN_HERE.match(line))
    said = call("sbatch", "--test-only", folder=checkout, text=text)
    assert re.search(r"Job \d+ to start at .* on nodes nid\[0001-0004\]", said), said


def test_slurm_sees_the_mistakes_that_the_text_must_not_have(checkout: Path) -> None:
    """The test above can fail: sbatch does read these lines."""
    request = Request(str(checkout), 5, 30, 1)
    text = batch.text(sites.read("generic", REPOSITORY), request)
    call("sbatch", "--test-only", folder=checkout, text=text, code=1)  # five nodes of four
    text = batch.text(sites.read("generic", REPOSITORY), replace(request, nodes=4)).replace("B:USR1@122", "B:USR1@x")
    assert "Invalid --signal" in call("sbatch", "--test-only", folder=checkout, text=text, code=255)


def status(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(call("kilonode", "status", "--json", folder=folder))
    return found


def test_a_submitted_allocation_works_and_its_status_is_seen(checkout: Path) -> None:
    cases = json.dumps({"reactor_neutrinos": ["classifier"]})
    words = ("--until", "simulate", "--config", "tier=toy", "report=results/report.html", f"cases={cases}")
    asked = ("--site", "generic", "--nodes", "4", "--minutes", "10", "--ranks-per-node", "2")
    said = call("kilonode", "submit", *asked, "--", *words, folder=checkout)
    job = re.match(r"submit: job (\d+), 4 nodes of generic", said)
    assert job is not None
    seen = []
    deadline = time.monotonic() + 180
    while (found := status(checkout))["jobs"]:
        seen.append(found["jobs"][0])
        assert time.monotonic() < deadline, found
        time.sleep(0.5)
    assert {row["id"] for row in seen} == {job[1]}
    assert {"RUNNING"} <= {row["state"] for row in seen} <= {"PENDING", "RUNNING", "COMPLETING"}
    assert {row["nodes"] for row in seen} == {4}
    assert found["workflow"]["done"] == found["workflow"]["total"], found
    assert (checkout / "results/reactor_neutrinos/toy/raw/index.json").is_file()
    (kept,) = (checkout / "logs/submit").iterdir()
    assert "#SBATCH --ntasks-per-node=2" in kept.read_text()


def doctor(checkout: Path, *words: str, ranks: int, code: int) -> dict[str, Any]:
    command = ("env", f"KILONODE_RANKS_PER_NODE={ranks}", "kilonode", "doctor", "--json", *words)
    said = call("salloc", "-N4", "--exclusive", *command, folder=checkout, code=code)
    found: dict[str, Any] = json.loads(next(line for line in said.splitlines() if line.startswith("{")))
    return found


def test_the_doctor_sees_every_node_of_an_allocation(checkout: Path) -> None:
    found = doctor(checkout, ranks=2, code=0)
    assert sorted(row["node"] for row in found["machines"]) == [f"nid000{n}" for n in (1, 1, 2, 2, 3, 3, 4, 4)]
    levels = {row["check"]: row["level"] for row in found["findings"]}
    assert "wrong" not in levels.values(), found["findings"]
    assert (levels["launcher"], levels["MPI"], levels["Horovod"]) == ("ok", "ok", "ok")
    assert {row["horovod"]["sum"] for row in found["mpi"]} == {8.0}


def test_the_doctor_finds_a_launcher_that_starts_everybody_alone(checkout: Path) -> None:
    """`srun --mpi=none` starts four jobs of one rank without a word."""
    text = (checkout / "slurm/sites/generic.env").read_text()
    (checkout / "slurm/sites/alone.env").write_text(text.replace("--mpi=pmi2", "--mpi=none"))
    found = doctor(checkout, "--site", "alone", ranks=1, code=1)
    wrong = {row["check"]: row for row in found["findings"] if row["level"] == "wrong"}
    assert set(wrong) == {"MPI"}
    assert wrong["MPI"]["seen"] == "1 ranks in MPI, 4 started"
    assert "--mpi=pmi2" in wrong["MPI"]["remedy"]
