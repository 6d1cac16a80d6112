"""Three efficiencies against hand-computed examples; series, tables and what is no scaling."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from kilonode.records import Json, conditions, figure
from kilonode.scaling import curves, gather
from kilonode.scaling._worker import Seen, figures, others, place
from kilonode.scaling.efficiency import Run, efficiencies, reached, run_of

SLOW, FAST = ((10.0, 0.9), (20.0, 0.5)), ((8.0, 0.8), (16.0, 0.4))


def series(count: int, step_s: float, rate: float, losses: Any = SLOW, repeat: int = 0) -> Run:
    return Run(count, repeat, step_s, rate, losses)


def test_weak_scaling_compares_steps_rates_and_times_to_a_quality() -> None:
    """Steps 80 to 100 ms; 400 to 1,200 samples/s on 4 times as many; 20 s on 1 against 16 s on 4 to a loss of 0.5."""
    found = efficiencies([series(1, 0.08, 400.0), series(4, 0.1, 1200.0, FAST)], strong=False, quality=0.5)
    assert {kind: value for kind, (value, _) in found[4].items()} == pytest.approx(
        {"step": 0.8, "epoch": 0.75, "time to quality": 20 / (16 * 4)}
    )
    assert {kind: value for kind, (value, _) in found[1].items()} == {"step": 1.0, "epoch": 1.0, "time to quality": 1.0}


def test_strong_scaling_wants_steps_to_become_shorter() -> None:
    found = efficiencies([series(2, 0.1, 640.0), series(4, 0.0625, 1024.0)], strong=True)
    assert found[4]["step"][0] == pytest.approx(0.1 * 2 / (0.0625 * 4))
    assert found[4]["epoch"][0] == pytest.approx(1024 * 2 / (640 * 4))
    assert "time to quality" not in found[4]


def test_repeats_are_compared_within_their_round() -> None:
    """The machine is half as fast in the second round, for both."""
    runs = [
        series(1, 0.1, 100.0),
        series(2, 0.1, 200.0),
        series(1, 0.2, 50.0, repeat=1),
        series(2, 0.2, 100.0, repeat=1),
    ]
    value, interval = efficiencies(runs, strong=False)[2]["step"]
    assert value == 1.0
    assert interval == (1.0, 1.0)


def test_quality_is_what_every_run_came_to() -> None:
    runs = [series(1, 0.1, 1.0, SLOW), series(2, 0.1, 1.0, FAST)]
    assert reached(runs) == 0.5
    assert runs[0].seconds_to(0.5) == 20.0
    assert runs[1].seconds_to(0.5) == 16.0
    assert runs[0].seconds_to(0.1) is None
    assert "time to quality" not in efficiencies(runs, strong=False, quality=0.1)[2]


def record(
    folder: Path, count: int, repeat: int = 0, functional: str | None = None, others: float = 0.0, **changed: Any
) -> Json:
    """A weak run of 32 samples a rank: 80 ms of step, a fifth more of input."""
    rows = [figure("samples_per_s", 320.0 * count), *(figure(f"step_{p}", 80.0) for p in ("p50", "p95", "p99", "p100"))]
    rows += [figure("input_wait", 0.2), figure("communication_wait", 0.05), figure("memory", 500.0)]
    rows.append(figure("cores used by others", others))
    history = [{"elapsed_s": 9.0, "validation_loss": 0.7}, {"elapsed_s": 12.0, "validation_loss": 0.6}]
    under: Json = {"mode": "weak", "input": "real", "over": "ranks", "ranks": count, "nodes": 1, "threads": 1}
    under |= {"batch": 32 * count, "asked": "fp32", "epochs": 2, "repeat": repeat, "functional": functional}
    under |= {"case": "c", "task": "t", "data": "toy", "node_list": ["here"], "cpu": "x"}
    content = {"bench": "train", "figures": rows, "history": history}
    content["conditions"] = {**conditions(seeds=[0]), **under, **changed}
    path = folder / "runs" / f"weak-{count}-{repeat}-{len(changed)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return content


def test_a_run_knows_its_step_with_input(tmp_path: Path) -> None:
    assert run_of(record(tmp_path, 2)) == Run(2, 0, pytest.approx(0.1), 640.0, ((9.0, 0.7), (12.0, 0.6)))
    assert run_of(record(tmp_path, 8, over="nodes", nodes=4)).count == 4


def test_what_is_gathered_is_a_table_a_curve_and_a_figure(tmp_path: Path) -> None:
    for count, repeat in ((1, 0), (2, 0), (1, 1), (2, 1)):
        record(tmp_path, count, repeat)
    rows = {row["name"]: row for row in gather.gather(tmp_path)}
    assert rows["weak-real, 2 ranks: efficiency, step"]["value"] == pytest.approx(1.0)
    assert rows["weak-real, 2 ranks: efficiency, step"]["met"] is True
    assert rows["weak-real, 2 ranks: efficiency, time to quality"]["value"] == pytest.approx(0.5)
    assert rows["weak-real, 1 ranks: samples_per_s"]["repeats"] == 2
    assert len(list(csv.DictReader((tmp_path / "runs.csv").open()))) == 4
    assert (tmp_path / "weak-real.png").stat().st_size > 10_000
    curve = curves.read([tmp_path / "weak-real.csv"])  # as `kilonode scaling predict` does
    assert curve.nodes.tolist() == [1, 1, 2, 2]
    assert curve.step_s.tolist() == pytest.approx([0.1] * 4)
    assert curve.batch_per_node == 32


def test_more_threads_than_cores_are_functional_only_and_never_drawn(tmp_path: Path) -> None:
    record(tmp_path, 1)
    record(tmp_path, 4, functional="4 threads on 2 cores")
    rows = gather.gather(tmp_path)
    assert not any("efficiency" in row["name"] for row in rows)
    (told,) = [row for row in rows if "4 ranks" in row["name"]]
    assert told["note"] == "functional only, no scaling: 4 threads on 2 cores"
    assert not list(tmp_path.glob("*.png"))
    assert curves.read([tmp_path / "weak-real.csv"]).nodes.tolist() == [1]


def test_runs_that_differ_in_more_than_their_count_are_other_series(tmp_path: Path) -> None:
    found = gather.series([record(tmp_path, 1), record(tmp_path, 2), record(tmp_path, 2, threads=2)])
    assert sorted(one.name for one in found) == ["weak-real-b32-t1-fp32-e2", "weak-real-b32-t2-fp32-e2"]
    assert gather.series([record(tmp_path, 1), record(tmp_path, 2)])[0].name == "weak-real"


def test_functional_runs_are_no_history(tmp_path: Path) -> None:
    record(tmp_path, 1)
    record(tmp_path, 4, functional="4 threads on 2 cores")
    paths = sorted((tmp_path / "runs").glob("*.json"))
    (row,) = gather.remember(paths, tmp_path / "history.jsonl")
    assert row["value"] == 1
    assert len((tmp_path / "history.jsonl").read_text().splitlines()) == 1


def rank(node: str, machine: str, cores: list[int], own: float = 0.9, busy: float = 1.0) -> Seen:
    return Seen(node, machine, cores, 1.0, own, busy)


@pytest.mark.parametrize(
    ("seen", "threads", "reason"),
    [
        ([rank("a", "a", [0, 1])] * 2, 1, None),
        ([rank("a", "a", [0, 1])] * 2, 2, "4 threads on 2 cores"),
        ([rank("a", "a", [0]), rank("a", "a", [1])], 1, None),  # bound by the launcher, each to its own
        ([rank("a", "a", [0]), rank("b", "b", [0])], 1, None),
        ([rank("nid1", "a", [0, 1]), rank("nid2", "a", [0, 1])], 1, "2 nodes are one machine"),
    ],
)
def test_ranks_that_share_cores_are_seen(seen: list[Seen], threads: int, reason: str | None) -> None:
    assert place(seen, threads)["functional"] == reason


def test_what_others_used_is_that_of_the_machine_less_ours() -> None:
    quiet, busy = rank("a", "a", [0, 1], own=0.95, busy=1.9), rank("b", "b", [0], own=0.5, busy=1.25)
    assert others([quiet, quiet]) == pytest.approx(0.0)
    assert others([quiet, quiet, busy]) == pytest.approx(0.75)


def test_a_run_beside_other_programs_is_not_judged_and_not_remembered(tmp_path: Path) -> None:
    record(tmp_path, 1)
    record(tmp_path, 2, others=0.9)
    rows = {row["name"]: row for row in gather.gather(tmp_path)}
    told = rows["weak-real, 2 ranks: efficiency, step"]
    assert (told["target"], told["met"], told["note"]) == (0.95, None, "others used up to 0.9 cores: not judged")
    assert gather.remember(sorted((tmp_path / "runs").glob("*-2-*")), tmp_path / "history.jsonl") == []


def test_the_first_epoch_gives_no_rate() -> None:
    step = {"p50": 10.0, "p95": 20.0, "p99": 30.0, "p100": 40.0}
    epoch: Json = {"samples_per_s": 10.0, "input_wait": 0.9, "communication_wait": 0.9, "step_ms": step}
    epoch |= {"validation_loss": 0.9, "elapsed_s": 5.0}
    later = {**epoch, "input_wait": 0.1, "communication_wait": 0.2, "validation_loss": 0.5, "elapsed_s": 6.0}
    history = [epoch, {**later, "samples_per_s": 100.0}, {**later, "samples_per_s": 300.0}]
    found = {row["name"]: row for row in figures(history, 1.0, {"compute": 1.0}, [300.0, 400.0])}
    assert found["samples_per_s"]["value"] == pytest.approx(150.0)  # of both together: twice the samples, 4/3 the time
    assert found["input_wait"]["value"] == pytest.approx(0.1)
    assert found["memory"]["value"] == 400.0
    assert found["best_validation_loss"]["value"] == 0.5
    assert found["first epoch ends"]["value"] == 5.0
