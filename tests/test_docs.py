"""The README is true: every command in it runs, every link and every path in it exists."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text()
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
OWN_DATA = "kilonode run --data examples/muon_images/mapping.yaml --input examples/muon_images/muon_images.h5"

# Commands that another test runs in full, because they take long or need what only it has.
ELSEWHERE = {
    "sbatch -N 4 slurm/allocation.sbatch": "tests/slurm/test_modes.py::test_allocation_mode_ends_with_a_report",
    "slurm/testbed/install.sh": "tests/slurm/test_testbed.py",
    "slurm/testbed/testbed up --nodes 4": "tests/slurm/test_testbed.py",
    "slurm/testbed/testbed status": "tests/slurm/test_testbed.py",
    "slurm/testbed/testbed down": "tests/slurm/test_testbed.py",
    OWN_DATA: "test_own_data_reach_their_report",
}
# Commands planned here (everything but the work), because the work itself is that of test_workflow.py.
PLANNED = {f"make {verb}": f"make -n {verb}" for verb in ("demo", "test", "test-long", "test-kilonode")}


def commands() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    lines = [line.partition(" #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def call(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": PATH}
    return subprocess.run(
        shlex.split(command), cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkout's files under another folder, so that results do not land among the sources."""
    folder = tmp_path_factory.mktemp("readme")
    for path in REPOSITORY.iterdir():
        if path.name not in ("results", "logs", ".snakemake", ".git"):
            (folder / path.name).symlink_to(path)
    return folder


def test_the_readme_has_commands() -> None:
    assert len(commands()) > 10
    assert set(ELSEWHERE) | set(PLANNED) <= set(commands())


def test_make_plans_what_it_promises(checkout: Path) -> None:
    for command in PLANNED.values():
        done = call(command, checkout)
        assert done.returncode == 0, done.stderr
    assert "results/report.html" in call("make -n demo", checkout).stdout


@pytest.mark.slow
def test_every_other_command_runs(checkout: Path) -> None:
    """In the README's order: later commands read what earlier ones made. Demo-size runs are only planned."""
    for command in commands():
        if command in ELSEWHERE or command in PLANNED or command == "kilonode bench demo --json":
            continue
        if command.startswith("kilonode run") and "--tier toy" not in command:
            command = command.replace("kilonode run", "kilonode run --dry-run")
        done = call(command, checkout)
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-3000:]}"
    summary = "results/reactor_neutrinos/toy/summary.json"
    done = call(f"kilonode bench demo --json --summary {summary}", checkout)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_own_data_reach_their_report(checkout: Path) -> None:
    done = call(OWN_DATA, checkout)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    folder = checkout / "results/reactor_neutrinos/muon_images"
    page = (folder / "report.html").read_text()
    assert "Atmospheric muons in a neutrino telescope" in page
    table = (folder / "summary.csv").read_text().splitlines()
    rows = [line.split(",") for line in table if ",dir_z,linear_r2," in line]
    assert {row[6] for row in rows} >= {"code", "pca"}
    for row in rows:
        low, value, high = float(row[9]), float(row[8]), float(row[10])
        assert low <= value <= high, row


def test_links_and_named_paths_exist() -> None:
    for page in [REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md"), REPOSITORY / "envs/README.md"]:
        for link in re.findall(r"\]\(([^)#]+?)\)", page.read_text()):
            if not link.startswith("http"):
                assert (page.parent / link).exists(), (page.name, link)
    tree = README.partition("## The house")[2].partition("```\n")[2].partition("```")[0]
    for line in tree.splitlines():
        name = line.split()[0]
        if not line.startswith(" "):
            assert (REPOSITORY / name).exists(), name
