"""``finish``: the state of a training becomes outputs and an exit code, or nothing and another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import safetensors
import torch

from kilonode import cli, config
from kilonode.records import conditions, read_json
from kilonode.training import checkpoint, finish

IDENTITY = "identity of the run"
STATUS: dict[str, Any] = {
    "status": "complete",
    "reason": "",
    "step": 30,
    "epoch": 3,
    "best_epoch": 2,
    "best_validation_loss": 0.25,
    "identity": IDENTITY,
    "parameters": 4,
    "timing": {"step_ms": {"p50": 14.0, "p99": 21.0}, "shares": {"input": 0.25, "compute": 0.75}},
    "conditions": conditions(seeds=[0], ranks=1),
}
RECORD: dict[str, Any] = {"train_loss": 0.5, "validation_loss": 0.25, "lr": 0.01}


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """State of a complete training: three epochs, the second the best."""
    folder = tmp_path / "state"
    tensors = {"model.w": torch.tensor([3.0, 3.0]), "best.w": torch.tensor([2.0, 0.5]), "best.b": torch.tensor(7)}
    for step in (20, 30):
        checkpoint.save(folder, step, tensors, {"identity": IDENTITY, "step": step})
    lines = [
        RECORD
        | {"epoch": epoch, "samples_per_s": rate, "input_wait": wait, "communication_wait": 2 * wait}
        | {"step_ms": {"p50": 5.0 * epoch}, "noise_scale": noise}
        for epoch, rate, wait, noise in ((1, 10.0, 0.9, 12.0), (2, 100.0, 0.1, 340.0), (3, 300.0, 0.3, None))
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "status.json").write_text(json.dumps(STATUS))
    return folder


def end(state: Path) -> int:
    """Exit code of the verb; outputs are w.safetensors and m.json beside the state."""
    with pytest.raises(SystemExit) as caught:
        cli.main(
            f"finish --state {state} --weights {state.parent}/w.safetensors --metrics {state.parent}/m.json".split()
        )
    return int(str(caught.value.code))


def outputs(state: Path) -> list[str]:
    return sorted(path.name for path in state.parent.iterdir() if path != state)


def test_a_complete_training_becomes_the_best_weights_and_a_record(state: Path) -> None:
    assert end(state) == 0
    assert outputs(state) == ["m.json", "w.safetensors"]
    with safetensors.safe_open(state.parent / "w.safetensors", "pt") as file:
        names = file.keys()  # safe_open is no mapping
        assert {name: file.get_tensor(name).tolist() for name in names} == {"w": [2.0, 0.5], "b": 7}
        assert file.metadata() == {"identity": IDENTITY}
    record = read_json(state.parent / "m.json")
    jsonschema.validate(record, config.schema("bench"))
    values = {figure["name"]: figure["value"] for figure in record["figures"]}
    assert values == {
        "best_validation_loss": 0.25,
        "best_epoch": 2,
        "epochs": 3,
        "parameters": 4,
        "samples_per_s": 200.0,  # the first epoch warms caches and is left out
        "input_wait": pytest.approx(0.2),
        "communication_wait": pytest.approx(0.4),
        "step_median": 15.0,
        "noise_scale": 340.0,  # of the last epoch that has one
        "step_p50": 14.0,
        "step_p99": 21.0,
        "share_input": 0.25,
        "share_compute": 0.75,
    }
    assert [line["epoch"] for line in record["history"]] == [1, 2, 3]
    assert read_json(state / "status.json") == {**STATUS, "finished": True}


def test_a_stopped_training_asks_to_be_run_again(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (state / "status.json").write_text(json.dumps(STATUS | {"status": "stopped", "reason": "time limit", "step": 17}))
    assert end(state) == 75
    assert outputs(state) == []
    assert capsys.readouterr().out == "train: stopped (time limit) at step 17; run the same command to continue\n"
    assert "finished" not in read_json(state / "status.json")


def diverge(state: Path, during: str, samples: list[int]) -> None:
    found = {"step": 23, "rank": 2, "where": "layer encoder.conv_1", "samples": samples, "during": during}
    (state / "status.json").write_text(json.dumps(STATUS | {"status": "diverged", "divergence": found}))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            lambda state: (state / "status.json").write_text(json.dumps(STATUS | {"status": "diverged"})),
            "expected a finite loss, got none by step 30 (",
        ),
        (
            lambda state: diverge(state, "training", [17, 4]),
            "expected a finite loss, got none at step 23 on rank 2: first in layer encoder.conv_1, samples 17, 4 (",
        ),
        (
            lambda state: diverge(state, "validation", list(range(20))),
            "expected a finite loss, got none in validation after step 23 on rank 2: first in layer encoder.conv_1, "
            "samples 0, 1, 2, 3, 4, 5, 6, 7 and 12 more (",
        ),
        (lambda state: (state / "status.json").unlink(), "expected a file, got nothing ("),
        (lambda state: (state / "status.json").write_text("{"), "expected JSON, got "),
        (
            lambda state: (state / "checkpoint-000000030.json").unlink(),
            "expected the last checkpoint of a complete training, got none (",
        ),
        (
            lambda state: (state / "status.json").write_text(json.dumps(STATUS | {"identity": "another"})),
            "expected the last checkpoint of a complete training, got none (",
        ),
        (
            lambda state: (state / "metrics.jsonl").unlink(),
            "expected to read or write, got No such file or directory (",
        ),
    ],
)
def test_anything_else_is_one_line_and_no_output(
    damage: Any, said: str, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(state)
    assert end(state) == 2
    assert outputs(state) == []
    error = capsys.readouterr().err
    assert error.startswith(f"kilonode: {said}")
    assert error.count("\n") == 1
    assert str(state) in error


def test_a_broken_last_checkpoint_is_not_replaced_by_the_one_before_it_without_a_word(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (state / "checkpoint-000000030.safetensors").write_bytes(b"broken")
    assert end(state) == 2
    assert outputs(state) == []
    assert "checkpoint-000000030.safetensors" in capsys.readouterr().err


def test_when_it_fails_half_way_the_next_one_completes_it(
    state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, content: Any) -> None:
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(finish, "write_json", full)
        assert end(state) == 2
    assert capsys.readouterr().err.startswith("kilonode: expected to read or write, got No space left on device (")
    assert "finished" not in read_json(state / "status.json")
    assert end(state) == 0
    first = (state.parent / "w.safetensors").read_bytes()
    assert end(state) == 0
    assert (state.parent / "w.safetensors").read_bytes() == first
    assert outputs(state) == ["m.json", "w.safetensors"]
