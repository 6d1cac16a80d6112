"""The testbed starts, is used, breaks, recovers and goes, and leaves alone what is not its own."""

from __future__ import annotations

import importlib.util
import json
import mmap
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slurm

TESTBED_FOLDER = Path(__file__).resolve().parents[2] / "slurm/testbed"
CONF = Path("/etc/slurm/slurm.conf")
RUN = Path("/run/kilonode-testbed")
OTHER_FOLDERS = (Path("/var/spool/kilonode-testbed"), Path("/var/log/kilonode-testbed"))
NODES = ["nid0001", "nid0002", "nid0003", "nid0004"]
# A job that resists: it ignores TERM, and has a child in a session of its own and a step on every node.
STUBBORN = """#!/bin/bash
trap '' TERM
setsid sleep 4242 &
srun -N4 --overlap bash -c 'trap "" TERM; touch "$1/$SLURMD_NODENAME"; sleep 4242' - "$1" &
while :; do sleep 4242; done
"""

Command = Callable[..., subprocess.CompletedProcess[str]]


def output(*argv: str) -> list[str]:
    """Run a command that must succeed; the lines that it printed."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout.splitlines()


def recorded_pids() -> dict[str, int]:
    """Read the pid of every daemon by its name."""
    records = [json.loads(line) for line in (RUN / "state.jsonl").read_text().splitlines()[1:]]
    return {name: pid for name, pid, _ in records}


def living(*names: str) -> list[str]:
    """List the processes, except zombies, whose name (or command line, where it says more) is one of these."""
    lines = output("ps", "-eo", "stat=,comm=,args=")
    rows = [line.split(maxsplit=2) for line in lines if not line.startswith("Z")]
    return [" ".join(row) for row in rows if row[1] in names or row[-1] in names]


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until the condition holds, or fail."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s"
        time.sleep(0.05)


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that the testbed did not start."""
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as process:
        yield process
        process.kill()


@pytest.fixture
def breakable(testbed: Command) -> Iterator[Command]:
    """The testbed to break, unless somebody's jobs are on it; up again afterwards."""
    if jobs := output("squeue", "--noheader"):
        pytest.skip(f"the testbed has other jobs: {jobs}")
    yield testbed
    restored = testbed("up", "--nodes", "4")
    assert restored.returncode == 0, restored.stderr


def test_up_twice_starts_nothing_anew(testbed: Command) -> None:
    before = recorded_pids()
    again = testbed("up", "--nodes", "4")
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout == "testbed is already up: 4 nodes of 8 CPUs and 6000 MB\n"
    assert recorded_pids() == before
    assert list(before) == ["munged", "slurmctld", *NODES]


def test_up_refuses_another_number_of_nodes(testbed: Command) -> None:
    refused = testbed("up", "--nodes", "5")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == (
        "testbed: expected 5 nodes of 8 CPUs and 6000 MB, got 4 nodes of 8 CPUs and 6000 MB "
        f"({RUN}/state.jsonl); run testbed down first\n"
    )


def test_up_refuses_impossible_numbers(testbed_command: Command) -> None:
    for number in ("0", "-1", "four", "1025"):
        refused = testbed_command("up", "--nodes", number)
        assert refused.returncode == 2
        assert f", got {number}" in refused.stderr


def test_status_counts_the_nodes(testbed: Command) -> None:
    wait_for(lambda: json.loads(testbed("status", "--json").stdout)["idle"] == 4)
    assert json.loads(testbed("status", "--json").stdout) == {
        "state": "up", "reason": "", "nodes": 4, "cpus": 8, "memory": 6000, "idle": 4, "node_states": {"idle": 4},
    }  # fmt: skip
    assert testbed("status").stdout == "testbed is up: 4 nodes of 8 CPUs and 6000 MB, 4 idle\n"


@pytest.mark.usefixtures("testbed")
def test_srun_reaches_every_node() -> None:
    answers = [line.split() for line in output("srun", "-N4", "sh", "-c", "echo $SLURMD_NODENAME $(hostname)")]
    assert sorted(node for node, _ in answers) == NODES
    assert {host for _, host in answers} == {os.uname().nodename}  # the machine's own: never a key to a node


