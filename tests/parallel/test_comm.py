"""Ranks agree, add the same bits wherever they are, and end together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kilonode import comm, launch
from kilonode.errors import UserError

pytestmark = pytest.mark.mpi
Start = Callable[..., subprocess.CompletedProcess[str]]


def seen(folder: Path) -> Any:
    return json.loads((folder / "out.json").read_text())


def parts(rank: int) -> list[float]:
    """As in ``ranks.py``."""
    return [float(x) for x in np.random.default_rng(rank).normal(size=5) * 10.0 ** np.arange(-8, 12, 4)]


def test_ranks_agree(good: Start, tmp_path: Path) -> None:
    good(3, "talk", tmp_path)
    everybody = seen(tmp_path)
    assert [mine["me"] for mine in everybody] == [[rank, 3, rank, rank == 0, "mpi4py"] for rank in range(3)]
    assert [mine["gather"] for mine in everybody] == [[[0], [1], [2]], None, None]
    total = [(first + second) + third for first, second, third in zip(*map(parts, range(3)), strict=True)]
    turned = [(third + second) + first for first, second, third in zip(*map(parts, range(3)), strict=True)]
    assert total != turned
    for mine in everybody:
        assert mine["allgather"] == ["0", "1", "2"]
        assert mine["broadcast"] == {"from": 0}
        assert mine["highest"] == [2, 0]
        assert mine["sum"] == total
        assert mine["share"] == {
            "scalar": 0.0,
            "row": [0.0, 1.0, 2.0, 3.0, 4.0],
            "none": [],
            "bytes": [0] * 7,
            "whole": [-(2**40)],
            "double": 0.0,
            "flag": [True],
            "strided": [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]],
        }
        assert mine["synchronise"] == [[0.0, 18.0], [6.0, 24.0], [12.0, 30.0]]  # 1 + 2 + 3 times
        assert mine["add"] == [3.0, 3.0]


def test_one_rank_alone_needs_no_launcher_and_has_the_same_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*comm.LAUNCHED_BY, *comm.SIZES):
        monkeypatch.delenv(name, raising=False)
    alone = comm.start("horovod")
    assert (alone.rank, alone.size, alone.local_rank, alone.is_root, alone.backend) == (0, 1, 0, True, "single")
    assert (alone.gather(3), alone.allgather(3), alone.broadcast(3), alone.highest(3)) == ([3], [3], 3, 3)
    assert alone.sum([1, 0.5]).tolist() == [1.0, 0.5]
    assert alone.sum([1, 2]).dtype == np.float64
    public = {name for name in vars(comm.Comm) if not name.startswith("_")}
    for kind in (comm.MpiComm, comm.HorovodComm):
        assert {name for name in vars(kind) if not name.startswith("_")} <= public


def test_sums_have_the_same_bits_wherever_the_ranks_are(good: Start, tmp_path: Path) -> None:
    """Float32 sums of 10 to 1,000,000 numbers on one node, on three, and on one and two."""
    sums = {}
    for nodes in ((3,), (1, 1, 1), (1, 2)):
        good(3, "bits", tmp_path, nodes=nodes)
        everybody = seen(tmp_path)
        assert [local for local, _ in everybody] == [local for count in nodes for local in range(count)]
        assert everybody[0][1] == everybody[1][1] == everybody[2][1]
        sums[nodes] = everybody[0][1]
    assert sums[1, 1, 1] == sums[3,]
    assert sums[1, 2] == sums[3,]


def test_without_our_setting_the_bits_depend_on_the_place(good: Start, tmp_path: Path) -> None:
    """MPICH 5.0.2; if this fails the setting in ``comm.start`` may have become needless."""
    sums = []
    for nodes in ((1, 1, 1), (1, 2)):
        good(3, "bits", tmp_path, nodes=nodes, env={"MPIR_CVAR_ALLREDUCE_DEVICE_COLLECTIVE": "1"})
        sums.append(seen(tmp_path)[0][1])
    assert sums[0] != sums[1]


def test_horovod_was_built_as_it_must_be(good: Start, tmp_path: Path) -> None:
    good(2, "smoke", tmp_path)
    for built, threads, size, total, refused in seen(tmp_path):
        assert (built, threads, size, total) == (True, True, 2, [2.0, 2.0, 2.0])
        assert "BFloat16" in refused


@pytest.mark.parametrize("where", ["early", "late", "return"])
def test_an_error_on_one_rank_ends_all(where: str, ranks: Start, tmp_path: Path) -> None:
    """Before MPI starts, while the others wait, and when they have ended."""
    start = time.monotonic()
    done = ranks(3, "fail", tmp_path, where, 1)
    assert time.monotonic() - start < 15
    assert done.returncode == 2
    told = "".join(path.read_text() for path in tmp_path.glob("told.*"))  # mpiexec forwarded the same line twice once
    assert told.count("expected peace, got trouble (here); go on") == 1
    assert done.stderr.startswith("rank 1: expected peace")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("where", ["early", "late"])
def test_an_error_on_all_ranks_is_said_once(where: str, ranks: Start, tmp_path: Path) -> None:
    done = ranks(4, "fail", tmp_path, where, "all")
    assert (done.returncode, done.stderr) == (2, "kilonode: expected peace, got trouble (here); go on\n")


def test_different_errors_are_all_said_in_the_order_of_ranks(ranks: Start, tmp_path: Path) -> None:
    done = ranks(3, "fail", tmp_path, "late", "each")
    lines = [f"kilonode: expected peace, got trouble on {rank} (here); go on" for rank in range(3)]
    assert (done.returncode, done.stderr.splitlines()) == (2, lines)


def test_a_defect_on_one_rank_ends_all_with_its_traceback(ranks: Start, tmp_path: Path) -> None:
    done = ranks(2, "fail", tmp_path, "defect", 0)
    assert done.returncode == 1
    assert done.stderr.startswith("rank 0: Traceback")
    assert done.stderr.count("ZeroDivisionError: planted") == 1


def test_ranks_that_would_each_believe_they_were_alone_are_refused(bare: dict[str, str], tmp_path: Path) -> None:
    """As `srun --mpi=none` starts them."""
    words = f"simulate --case reactor_neutrinos --data toy --output {tmp_path}/raw/index.json".split()
    env = {**bare, "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4"}
    done = subprocess.run(
        [sys.executable, "-m", "kilonode", *words], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("kilonode: expected 4 MPI ranks as the launcher started, got 1 (SLURM_STEP_NUM_TAS")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "raw").exists()


def test_mpiexec_inside_a_slurm_step_is_believed(good: Start, tmp_path: Path) -> None:
    """There SLURM_STEP_NUM_TASKS counts mpiexec's helpers, one a node."""
    good(1, "bits", tmp_path, env={"SLURM_STEP_NUM_TASKS": "4"})
    assert len(seen(tmp_path)) == 1


