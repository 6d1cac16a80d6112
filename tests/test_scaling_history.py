"""A planted regression is flagged and noise is not."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kilonode import cli
from kilonode.records import conditions, figure
from kilonode.scaling import history


def test_a_change_is_that_of_students_formula() -> None:
    """One earlier run: 3 degrees, width 0.03 sqrt(2), and the 99 % quantile of Student's t with 3 degrees is 4.5407."""
    found = history.change([100.0], 90.0)
    assert found.value == pytest.approx(-0.1)
    reach = 4.5407 * 0.03 * math.sqrt(2)
    assert found.interval == pytest.approx((0.9 * math.exp(-reach) - 1, 0.9 * math.exp(reach) - 1), rel=1e-4)
    assert not found.is_regression


@pytest.mark.parametrize("scatter", [0.01, 0.03])
def test_noise_is_flagged_no_more_often_than_promised(scatter: float) -> None:
    rng = np.random.default_rng(0)
    rates = 100 * np.exp(scatter * rng.standard_normal((2000, 9)))
    flagged = np.mean([history.change(row[:-1], row[-1]).is_regression for row in rates])
    assert flagged <= 0.016


def test_noise_larger_than_assumed_is_learnt_from_the_runs() -> None:
    rng = np.random.default_rng(1)
    rates = 100 * np.exp(0.1 * rng.standard_normal((2000, 21)))
    assert np.mean([history.change(row[:-1], row[-1]).is_regression for row in rates]) < 0.03


def test_a_planted_regression_is_flagged() -> None:
    rng = np.random.default_rng(2)
    rates = 100 * np.exp(0.02 * rng.standard_normal((500, 9)))
    flagged = [history.change(row[:-1], 0.85 * row[-1]).is_regression for row in rates]
    assert np.mean(flagged) > 0.97


def test_faster_is_no_regression() -> None:
    assert not history.change([100.0, 101.0, 99.0], 300.0).is_regression


def record(folder: Path, rate: float, time: str, **changed: Any) -> Path:
    """metrics.json of a training of this rate."""
    under = conditions(seeds=[0], ranks=2, threads=1) | {"time": time, "command": "kilonode train --case a --task b"}
    path = folder / "metrics.json"
    content = {"bench": "train", "figures": [figure("samples_per_s", rate, "samples/s")], "conditions": under | changed}
    path.write_text(json.dumps(content))
    return path


def call(words: str, capsys: pytest.CaptureFixture[str], code: int = 0) -> Any:
    with pytest.raises(SystemExit) as caught:
        cli.main(words.split())
    out, error = capsys.readouterr()
    assert int(str(caught.value.code or 0)) == code, error
    return error if code == 2 else {row["name"]: row for row in json.loads(out)["figures"]}


def test_the_verb_remembers_and_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"--file {tmp_path}/h.jsonl --json --strict"
    for day, rate in enumerate((100, 102, 99, 101, 100)):
        rows = call(f"scaling history {record(tmp_path, rate, f'day {day}')} {words}", capsys)
        assert rows["earlier records of this kind"]["value"] == day
    rows = call(f"scaling history {record(tmp_path, 80, 'day 5')} {words}", capsys, code=1)
    assert rows["change"]["met"] is False
    rows = call(f"scaling history {record(tmp_path, 80, 'day 6')} {words}", capsys, code=1)
    assert rows["earlier records of this kind"]["value"] == 5  # the regression is not the new normal
    rows = call(f"scaling history {record(tmp_path, 100, 'day 7')} {words}", capsys)
    assert rows["change"]["met"]
    assert len((tmp_path / "h.jsonl").read_text().splitlines()) == 8


def test_the_same_record_counts_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = record(tmp_path, 100, "day 0")
    for _ in range(2):
        rows = call(f"scaling history {path} --file {tmp_path}/h.jsonl --json", capsys)
        assert rows["earlier records of this kind"]["value"] == 0


@pytest.mark.parametrize("changed", [{"cpu": "another"}, {"ranks": 4}, {"command": "kilonode train --case c --task b"}])
def test_another_host_or_work_is_another_kind(
    changed: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"--file {tmp_path}/h.jsonl --json"
    call(f"scaling history {record(tmp_path, 100, 'day 0')} {words}", capsys)
    rows = call(f"scaling history {record(tmp_path, 10, 'day 1', **changed)} {words}", capsys)
    assert rows["earlier records of this kind"]["value"] == 0


def test_a_broken_history_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = record(tmp_path, 100, "day 0")
    (tmp_path / "h.jsonl").write_text("{}\n")
    error = call(f"scaling history {path} --file {tmp_path}/h.jsonl", capsys, code=2)
    assert error.startswith("kilonode: expected a history of trainings, got a line without")
    assert (tmp_path / "h.jsonl").read_text() == "{}\n"
