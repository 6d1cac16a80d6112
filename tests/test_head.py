"""One head in a folder: the living are left alone, the dead have successors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from kilonode.errors import UserError
from kilonode.report import run as front
from kilonode.slurm import head
from kilonode.slurm.head import Head

FIRST = Head(host="nid1", pid=100, start=5, job="7", restarts="0")
SECOND = Head(host="nid1", pid=200, start=9, job="8", restarts="0")


def alive(other: Head, mine: Head = SECOND, begun: int = -1, state: str = "") -> str:
    return head.lives(other, mine, lambda pid: begun, lambda job: state)


def test_a_process_of_this_host_is_asked_itself() -> None:
    assert alive(FIRST, begun=5, state="") == "process 100"
    assert alive(FIRST, begun=-1, state="RUNNING") == ""
    assert alive(FIRST, begun=6) == ""  # another process with its number


def test_of_a_process_elsewhere_slurm_is_asked() -> None:
    away = replace(FIRST, host="nid2")
    assert alive(away, state="RUNNING") == "job 7, RUNNING"
    assert alive(away, state="unknown") == "job 7, unknown"  # slurmctld is down: nobody is succeeded by guess
    assert alive(away, state="") == ""
    assert alive(away, state="PENDING") == ""  # requeued: it will find the successor
    assert alive(replace(away, job="")) == "process 100 of nid2, which cannot be asked from here"


def test_an_earlier_start_of_the_same_job_is_dead() -> None:
    again = replace(FIRST, host="nid9", pid=1, restarts="1")
    assert alive(FIRST, mine=again, begun=5, state="RUNNING") == ""


def test_the_first_takes_the_folder_and_the_second_is_refused(tmp_path: Path) -> None:
    mine = head.me({})
    assert head.take(tmp_path, mine) is None
    with pytest.raises(UserError, match=rf"expected no other head in this folder, got process {os.getpid()} \("):
        head.take(tmp_path, replace(mine, pid=mine.pid + 1))
    assert [path.name for path in (tmp_path / ".snakemake").iterdir()] == ["kilonode-head.json"]


def test_a_dead_head_is_named_and_followed(tmp_path: Path) -> None:
    mine = head.me({})
    dead = replace(mine, start=mine.start - 1)
    head.take(tmp_path, dead)
    assert head.take(tmp_path, mine) == dead
    (tmp_path / head.LOCK).write_text("{")  # cut short
    assert head.take(tmp_path, mine) is None


def test_what_a_dead_head_left_running_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = head.me({})
    dead = replace(mine, start=mine.start - 1)
    name, _, value = dead.mark.decode().partition("=")
    (tmp_path / head.SNAKEMAKE_LOCKS).mkdir(parents=True)
    monkeypatch.setattr(head, "SAVE_S", 0.1)
    with (
        subprocess.Popen(["sleep", "60"], env={**os.environ, name: value}) as left,
        subprocess.Popen(["sleep", "60"], env={**os.environ, name: value + "1"}) as another,
    ):
        assert head._begun_by(dead) == [left.pid]
        head.succeed(dead, mine, tmp_path)
        assert left.wait(20) == -signal.SIGTERM
        assert another.poll() is None
        another.kill()
    assert head._begun_by(dead) == []
    assert not (tmp_path / head.SNAKEMAKE_LOCKS).exists()


def test_jobs_that_a_dead_head_submitted_are_saved_then_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of this folder alone, and none of other programs."""
    run = "0123abcd-0123-0123-0123-0123456789ab"
    rows = [f"11|{run}|{tmp_path}", f"12|kilonode|{tmp_path}", f"13|{run}|{tmp_path}/other"]
    (tmp_path / "squeue").write_text("#!/bin/sh\n" + "\n".join(f"echo '{row}'" for row in rows))
    (tmp_path / "scancel").write_text(f"#!/bin/sh\necho $* >> {tmp_path}/said\n")
    for name in ("squeue", "scancel"):
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(head, "SAVE_S", 0.1)
    monkeypatch.setattr(head, "END_S", 0.1)
    mine = head.me({})
    head.succeed(replace(mine, start=mine.start - 1), mine, tmp_path)
    assert (tmp_path / "said").read_text().splitlines() == ["--signal=USR1 11", "11"]


def test_snakemake_s_exit_status_is_the_head_s(tmp_path: Path) -> None:
    """And the lock is gone, unless Snakemake was killed: then somebody has to look after what is left."""
    for body, status, locked in (("exit 3", 3, False), ("kill -9 $$", 137, True)):
        (tmp_path / "snakemake").write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / "snakemake").chmod(0o755)
        environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(
            [sys.executable, "-m", "kilonode.slurm.head"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            check=False,
        )
        assert done.returncode == status, done.stderr
        assert (tmp_path / head.LOCK).exists() is locked
    assert json.loads((tmp_path / head.LOCK).read_text())["pid"] > 0


@pytest.mark.parametrize(("profile", "headed"), [("slurm", True), ("local", False)])
def test_a_run_whose_jobs_outlive_it_has_a_head(
    profile: str, headed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []

    def start(command: list[str], **_: object) -> SimpleNamespace:
        started.append(command)
        return SimpleNamespace(returncode=1)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(front, "_check_launchers", lambda *_: None)
    monkeypatch.setattr(front, "subprocess", SimpleNamespace(run=start))
    case = {"case": "reactor_neutrinos", "task": [], "tier": "toy", "data": None, "input": None, "seeds": 1}
    assert front.run(**case, profile=profile, until=None, force=[], dry_run=False, snakemake=[]) == 1
    assert ("kilonode.slurm.head" in started[0]) is headed
