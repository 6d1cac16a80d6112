"""Advice names what a record shows, and node counts follow from rate, epochs and what is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kilonode import cli
from kilonode.records import conditions, figure
from kilonode.scaling import shares, terms

SHARES = {"input": 0.0, "compute": 0.95, "communication": 0.05, "validation": 0.0, "checkpoint": 0.0}
FREE = terms.Network(0.0, 0.0, 0.0)


def record(
    parameters: int = 0, step_ms: float = 100.0, ranks: int = 8, threads: int = 1, **changed: float
) -> dict[str, Any]:
    """metrics.json of a training with these shares of its time: 10 steps of 64 samples an epoch, 20 epochs."""
    parts = {**SHARES, **changed}
    figures = [
        figure("epochs", 20, "epoch"),
        figure("parameters", parameters),
        figure("samples_per_s", 640.0, "samples/s"),
        figure("step_p50", step_ms, "ms"),
        figure("input_wait", 0.0),
        figure("communication_wait", parts["communication"]),
        *(figure(f"share_{name}", share) for name, share in parts.items()),
    ]
    where = conditions(seeds=[0], ranks=ranks, nodes=ranks, threads=threads)
    return {"bench": "train", "figures": figures, "conditions": where, "history": [{"step": 10}]}


def call(words: str, capsys: pytest.CaptureFixture[str], code: int = 0) -> Any:
    with pytest.raises(SystemExit) as caught:
        cli.main(words.split())
    out, error = capsys.readouterr()
    assert caught.value.code in (code, None if code == 0 else code), error
    return error if code else {row["name"]: row for row in json.loads(out)["figures"]}


@pytest.mark.parametrize(
    ("changed", "largest", "setting"),
    [
        ({"input": 0.5, "compute": 0.45}, "input", "kilonode stage"),
        ({"communication": 0.5, "compute": 0.5}, "stragglers", "lower threads"),
        (
            {"communication": 0.3, "compute": 0.7, "parameters": 10**8, "step_ms": 400.0, "threads": 64},
            "communication",
            "accumulate",
        ),
        ({"communication": 0.3, "compute": 0.7, "step_ms": 2.0}, "small batch", "training.batch"),
        ({"validation": 0.3, "compute": 0.65}, "validation", "split"),
        ({"checkpoint": 0.3, "compute": 0.65}, "checkpoint", "training.checkpoint.minutes"),
    ],
)
def test_the_largest_loss_is_named_with_its_setting(changed: dict[str, Any], largest: str, setting: str) -> None:
    found = shares.of_training(record(**changed), terms.ARIES)
    assert found is not None
    assert found.largest == largest
    assert setting in found.advice
    assert found.compute + sum(found.lost.values()) == pytest.approx(1)
    assert min(found.lost.values()) >= 0


def test_the_parts_of_a_wait_are_those_of_the_formulas() -> None:
    """Steps of 100 ms: 28 bytes of 10^7 parameters at 10 GB/s are 28 ms; one cycle is 1 ms; messages are free."""
    found = shares.of_training(record(10**7, communication=0.2, compute=0.8), FREE)
    assert found is not None
    assert found.lost["small batch"] == pytest.approx(0.28 + 0.01)
    assert found.lost["stragglers"] == pytest.approx(0.2 - 0.01)
    assert found.compute == pytest.approx(0.8 - 0.28)
    found = shares.of_training(record(10**6, communication=0.2, compute=0.8), terms.ARIES)
    assert found is not None
    assert found.lost["communication"] == pytest.approx(terms.allreduce(4e6, 8, terms.ARIES) / 0.1)


def test_where_little_is_lost_the_computing_is_next() -> None:
    found = shares.of_training(record(communication=0.02, compute=0.98), terms.ARIES)
    assert found is not None
    assert "training.precision" in found.advice


def test_a_record_of_waits_alone_has_shares() -> None:
    older = record(communication=0.3)
    older["figures"] = [row for row in older["figures"] if not row["name"].startswith("share_")]
    found = shares.of_training(older, FREE)
    assert found is not None
    assert found.compute == pytest.approx(0.7)


def test_the_verb_says_the_largest_share(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(record(input=0.4, compute=0.55)))
    rows = call(f"scaling advise {path} --json", capsys)
    assert rows["share of time: input"]["value"] == 0.4
    assert "kilonode stage" in rows["share of time: input"]["note"]
    assert sum("note" in row for row in rows.values()) == 1


def weak(folder: Path) -> Path:
    """0.1 s a step at 2, 4 and 8 nodes, 64 samples a node."""
    path = folder / "weak.csv"
    path.write_text("nodes,step_s,batch_per_node\n" + "".join(f"{nodes},0.1,64\n" for nodes in (2, 4, 8)))
    return path


WORK = "--samples 1e6 --epochs 10 --batch 128 --critical-batch 1e12"


def test_hours_are_epochs_times_samples_over_the_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """10 epochs of 10^6 samples at 1,280 samples/s are 2.17 h; the batch costs nothing, so that cost is all growth."""
    rows = call(f"scaling advise {weak(tmp_path)} {WORK} --deadline 1 --max-nodes 64 --json", capsys)
    assert rows["time at 2 nodes"]["value"] == pytest.approx(1e7 / 1280 / 3600, rel=0.03)
    assert rows["nodes to be done in 1 h"]["value"] == 8  # 1.1 h at 4 nodes
    assert rows["nodes to be done in 1 h"]["met"]
    assert rows["largest count that pays"]["value"] == 64


def test_a_batch_far_above_the_critical_one_does_not_pay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At 128 samples a step and a critical batch of 256, 4 nodes (256) gain 1.5 x and 8 nodes (512) 1.33 x at best."""
    work = WORK.replace("1e12", "256")
    rows = call(f"scaling advise {weak(tmp_path)} {work} --deadline 0.01 --max-nodes 64 --json", capsys)
    assert rows["largest count that pays"]["value"] == 4
    assert rows["time at 4 nodes"]["value"] == pytest.approx(1e7 * 2 / 1.5 / 2560 / 3600, rel=0.03)
    assert rows["nodes to be done in 0.01 h"]["met"] is False


