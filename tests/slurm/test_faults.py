"""Whatever breaks, the training ends with the weights of a run that nothing disturbed, bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import small_train
from small_faults import Allocation, job_state, output, restarts, wait_for

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(400)]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def undisturbed(toy: Path, mpiexec: Run, kilonode: Run, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Weights of two local ranks, without Slurm."""
    here = small_train.here(toy)
    state = tmp_path_factory.mktemp("undisturbed") / "state"
    done = mpiexec(2, *here.command(state))
    assert done.returncode == 0, done.stderr
    weights = state.with_name("w.safetensors")
    paths = ("--state", state, "--weights", weights, "--metrics", state.with_name("m.json"))
    assert kilonode("finish", *paths).returncode == 0
    return weights.read_bytes()


@pytest.fixture
def allocation(testbed: Run, toy: Path, tmp_path: Path) -> Iterator[Allocation]:
    wait_for(lambda: json.loads(testbed("status", "--json").stdout)["idle"] == 4, 60)
    yield Allocation.make(tmp_path, toy)
    subprocess.run(["scancel", "--user=root"], check=False)  # what a test that failed has left
    wait_for(lambda: not output("squeue", "--noheader"), 60)


@pytest.fixture
def proven(allocation: Allocation, undisturbed: bytes, capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """``proven("what was broken")``: the weights are identical, and both are said."""

    def prove(broken: str) -> None:
        digest = allocation.sha256()
        assert allocation.weights.read_bytes() == undisturbed, broken
        assert allocation.status()["status"] == "complete"
        with capsys.disabled():
            print(f"\nbroke: {broken}\n  weights identical to the undisturbed run: sha256 {digest[:16]}...")

    return prove


def test_a_second_head_is_refused_while_the_first_lives(allocation: Allocation, proven: Callable[[str], None]) -> None:
    first = allocation.begin()
    second = allocation.submit()
    assert allocation.end(second) == "FAILED"
    said = (allocation.folder / f"slurm-{second}.out").read_text()
    assert "expected no other head in this folder, got process " in said
    assert job_state(first) == "RUNNING"
    assert allocation.end(first) == "COMPLETED"
    proven("nothing: a second head in the same folder, which refused")


def head_of(allocation: Allocation) -> int:
    pid: int = json.loads((allocation.folder / ".snakemake/kilonode-head.json").read_text())["pid"]
    return pid


@pytest.mark.parametrize("whom", ["snakemake", pytest.param("head", marks=pytest.mark.long)])
def test_a_killed_head_is_succeeded(whom: str, allocation: Allocation, proven: Callable[[str], None]) -> None:
    job = allocation.begin()
    head = head_of(allocation)
    child = int(output("ps", "-o", "pid=", "--ppid", str(head)).split()[0])
    for pid in (child,) if whom == "snakemake" else (head, child):
        os.kill(pid, signal.SIGKILL)
    assert allocation.end(job) == "COMPLETED", allocation.logs()
    said = (allocation.folder / f"slurm-{job}.out").read_text()
    assert "the head was killed (exit status 137); starting it again" in said
    assert restarts(job) == 0
    proven(f"{whom} killed (SIGKILL) in mid-training; its allocation went on")


@pytest.mark.long
def test_a_killed_head_of_submit_mode_is_succeeded(allocation: Allocation, proven: Callable[[str], None]) -> None:
    """Its job would go on and write where the next one writes."""
    allocation.plan(0.4)
    command, environment = allocation.submit_mode, allocation.environment
    with subprocess.Popen(command, cwd=allocation.folder, env=environment, stderr=subprocess.PIPE) as first:
        allocation.has_begun()
        child = int(output("ps", "-o", "pid=", "--ppid", str(first.pid)).split()[0])
        for pid in (first.pid, child):
            os.kill(pid, signal.SIGKILL)
    (job,) = output("squeue", "--noheader", "--format=%i").split()
    assert job_state(job) == "RUNNING"
    done = subprocess.run(command, cwd=allocation.folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"head: process {first.pid} (job none) ended before its work; going on" in done.stderr
    assert job_state(job) != "RUNNING"
    proven(f"the head of submit mode killed (SIGKILL); its job {job} was saved and succeeded")


@pytest.mark.long
def test_the_time_limit_is_no_end(allocation: Allocation, proven: Callable[[str], None]) -> None:
    allocation.plan(step_s=4.0)
    job = allocation.submit("--time=2", "--signal=B:USR1@80")
    wait_for(allocation.stopped, 120, allocation.logs)
    allocation.plan()
    stopped = allocation.status()
    assert stopped["reason"] in ("SIGUSR1", "time limit")
    assert allocation.end(job) == "COMPLETED", allocation.logs()
    assert restarts(job) >= 1
    proven(f"the time limit, two minutes: step {stopped['step']}, {stopped['reason']}; requeued {restarts(job)} times")


@pytest.mark.long
def test_a_preempted_training_waits_and_goes_on(allocation: Allocation, proven: Callable[[str], None]) -> None:
    output("scontrol", "create", "PartitionName=urgent", "Nodes=ALL", "PriorityTier=10")
    try:
        job = allocation.begin()
        output("sbatch", "-N4", "--exclusive", "--partition=urgent", "--output=/dev/null", "--wrap=sleep 1")
        wait_for(lambda: restarts(job) == 1, 60, allocation.logs)
        assert allocation.end(job) == "COMPLETED", allocation.logs()
    finally:
        wait_for(lambda: not output("squeue", "--noheader", "--partition=urgent"), 60)
        output("scontrol", "delete", "PartitionName=urgent")
    proven("preempted by a job of a higher partition, requeued")


@pytest.mark.long
@pytest.mark.parametrize("which", [0, 1])
def test_a_dead_node_costs_the_steps_since_the_checkpoint(
    which: int, testbed: Run, allocation: Allocation, proven: Callable[[str], None]
) -> None:
    """The first node of a job is that of its head."""
    job = allocation.begin()
    node = output(
        "scontrol", "show", "hostnames", output("squeue", "--noheader", f"--jobs={job}", "--format=%N").strip()
    )
    node = node.split()[which]
    try:
        said = testbed("kill", node).stdout
        assert said.startswith(f"killed {node}, "), said
        # slurmctld would find out in 61 s
        output("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=killed")
        wait_for(lambda: restarts(job) == 1, 120, allocation.logs)
        assert allocation.end(job) == "COMPLETED", allocation.logs()
    finally:
        testbed("start", node)
        subprocess.run(["scontrol", "update", f"NodeName={node}", "State=RESUME"], check=False)
    proven(f"{said.strip()}; requeued on other nodes")


@pytest.mark.long
def test_slurmctld_may_restart(testbed: Run, allocation: Allocation, proven: Callable[[str], None]) -> None:
    job = allocation.begin()
    assert testbed("kill", "slurmctld").returncode == 0
    time.sleep(3)
    started = testbed("start", "slurmctld")
    assert started.returncode == 0, started.stderr
    assert allocation.end(job) == "COMPLETED", allocation.logs()
    assert restarts(job) == 0
    proven("slurmctld killed and started again after 3 s; the training did not notice")


@pytest.mark.long
def test_accounting_may_be_absent(allocation: Allocation, proven: Callable[[str], None]) -> None:
    asked = subprocess.run(["sacct"], capture_output=True, text=True, check=False)
    assert asked.returncode != 0
    allocation.plan()
    command = allocation.submit_mode
    done = subprocess.run(
        command, cwd=allocation.folder, env=allocation.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    proven(f"nothing: there is no accounting ({asked.stderr.strip()}); submit mode asked squeue")


@pytest.mark.long
def test_a_cancelled_training_can_be_continued(allocation: Allocation, proven: Callable[[str], None]) -> None:
    job = allocation.begin()
    output("scancel", job)
    wait_for(allocation.stopped, 60, allocation.logs)
    stopped = allocation.status()
    assert (stopped["reason"], allocation.end(job)) == ("SIGTERM", "CANCELLED")
    assert not allocation.weights.exists()
    assert allocation.end(allocation.submit()) == "COMPLETED", allocation.logs()
    proven(f"scancel, at step {stopped['step']} of 48; submitted again")
