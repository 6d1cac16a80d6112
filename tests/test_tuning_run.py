"""The stage ``tune`` on a real store: processes and MPI ranks, kills, crashes, and test groups that stay closed."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kilonode import config
from kilonode.bench import tuning as bench
from kilonode.comm import Comm
from kilonode.data.loader import Loader
from kilonode.errors import UserError
from kilonode.records import read_json
from kilonode.tuning import folds, pictures, tune
from kilonode.tuning.pool import Processes
from kilonode.tuning.trial import Runner

Run = Callable[..., subprocess.CompletedProcess[str]]
WHAT = ("--case", "reactor_neutrinos", "--task", "classifier", "--data", "toy")


def planned(store: Path, folder: Path, **more: Any) -> dict[str, Any]:
    plan = tune.planned(
        "reactor_neutrinos", "classifier", "toy", more.pop("method", "network"), 4, None, 0, store, folder
    )
    plan["settings"]["training"].update(epochs=2, batch=128)
    plan["settings"]["model"].update(filters=2, features=8)
    return {**plan, "time_left": "", "since": time.monotonic(), **more}


def job(fold: int = 0, **choice: Any) -> dict[str, Any]:
    return {"study": "fold-0", "number": 0, "kind": "trial", "fold": fold, "bars": {}, "choice": choice}


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    return [{k: v for k, v in row.items() if k not in ("seconds", "cpu_s", "worker", "ranks")} for row in rows]


@pytest.fixture
def store(toy: Path) -> Path:
    return toy / "store/singles/index.json"


def without_test(store: Path, home: Path) -> Path:
    """A copy of a store whose test files are gone."""
    shutil.copytree(store.parent, home)
    gone = [path for path in home.rglob("*") if path.is_file() and "test" in path.name]
    assert gone
    for path in gone:
        path.unlink()
    return home / "index.json"


@pytest.mark.parametrize("method", ["network", "baseline"])
def test_a_trial_needs_no_test_groups(store: Path, tmp_path: Path, method: str) -> None:
    closed = without_test(store, tmp_path / "store")
    choice = {"method": "label_rule"} if method == "baseline" else {"training.lr": 1e-2}
    results = [
        Runner(planned(path, tmp_path / "tuning", method=method), Comm()).run(job(**choice)) for path in (store, closed)
    ]
    assert [found["state"] for found in results] == ["complete", "complete"], results
    assert results[0]["value"] == results[1]["value"]


def test_outer_test_groups_of_a_fold_change_nothing_in_its_trials(store: Path, tmp_path: Path) -> None:
    plan = planned(store, tmp_path, folds=folds.groups_of(store, 4))
    runner = Runner(plan, Comm())
    before = runner.run(job(fold=2, **{"training.lr": 1e-2}))
    other = Runner(plan, Comm())
    other.fold(2).read("test")["singles"][:] = np.nan
    assert other.run(job(fold=2, **{"training.lr": 1e-2}))["values"] == before["values"]


def test_every_group_is_in_one_outer_test_set_and_in_one_place_of_each_fold(store: Path) -> None:
    found = folds.groups_of(store, 5)
    everything = sorted(group for part in found[0].values() for group in part)
    assert sorted(group for fold in found for group in fold["test"]) == everything
    for fold in found:
        assert sorted(fold["train"] + fold["validation"] + fold["test"]) == everything
        assert all(fold.values())


def test_scales_of_a_fold_come_from_its_training_groups(store: Path) -> None:
    settings = config.task("reactor_neutrinos", "toy", "classifier")
    groups = folds.groups_of(store, 4)
    fold = folds.Fold(store, 1, groups[1], settings)
    x = np.log1p(fold.read("train")["singles"].astype(np.float64))
    assert fold.scaler.scale == pytest.approx(np.sqrt((x**2).mean()), rel=1e-6)
    assert folds.Fold(store, 2, groups[2], settings).scaler.scale != fold.scaler.scale


def test_samples_in_memory_come_as_those_of_the_loader_do(store: Path) -> None:
    settings = config.task("reactor_neutrinos", "toy", "classifier")
    fold = folds.Fold(store, 0, folds.groups_of(store, 1)[0], settings)
    for rank in range(3):
        held = folds.Held(fold.read("validation"), 50, 0, rank, 3, False)
        loader = Loader(folds.Store(store, "validation"), ["singles"], 50, 0, rank, 3, False)
        assert held.steps == loader.steps
        for mine, theirs in zip(held.epoch(0), loader.epoch(0), strict=True):
            assert (mine.rows == theirs.rows).all()
            assert (mine.fields["singles"] == theirs.fields["singles"]).all()
    seen = [share.rows for share in folds.Held(fold.read("train"), 64, 1, 0, 1, True).epoch(3)]
    assert sorted(np.concatenate(seen)) == list(range(len(fold.read("train")["group"])))


def test_smaller_shares_of_training_samples_are_parts_of_larger_ones(store: Path) -> None:
    settings = config.task("reactor_neutrinos", "toy", "classifier")
    fold = folds.Fold(store, 0, folds.groups_of(store, 1)[0], settings)
    half, most = (fold.subset(share)["singles"].reshape(-1, 192) for share in (0.5, 0.8))
    assert len(half) == round(0.5 * len(fold.read("train")["group"]))
    assert {row.tobytes() for row in half} <= {row.tobytes() for row in most}


def test_what_cannot_be_trained_is_a_failed_trial_with_its_reason(store: Path, tmp_path: Path) -> None:
    found = Runner(planned(store, tmp_path), Comm()).run(job(**{"model.filters": 0}))
    assert found["state"] == "failed"
    assert found["reason"]
    assert Runner(planned(store, tmp_path), Comm()).run(job(**{"training.lr": 1e30}))["state"] == "failed"


def test_a_trial_below_its_bar_ends_there(store: Path, tmp_path: Path) -> None:
    hopeless = {**job(**{"training.lr": 1e-4, "training.epochs": 4}), "bars": {1: 2.0}}
    found = Runner(planned(store, tmp_path), Comm()).run(hopeless)
    assert (found["state"], len(found["values"])) == ("pruned", 1)


def test_a_trial_that_was_stopped_goes_on_where_it_was(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = job(**{"training.lr": 1e-3, "training.epochs": 3})
    whole = Runner(planned(store, tmp_path / "whole"), Comm()).run(long)
    monkeypatch.setenv("KILONODE_STOP", "SIGUSR1")
    stopped = Runner(planned(store, tmp_path / "stopped"), Comm()).run(long)
    assert stopped["state"] == "stopped"
    assert list((tmp_path / "stopped/running").rglob("checkpoint-*.json"))
    monkeypatch.delenv("KILONODE_STOP")
    assert Runner(planned(store, tmp_path / "stopped"), Comm()).run(long)["values"] == whole["values"]


def test_what_cannot_be_tuned_is_said(store: Path, tmp_path: Path) -> None:
    case = "reactor_neutrinos"
    with pytest.raises(UserError, match=r"expected tuning\.space"):
        tune.planned(case, "autoencoder", "toy", "network", 4, None, 0, store, tmp_path)
    with pytest.raises(UserError, match="expected a task with a target"):
        tune.planned(case, "autoencoder", "toy", "baseline", 4, None, 0, store, tmp_path)
    with pytest.raises(UserError, match="did you mean 'baseline'"):
        tune.planned(case, "classifier", "toy", "baselin", 4, None, 0, store, tmp_path)
    with pytest.raises(UserError, match="expected --trials N"):
        tune.planned(case, "classifier", "toy", "network", None, None, 0, store, tmp_path)
    with pytest.raises(UserError, match="expected a store"):
        tune.planned(case, "classifier", "toy", "network", 4, None, 0, tmp_path / "index.json", tmp_path)


def test_a_worker_that_dies_is_replaced_and_its_trial_failed(store: Path, tmp_path: Path) -> None:
    pool = Processes(planned(store, tmp_path), 1)

    def answer() -> dict[str, Any]:
        while not (found := pool.answers()):
            pass
        return found[0][1]

    assert answer()["ready"]
    pool.give(0, job(**{"training.epochs": 500, "training.lr": 1e-4}))
    os.kill(pool._workers[0][0].pid, signal.SIGKILL)
    lost = answer()
    assert (lost["state"], lost["number"]) == ("failed", 0)
    assert "exit code -9" in lost["reason"]
    assert answer()["ready"]
    pool.give(0, job(**{"training.lr": 1e-2}))
    assert answer()["state"] == "complete"
    pool.give(0, None)
    pool.close()


@pytest.mark.slow
def test_a_killed_search_goes_on_and_its_best_configuration_trains(
    store: Path, tmp_path: Path, kilonode: Run, mpiexec: Run
) -> None:
    words = ("tune", *WHAT, "--method", "baseline", "--trials", "8", "--store", str(store), "--seed", "1")
    command = [sys.executable, "-m", "kilonode", *words, "--workers", "2", "--folder", str(tmp_path / "killed")]
    child = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    log = tmp_path / "killed/state/journal.log"
    while not log.exists() or log.read_text().count('"result"') < 2:
        assert child.poll() is None
        time.sleep(0.01)
    child.kill()
    child.wait()
    before = log.read_text().count('"result"')
    again = kilonode(*words, "--workers", "2", "--folder", tmp_path / "killed")
    assert again.returncode == 0, again.stderr
    assert log.read_text().count('"result"') == 8
    assert 2 <= before <= 8
    ranks = mpiexec(3, "-m", "kilonode", *words, "--folder", tmp_path / "ranks")
    assert ranks.returncode == 0, ranks.stderr
    assert table(tmp_path / "killed") == table(tmp_path / "ranks")
    assert [row["number"] for row in table(tmp_path / "killed")] == [str(k) for k in range(8)]
    best = read_json(tmp_path / "ranks/best.json")
    config.check({key: best[key] for key in ("bench", "figures", "conditions")}, config.schema("bench"), "best.json")
    assert {path.name for path in (tmp_path / "ranks/figures").iterdir()} >= {"history.png", "parallel.png"}


@pytest.mark.mpi
@pytest.mark.slow
def test_groups_of_ranks_find_what_single_workers_find(
    store: Path, tmp_path: Path, kilonode: Run, mpiexec: Run
) -> None:
    words = ("tune", *WHAT, "--trials", "3", "--store", str(store), "--seed", "1")
    alone = kilonode(*words, "--workers", "2", "--folder", tmp_path / "alone")
    pairs = mpiexec(5, "-m", "kilonode", *words, "--ranks-per-trial", "2", "--folder", tmp_path / "pairs")
    assert (alone.returncode, pairs.returncode) == (0, 0), (alone.stderr, pairs.stderr)
    of_one, of_two = (read_json(tmp_path / name / "trials.json") for name in ("alone", "pairs"))
    assert [trial["choice"] for trial in of_two] == [trial["choice"] for trial in of_one]
    assert {trial["ranks"] for trial in of_one} == {1}
    assert {trial["ranks"] for trial in of_two} == {2}
    for one, two in zip(of_one, of_two, strict=True):  # sums of gradients round differently: a sample or two
        assert (two["state"], len(two["values"])) == (one["state"], len(one["values"]))
        np.testing.assert_allclose(two["value"], one["value"], atol=0.02)
    refused = mpiexec(3, "-m", "kilonode", *words, "--ranks-per-trial", "4", "--folder", tmp_path / "refused")
    assert refused.returncode == 2
    assert "expected 1 + a multiple of 4 ranks, got 3" in refused.stderr
    assert not (tmp_path / "refused").exists()


def test_the_best_so_far_leaves_out_what_was_cut_short_and_knows_what_is_better(tmp_path: Path) -> None:
    states = [("pruned", 9.0), ("complete", 0.5), ("failed", None), ("complete", 0.4), ("complete", 0.7)]
    trials = [{"fold": 0, "state": state, "value": value} for state, value in states]
    nothing = float("nan")
    np.testing.assert_equal(bench.best_of(trials, higher=True), [nothing, 0.5, 0.5, 0.5, 0.7])
    np.testing.assert_equal(bench.best_of(trials, higher=False), [nothing, 0.5, 0.5, 0.4, 0.4])
    seeds = np.array([bench.best_of(trials, True), bench.best_of(trials, True) + 0.1])
    axes = pictures.curves({"tpe": seeds, "random": seeds - 0.2}, "accuracy").axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["tpe, 2 seeds", "random, 2 seeds"]


def test_a_figure_without_curves_is_refused(kilonode: Run, tmp_path: Path) -> None:
    done = kilonode("bench", "tuning", "--figure", "curves.png", cwd=tmp_path)
    assert done.returncode == 2
    assert "expected --curves SEEDS, got none (--figure)" in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_best_configuration_is_what_a_task_then_has(tmp_path: Path) -> None:
    best = {"configuration": {"model": {"filters": 3}, "training": {"lr": 0.5}}}
    (tmp_path / "network").mkdir()
    (tmp_path / "network/best.json").write_text(json.dumps(best))
    plain, tuned = (config.task("reactor_neutrinos", "toy", "classifier", folder) for folder in (None, tmp_path))
    assert (tuned["model"]["filters"], tuned["training"]["lr"]) == (3, 0.5)
    assert tuned["model"]["features"] == plain["model"]["features"]
