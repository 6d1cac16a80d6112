"""Checkpoints: exact, complete or absent, and never believed without proof."""

from __future__ import annotations

import hashlib
import json
import math
import pickle
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kilonode.comm import Comm
from kilonode.errors import UserError
from kilonode.training import checkpoint, optim
from kilonode.training.checkpoint import Tensors

MINE = "identity of this run"


def write(folder: Path, step: int, identity: str = MINE) -> None:
    """A checkpoint that knows its step from both of its files."""
    tensors = {"weight": torch.full((100,), float(step)), "count": torch.tensor(step)}
    checkpoint.save(folder, step, tensors, {"identity": identity, "step": step})


def found(folder: Path, identity: str = MINE) -> int | None:
    """Step of the checkpoint that a run would continue from, the same by both files."""
    newest = checkpoint.newest(folder, identity)
    if newest is None:
        return None
    tensors, state = newest
    assert torch.equal(tensors["weight"], torch.full((100,), float(state["step"])))
    assert tensors["count"].item() == state["step"]
    return int(state["step"])


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def pair(step: int) -> list[str]:
    return [f"checkpoint-{step:09d}.json", f"checkpoint-{step:09d}.safetensors"]


def trained(kind: str, steps: int, model: torch.nn.Module | None = None, more: Tensors | None = None) -> Any:
    """A small model after some steps, perhaps continued from tensors; with its optimiser."""
    if model is None:
        torch.manual_seed(1)
        model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 1))
    optimizer = optim.optimizer(model.parameters(), {"optimizer": kind, "lr": 0.05, "weight_decay": 0.1})
    if more is not None:
        model.load_state_dict(checkpoint.under_prefix("model.", more))
        checkpoint.unflatten(optimizer, more)
    x = torch.linspace(-1, 1, 40).view(8, 5)
    for _ in range(steps):
        optimizer.zero_grad()
        (model(x) - x.sum(1, keepdim=True)).square().mean().backward()
        optimizer.step()
    return model, optimizer


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd", "lars", "lamb"])
def test_training_continues_bit_for_bit_from_what_was_saved(kind: str, tmp_path: Path) -> None:
    straight, _ = trained(kind, 7)
    model, optimizer = trained(kind, 3)
    tensors = {**checkpoint.with_prefix("model.", model.state_dict()), **checkpoint.flat(optimizer)}
    checkpoint.save(tmp_path, 3, tensors, {"identity": MINE})
    restored = checkpoint.restore(tmp_path, MINE, Comm())
    assert restored is not None
    for name, tensor in tensors.items():
        assert (restored[0][name].dtype, restored[0][name].shape) == (tensor.dtype, tensor.shape)
        assert restored[0][name].numpy().tobytes() == tensor.numpy().tobytes(), name
    continued, _ = trained(kind, 4, more=restored[0])
    for name, tensor in straight.state_dict().items():
        assert torch.equal(continued.state_dict()[name], tensor), name


def test_every_type_and_value_comes_back_as_it_was(tmp_path: Path) -> None:
    tensors = {
        "float": torch.tensor([math.inf, -0.0, 1e-45, math.pi]),
        "double": torch.tensor(math.e, dtype=torch.float64),
        "random": torch.get_rng_state(),
        "whole": torch.tensor([[2**62, -1]]),
        "strided": torch.arange(6.0).view(2, 3).T,
        "none": torch.empty(0, 3),
    }
    state = {"identity": MINE, "loss": 0.1 + 0.2, "sums": [[1e-300, 3]], "best": None, "done": False}
    checkpoint.save(tmp_path, 1, tensors, state)
    newest = checkpoint.newest(tmp_path, MINE)
    assert newest is not None
    assert {name: newest[1][name] for name in state} == state
    for name, tensor in tensors.items():
        assert newest[0][name].dtype == tensor.dtype
        assert newest[0][name].numpy().tobytes() == np.ascontiguousarray(tensor.numpy()).tobytes(), name


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        write(tmp_path, step)
    assert files(tmp_path) == pair(20) + pair(30)
    assert found(tmp_path) == 30


def test_what_a_killed_run_left_behind_goes_with_the_next_checkpoint(tmp_path: Path) -> None:
    (tmp_path / ".checkpoint-000000010.safetensors.77.tmp").write_bytes(b"half")
    (tmp_path / "checkpoint-000000005.safetensors").write_bytes(b"no description")
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    write(tmp_path, 20)
    assert files(tmp_path) == [*pair(20), "metrics.jsonl"]


def test_a_run_that_fell_back_is_not_pushed_out_by_the_broken_ones(tmp_path: Path) -> None:
    write(tmp_path, 90)
    for step in (100, 110):
        for name in pair(step):
            (tmp_path / name).write_text("{}")
    assert found(tmp_path) == 90
    write(tmp_path, 95)
    assert files(tmp_path) == pair(90) + pair(95)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def other_number(path: Path) -> None:
    """JSON that reads well but is not what was written: weights of step 20 with the count of step 21."""
    path.write_text(path.read_text().replace('"step": 20', '"step": 21'))