@pytest.mark.usefixtures("testbed")
def test_a_rank_learns_its_world_size_from_the_step(tmp_path: Path) -> None:
    show = "echo ${SLURM_STEP_NUM_TASKS-none} ${SLURM_NTASKS-none} ${PMI_SIZE-none}"
    script = tmp_path / "show.sh"
    step = f"--ntasks-per-node=2 sh -c '{show}'"
    script.write_text(f"#!/bin/sh\n{show}\nsrun --mpi=pmi2 -N2 -n4 {step}\nsrun --mpi=pmi2 -N2 {step}\n")
    log = tmp_path / "log"
    output("sbatch", "--wait", "-N3", "--ntasks-per-node=1", "--exclusive", f"--output={log}", str(script))
    batch, *ranks = [
        line for line in log.read_text().splitlines() if not line.startswith("srun: ")
    ]  # warnings, retries
    assert batch == "none 3 none"  # a batch script is in no step of tasks, and SLURM_NTASKS is the allocation's
    # Without -n, the allocation's SLURM_NTASKS wins over --ntasks-per-node: 3 ranks, with a warning only.
    assert ranks == ["4 4 4"] * 4 + ["3 3 3"] * 3
    assert output("srun", "--mpi=none", "-n2", "sh", "-c", show) == ["2 2 none"] * 2


@pytest.mark.usefixtures("testbed")
def test_ranks_of_a_step_meet_over_tcp() -> None:
    """Left to itself MPICH takes `sockets`, with which ranks now and then never meet."""
    program = "from kilonode import comm; ranks = comm.start(); ranks.barrier(); ranks.close()"
    said = output(
        *("env", "MPIR_CVAR_DEBUG_SUMMARY=1", "srun", "--mpi=pmi2", "-N4", "-n8"), *(sys.executable, "-c", program)
    )
    assert [line.split()[2] for line in said if line.startswith("libfabric provider")] == ["tcp"]


