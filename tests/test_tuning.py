"""The laws of a search: its trials are a function of its configuration, none is lost, none is run twice."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kilonode.cases.contract import Estimator
from kilonode.errors import UserError
from kilonode.tuning import space
from kilonode.tuning.study import ATTEMPTS, Study, alone, journal, missed

SPACE = {
    "training.lr": {"low": 1e-4, "high": 1e-1, "log": True},
    "model.width": {"low": 4, "high": 64, "whole": True},
    "training.optimizer": {"among": ["adam", "sgd"]},
}


def study_in(folder: Path, **more: Any) -> Study:
    options: dict[str, Any] = {
        "name": "fold-0",
        "suggest": lambda trial: space.suggest(trial, SPACE),
        "identity": {"space": 1},
        "sampler": "tpe",
        "seed": 3,
        "ahead": 4,
        "higher": True,
        "pruning": {"first": 1, "factor": 3},
    }
    return Study(journal(folder / "journal.log"), **{**options, **more})


def result_of(job: dict[str, Any]) -> dict[str, Any]:
    """What a trial with these settings always gives; three epochs, cut at the bars."""
    good = -abs(np.log10(job["choice"]["training.lr"]) + 2) - 0.01 * job["choice"]["model.width"]
    values = [float(good - 1), float(good - 0.5), float(good)]
    cut = missed(values[:1], job["bars"], higher=True)
    values = values[:1] if cut else values
    state = "pruned" if cut else "complete"
    return {"state": state, "values": values, "value": values[-1], "reason": "", "seconds": 1.0}


def search(
    folder: Path, trials: int, workers: int, pick: Any, stop_after: int | None = None, early: int = 0, **more: Any
) -> list[int]:
    """Run a study with so many workers; ``pick`` says which of the running trials ends next. Numbers in their order.

    ``early`` trials are asked for, as far as there are any, before anybody is free for them.
    """
    study, running, ran = study_in(folder, **more), [], []
    while not study.finish(trials):
        for _ in range(early):
            study.prepare(trials)
        while len(running) < workers and (job := study.next(trials)) is not None:
            running.append(job)
        job = running.pop(pick(len(running)))
        ran.append(job["number"])
        study.keep(job["number"], result_of(job))
        if stop_after is not None and len(ran) == stop_after:
            return ran
    return ran


def tried(folder: Path, **more: Any) -> list[Any]:
    return [
        (trial.user_attrs["choice"], trial.user_attrs["bars"], trial.state) for trial in study_in(folder, **more).trials
    ]


def test_trials_do_not_depend_on_the_order_in_which_results_come(tmp_path: Path) -> None:
    search(tmp_path / "first", 20, 3, lambda count: 0)
    search(tmp_path / "last", 20, 3, lambda count: count - 1)
    search(tmp_path / "alone", 20, 1, lambda count: 0)
    assert tried(tmp_path / "first") == tried(tmp_path / "last") == tried(tmp_path / "alone")


def test_a_trial_that_is_asked_for_early_is_the_same(tmp_path: Path) -> None:
    search(tmp_path / "late", 20, 2, lambda count: 0)
    search(tmp_path / "early", 20, 2, lambda count: count - 1, early=4)
    assert tried(tmp_path / "early") == tried(tmp_path / "late")
    before = search(tmp_path / "killed", 20, 2, lambda count: 0, stop_after=9, early=1)
    after = search(tmp_path / "killed", 20, 2, lambda count: 0, early=2)
    assert sorted(before + after) == list(range(20))
    assert tried(tmp_path / "killed") == tried(tmp_path / "late")


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_sampler_gives_other_trials_for_another_seed(tmp_path: Path, sampler: str) -> None:
    for seed in (3, 4):
        search(tmp_path / str(seed), 8, 2, lambda count: 0, sampler=sampler, seed=seed)
    assert tried(tmp_path / "3", sampler=sampler, seed=3) != tried(tmp_path / "4", sampler=sampler, seed=4)


@pytest.mark.parametrize("stop_after", [1, 5, 12, 19])
def test_a_killed_search_loses_no_trial_and_runs_none_twice(tmp_path: Path, stop_after: int) -> None:
    whole = search(tmp_path / "whole", 20, 3, lambda count: count - 1)
    before = search(tmp_path / "killed", 20, 3, lambda count: count - 1, stop_after=stop_after)
    after = search(tmp_path / "killed", 20, 3, lambda count: 0)
    assert sorted(before + after) == sorted(whole) == list(range(20))
    assert tried(tmp_path / "killed") == tried(tmp_path / "whole")


def test_a_line_that_a_kill_cut_off_is_dropped(tmp_path: Path) -> None:
    search(tmp_path, 10, 2, lambda count: 0, stop_after=6)
    path = tmp_path / "journal.log"
    content = path.read_bytes()
    for cut in (3, 40, 400):
        path.write_bytes(content[:-cut])
        assert path.read_bytes()[-1:] != b"\n"
        study_in(tmp_path)
        assert path.read_bytes()[-1:] == b"\n"
    search(tmp_path, 10, 2, lambda count: 0)
    assert len(tried(tmp_path)) == 10


@settings(max_examples=15)
@given(cut=st.integers(1, 6000))
def test_a_search_goes_on_from_any_byte_of_its_journal(tmp_path_factory: Any, cut: int) -> None:
    folder = tmp_path_factory.mktemp("cut")
    search(folder, 6, 2, lambda count: 0)
    expected = tried(folder)
    path = folder / "journal.log"
    path.write_bytes(path.read_bytes()[: max(0, path.stat().st_size - cut)])
    search(folder, 6, 2, lambda count: 0)
    assert tried(folder) == expected


def test_a_study_of_another_space_is_not_continued(tmp_path: Path) -> None:
    search(tmp_path, 4, 2, lambda count: 0)
    with pytest.raises(UserError, match="expected to continue the study 'fold-0'"):
        study_in(tmp_path, identity={"space": 2})
    with pytest.raises(UserError, match="did you mean 'random'"):
        study_in(tmp_path / "new", sampler="randm")


def test_more_trials_continue_a_finished_study(tmp_path: Path) -> None:
    search(tmp_path, 6, 2, lambda count: 0)
    few = tried(tmp_path)
    assert search(tmp_path, 9, 2, lambda count: 0) == [6, 7, 8]
    assert tried(tmp_path)[:6] == few


def test_a_trial_that_takes_the_search_down_is_given_up(tmp_path: Path) -> None:
    for _ in range(ATTEMPTS):
        job = study_in(tmp_path).next(3)
        assert job is not None
        assert (job["number"], job["hopeless"]) == (0, False)
    job = study_in(tmp_path).next(3)
    assert job is not None
    assert job["hopeless"]


def test_being_stopped_does_not_count_against_a_trial(tmp_path: Path) -> None:
    for _ in range(2 * ATTEMPTS):
        study = study_in(tmp_path)
        job = study.next(3)
        assert job is not None
        assert not job["hopeless"]
        study.release(job["number"])


def test_a_failed_trial_is_recorded_and_the_search_goes_on(tmp_path: Path) -> None:
    study = study_in(tmp_path, ahead=1)
    job = study.next(3)
    assert job is not None
    study.keep(job["number"], {"state": "failed", "values": [], "value": None, "reason": "too wide", "seconds": 0.0})
    assert study.next(3) is not None
    assert study.trials[0].state.name == "FAIL"
    assert study.trials[0].user_attrs["result"]["reason"] == "too wide"
    assert study.best() is None


def test_bars_let_the_best_third_of_what_was_told_go_on(tmp_path: Path) -> None:
    study = study_in(tmp_path, ahead=1, higher=False, pruning={"first": 2, "factor": 3})
    for loss in (5.0, 1.0, 3.0, 2.0, 4.0):
        job = study.next(9)
        assert job is not None
        study.keep(job["number"], {"state": "complete", "values": [9.0, loss], "value": loss, "reason": ""})
    job = study.next(9)
    assert job is not None
    assert job["bars"] == {2: 2.0}  # six with the new one: the best two go on
    assert missed([9.0, 2.5], job["bars"], higher=False)
    assert not missed([9.0, 2.0], job["bars"], higher=False)
    assert not missed([9.0], job["bars"], higher=False)


def test_the_best_trial_is_the_earliest_of_equals(tmp_path: Path) -> None:
    study = study_in(tmp_path, pruning=None)
    for value in (0.2, 0.7, 0.7):
        job = study.next(3)
        assert job is not None
        study.keep(job["number"], {"state": "complete", "values": [], "value": value, "reason": ""})
    assert study.finish(3)
    best = study.best()
    assert best is not None
    assert best.number == 1


def test_choices_stay_in_their_space_and_go_where_their_names_say(tmp_path: Path) -> None:
    search(tmp_path, 12, 2, lambda count: 0)
    for choice, _, _ in tried(tmp_path):
        assert 1e-4 <= choice["training.lr"] <= 1e-1
        assert choice["model.width"] in range(4, 65)
        settings = space.applied({"model": {"width": 1, "code": 2}, "training": {"lr": 1}}, choice)
        assert settings["model"] == {"width": choice["model.width"], "code": 2}
        assert space.sections(choice)["training"]["optimizer"] in ("adam", "sgd")


def test_a_range_that_is_none_is_refused() -> None:
    wrong = {"training.lr": {"low": 0.0, "high": 1.0, "log": True}, "model.width": {"low": 9, "high": 3}}
    with pytest.raises(UserError) as caught:
        space.check(wrong, "case/task")
    assert len(caught.value.problems) == 2


def test_classical_methods_share_one_search(tmp_path: Path) -> None:
    known = {
        "tree": Estimator(dict, {"depth": [1, 2, None]}),
        "lda": Estimator(dict, {"shrinkage": [0.1, "auto"]}),
        "rule": Estimator(dict),
    }
    study = study_in(tmp_path, suggest=lambda trial: space.suggest_classical(trial, known), pruning=None, ahead=30)
    jobs = [study.next(30) for _ in range(30)]
    choices = [job["choice"] for job in jobs if job is not None]
    assert {choice["method"] for choice in choices} == set(known)
    for choice in choices:
        assert set(choice) - {"method"} == set(known[choice["method"]].space)
        assert all(value in known[choice["method"]].space[name] for name, value in choice.items() if name != "method")


def test_the_journal_is_one_that_optuna_reads(tmp_path: Path) -> None:
    import optuna
    from optuna.storages.journal import JournalFileBackend

    search(tmp_path, 6, 2, lambda count: 0)
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(tmp_path / "journal.log")))
    seen = optuna.load_study(study_name="fold-0", storage=storage)
    assert len(seen.trials) == 6
    assert seen.best_trial.user_attrs["choice"]["training.lr"] == seen.best_trial.params["training.lr"]
    assert all(json.loads(line) for line in (tmp_path / "journal.log").read_text().splitlines())


def test_every_order_of_three_workers_gives_the_same_search(tmp_path: Path) -> None:
    for number, order in enumerate(itertools.product(range(3), repeat=3)):
        turns = itertools.cycle(order)
        search(tmp_path / str(number), 5, 3, lambda count, turns=turns: next(turns) % count)
    assert all(tried(tmp_path / str(number)) == tried(tmp_path / "0") for number in range(27))


def test_two_searches_in_one_folder_are_refused(tmp_path: Path) -> None:
    with alone(tmp_path / "state"), pytest.raises(UserError, match="expected no other search in this folder"):
        alone(tmp_path / "state")
    alone(tmp_path / "state").close()  # the first one is gone