def test_a_budget_buys_the_fastest_count_it_can_pay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work = WORK.replace("1e12", "256")
    rows = call(f"scaling advise {weak(tmp_path)} {work} --budget 7 --json", capsys)
    # node hours without growth: 1e7 / 640 / 3600 x 2/3 (1 + B / 256) = 4.3, 5.8, 8.7 at 2, 4, 8 nodes
    assert rows["nodes for 7 node hours"]["value"] == 4
    assert rows["nodes for 7 node hours"]["met"]


def test_the_work_is_read_from_a_record_of_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(record(ranks=2)))
    rows = call(f"scaling advise {path} --deadline 1 --critical-batch 1e9 --json", capsys)
    assert rows["time at 2 nodes"]["value"] == pytest.approx(20 * 10 * 64 / 640 / 60, rel=0.05)  # 20 s, in minutes
    assert rows["time at 2 nodes"]["unit"] == "min"
    assert rows["critical batch"]["note"] == "--critical-batch"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "expected metrics.json of a training, or --deadline or --budget, got neither"),
        ("--deadline 3", "expected the work to do, got no --epochs, --batch, --samples"),
        ("--deadline -3", "expected a positive number, got -3 (--deadline)"),
        ("--deadline 3 --max-nodes 1", "expected at least 2 nodes, got 1 (--max-nodes)"),
    ],
)
def test_what_is_missing_is_one_line(words: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = call(f"scaling advise {weak(tmp_path)} {words}", capsys, code=2)
    assert error.startswith(f"kilonode: {said}")
    assert error.count("\n") == 1
