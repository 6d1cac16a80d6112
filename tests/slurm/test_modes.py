"""The same rules in both modes on four real Slurm nodes, and on this machine: the same weights, bit for bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(900)]
REPOSITORY = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
TOY = ["tier=toy", "report=results/report.html"]
CASE = "reactor_neutrinos"
QUICK = ["--slurm-no-account", "--slurm-init-seconds-before-status-checks=2", "--seconds-between-status-checks=2"]


def run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    logs = "".join(path.read_text()[-3000:] for path in folder.glob("slurm-*.out"))
    assert done.returncode == 0, f"{done.stdout[-2000:]}{done.stderr[-4000:]}{logs}"


def snakemake(folder: Path, profile: str, tasks: list[str], *options: str) -> list[str]:
    cases = json.dumps({CASE: tasks})
    return [
        "snakemake",
        f"--snakefile={REPOSITORY}/Snakefile",
        f"--directory={folder}",
        f"--workflow-profile={REPOSITORY}/workflow/profiles/{profile}",
        *options,
        "--config",
        *TOY,
        f"cases={cases}",
    ]


def weights(folder: Path, task: str) -> bytes:
    return (folder / f"results/reactor_neutrinos/toy/{task}/seed-0/weights.safetensors").read_bytes()


def trained(folder: Path, task: str) -> dict[str, object]:
    record = json.loads((folder / f"results/reactor_neutrinos/toy/{task}/seed-0/metrics.json").read_text())
    conditions: dict[str, object] = record["conditions"]
    return conditions


@pytest.fixture(scope="module")
def allocation(testbed: Callable[..., object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole workflow inside one allocation, both tasks."""
    folder = tmp_path_factory.mktemp("allocation mode")  # a space: every path must be quoted
    for name in ("Snakefile", "workflow", "slurm", "src"):
        (folder / name).symlink_to(REPOSITORY / name)
    cases = json.dumps({CASE: ["autoencoder", "classifier"]})
    batch = [str(REPOSITORY / "slurm/allocation.sbatch"), "--config", *TOY, f"cases={cases}"]
    run(["sbatch", "--wait", "-N4", "--time=15", *batch], folder)
    return folder


def test_allocation_mode_ends_with_a_report(allocation: Path) -> None:
    page = (allocation / "results/report.html").read_text()
    summary = json.loads((allocation / "results/summary.json").read_text())
    assert page.count("<figure") == sum(len(run["explanation"]["captions"]) for run in summary["runs"])
    assert {run["task"] for run in summary["runs"]} == {"autoencoder", "classifier"}


def test_allocation_mode_trains_one_rank_on_each_node(allocation: Path) -> None:
    conditions = trained(allocation, "autoencoder")
    assert conditions["ranks"] == 4
    assert conditions["backend"] == "horovod"
    assert conditions["job"] is not None


def test_submit_mode_gives_the_same_weights(allocation: Path, testbed: Callable[..., object], tmp_path: Path) -> None:
    run(snakemake(tmp_path, "slurm", ["classifier"], *QUICK, "--latency-wait=5"), tmp_path)
    assert (tmp_path / "results/report.html").is_file()
    assert trained(tmp_path, "classifier")["job"] != trained(allocation, "classifier")["job"]
    assert weights(tmp_path, "classifier") == weights(allocation, "classifier")


def test_four_local_ranks_give_the_same_weights(allocation: Path, tmp_path: Path) -> None:
    tasks = ["autoencoder", "classifier"]
    four = ["--set-resources", "train:launch='mpiexec'", "train:layout='-n 4'", "--until", "train"]
    run(snakemake(tmp_path, "local", tasks, *four), tmp_path)
    assert trained(tmp_path, "classifier")["job"] is None
    for task in tasks:
        assert weights(tmp_path, task) == weights(allocation, task)
