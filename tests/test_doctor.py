"""What `kilonode doctor` finds: each fault has a finding and a remedy, and real ranks of this machine are well."""

from __future__ import annotations

import copy
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kilonode.errors import UserError
from kilonode.slurm import doctor, probe
from kilonode.slurm.diagnosis import OK, WARN, WRONG, Finding, Reports, diagnose
from kilonode.slurm.doctor import Launch

REPOSITORY = Path(__file__).resolve().parents[1]
Run = Callable[..., Any]
MPI = {
    "failed": "", "library": "MPICH Version: 5.0.2", "loaded": ["/env/lib/libmpi.so.12"], "threads": 3, "size": 4,
    "horovod": {"mpi": True, "sum": 4.0}, "time": 1000.0,
}  # fmt: skip


def machine(rank: int) -> dict[str, Any]:
    """A healthy rank: two on each of two nodes."""
    first = rank % 2 == 0
    return {
        "rank": rank,
        "node": f"nid000{1 + rank // 2}",
        "host": "h",
        "cpus": [8 * (rank % 2) + n for n in range(8)],
        "cpus_of_node": 16,
        "memory_b": 64 << 30,
        "settings": {"OMP_NUM_THREADS": "7", "HDF5_USE_FILE_LOCKING": "FALSE"},
        "versions": {"python": "3.11.7", "torch": "2.13.0"},
        "prefix": "/env",
        "folder": {"path": "/scratch", "shared": True, "lock": "", "clock_s": 0.0} if first else None,
        "scratch": {"path": "/tmp", "free_b": 100 << 30, "kind": "ext4", "failed": ""} if first else None,
    }


def healthy() -> tuple[dict[int, Any], dict[int, Any]]:
    return {rank: machine(rank) for rank in range(4)}, {rank: copy.deepcopy(MPI) for rank in range(4)}


def findings(machines: dict[int, Any], mpis: dict[int, Any], **more: Any) -> dict[str, Finding]:
    return {finding.check: finding for finding in diagnose(Reports(4, 2, machines, mpis, **more))}


def test_four_healthy_ranks_have_nothing_wrong() -> None:
    found = findings(*healthy())
    assert {finding.level for finding in found.values()} == {OK}
    assert len(found) == 12


def test_no_rank_at_all_is_one_finding() -> None:
    (found,) = diagnose(Reports(4, 2, said="srun: error: Couldn't find the specified plugin name for mpi/pmi3"))
    assert (found.check, found.level) == ("launcher", WRONG)
    assert "0 of 4 ranks on 0 of 2 nodes answered; it said: srun: error" in found.seen
    assert "srun --mpi=list" in found.remedy


Spoil = Callable[[dict[int, Any], dict[int, Any]], object]


def node(rank: int, part: str = "", **values: Any) -> Spoil:
    """Change what a rank tells of its machine."""
    return lambda machines, mpis: (machines[rank][part] if part else machines[rank]).update(values)


def mpi(rank: int, part: str = "", **values: Any) -> Spoil:
    """Change what a rank tells of its MPI."""
    return lambda machines, mpis: (mpis[rank][part] if part else mpis[rank]).update(values)


def both(*spoils: Spoil) -> Spoil:
    return lambda machines, mpis: [spoil(machines, mpis) for spoil in spoils]


