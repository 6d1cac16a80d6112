"""A training inside an allocation on the testbed that lasts long enough to be broken, and what came of it.

The rule ``train`` and the allocation are the real ones; of the training only the network is tiny and some steps wait.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import small_train

REPOSITORY = Path(__file__).resolve().parents[1]
RUN = Path("results/reactor_neutrinos/toy/autoencoder/seed-0")
CASES = json.dumps({"reactor_neutrinos": ["autoencoder"]})
WORDS = ("--until", "train", "--config", "tier=toy", "report=results/report.html", f"cases={CASES}")
# In the environment of every job, so that the rule finds this one: the real verbs, with what the plan adds.
KILONODE = f"""#!/bin/bash
exec {sys.executable} {REPOSITORY}/tests/small_train.py "$(cat "$KILONODE_TEST_PLAN")" "$@"
"""


def output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def wait_for(condition: Callable[[], object], seconds: float, what: Callable[[], str] = lambda: "") -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s: {what()}"
        time.sleep(0.2)


@dataclass
class Allocation:
    """A folder where a training is all that is left to do, and jobs that do it."""

    folder: Path
    batch: int

    @classmethod
    def make(cls, folder: Path, toy: Path) -> Allocation:
        for name in ("Snakefile", "workflow", "slurm", "src"):
            (folder / name).symlink_to(REPOSITORY / name)
        shutil.copytree(toy, folder / RUN.parents[1])
        (folder / "bin").mkdir()
        (folder / "bin/kilonode").write_text(KILONODE)
        (folder / "bin/kilonode").chmod(0o755)
        return cls(folder, small_train.here(toy).batch)

    @property
    def environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(self.folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
        return {
            **os.environ,
            "PATH": path,
            "KILONODE_TEST_PLAN": str(self.folder / "plan.json"),
            "OMP_NUM_THREADS": "1",
        }

    @property
    def state(self) -> Path:
        return self.folder / RUN / "state"

    @property
    def weights(self) -> Path:
        return self.folder / RUN / "weights.safetensors"

    def plan(self, step_s: float = 0.0) -> None:
        """From now on every training that starts waits so long at each step of its second epoch."""
        steps = range(small_train.STEPS, 2 * small_train.STEPS) if step_s else ()
        # the first one longer: after it ranks ask one another after every step
        waits = [{"at": f"step {k}", "what": f"sleep {step_s if k % small_train.STEPS else 3.2}"} for k in steps]
        content = {"settings": {"training": {"batch": self.batch}}, "mishaps": waits}
        (self.folder / "plan.json").write_text(json.dumps(content))

    def submit(self, *options: str) -> str:
        """Number of a job of two nodes that trains."""
        command = ["sbatch", "--parsable", "-N2", "--time=10", *options, "slurm/allocation.sbatch", *WORDS]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @property
    def submit_mode(self) -> list[str]:
        """A head of submit mode that trains on two nodes."""
        # all of it: what is given here replaces the profile's whole block
        two = (
            *("train:nodes=2", "train:tasks=2", "train:cpus_per_task=8", "train:mpi='yes'"),
            "train:launch='srun --mpi=pmi2 --kill-on-bad-exit=1'",
            "train:layout='-N 2 -n 2 -c 8'",
        )
        profile = f"--workflow-profile={REPOSITORY}/workflow/profiles/slurm"
        quick = (
            "--slurm-no-account",
            "--slurm-init-seconds-before-status-checks=2",
            "--seconds-between-status-checks=2",
        )
        head = [sys.executable, "-m", "kilonode.slurm.head"]
        return [*head, profile, *quick, "--latency-wait=5", "--set-resources", *two, *WORDS]

    def begin(self, *options: str, step_s: float = 0.4) -> str:
        """The same, and wait until it is in the midst of its second epoch."""
        self.plan(step_s)
        job = self.submit(*options)
        self.has_begun()
        return job

    def has_begun(self) -> None:
        """Wait for the second epoch; whatever starts later does not linger."""
        wait_for(lambda: (self.state / "metrics.jsonl").exists(), 90, self.logs)
        self.plan()

    def end(self, job: str, seconds: float = 150) -> str:
        """Wait until a job has ended for good; its last state."""
        wait_for(lambda: job_state(job) in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"), seconds, self.logs)
        return job_state(job)

    def status(self) -> dict[str, Any]:
        return small_train.status(self.state)

    def stopped(self) -> bool:
        return (self.state / "status.json").exists() and self.status()["status"] == "stopped"

    def logs(self) -> str:
        texts = [path.read_text(errors="replace")[-3000:] for path in sorted(self.folder.glob("slurm-*.out"))]
        return "\n".join([*texts, output("squeue", "--format=%i %T %r %N"), output("sinfo", "-N", "--format=%N %T")])

    def sha256(self) -> str:
        assert self.weights.exists(), self.logs()
        return hashlib.sha256(self.weights.read_bytes()).hexdigest()


def job_state(job: str) -> str:
    """As slurmctld remembers it for some minutes."""
    done = subprocess.run(["scontrol", "-o", "show", "job", job], capture_output=True, text=True, check=False)
    words = dict(word.partition("=")[::2] for word in done.stdout.split() if "=" in word)
    return words.get("JobState", "unknown")


def restarts(job: str) -> int:
    words = dict(word.partition("=")[::2] for word in output("scontrol", "-o", "show", "job", job).split())
    return int(words["Restarts"])
