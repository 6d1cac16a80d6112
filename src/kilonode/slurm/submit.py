"""Verb ``submit``: write the allocation of a site, check it against the site's limits, and hand it to the scheduler."""

from __future__ import annotations

import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path

from kilonode.errors import UserError
from kilonode.records import write_text
from kilonode.report.run import checkout
from kilonode.slurm import limits, sites
from kilonode.slurm.batch import Request, text
from kilonode.slurm.queue import jobs
from kilonode.slurm.sites import Site

SUBMIT = {"slurm": ("sbatch", "--parsable"), "pbs": ("qsub",)}
"""The command of each scheduler; it takes the file as its last word and prints the job's number."""


def run(
    site: str,
    nodes: int,
    account: str,
    queue: str,
    minutes: int,
    ranks_per_node: int | None,
    name: str,
    dry_run: bool,
    snakemake: list[str],
) -> None:
    """Submit one allocation that runs the workflow.

    The text that was submitted stays in ``logs/submit/``, beside the results it led to.

    Raises
    ------
    UserError
        A value that the text cannot carry, a limit of the site, or a scheduler that refuses; nothing is left behind.
    """
    home = checkout()
    where = sites.read(site, home)
    request = Request(
        folder=str(home),
        nodes=nodes,
        minutes=minutes,
        ranks_per_node=where.ranks_per_node if ranks_per_node is None else ranks_per_node,
        account=account,
        queue=queue or where.queue,
        name=name,
        options=tuple(snakemake),
    )
    script = text(where, request)
    mine, unknown = ([], "dry run") if dry_run or where.scheduler != "slurm" else jobs()
    found = limits.problems(where, request, mine)
    if found:
        raise UserError(*found)
    if dry_run:
        sys.stdout.write(script)
        return
    if where.retired:
        raise UserError(
            f"expected a system that runs, got {site}, which was retired (--site); --dry-run prints its text"
        )
    if unknown and where.scheduler == "slurm":
        print(f"submit: jobs in the queue were not counted ({unknown})", file=sys.stderr)
    if waits := limits.waits(where, request, mine):
        print(f"submit: {waits}", file=sys.stderr)
    print(f"submit: job {_submit(where, script, home)}, {nodes} nodes of {site}; kilonode status shows how far it is")


def _submit(site: Site, script: str, home: Path) -> str:
    """Write the script, submit it; its job's number."""
    command = SUBMIT[site.scheduler]
    if shutil.which(command[0]) is None:
        raise UserError(
            f"expected {command[0]} to submit with, got none on PATH ({site.name}); go to a login node of it"
        )
    path = home / "logs/submit" / f"{datetime.now():%Y%m%dT%H%M%S.%f}.{site.name}.sh"
    write_text(path, script)
    done = subprocess.run([*command, str(path)], cwd=home, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        path.unlink()
        said = " ".join(done.stderr.split())
        raise UserError(f"expected {command[0]} to take the job, got {said!r}; mend what it says and submit again")
    return done.stdout.strip().partition(";")[0]