def test_a_foreign_conf_is_refused_and_kept(testbed_command: Command, tmp_path: Path) -> None:
    conf = tmp_path / "etc/slurm/slurm.conf"
    conf.parent.mkdir(parents=True)
    conf.write_text("ClusterName=site\n")
    refused = testbed_command("up", root=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == (
        f"testbed: expected no slurm.conf but the testbed's, got a foreign one ({conf}); "
        "use a machine without a Slurm of its own\n"
    )
    assert testbed_command("down", root=tmp_path).stdout == "testbed is down: nothing to do\n"
    assert conf.read_text() == "ClusterName=site\n"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [conf]


def test_a_foreign_daemon_is_refused_and_lives(testbed: Command, tmp_path: Path) -> None:
    before = recorded_pids()  # under another root, these daemons are somebody else's
    refused = testbed("up", root=tmp_path)
    assert refused.returncode == 2
    match = re.fullmatch(
        r"testbed: expected no Slurm but the testbed's, got slurm\w+ \(pid (\d+)\); .+\n", refused.stderr
    )
    assert match, refused.stderr
    assert int(match[1]) in before.values()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert json.loads(testbed("status", "--json").stdout)["state"] == "up"


def test_up_recovers_from_killed_daemons(breakable: Command, bystander: subprocess.Popen[bytes]) -> None:
    before = recorded_pids()
    for name in ("slurmctld", "nid0003"):
        os.kill(before[name], signal.SIGKILL)
    broken = json.loads(breakable("status", "--json").stdout)
    assert broken["state"] == "broken"
    assert broken["reason"] == "daemons dead: slurmctld, nid0003, never started: 0"
    recovered = breakable("up", "--nodes", "4")
    assert recovered.returncode == 0, recovered.stderr
    assert recovered.stdout.startswith(f"testbed was broken ({broken['reason']}); clearing it away\n")
    assert not set(before.values()) & set(recorded_pids().values())
    assert sorted(output("srun", "-N4", "printenv", "SLURMD_NODENAME")) == NODES
    assert bystander.poll() is None


def test_a_killed_node_takes_its_tasks_along_and_comes_back(breakable: Command, tmp_path: Path) -> None:
    script = tmp_path / "sleepers.sh"
    script.write_text("#!/bin/bash\nsrun -N4 sh -c 'exec sleep 4243'\n")
    output("sbatch", "-N4", "--exclusive", "--output=/dev/null", str(script))
    wait_for(lambda: len(living("sleep 4243")) == 4)
    assert breakable("kill", "nid0003").stdout == "killed nid0003, 1 steps and 1 processes of its tasks\n"
    assert len(living("slurmd")) == 3
    output("scancel", "--user=root")
    assert breakable("start", "nid0003").stdout == "started nid0003\n"
    assert breakable("start", "nid0003").stdout == "nid0003 runs already\n"
    wait_for(lambda: json.loads(breakable("status", "--json").stdout)["idle"] == 4)
    refused = breakable("kill", "nid0009")
    assert (refused.returncode, refused.stderr.split(";")[1]) == (2, " nodes are nid0001 to nid0004\n")


def test_shared_memory_of_killed_ranks_is_freed_and_that_of_living_ones_stays(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("processes", TESTBED_FOLDER / "processes.py")
    assert spec is not None
    assert spec.loader is not None
    processes = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(processes)
    dead, alive, others, young = (tmp_path / name for name in ("mpich_shm_1_0", "mpich_shm_2_0", "else", "mpich_shm_3"))
    for path in (dead, alive, others, young):
        path.write_bytes(bytes(4096))
        os.utime(path, (0, 0))
    young.touch()
    with alive.open("r+b") as file, mmap.mmap(file.fileno(), 0):
        assert processes.free_segments(tmp_path) == 1
    assert [path.exists() for path in (dead, alive, others, young)] == [False, True, True, True]


def test_two_testbeds_number_their_jobs_apart(breakable: Command) -> None:
    (first,) = output("sbatch", "--parsable", "-N1", "--output=/dev/null", "--wrap=true")
    breakable("down")
    time.sleep(2)
    breakable("up", "--nodes", "4")
    (second,) = output("sbatch", "--parsable", "--wait", "-N1", "--output=/dev/null", "--wrap=true")
    assert int(second) > int(first)


def test_slurmctld_takes_up_the_jobs_that_it_had(breakable: Command) -> None:
    (job,) = output("sbatch", "--parsable", "-N1", "--output=/dev/null", "--wrap=sleep 9")
    time.sleep(6)  # slurmctld saves what it knows within 5 s; killed earlier, it would take ended jobs for running ones
    assert breakable("kill", "slurmctld").returncode == 0
    assert breakable("start", "slurmctld").stdout == "started slurmctld\n"
    wait_for(lambda: output("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T") == ["COMPLETED"])


@pytest.mark.usefixtures("testbed")
def test_each_node_has_a_disk_of_its_own() -> None:
    write = f"echo $SLURMD_NODENAME > {RUN}/local/name; sleep 0.5; cat {RUN}/local/name"
    assert sorted(output("srun", "-N4", "sh", "-c", write)) == NODES


def test_up_recovers_from_an_up_that_was_killed(breakable: Command) -> None:
    breakable("down")
    with subprocess.Popen([TESTBED_FOLDER / "testbed", "up", "--nodes", "64"], stdout=subprocess.PIPE) as killed:
        wait_for(lambda: (RUN / "state.jsonl").exists() and len(recorded_pids()) >= 4)
        killed.kill()
    assert json.loads(breakable("status", "--json").stdout)["state"] == "broken"
    recovered = breakable("up", "--nodes", "4")
    assert recovered.returncode == 0, recovered.stderr
    assert len(living("slurmd")) == 4


def test_down_ends_all_that_is_ours_and_nothing_else(
    breakable: Command, bystander: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    script = tmp_path / "stubborn.sh"
    script.write_text(STUBBORN)
    output("sbatch", "-N4", "--exclusive", "--output=/dev/null", str(script), str(tmp_path))
    wait_for(lambda: sorted(path.name for path in tmp_path.glob("nid*")) == NODES)
    wait_for(lambda: len(living("sleep 4242")) == 6)  # in the script, detached, and 4 tasks
    stopped = breakable("down")
    assert stopped.returncode == 0, stopped.stderr
    assert living("slurmctld", "slurmd", "slurmstepd", "slurmscriptd", "srun", "sleep 4242") == []
    assert not [path for path in (CONF, RUN, *OTHER_FOLDERS) if path.exists()]
    assert bystander.poll() is None
    assert breakable("down").stdout == "testbed is down: nothing to do\n"
    assert json.loads(breakable("status", "--json").stdout)["state"] == "down"


@pytest.mark.parametrize(
    ("programs", "status", "message"),
    [
        ({"id": "echo 0", "munge": "", "srun": ""}, 0, r"already installed \(.+\); nothing to do"),
        ({"id": "echo 1000"}, 2, r"expected root, got user 1000; run: sudo .+"),
        ({"id": "echo 0"}, 2, r"expected Debian or a relative of it, got a system without apt-get; .+"),
    ],
)
def test_install_does_nothing_where_it_need_not_or_cannot(
    tmp_path: Path, programs: dict[str, str], status: int, message: str
) -> None:
    for name, body in {"head": "cat", **programs}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\nPATH=/usr/bin\n{body}\n")
        (tmp_path / name).chmod(0o755)
    for name in ("munged", "slurmctld", "slurmd"):
        if status == 0 and not Path("/usr/sbin", name).exists():
            pytest.skip(f"needs {name}")
    install = subprocess.run(
        ["/bin/sh", str(TESTBED_FOLDER / "install.sh")],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert install.returncode == status
    assert re.fullmatch(f"install.sh: {message}\n", install.stdout + install.stderr)
