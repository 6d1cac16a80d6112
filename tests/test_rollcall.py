"""A thousand nodes, on paper: every rank and shard has one owner, and the proof notices when it has not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kilonode.data import shares
from kilonode.errors import UserError
from kilonode.records import PACKAGE, conditions, read_json, write_json
from kilonode.slurm import muster, roll
from kilonode.slurm.answer import answer

Json = dict[str, Any]


def record(nodes: int) -> Json:
    """As muster writes it, of nodes that answer without Slurm."""
    answers = [
        answer(
            muster.PLAN,
            {"SLURM_NODEID": str(k), "SLURM_STEP_NUM_NODES": str(nodes), "SLURMD_NODENAME": f"nid{k:04}"},
        )
        for k in range(nodes)
    ]
    times = {"bare_s": [0.2 * nodes, 0.1 * nodes], "called_s": [0.12 * nodes, 0.3 * nodes], "last_s": [0.1, 0.1]}
    return {"nodes": nodes, "plan": muster.PLAN, "answers": answers, **times, "conditions": conditions(seeds=[])}


@pytest.mark.parametrize("nodes", [1, 2, 3, 1000, 1024])
def test_every_shard_and_sample_has_one_owner(nodes: int) -> None:
    assert list(roll.problems(record(nodes))) == []


def test_the_answers_are_what_the_engine_does() -> None:
    """1,024 nodes of two ranks: by hand, the first and the last."""
    answers = record(1024)["answers"]
    assert answers[0]["ranks"][0] == {"rank": 0, "shards": (0, 8191, 2048), "batch": (0, 32), "last": (0, 20)}
    assert answers[1023]["ranks"][1] == {
        "rank": 2047,
        "shards": (2047, 8191, 2048),
        "batch": (65504, 65536),
        "last": (40940, 40961),
    }
    assert answers[1023]["reads"] == (1023, 8191, 1024)


def test_who_reads_a_file_is_who_it_is_dealt_to() -> None:
    for size in (1, 2, 7, 1024):
        assert all(item in shares.dealt(2050, shares.owner(item, size), size) for item in range(2050))


def test_the_proof_notices_what_is_wrong() -> None:
    def said(change: Any) -> str:
        broken = record(8)
        change(broken["answers"])
        return " | ".join(roll.problems(broken))

    assert said(lambda answers: answers.pop(3)) == "expected each of 8 nodes to answer once, got no 3"
    assert "more than one 2" in said(lambda answers: answers.append(answers[2]))
    assert "got others" in said(lambda answers: answers[1].update(name="nid0000"))
    assert "foreign 99" in said(lambda answers: answers[5]["ranks"][1].update(rank=99))
    assert "shards to write once, got no 5, 21, " in said(
        lambda answers: answers[2]["ranks"][1].update(shards=(4, 8, 9))
    )
    assert "more than one 4" in said(lambda answers: answers[2]["ranks"][1].update(shards=(4, 5, 1)))
    assert "shards to read for all once, got no 1" in said(lambda answers: answers[1].update(reads=(9, 8191, 8)))
    assert "without gap or overlap" in said(lambda answers: answers[4]["ranks"][0].update(batch=(0, 7)))


def test_the_summary_says_who_came_and_how_long_it_took(tmp_path: Path) -> None:
    for nodes in (1, 2, 4):
        write_json(tmp_path / f"{nodes}.json", record(nodes))
    roll.gather(sorted(tmp_path.glob("?.json")), tmp_path / "summary.json")
    figures = {row["name"]: row for row in read_json(tmp_path / "summary.json")["figures"]}
    assert (figures["nodes_answered"]["value"], figures["nodes_answered"]["met"]) == (4, True)
    assert (figures["launch_ratio"]["value"], figures["launch_ratio"]["met"]) == (pytest.approx(1.2), True)
    assert {name for name in figures if name.startswith("bare_")} == {"bare_1", "bare_2", "bare_4"}
    assert (tmp_path / "summary.png").stat().st_size > 10_000


def test_a_missing_node_leaves_no_summary(tmp_path: Path) -> None:
    broken = record(4)
    broken["answers"].pop()
    write_json(tmp_path / "4.json", broken)
    with pytest.raises(UserError, match=r"expected each of 4 nodes to answer once, got no 3"):
        roll.gather([tmp_path / "4.json"], tmp_path / "summary.json")
    assert not (tmp_path / "summary.json").exists()


def test_an_answer_imports_next_to_nothing() -> None:
    """What is imported on each of a thousand nodes is counted in milliseconds of each."""
    code = "import sys, kilonode.slurm.answer; print([name for name in sys.modules if name in ('numpy', 'json', 're')])"
    command, path = [sys.executable, "-S", "-c", code], str(PACKAGE.parent)
    done = subprocess.run(command, env={"PYTHONPATH": path}, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_call_without_a_launcher_asks_this_machine(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kilonode.slurm.muster", "--nodes", "1", "--output", str(tmp_path / "1.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("muster: 1 of 1 nodes answered in ")
    found = read_json(tmp_path / "1.json")
    assert list(roll.problems(found)) == []
    assert np.all(np.array(found["called_s"]) >= np.array(found["last_s"]))


def test_a_launcher_that_fails_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected every task to start and end well"):
        muster.call(["false"], 1, 1)
