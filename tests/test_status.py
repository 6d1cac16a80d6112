"""What `kilonode status` reads: squeue where it answers, Snakemake's log, the records and logs of trainings."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilonode import cli
from kilonode.progress import clock
from kilonode.slurm import queue, trainings, workflow

HEAD = """Building DAG of jobs...
Job stats:
job           count
----------  -------
train             2
total             5

Select jobs to execute...
"""


def started(rule: str, job: int) -> str:
    return (
        f"[Sun Nov 22 01:53:31 2026]\nlocalrule {rule}:\n    output: x\n    log: y\n    jobid: {job}\n    threads: 1\n"
    )


def ended(rule: str, job: int, done: int) -> str:
    return f"[Sun Nov 22 01:53:32 2026]\nFinished jobid: {job} (Rule: {rule})\n{done} of 5 steps ({20 * done}%) done\n"


def failed(rule: str, job: int) -> str:
    return f"Error in rule {rule}:\n    message: None\n    jobid: {job}\n    output: x\n"


def write_log(folder: Path, text: str, name: str = "2026-11-22T015330.1", locked: bool = False) -> None:
    path = folder / f".snakemake/log/{name}.snakemake.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    (folder / ".snakemake/locks").mkdir(exist_ok=True)
    if locked:
        (folder / ".snakemake/locks/0.input.lock").touch()


RUN = "case/toy/task/seed-0"
STEP = "train: step: 30 of 400, 2500 samples/s, 3 min 10 s left\n"
EPOCH = "train: epoch 2 of 9, loss 0.5, validation 0.25 (best), 2000 samples/s, at most 42 s left\n"


def write_training(folder: Path, log: str = "", epochs: int = 0, status: str = "", age_s: float = 0.0) -> None:
    state, path = folder / "results" / RUN / "state", folder / "logs/train/case.toy.task.seed-0.log"
    state.mkdir(parents=True, exist_ok=True)
    written = []
    if epochs:
        lines = [
            {"epoch": n + 1, "step": 10 * n + 10, "samples_per_s": 1999.5, "validation_loss": 0.25}
            for n in range(epochs)
        ]
        (state / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        written.append(state / "metrics.jsonl")
    if status:
        (state / "status.json").write_text(json.dumps({"status": status, "reason": "time limit"}))
        written.append(state / "status.json")
    if log:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(log)
        written.append(path)
    for file in written:
        stamp = file.stat().st_mtime - age_s
        os.utime(file, (stamp, stamp))


def training(folder: Path) -> dict[str, Any]:
    (row,) = trainings.found(folder, (folder / "logs").stat().st_mtime if (folder / "logs").exists() else 0)
    return row


@pytest.fixture
def no_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with a shell and nothing else; its folder."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "sleep"):
        (folder / name).symlink_to(shutil.which(name) or f"/bin/{name}")
    monkeypatch.setenv("PATH", str(folder))
    return folder


def squeue(folder: Path, shell: str) -> None:
    (folder / "squeue").write_text(f"#!/bin/sh\n{shell}\n")
    (folder / "squeue").chmod(0o755)


def said(folder: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        cli.main(["status", str(folder), *words])
    assert ended.value.code == 0
    return capsys.readouterr().out


# ---- jobs


def test_a_job_of_this_folder_is_shown_and_others_are_counted(
    tmp_path: Path, no_slurm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = f"17|RUNNING|4|1-02:03:04|regular|normal|None|a | name|{tmp_path}"
    squeue(no_slurm, f"echo '{row}'; echo '{row}x'")
    lines = said(tmp_path, capsys).splitlines()
    assert lines[:2] == [
        "jobs: 1 of this folder (1 in other folders)",
        "  17 a | name: RUNNING, 4 nodes, 1-02:03:04 left",
    ]


@pytest.mark.parametrize(
    ("shell", "why"),
    [
        ("echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1", "Unable to contact slurm"),
        ("exit 3", "squeue failed: exit status 3"),
        ("sleep 9", "squeue gave no answer in 0 s"),
        ("", ""),
    ],
)
def test_a_squeue_without_an_answer_hides_no_files(
    shell: str,
    why: str,
    tmp_path: Path,
    no_slurm: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(queue, "PATIENCE_S", 0.3)
    squeue(no_slurm, shell)
    write_training(tmp_path, log=EPOCH)
    text = said(tmp_path, capsys)
    assert why in text.splitlines()[0]
    assert "epoch 2 of 9" in text


def test_without_slurm_the_files_are_told(tmp_path: Path, no_slurm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(tmp_path, capsys).splitlines() == [
        "jobs: unknown, no squeue here", "workflow: none has run here", "trainings: none",
    ]  # fmt: skip


def test_no_accounting_is_asked(tmp_path: Path, no_slurm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    squeue(no_slurm, "exit 0")
    for name in ("sacct", "sacctmgr", "scontrol"):
        (no_slurm / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/asked\n")
        (no_slurm / name).chmod(0o755)
    said(tmp_path, capsys)
    assert not (tmp_path / "asked").exists()


def test_a_folder_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["status", str(tmp_path / "none")])
    assert ended.value.code == 2
    assert "expected a folder, got none" in capsys.readouterr().err


# ---- the workflow


def test_a_running_workflow_names_its_rules(tmp_path: Path) -> None:
    text = HEAD + started("train", 1) + started("train", 2) + started("explain", 3) + ended("train", 1, 1)
    write_log(tmp_path, text, locked=True)
    found = workflow.progress(tmp_path)
    assert found is not None
    assert (found["done"], found["total"], found["running"]) == (1, 5, True)
    assert found["running_rules"] == ["explain", "train"]
    assert found["failed_rules"] == []


def test_a_rule_that_failed_is_named_until_it_runs_again(tmp_path: Path) -> None:
    text = HEAD + started("train", 1) + failed("train", 1)
    write_log(tmp_path, text)
    found = workflow.progress(tmp_path)
    assert found is not None
    assert (found["failed_rules"], found["running_rules"], found["running"]) == (["train"], [], False)
    write_log(tmp_path, text + started("train", 1), locked=True)
    found = workflow.progress(tmp_path)
    assert found is not None
    assert (found["failed_rules"], found["running_rules"]) == ([], ["train"])


def test_the_newest_log_with_a_plan_counts(tmp_path: Path) -> None:
    write_log(tmp_path, HEAD + ended("train", 1, 2), "2026-11-22T01")
    write_log(tmp_path, HEAD + ended("train", 1, 4), "2026-11-22T02")
    write_log(tmp_path, "Lints for rule train\n", "2026-11-22T03")
    found = workflow.progress(tmp_path)
    assert found is not None
    assert found["done"] == 4
    assert found["log"].endswith("2026-11-22T02.snakemake.log")


# ---- trainings


def test_a_training_in_its_first_epoch_has_steps(tmp_path: Path) -> None:
    write_training(tmp_path, log="started\n" + STEP)
    row = training(tmp_path)
    assert row["run"] == RUN
    assert (row["state"], row["step"], row["steps"], row["samples_per_s"]) == ("running", 30, 400, 2500.0)
    assert (row["left_s"], row["epoch"]) == (190.0, None)


def test_steps_after_an_epoch_are_newer_than_its_record(tmp_path: Path) -> None:
    write_training(tmp_path, log=STEP + EPOCH + STEP.replace("30 of", "35 of"), epochs=2)
    row = training(tmp_path)
    assert (row["epoch"], row["epochs"], row["step"], row["steps"], row["left_s"]) == (2, 9, 35, 400, 190.0)


def test_an_epoch_after_steps_counts(tmp_path: Path) -> None:
    write_training(tmp_path, log=STEP + EPOCH, epochs=2)
    row = training(tmp_path)
    assert (row["step"], row["left_s"], row["samples_per_s"]) == (20, 42.0, 1999.5)


def test_a_record_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    write_training(tmp_path, log=EPOCH, epochs=2)
    with (tmp_path / "results" / RUN / "state/metrics.jsonl").open("a") as stream:
        stream.write('{"epoch": 3, "st')
    assert training(tmp_path)["epoch"] == 2


@pytest.mark.parametrize("state", ["complete", "stopped", "diverged"])
def test_an_ended_training_says_how(state: str, tmp_path: Path) -> None:
    write_training(tmp_path, log=EPOCH + f"train: {state} after epoch 2, step 20\n", epochs=2, status=state)
    row = training(tmp_path)
    assert (row["state"], row["reason"]) == (state, "time limit")


def test_a_training_that_continues_is_not_the_stopped_one(tmp_path: Path) -> None:
    write_training(tmp_path, log=EPOCH, epochs=2, status="stopped")
    assert training(tmp_path)["state"] == "running"


def test_a_training_that_says_nothing_is_silent(tmp_path: Path) -> None:
    write_training(tmp_path, log=EPOCH, epochs=2, age_s=2 * trainings.SILENT_S)
    row = training(tmp_path)
    assert row["state"] == "silent"
    assert row["age_s"] >= trainings.SILENT_S


def test_a_training_by_hand_has_records_alone(
    tmp_path: Path, no_slurm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_training(tmp_path, epochs=2, status="complete")
    assert f"{RUN}  complete (time limit), epoch 2, step 20, validation 0.25, 2000 samples/s" in said(tmp_path, capsys)


def test_only_the_end_of_a_long_log_is_read(tmp_path: Path) -> None:
    write_training(tmp_path, log=STEP * 5000 + EPOCH)
    assert training(tmp_path)["epochs"] == 9


def test_the_json_holds_what_the_lines_say(tmp_path: Path, no_slurm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    squeue(no_slurm, f"echo '17|RUNNING|4|59:00|regular|normal|None|kilonode|{tmp_path.resolve()}'")
    write_log(tmp_path, HEAD + started("train", 1), locked=True)
    write_training(tmp_path, log=STEP)
    found = json.loads(said(tmp_path, capsys, "--json"))
    assert found["jobs"][0]["id"] == "17"
    assert found["workflow"]["running_rules"] == ["train"]
    assert found["trainings"][0]["left_s"] == 190.0
    assert "  running: train" in said(tmp_path, capsys)


@given(st.integers(0, 10**6))
def test_the_time_left_is_read_as_it_was_said(seconds: int) -> None:
    read = trainings.seconds(clock(seconds))
    assert read is not None
    assert abs(read - seconds) < (60 if seconds >= 3600 else 1)
    assert clock(read) == clock(seconds)