@pytest.mark.parametrize(
    ("number", "damage"),
    [
        (1, flip),
        (1, truncate),
        (1, Path.unlink),
        (1, lambda path: path.write_bytes(b"")),
        (0, truncate),
        (0, other_number),
        (0, lambda path: path.write_bytes(b"")),
        (0, lambda path: path.write_text("[]")),
        (0, lambda path: path.write_text('{"identity": "identity of this run"}')),
        (0, lambda path: path.write_bytes(b"\xff\xfe")),
    ],
)
def test_a_broken_newest_one_is_named_and_the_one_before_is_used(
    number: int, damage: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, 10)
    write(tmp_path, 20)
    broken = tmp_path / pair(20)[number]
    damage(broken)
    assert found(tmp_path) == 10
    error = capsys.readouterr().err
    assert error.startswith("warning: expected ")
    assert error.count("\n") == 1
    assert str(broken) in error


def test_with_every_one_broken_there_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for step in (10, 20):
        write(tmp_path, step)
        flip(tmp_path / pair(step)[1])
    assert found(tmp_path) is None
    assert capsys.readouterr().err.count("warning: ") == 2


def test_tensors_that_were_not_described_are_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, 10)
    write(tmp_path, 20)
    (tmp_path / pair(20)[0]).unlink()
    assert found(tmp_path) == 10
    assert capsys.readouterr().err == ""


def test_a_crash_between_the_two_files_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    write(tmp_path, 10)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_json", crash)
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path, 20)
    assert files(tmp_path) == [*pair(10), pair(20)[1]]
    assert found(tmp_path) == 10
    write(tmp_path, 20)
    assert found(tmp_path) == 20


def test_another_run_is_passed_over_in_silence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, 10)
    write(tmp_path, 20, "another seed")
    assert found(tmp_path) == 10
    assert found(tmp_path, "another seed") == 20
    assert found(tmp_path, "a third") is None
    assert capsys.readouterr().err == ""


def test_loading_executes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pickle under the right name, with a description that vouches for it, is refused like any broken file."""

    class Payload:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "executed",))

    write(tmp_path, 10)
    write(tmp_path, 20)
    for content in (pickle.dumps(Payload()), b"\x80\x04" + b"\0" * 100):
        description, tensors = (tmp_path / name for name in pair(20))
        tensors.write_bytes(content)
        state = json.loads(description.read_text()) | {"sha256": hashlib.sha256(content).hexdigest()}
        del state["digest"]
        description.write_text(json.dumps(state | {"digest": checkpoint.digest(state)}))
        assert found(tmp_path) == 10
        assert str(tensors) in capsys.readouterr().err
    assert not (tmp_path / "executed").exists()


FULL = """
import resource, sys
from pathlib import Path
import torch
from kilonode import cli
from kilonode.comm import Comm
from kilonode.training import checkpoint

def run(**_):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
    checkpoint.save(Path(sys.argv[1]), 20, {"weight": torch.zeros(10_000)}, {"identity": "me", "filler": "x" * 50_000})

cli.VERBS["train"] = ("full", *cli.VERBS["train"][1:])
sys.modules["full"] = type(sys)("full")
sys.modules["full"].run = run
cli.main("train --case a --task a --data toy --store a --state a".split())
"""


@pytest.mark.parametrize("limit", [0, 1000, 45_000])
def test_a_full_disk_leaves_the_checkpoint_before_and_says_so_in_one_line(limit: int, tmp_path: Path) -> None:
    """At 0 nothing fits, at 1000 part of the tensors, at 45,000 the tensors but not their description."""
    write(tmp_path, 10)
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path), str(limit)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("kilonode: expected to write, got File too large (")
    assert done.stderr.count("\n") == 1
    assert str(tmp_path / "checkpoint-000000020") in done.stderr
    assert found(tmp_path) == 10
    assert not [name for name in files(tmp_path) if name.startswith(".")]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"^expected to write, got .*; check permissions and free space there$"):
        write(tmp_path / "file", 10)


def test_clearing_leaves_nothing_of_a_run(tmp_path: Path) -> None:
    for step in (10, 20):
        write(tmp_path, step)
    for name in (".checkpoint-000000030.json.1.tmp", "metrics.jsonl", "status.json", "notes.txt"):
        (tmp_path / name).write_text("")
    checkpoint.clear(tmp_path)
    assert files(tmp_path) == ["notes.txt"]


def test_files_are_readable_by_others_as_the_umask_says(tmp_path: Path) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    write(tmp_path, 10)
    (tmp_path / "plain").write_text("")
    assert {path.stat().st_mode for path in tmp_path.iterdir()} == {(tmp_path / "plain").stat().st_mode}
