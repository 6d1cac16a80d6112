"""`kilonode scaling run` and `node` from the command line: real trainings on one and two ranks, and the choice."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from kilonode import cli, config
from kilonode.records import Json, figure
from kilonode.report import pictures
from kilonode.scaling import curves, node, roofline, start
from kilonode.scaling.plan import Plan

CASE = "reactor_neutrinos"
CORES = len(os.sched_getaffinity(0))


def call(words: str, capsys: pytest.CaptureFixture[str], code: int = 0) -> Any:
    with pytest.raises(SystemExit) as caught:
        cli.main(words.split())
    out, error = capsys.readouterr()
    assert int(str(caught.value.code or 0)) == code, error
    return error if code else {row["name"]: row for row in json.loads(out)["figures"]}


@pytest.fixture(scope="module")
def words(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A series on the toy store, two short epochs a run."""
    results = tmp_path_factory.mktemp("series")
    store = toy / "store/singles/index.json"
    rest = f"--epochs 2 --repeats 1 --store {store} --results {results} --json"
    return f"scaling run --case {CASE} --task classifier {rest}"


def home(words: str) -> Path:
    return Path(words.split()[words.split().index("--results") + 1]) / f"scaling/{CASE}/toy/classifier"


@pytest.mark.mpi
@pytest.mark.skipif(CORES < 2, reason="needs two cores")
def test_a_series_on_two_ranks_is_complete(words: str, capsys: pytest.CaptureFixture[str], mpiexec: Any) -> None:
    rows = call(f"{words} --ranks 1,2", capsys)
    assert 0 < rows["weak-real, 2 ranks: efficiency, step"]["value"] < 3
    record = json.loads(next((home(words) / "runs").glob("weak-real-r2-*.json")).read_text())
    config.check(record, config.schema("bench"), "record")
    under = record["conditions"]
    assert (under["ranks"], under["batch"], under["backend"], under["functional"]) == (2, 256, "horovod", None)
    assert under["node_list"] == [os.uname().nodename]
    values = {row["name"]: row["value"] for row in record["figures"]}
    assert values["memory"] > 100
    assert -0.1 < values["cores used by others"] < CORES
    assert 0 < values["step_p50"] <= values["step_p95"] <= values["step_p99"] <= values["step_p100"]
    assert 0 <= values["communication_wait"] < 1
    assert values["best_validation_loss"] < values["validation loss before"]
    assert len(record["history"]) == 2
    assert curves.read([home(words) / "weak-real.csv"]).nodes.tolist() == [1, 2]
    assert not list((home(words) / "runs").glob("*.state"))
    kept = json.loads((home(words) / "scaling.json").read_text())
    config.check(kept, config.schema("bench"), "scaling.json")
    assert [drawn["kind"] for drawn in pictures.scaling(kept)] == ["samples/s", "efficiency"]


@pytest.mark.mpi
@pytest.mark.skipif(CORES < 2, reason="needs two cores")
def test_a_record_is_not_measured_again(words: str, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    assert list((home(words) / "runs").glob("weak-real-r2-*.json")), "needs the test before"
    monkeypatch.setattr(start, "_one", lambda plan, folder: pytest.fail("measured again"))
    rows = call(f"{words} --ranks 1,2", capsys)
    assert "weak-real, 2 ranks: efficiency, epoch" in rows
    assert "added to the history" not in rows


def test_too_many_threads_and_dummy_data_are_told(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = call(f"{words} --ranks 1 --threads {2 * CORES} --data dummy", capsys)
    (told,) = [row for row in rows.values() if row["name"].startswith("weak-dummy")]
    assert told["note"] == f"functional only, no scaling: {2 * CORES} threads on {CORES} cores"
    assert "added to the history" not in rows
    assert pictures.scaling({"figures": [told]}) == []


def test_a_batch_that_the_store_cannot_fill_is_one_line(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    error = call(f"{words} --ranks 1 --batch 1000000", capsys, code=2)
    assert "expected at least 1000000 samples, one whole batch, got" in error


def made_up(plan: Plan) -> Json:
    """A record: rates grow with cores and bf16, which learns something else; twice the batch learns less."""
    rate = 100.0 * min(plan.ranks * plan.threads, 2) * (1.1 if plan.ranks > 1 else 1.0)
    rate *= 3.0 if plan.precision == "bf16" else 1.0
    loss = 0.5 + 0.001 * plan.seed + (0.3 if plan.precision == "bf16" else 0.0) + (0.1 if plan.batch > 128 else 0.0)
    named = {"samples_per_s": rate, "best_validation_loss": loss, "validation loss before": 1.0}
    rows = [
        figure(name, value)
        for name, value in {
            **named,
            "flop_per_sample": 1e6,
            "bytes_per_sample": 1e5,
            "cores used by others": 0.0,
        }.items()
    ]
    return {"figures": rows, "conditions": {**vars(plan), "asked": plan.precision, "nodes": 1}}


def test_the_chosen_layout_is_right_and_no_slower_than_any_default(
    tmp_path: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(start, "measure", lambda plans, folder, what: [made_up(one) for one in plans])
    monkeypatch.setattr(start, "store", lambda *words: Path("index.json"))
    monkeypatch.setattr(node, "shapes", lambda cores: [(1, 1), (1, 2), (2, 1)])
    monkeypatch.setattr(roofline, "ceilings", lambda *words: roofline.Ceilings({"fp32": 1e11}, 1e10, []))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    words = f"scaling node --case {CASE} --precision fp32,bf16 --results {tmp_path} --write {tmp_path}/here --json"
    rows = call(words, capsys)
    assert rows["sweep: 2 x 1, bf16, batch 128"]["note"].startswith("refused: loss 0.8")
    assert rows["sweep: 2 x 1, fp32, batch 256"]["note"].startswith("refused: loss 0.6")
    assert rows["final: 2 x 1, fp32, batch 128"]["note"] == "chosen"
    defaults = {name: row for name, row in rows.items() if name.startswith("chosen over")}
    assert len(defaults) == 4
    assert all(row["met"] for row in defaults.values())
    assert defaults["chosen over one rank, one thread"]["value"] == pytest.approx(2.2)
    assert rows[f"{CASE}/autoencoder: share of its ceiling"]["value"] == pytest.approx(220 * 1e6 / 1e11)
    assert config.read_yaml(tmp_path / "here/profile.yaml")["set-resources"]["train"]["layout"] == "'-n 2'"
    assert (tmp_path / f"scaling/{CASE}/toy/autoencoder/roofline.png").stat().st_size > 10_000
