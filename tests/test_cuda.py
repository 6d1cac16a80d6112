"""Training on an accelerator: the same code, tested where there is one; and what is refused where there is none."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kilonode import comm
from kilonode.training import checkpoint

sys.path.append(str(Path(__file__).parent))
small = import_module("small_train")
STEPS, EPOCHS = small.STEPS, small.EPOCHS
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device and a torch built for it")


@pytest.fixture(scope="module")
def here(toy: Path) -> Any:
    return small.here(toy)


@needs_cuda
def test_it_learns_what_the_cpu_learns_and_continues_to_the_same_bits(here: Any, tmp_path: Path) -> None:
    assert here.train(tmp_path / "cpu") == 0
    assert here.train(tmp_path / "straight", "--device", "cuda") == 0
    assert here.train(tmp_path / "stopped", "--device", "cuda", mishaps=[(f"step {STEPS + 4}", "SIGTERM")]) == 0
    assert here.train(tmp_path / "stopped", "--device", "cuda") == 0
    small.assert_same_run(tmp_path / "stopped", tmp_path / "straight")
    cpu, cuda = (small.records(tmp_path / name) for name in ("cpu", "straight"))
    for name in ("train_loss", "validation_loss", "lr"):
        np.testing.assert_allclose([line[name] for line in cuda], [line[name] for line in cpu], rtol=1e-3)
    assert small.status(tmp_path / "straight")["conditions"]["device"] == "cuda:0"


@needs_cuda
@pytest.mark.mpi
def test_ranks_add_gradients_through_the_host(here: Any, mpiexec: Any, tmp_path: Path) -> None:
    assert here.train(tmp_path / "one", "--device", "cuda") == 0
    command = here.command(tmp_path / "two", "--device", "cuda", "--backend", "mpi4py")
    done = mpiexec(2, *command)
    assert done.returncode == 0, done.stderr
    one, two = (small.records(tmp_path / name) for name in ("one", "two"))
    for name in ("train_loss", "validation_loss"):
        np.testing.assert_allclose([line[name] for line in two], [line[name] for line in one], rtol=1e-3)


@needs_cuda
def test_its_random_state_comes_back() -> None:
    device = torch.device("cuda:0")
    states = checkpoint.random_state(device)
    first = torch.rand(5, device=device)
    checkpoint.set_random_state(states, device)
    assert torch.equal(torch.rand(5, device=device), first)


def refused(here: Any, state: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert here.train(state, "--device", "cuda") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_device_it_says_so(here: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(here, tmp_path, capsys)
    assert error.startswith("kilonode: expected a CUDA device, got none that torch ")
    assert "(--device cuda); use --device cpu" in error


def test_horovod_of_the_cpu_is_refused_with_the_way_that_works(
    here: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    crowd = comm.Comm()
    crowd.size, crowd.backend = 2, "horovod"
    monkeypatch.setattr(comm, "start", lambda backend: crowd)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    error = refused(here, tmp_path, capsys)
    assert error.startswith("kilonode: expected --backend mpi4py beside --device cuda, got horovod (--backend); ")
    assert "through the host's memory" in error


def test_a_state_of_the_cpu_alone_is_enough_for_another_device() -> None:
    """A run may move: its own generator of the accelerator goes on."""
    states = checkpoint.random_state(torch.device("cpu"))
    assert set(states) == {"cpu"}
    first = torch.rand(3)
    checkpoint.set_random_state(states, torch.device("cuda:0"))
    assert torch.equal(torch.rand(3), first)
