"""Verb ``doctor``: start ranks exactly as training would be started, ask each what it sees, say what to change."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kilonode import config
from kilonode.errors import UserError
from kilonode.records import Json, finite
from kilonode.report.run import checkout
from kilonode.slurm import sites
from kilonode.slurm.diagnosis import WRONG, Finding, Reports, diagnose
from kilonode.slurm.probe import MARK


@dataclass(frozen=True)
class Launch:
    """How ranks are started: a line of shell that takes the program as its arguments, and who is to answer."""

    shell: str
    ranks: int
    nodes: int


def run(site: str, patience_s: float, json_output: bool) -> int:
    """Ask every rank of this machine, or of the allocation that this runs in, and print a table.

    Returns
    -------
    int
        1 if something is wrong.
    """
    home, environment = checkout(), _environment()
    launch = plan(home, site, environment)
    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=_writable(Path.cwd())) as folder:
        token = Path(folder) / "token"
        token.touch()
        reports = ask(launch, token, environment, patience_s)
    findings = diagnose(reports)
    if json_output:
        found: Json = {
            "launch": launch.shell,
            "ranks": launch.ranks,
            "nodes": launch.nodes,
            "findings": [vars(finding) for finding in findings],
            "machines": list(reports.machines.values()),
            "mpi": list(reports.mpis.values()),
        }
        print(json.dumps(finite(found), sort_keys=True))
    else:
        print(table(launch, findings))
    return int(any(finding.level == WRONG for finding in findings))


def _environment() -> dict[str, str]:
    """Ours, with this Python's own launcher and programs first."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}


def _writable(folder: Path) -> Path:
    if not os.access(folder, os.W_OK):
        raise UserError(f"expected a folder to write in, got {folder}; go to the folder where the workflow runs")
    return folder


def plan(home: Path, site: str, environment: Mapping[str, str]) -> Launch:
    """How the rule ``train`` would start its ranks here: by the profile and the site's file.

    In an allocation with the profile ``allocation`` (or the site's own), elsewhere with ``local``, and without any
    launcher where there is none.
    """
    name = site or environment.get("KILONODE_SITE", "generic")
    where = sites.read(name, home)
    if "SLURM_JOB_ID" not in environment and "PBS_JOBID" not in environment:
        local = _train(home / "workflow/profiles/local")
        if shutil.which(local.split()[0], path=environment.get("PATH")) is None:
            return Launch('"$@"', 1, 1)
        return Launch(f'{local} "$@"', int(local.split()[-1]), 1)
    profile = "workflow/profiles/pbs" if where.scheduler == "pbs" else "workflow/profiles/allocation"
    file = home / sites.FOLDER / f"{name}.env"
    source = f". {shlex.quote(str(file))} || exit 2"
    told = subprocess.run(
        ["bash", "-c", f'{source}; echo "$SLURM_JOB_NUM_NODES $KILONODE_RANKS_PER_NODE"'],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    words = told.stdout.split()
    if told.returncode != 0 or len(words) != 2 or not all(word.isdecimal() for word in words):
        said = " ".join((told.stdout + told.stderr).split())
        raise UserError(f"expected numbers of nodes and of ranks a node, got {said!r} ({file}); mend the site's file")
    nodes, ranks = map(int, words)
    return Launch(f'{source}; {_train(home / profile)} "$@"', nodes * ranks, nodes)


def _train(profile: Path) -> str:
    """Launcher and layout of the rule ``train`` in a profile, where strings are Python."""
    rule = config.read_yaml(profile / "profile.yaml")["set-resources"]["train"]
    return " ".join(str(ast.literal_eval(rule[part])) for part in ("launch", "layout"))


def ask(launch: Launch, token: Path, environment: Mapping[str, str], patience_s: float) -> Reports:
    """Start the ranks and collect what they tell, for as long as there is patience."""
    program = [sys.executable, "-m", "kilonode.slurm.probe", str(token)]
    child = subprocess.Popen(
        ["bash", "-c", launch.shell, "doctor", *program], env=environment, cwd=token.parents[1], text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    late = False
    try:
        out, err = child.communicate(timeout=patience_s)
    except subprocess.TimeoutExpired:
        late = True
        _end(child)
        out, err = child.communicate()
    except BaseException:
        _end(child)
        raise
    # mpiexec was seen to put lines of two ranks into one
    told = [json.JSONDecoder().raw_decode(part)[0] for part in out.split(MARK)[1:]]
    machines, mpis = ({row["rank"]: row[part] for row in told if part in row} for part in ("machine", "mpi"))
    said = " ".join(" ".join(err.split("\n")[-4:]).split())[-300:]
    return Reports(launch.ranks, launch.nodes, machines, mpis, said, late)


def _end(child: subprocess.Popen[str]) -> None:
    """End the launcher and what it started here: TERM lets srun and mpiexec end their ranks."""
    with contextlib.suppress(ProcessLookupError):  # it may end meanwhile
        os.killpg(child.pid, signal.SIGTERM)
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)


def table(launch: Launch, findings: list[Finding]) -> str:
    """One line a finding, the remedy below what is not good."""
    width = max(len(finding.check) for finding in findings)
    lines = [f"{launch.ranks} ranks on {launch.nodes} nodes, started by: {launch.shell}"]
    for finding in findings:
        lines.append(f"{finding.check:<{width}}  {finding.level:<5}  {finding.seen}")
        if finding.remedy:
            lines.append(f"{'':<{width}}         -> {finding.remedy}")
    wrong = sum(finding.level == WRONG for finding in findings)
    return "\n".join([*lines, f"{wrong} wrong" if wrong else "nothing is wrong"])
