"""Verb ``status``: how far jobs, workflow and trainings are.

From files and ``squeue`` alone, so that it works while accounting is down, after the end of a job, and without Slurm.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from kilonode.errors import UserError
from kilonode.progress import clock
from kilonode.records import Json, finite
from kilonode.slurm import queue, trainings, workflow


def run(folder: Path, json_output: bool) -> None:
    """Print what is known of the workflow in a folder.

    Raises
    ------
    UserError
        There is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"expected a folder, got none ({folder}); name where the workflow runs")
    jobs, unknown = queue.jobs()
    here = str(folder.resolve())
    found: Json = {
        "folder": here,
        "jobs": [vars(job) for job in jobs if job.folder == here],
        "jobs_elsewhere": sum(job.folder != here for job in jobs),
        "jobs_unknown": unknown,
        "workflow": workflow.progress(folder),
        "trainings": trainings.found(folder, time.time()),
    }
    print(json.dumps(finite(found), sort_keys=True) if json_output else "\n".join(_lines(found)))


def _lines(found: Json) -> list[str]:
    return [*_jobs(found), *_workflow(found["workflow"]), *_trainings(found["trainings"])]


def _jobs(found: Json) -> list[str]:
    if found["jobs_unknown"]:
        return [f"jobs: unknown, {found['jobs_unknown']}"]
    elsewhere = f" ({found['jobs_elsewhere']} in other folders)" if found["jobs_elsewhere"] else ""
    lines = [f"jobs: {len(found['jobs'])} of this folder{elsewhere}"]
    for job in found["jobs"]:
        why = f", {job['reason']}" if job["reason"] != "None" else ""
        lines.append(f"  {job['id']} {job['name']}: {job['state']}, {job['nodes']} nodes, {job['left']} left{why}")
    return lines


def _workflow(found: Json | None) -> list[str]:
    if found is None:
        return ["workflow: none has run here"]
    state = "running" if found["running"] else "complete" if found["done"] == found["total"] else "not running"
    lines = [f"workflow: {found['done']} of {found['total']} steps, {state} ({found['log']})"]
    lines += [f"  running: {', '.join(found['running_rules'])}"] if found["running_rules"] else []
    lines += [f"  failed: {', '.join(found['failed_rules'])}"] if found["failed_rules"] else []
    return lines


def _trainings(found: list[Json]) -> list[str]:
    if not found:
        return ["trainings: none"]
    width = max(len(row["run"]) for row in found)
    return ["trainings:", *(f"  {row['run']:<{width}}  {_said(row)}" for row in found)]


def _said(row: Json) -> str:
    parts = [f"{row['state']} ({row['reason']})" if row["reason"] else row["state"]]
    if row["epoch"] is not None:
        parts.append(f"epoch {row['epoch']}" + (f" of {row['epochs']}" if row["epochs"] else ""))
    if row["step"] is not None:
        parts.append(f"step {row['step']}" + (f" of {row['steps']}" if row["steps"] else ""))
    if row["validation_loss"] is not None:
        parts.append(f"validation {row['validation_loss']:.5g}")
    if row["samples_per_s"] is not None:
        parts.append(f"{row['samples_per_s']:.0f} samples/s")
    if row["state"] == "running" and row["left_s"] is not None:
        parts.append(f"at most {clock(row['left_s'])} left")
    return ", ".join([*parts, f"last word {clock(row['age_s'])} ago"])
