"""Fixtures for tests on a real Slurm: a testbed of four nodes on this machine, once for the session."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

TESTBED_FOLDER = Path(__file__).resolve().parents[2] / "slurm/testbed"


@pytest.fixture(scope="session")
def testbed_command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `testbed ARGUMENTS`; skip where it cannot work."""
    if os.geteuid() != 0:
        pytest.skip("needs root: Slurm's daemons start jobs for other users")
    if shutil.which("slurmctld", path="/usr/sbin:/usr/bin") is None:
        pytest.skip(f"needs Slurm: run {TESTBED_FOLDER}/install.sh")

    def command(*arguments: str, root: Path = Path("/")) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "KILONODE_TESTBED_ROOT": str(root)}
        argv = [str(TESTBED_FOLDER / "testbed"), *arguments]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120, check=False)

    return command


@pytest.fixture(scope="session")
def testbed(
    testbed_command: Callable[..., subprocess.CompletedProcess[str]],
) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Four idle nodes, and the command that controls them.

    A testbed of four nodes that is already up is used and stays up; any other is refused.
    """
    was_up = json.loads(testbed_command("status", "--json").stdout)["state"] == "up"
    started = testbed_command("up", "--nodes", "4")
    if started.returncode != 0:
        pytest.fail(f"no testbed: {started.stderr}", pytrace=False)
    yield testbed_command
    if not was_up:
        stopped = testbed_command("down")
        assert stopped.returncode == 0, stopped.stderr
