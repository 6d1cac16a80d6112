"""The house rules that a machine can check; `make lint` prints the same with its reasons."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
TOOLS = {
    "ruff": "ruff check",
    "format": "ruff format --check",
    "types": "mypy",
    "layers": "lint-imports",
    "rules": "snakefmt --check Snakefile workflow",
    "spelling": "codespell",
}


@pytest.mark.parametrize("tool", TOOLS)
def test_the_tools_find_nothing(tool: str) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        TOOLS[tool].split(), cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_files_and_functions_stay_readable() -> None:
    long = {
        str(path.relative_to(REPOSITORY)): count
        for path in (REPOSITORY / "src").rglob("*.py")
        if (count := len(path.read_text().splitlines())) > 320
    }
    assert long == {}
