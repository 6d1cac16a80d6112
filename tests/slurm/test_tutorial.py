"""The tutorial's blocks that need a Slurm system: the newcomer's own data reach their report in an allocation."""

from __future__ import annotations

import time
from pathlib import Path

import pages
import pytest

from kilonode.records import read_json

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.usefixtures("testbed")]
BLOCKS = pages.blocks(pages.REPOSITORY / "docs/tutorial.md")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the tutorial's data, mapping and run.json, and no results."""
    folder = pages.linked(tmp_path_factory.mktemp("tutorial"))
    for block in BLOCKS:
        if block.section == "Data of your own" and "kilonode run" not in block.text:
            pages.follow(block, folder)
        if "--seeds 2 --dry-run" in block.text:
            assert pages.run(block.text, folder).returncode == 0
    return folder


def test_the_tutorials_allocation_ends_with_the_report_of_two_seeds(checkout: Path) -> None:
    (block,) = (block for block in BLOCKS if "slurm" in block.marks)
    pages.follow(block, checkout)
    deadline = time.monotonic() + 420
    while not (said := pages.run("kilonode status", checkout).stdout).startswith("jobs: 0 of this folder"):
        assert time.monotonic() < deadline, said
        time.sleep(2)
    folder = checkout / "results/reactor_neutrinos/camera"
    logs = "".join(path.read_text()[-5000:] for path in checkout.glob("slurm-*.out"))
    assert (folder / "report.html").is_file(), said + logs
    assert [run["seed"] for run in read_json(folder / "summary.json")["runs"]] == [0, 1]