def test_under_slurm_mpi_takes_neither_ucx_nor_sockets_unless_the_site_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both hang in MPI_Init now and then: docs/decisions.md."""
    monkeypatch.setattr(os, "environ", {"SLURM_STEP_ID": "0"})
    launch.prepare()
    assert (os.environ["MPIR_CVAR_CH4_NETMOD"], os.environ["FI_PROVIDER"]) == ("ofi", "^sockets")
    monkeypatch.setattr(os, "environ", {"SLURM_STEP_ID": "0", "FI_PROVIDER": "cxi"})
    launch.prepare()
    assert os.environ["FI_PROVIDER"] == "cxi"


@pytest.mark.parametrize(
    ("environment", "size", "error"),
    [
        ({}, 1, None),
        ({"SLURM_STEP_NUM_TASKS": "1"}, 1, None),
        ({"PMI_SIZE": "1", "SLURM_STEP_NUM_TASKS": "4"}, 1, None),
        ({"PMI_SIZE": "4", "SLURM_STEP_NUM_TASKS": "2"}, 4, None),
        ({"SLURM_STEP_NUM_TASKS": "2"}, 8, None),  # prterun: its helpers are counted, its ranks are not
        ({"SLURM_STEP_NUM_TASKS": "2"}, 1, "expected 2 .* got 1 "),
        ({"PMI_SIZE": "4", "SLURM_STEP_NUM_TASKS": "1"}, 1, "expected 4 .* got 1 "),
        ({"PMI_SIZE": "4"}, 2, "expected 4 .* got 2 "),
    ],
)
def test_the_number_of_ranks_is_held_against_the_launchers(
    environment: dict[str, str], size: int, error: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in comm.SIZES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if error is None:
        launch.assert_all(size)
    else:
        with pytest.raises(UserError, match=error):
            launch.assert_all(size)


@pytest.mark.parametrize(
    ("mine", "all_of_node", "neighbours", "threads", "expected"),
    [(8, 8, 2, "4", True), (8, 8, 2, "3", False), (4, 8, 2, "4", True), (4, 8, 2, "2", False), (2, 2, 4, "1", True)],
    ids=["shared, full", "shared, room", "bound, full", "bound, room", "more ranks than CPUs"],
)
def test_the_cycle_is_long_only_where_no_cpu_is_left_to_horovod(
    mine: int, all_of_node: int, neighbours: int, threads: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(mine)))
    monkeypatch.setattr(os, "cpu_count", lambda: all_of_node)
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    assert comm.crowded(neighbours) is expected
    assert comm.horovod_settings(2, expected)["HOROVOD_CYCLE_TIME"] == ("5" if expected else "1")
    assert comm.horovod_settings(1, expected)["HOROVOD_CYCLE_TIME"] == "20"
