"""Sixty-four real ranks on 32 nodes learn what one rank learns."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import small_train

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)]
Run = Callable[..., subprocess.CompletedProcess[str]]
NODES, RANKS = 32, 64


@pytest.fixture
def nodes(testbed: Run) -> Iterator[None]:
    """Thirty-two nodes in the place of the four, which are back afterwards."""
    for verb in (("down",), ("up", "--nodes", str(NODES))):
        done = testbed(*verb)
        assert done.returncode == 0, done.stderr
    yield
    testbed("down")
    assert testbed("up", "--nodes", "4").returncode == 0


@pytest.mark.usefixtures("nodes")
def test_64_ranks_have_the_loss_curve_of_one(toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Sums of floats in another order: fp32 differs in the last digits, which 48 steps of Adam may make larger."""
    here = small_train.here(toy)
    alone, many = tmp_path / "alone", tmp_path / "many"
    assert here.train(alone) == 0
    step = ["srun", "--mpi=pmi2", f"-N{NODES}", f"-n{RANKS}", "--ntasks-per-node=2", "-c1", "--kill-on-bad-exit=1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*step, sys.executable, *here.command(many)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    conditions = small_train.status(many)["conditions"]
    assert (conditions["ranks"], conditions["backend"]) == (RANKS, "horovod")
    curves = [
        np.array([[row["train_loss"], row["validation_loss"]] for row in small_train.records(state)])
        for state in (alone, many)
    ]
    assert curves[0].shape == (small_train.EPOCHS, 2)
    difference = np.max(np.abs(curves[1] / curves[0] - 1))
    with capsys.disabled():
        print(f"\n{RANKS} ranks on {NODES} nodes: losses differ from those of one rank by at most {difference:.1e}")
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-4)