ALONE = both(*(mpi(rank, size=1) for rank in range(4)))
LOCKS = both(*(node(rank, "settings", HDF5_USE_FILE_LOCKING="unset") for rank in range(4)))
REFUSED = node(0, "folder", lock="Errno 524")
FAULTS: dict[str, tuple[str, str, str, Spoil]] = {
    "a rank is missing": ("launcher", WRONG, "3 of 4 ranks", lambda machines, mpis: machines.pop(3)),
    "MPI hangs on a node": ("MPI", WRONG, "not start on nid0002, it ended: why", lambda machines, mpis: mpis.pop(3)),
    "MPI fails": ("MPI", WRONG, "rank 1: no libmpi", mpi(1, failed="no libmpi")),
    "everybody is alone": ("MPI", WRONG, "1 ranks in MPI, 4 started", ALONE),
    "two libraries": ("MPI", WRONG, "several libraries", mpi(2, library="Open MPI")),
    "no threads in MPI": ("MPI", WRONG, "no MPI_THREAD_MULTIPLE", mpi(0, threads=1)),
    "two MPIs in a process": ("MPI ABI", WRONG, "two MPI", mpi(0, loaded=["/opt/libmpi.so.12", "/x/libmpi.so.12"])),
    "the wheel on a Cray": ("MPI ABI", WARN, "though Cray MPICH", node(0, "settings", CRAY_MPICH_DIR="/opt")),
    "Horovod without MPI": ("Horovod", WRONG, "without MPI", mpi(0, "horovod", mpi=False)),
    "Horovod adds wrongly": ("Horovod", WRONG, "gave 1.0, 4.0", mpi(0, "horovod", sum=1.0)),
    "another torch": ("versions", WRONG, "torch 2.12.0, 2.13.0 (nid0002)", node(3, "versions", torch="2.12.0")),
    "a missing package": ("versions", WRONG, "torch 2.13.0, none", node(3, versions={"python": "3.11.7"})),
    "a folder of its own": ("folder", WRONG, "not seen on nid0002", node(2, "folder", shared=False)),
    "locks refused": ("HDF5 locking", WRONG, "refused here on nid0001", both(LOCKS, REFUSED)),
    "locks refused, not wanted": ("HDF5 locking", OK, "refused", REFUSED),
    "no scratch": ("scratch", WRONG, "/tmp on nid0002: Permission", node(2, "scratch", failed="Permission")),
    "little scratch": ("scratch", WARN, "1.0 GiB", node(2, "scratch", free_b=1 << 30)),
    "scratch in memory": ("scratch", WARN, "is memory", node(0, "scratch", kind="tmpfs", free_b=50 << 30)),
    "a clock ahead": ("clocks", WRONG, "within 2.500 s", mpi(1, time=1002.5)),
    "a file server behind": ("clocks", WRONG, "file server: nid0001", node(0, "folder", clock_s=-3.0)),
    "little memory": ("memory", WRONG, "0.4 GiB", node(3, memory_b=0.8 * (1 << 30))),
    "ranks on the same CPUs": ("affinity", WARN, "share CPUs on nid0001", node(1, cpus=[0, 1, 2])),
    "no CPU for Horovod": ("affinity", WARN, "none of its own", node(1, cpus=[15], settings={})),
    "too many threads": ("threads", WRONG, "on nid0002", node(3, "settings", OMP_NUM_THREADS="64")),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_where_it_is_and_has_a_remedy(name: str) -> None:
    check, level, seen, spoil = FAULTS[name]
    machines, mpis = healthy()
    spoil(machines, mpis)
    found = findings(machines, mpis, said="why")
    assert (found[check].level, bool(found[check].remedy)) == (level, level != OK), found[check]
    assert seen in found[check].seen
    assert {finding.check for finding in found.values() if finding.level == WRONG} <= {check, "threads"}


def test_a_late_rank_is_told_apart_from_one_that_ended() -> None:
    machines, mpis = healthy()
    del mpis[0]
    assert "gave no answer in time" in findings(machines, mpis, late=True)["MPI"].seen


# ---- how ranks are started


def plan(site: str = "", **environment: str) -> Launch:
    return doctor.plan(REPOSITORY, site, {"PATH": "/usr/bin:/bin", **environment})


def test_without_a_launcher_there_is_one_rank(tmp_path: Path) -> None:
    assert plan(PATH=str(tmp_path)) == Launch('"$@"', 1, 1)


def test_here_ranks_start_as_the_local_profile_says() -> None:
    assert plan(PATH=str(Path(sys.executable).parent)) == Launch('mpiexec -n 2 "$@"', 2, 1)


ALLOCATION = {"SLURM_JOB_ID": "1", "SLURM_JOB_NUM_NODES": "8"}


def test_in_an_allocation_ranks_start_as_training_does() -> None:
    found = plan("perlmutter-cpu", **ALLOCATION)
    assert (found.ranks, found.nodes) == (16, 8)
    assert found.shell.startswith(f". {REPOSITORY}/slurm/sites/perlmutter-cpu.env || exit 2; srun $KILONODE_SRUN ")
    assert plan("", KILONODE_SITE="archer2", **ALLOCATION).ranks == 16
    assert plan("", KILONODE_RANKS_PER_NODE="4", **ALLOCATION).ranks == 32


def test_in_a_job_of_pbs_nodes_are_counted_in_its_file(tmp_path: Path) -> None:
    (tmp_path / "nodes").write_text("x1\nx1\nx2\n")
    found = plan("aurora", PBS_JOBID="1", PBS_NODEFILE=str(tmp_path / "nodes"))
    assert (found.ranks, found.nodes) == (4, 2)
    assert "mpiexec $KILONODE_MPIEXEC" in found.shell


def test_an_allocation_without_a_size_is_told() -> None:
    with pytest.raises(UserError, match="expected numbers of nodes and of ranks a node, got '1'"):
        plan("perlmutter-cpu", SLURM_JOB_ID="1", KILONODE_RANKS_PER_NODE="1")


def test_an_unknown_site_is_told() -> None:
    with pytest.raises(UserError, match="did you mean 'frontier'"):
        plan("frontir")


def ask(shell: str, tmp_path: Path, patience_s: float = 20.0) -> Reports:
    folder = tmp_path / "doctor"
    folder.mkdir(exist_ok=True)
    return doctor.ask(Launch(shell, 2, 1), folder / "token", os.environ, patience_s)


def test_lines_of_the_ranks_are_collected_among_others(tmp_path: Path) -> None:
    lines = [
        f'{probe.MARK}{{"rank": 1, "machine": {{"a": 1}}}}',
        "noise",
        f'{probe.MARK}{{"rank": 1, "mpi": {{"b": 2}}}}',
    ]
    found = ask("; ".join(f"echo '{line}'" for line in lines) + "; echo what >&2; echo ever >&2", tmp_path)
    assert (found.machines, found.mpis, found.said, found.late) == ({1: {"a": 1}}, {1: {"b": 2}}, "what ever", False)


def test_ranks_that_hang_are_ended_and_what_they_told_is_kept(tmp_path: Path) -> None:
    told = f'{probe.MARK}{{"rank": 0, "machine": {{}}}}'
    found = ask(f"echo '{told}'; sleep 60 & echo $! > {tmp_path}/pid; wait", tmp_path, patience_s=0.5)
    assert found.late
    assert list(found.machines) == [0]
    pid = int((tmp_path / "pid").read_text())
    stat = Path(f"/proc/{pid}/stat")
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


# ---- real ranks


def test_a_machine_tells_its_facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*probe.RANKS, *probe.LOCAL_RANKS, "SLURMD_NODENAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    (tmp_path / "token").touch()
    found = probe.machine(tmp_path / "token")
    assert found["rank"] == 0
    assert set(found["cpus"]) == os.sched_getaffinity(0)
    assert 1 << 20 < found["memory_b"] < 1 << 50
    assert found["folder"]["shared"] is True
    assert abs(found["folder"]["clock_s"]) < 1
    assert found["scratch"]["failed"] == "No such file or directory"
    assert [path.name for path in tmp_path.iterdir()] == ["token"]
    assert probe.machine(tmp_path / "other")["folder"]["shared"] is False


def test_the_limit_of_the_job_is_the_least_of_its_control_groups(tmp_path: Path) -> None:
    for group, name, text in (("job", "memory.max", "500"), ("job/step", "memory.max", "max"), ("", "cpu.max", "7")):
        (tmp_path / group).mkdir(exist_ok=True)
        (tmp_path / group / name).write_text(text + "\n")
    assert probe.limits("0::/job/step\n", tmp_path) == [500]
    (tmp_path / "memory/slurm").mkdir(parents=True)
    (tmp_path / "memory/slurm/memory.limit_in_bytes").write_text("300\n")
    assert probe.limits("3:cpu:/job\n2:memory:/slurm/gone\n", tmp_path) == [300]


@pytest.mark.mpi
def test_two_real_ranks_are_well(kilonode: Run, tmp_path: Path) -> None:
    done = kilonode("doctor", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == '2 ranks on 1 nodes, started by: mpiexec -n 2 "$@"'
    assert lines[-1] == "nothing is wrong"
    assert any(line.split()[:2] == ["Horovod", "ok"] for line in lines)
    assert not list(tmp_path.iterdir())


@pytest.mark.mpi
def test_a_real_fault_ends_with_exit_status_1(kilonode: Run, tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "4096"}
    done = kilonode("doctor", "--json", cwd=tmp_path, env=environment)
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    wrong = [row for row in found["findings"] if row["level"] == WRONG]
    assert [row["check"] for row in wrong] == ["threads"]
    assert wrong[0]["remedy"].startswith("set OMP_NUM_THREADS to ")
    assert found["mpi"][0]["horovod"] == {"mpi": True, "sum": 2.0}
