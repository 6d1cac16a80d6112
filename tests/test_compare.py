"""Two runs side by side: noise is not news, what differs in settings is said, wrong paths end in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import small_report

from kilonode.errors import UserError
from kilonode.records import read_json, write_json
from kilonode.report import compare, gather


def summary(folder: Path, *tasks: str, seeds: tuple[int, ...] = (0,), shift: float = 0.0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    records = [small_report.run(folder, task, seed, shift) for task in tasks for seed in seeds]
    gather.run(records, folder / "summary.json")
    return folder


def compared(first: Path, second: Path) -> dict[str, Any]:
    return compare.compared(*((str(path), read_json(path / "summary.json")) for path in (first, second)))


def test_a_run_does_not_differ_from_itself(tmp_path: Path) -> None:
    run = summary(tmp_path / "a", "classifier")
    found = compared(run, run)
    assert found["conditions"]["compared"]["beyond"] == 0
    assert found["conditions"]["compared"]["settings"] == []
    assert [row["value"] for row in found["figures"]] == [0.0] * len(found["figures"])


def test_a_shift_beyond_the_bootstrap_intervals_is_marked_and_a_small_one_is_not(tmp_path: Path) -> None:
    first = summary(tmp_path / "a", "classifier")
    for shift, beyond in ((0.05, True), (0.01, False)):  # intervals are 0.02 each way: 0.028 of the difference
        rows = compared(first, summary(tmp_path / f"b{shift}", "classifier", shift=shift))["figures"]
        network = next(row for row in rows if row["metric"] == "accuracy" and row["method"] == "network")
        assert network["rule"] == "bootstrap"
        assert network["value"] == pytest.approx(shift)
        assert network["interval"] == pytest.approx([shift - 0.02 * 2**0.5, shift + 0.02 * 2**0.5])
        assert network["beyond"] is beyond
        assert not next(row for row in rows if row["method"] == "boosted_trees")["beyond"]


def test_with_several_seeds_on_both_sides_welch_decides(tmp_path: Path) -> None:
    first = summary(tmp_path / "a", "classifier", seeds=(0, 1, 2))  # 0.90, 0.91, 0.92
    second = summary(tmp_path / "b", "classifier", seeds=(0, 1, 2), shift=0.01)
    rows = compared(first, second)["figures"]
    network = next(row for row in rows if row["metric"] == "accuracy" and row["method"] == "network")
    assert network["rule"] == "seeds"
    # two means of three, standard deviation 0.01 each: t(4 degrees of freedom, 0.975) = 2.7764
    half = 2.7764 * (2 * 0.01**2 / 3) ** 0.5
    assert network["interval"] == pytest.approx([0.01 - half, 0.01 + half], rel=1e-4)
    assert not network["beyond"]


def test_what_only_one_run_has_is_named(tmp_path: Path) -> None:
    said = compared(
        summary(tmp_path / "a", "classifier", "autoencoder"), summary(tmp_path / "b", "classifier")
    )["conditions"]["compared"]  # fmt: skip
    assert len(said["only"][0]) == 5
    assert all("/autoencoder/" in name for name in said["only"][0])
    assert said["only"][1] == []


def test_a_changed_setting_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = summary(tmp_path / "a", "classifier"), summary(tmp_path / "b", "classifier")
    content = read_json(second / "summary.json")
    content["runs"][0]["conditions"]["training"]["lr"] = 0.02
    write_json(second / "summary.json", content)
    compare.run([first, second])
    assert "settings: reactor_neutrinos/toy/classifier/training/lr: 0.01 -> 0.02" in capsys.readouterr().out


def test_the_json_has_the_shape_of_every_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from kilonode import config

    run = summary(tmp_path / "a", "classifier")
    compare.run([run, run], json_output=True)
    config.check(json.loads(capsys.readouterr().out), config.schema("bench"), "compare")


def test_a_folder_without_a_summary_or_with_two_is_refused(tmp_path: Path) -> None:
    run = summary(tmp_path / "runs/a", "classifier")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"expected one summary\.json, got none"):
        compare.run([run, tmp_path / "empty"])
    summary(tmp_path / "runs/b", "classifier")
    with pytest.raises(UserError, match=r"expected one summary\.json, got 2: .*; name the file"):
        compare.run([run, tmp_path / "runs"])
    write_json(tmp_path / "other.json", {"bench": "step"})
    with pytest.raises(UserError, match="expected a summary of gather"):
        compare.run([run, tmp_path / "other.json"])
