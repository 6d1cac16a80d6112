"""The README is true: every command in it runs, every link and every path in it exists."""

from __future__ import annotations

import re
from pathlib import Path

import pages
import pytest
from pages import REPOSITORY

README = (REPOSITORY / "README.md").read_text()
OWN_DATA = "kilonode run --data examples/muon_images/mapping.yaml --input examples/muon_images/muon_images.h5"

# Commands that another test runs in full, because they take long or need what only it has.
ELSEWHERE = {
    "sbatch -N 4 slurm/allocation.sbatch": "tests/slurm/test_modes.py::test_allocation_mode_ends_with_a_report",
    "slurm/testbed/install.sh": "tests/slurm/test_testbed.py",
    "slurm/testbed/testbed up --nodes 4": "tests/slurm/test_testbed.py",
    "slurm/testbed/testbed status": "tests/slurm/test_testbed.py",
    "slurm/testbed/testbed down": "tests/slurm/test_testbed.py",
    OWN_DATA: "test_own_data_reach_their_report",
    "kilonode bench demo --json": "tests/test_tutorial.py, with --summary",
}


def commands(page: str) -> list[str]:
    blocks = (block for block in pages.blocks(REPOSITORY / page) if "slurm" not in block.marks)
    return [line for block in blocks for line in block.commands]


TUTORIAL = set(commands("docs/tutorial.md"))
"""Run by test_tutorial.py, with what they need."""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pages.linked(tmp_path_factory.mktemp("readme"))


def test_the_readme_has_commands() -> None:
    assert len(commands("README.md")) > 10
    assert set(ELSEWHERE) <= set(commands("README.md"))


def test_make_plans_what_it_promises(checkout: Path) -> None:
    assert "make demo" in commands("README.md")
    assert "results/report.html" in pages.run("make demo", checkout).stdout


@pytest.mark.slow
def test_every_other_command_runs(checkout: Path) -> None:
    """In the README's order: later commands read what earlier ones made. Whole runs are only planned."""
    for command in commands("README.md"):
        if command in {*ELSEWHERE, *TUTORIAL}:
            continue
        if command.startswith("kilonode run") and "--until" not in command:
            command = command.replace("kilonode run", "kilonode run --dry-run")
        done = pages.run(command, checkout)
        assert done.returncode == 0, f"{command}\n{done.stdout[-5000:]}"


@pytest.mark.slow
def test_own_data_reach_their_report(checkout: Path) -> None:
    done = pages.run(OWN_DATA, checkout)
    assert done.returncode == 0, done.stdout[-5000:]
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
