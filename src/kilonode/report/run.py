"""Verb ``run``: a thin front to snakemake. It prints the command it runs; whoever outgrows it types that command."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from kilonode import cases, config
from kilonode.errors import UserError, near
from kilonode.records import Json, write_json

STAGES = ("simulate", "ingest", "preprocess", "tune", "train", "evaluate", "explain", "gather", "report")


def run(
    case: str | None,
    task: list[str],
    tier: str,
    data: Path | None,
    input: Path | None,
    seeds: int,
    profile: str,
    until: str | None,
    force: list[str],
    dry_run: bool,
    snakemake: list[str],
) -> int:
    """Build part of the workflow.

    Returns
    -------
    int
        Snakemake's exit status.
    """
    home = checkout()
    settings = selection(case, task, tier, data, input, seeds)
    command = [
        _snakemake(), "--snakefile", str(home / "Snakefile"), "--workflow-profile", str(_profile(home, profile)),
    ]  # fmt: skip
    page = directory(snakemake) / settings["report"]
    chosen = page.with_name("run.json")  # stands beside the results it led to
    write_json(chosen, settings)
    command += ["--configfile", str(chosen)]
    for name in [*force, *([until] if until else [])]:
        if name not in STAGES:
            raise UserError(f"expected a stage, got {name!r} (--until, --force); {near(name, STAGES)}")
    command += ["--until", until] if until else []
    command += ["--forcerun", *force] if force else []
    command += ["--dry-run"] if dry_run else []
    command += snakemake
    # mpiexec, kilonode and snakemake of this environment, also when it was not activated
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    if not dry_run:
        _check_launchers(home, profile, path)
    print(shlex.join(command), flush=True)
    if not dry_run and "executor" in config.read_yaml(_profile(home, profile) / "profile.yaml"):
        # Its jobs outlive a head that is killed: the next one ends them before it goes on.
        command = [sys.executable, "-m", "kilonode.slurm.head", *command[1:]]
    status = subprocess.run(command, env={**os.environ, "PATH": path}, check=False).returncode
    if status == 0 and not dry_run and not until:
        print(f"report: {page.resolve()}")
    return status


def directory(words: list[str]) -> Path:
    """Where Snakemake will work: what its own ``--directory`` says, whole because it is read from there, or here."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--directory", "-d", type=Path)
    named: Path | None = parser.parse_known_args(words)[0].directory
    return named.resolve() if named else Path()


def selection(case: str | None, task: list[str], tier: str, data: Path | None, input: Path | None, seeds: int) -> Json:
    """The workflow configuration of one case on one data set; everything is checked before anything runs."""
    if (data is None) != (input is None):
        raise UserError("expected --data MAPPING and --input FILE together, got one of them")
    if data is not None and input is not None:
        mapping = config.read_yaml(data)
        config.check(mapping, config.schema("mapping"), data)
        case = case or str(mapping["case"])
        if not input.exists():
            raise UserError(f"expected a file, got nothing ({input}); check --input")
    if case is None:
        raise UserError(f"expected --case NAME or --data MAPPING, got neither; cases: {', '.join(cases.names())}")
    where = str(data.resolve()) if data is not None else tier
    resolved = config.resolve(case, where)
    for name in task:
        config.task(case, where, name)
    name = resolved["data"]
    own = {name: {"mapping": where, "input": str(input.resolve())}} if input is not None else {}
    return {
        "tier": tier,
        "cases": {case: task or list(resolved["tasks"])},
        "own_data": own,
        "seeds": list(range(seeds)),
        "report": f"results/{case}/{name}/report.html",
    }


def checkout() -> Path:
    """The folder of the Snakefile: the working directory, or the checkout this package was installed from."""
    for folder in (Path.cwd(), Path(__file__).resolve().parents[3]):
        if (folder / "Snakefile").is_file() and (folder / "workflow").is_dir():
            return folder
    raise UserError("expected the Snakefile, got none; run inside a checkout of kilonode")


def _profile(home: Path, name: str) -> Path:
    known = sorted(path.parent.name for path in (home / "workflow" / "profiles").glob("*/profile.yaml"))
    if name not in known:
        raise UserError(f"expected a profile, got {name!r} (--profile); {near(name, known)}")
    return home / "workflow" / "profiles" / name


def _check_launchers(home: Path, profile: str, path: str) -> None:
    """Every launcher the profile names must be there before the first job starts."""
    rules = config.read_yaml(_profile(home, profile) / "profile.yaml").get("set-resources", {})
    named = {str(rule["launch"]).strip("'").split(" ")[0] for rule in rules.values() if rule.get("launch")}
    missing = sorted(name for name in named if name and shutil.which(name, path=path) is None)
    if missing:
        raise UserError(
            f"expected {', '.join(missing)} to start ranks with, got none on PATH (profile {profile}); "
            "run `make env`, load your system's MPI or Slurm, or choose another --profile"
        )


def _snakemake() -> str:
    beside = Path(sys.executable).with_name("snakemake")
    found = str(beside) if beside.exists() else shutil.which("snakemake")
    if found is None:
        raise UserError("expected snakemake, got none on PATH; run `make env`")
    return found
