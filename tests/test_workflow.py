"""The workflow: rules are verbs, profiles plan; a toy run is complete, repeated idle, changed redone where it must."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from kilonode import config
from kilonode.cli import VERBS
from kilonode.report.run import STAGES

REPOSITORY = Path(__file__).resolve().parents[1]
RULES = sorted((REPOSITORY / "workflow/rules").glob("*.smk"))
PROFILES = sorted(path.parent.name for path in (REPOSITORY / "workflow/profiles").glob("*/profile.yaml"))
ALLOCATION = {"SLURM_JOB_NUM_NODES": "4", "SLURM_CPUS_ON_NODE": "8"}


def environment() -> dict[str, str]:
    return {**os.environ, **ALLOCATION, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def call(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)


def snakemake(folder: Path, *options: str, home: Path = REPOSITORY, profile: str = "local") -> str:
    done = call(
        "snakemake",
        f"--snakefile={home}/Snakefile",
        f"--workflow-profile={home}/workflow/profiles/{profile}",
        *options,
        folder=folder,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    return done.stdout + done.stderr


def planned(said: str) -> dict[str, int]:
    """Jobs of each rule in a dry run."""
    return {rule: int(count) for rule, count in re.findall(r"^([a-z]+) +(\d+)$", said, re.MULTILINE)}


def rules() -> dict[str, str]:
    text = "\n".join(path.read_text() for path in RULES)
    parts = re.split(r"^ *rule (\w+):$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_working_rules_are_verbs_and_stages() -> None:
    assert set(rules()) == set(STAGES)
    assert set(STAGES) < set(VERBS)


@pytest.mark.parametrize("name", STAGES)
def test_every_rule_has_log_and_benchmark_and_names_no_launcher(name: str) -> None:
    body = rules()[name]
    assert "log:" in body
    assert "benchmark:" in body
    assert f"kilonode {name}" in body
    assert not re.search(r"srun|mpiexec|mpirun|aprun", body)


def test_parsing_imports_neither_torch_nor_h5py(tmp_path: Path) -> None:
    done = call(
        sys.executable, "-X", "importtime", "-m", "snakemake", f"--snakefile={REPOSITORY}/Snakefile", "--dry-run",
        "--quiet", folder=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "import time" in line}
    assert "kilonode.config" in imported
    assert imported.isdisjoint({"torch", "h5py", "sklearn", "matplotlib", "mpi4py", "horovod"})


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_plans_the_demo(profile: str, tmp_path: Path) -> None:
    jobs = planned(snakemake(tmp_path, "--dry-run", profile=profile))
    tasks = {case: len(config.resolve(case, "demo")["tasks"]) for case in config.cases.names()}  # type: ignore[attr-defined]
    assert jobs["simulate"] == len(tasks)
    assert jobs["train"] == jobs["evaluate"] == jobs["explain"] == sum(tasks.values())
    assert jobs["gather"] == jobs["report"] == 1


@pytest.mark.parametrize("name", ["demo", "ci", "article"])
def test_every_configuration_plans(name: str, tmp_path: Path) -> None:
    said = snakemake(tmp_path, "--dry-run", f"--configfile={REPOSITORY}/workflow/config/{name}.yaml")
    assert planned(said)["report"] == 1


def test_mpi_layouts_agree_with_nodes_and_tasks() -> None:
    for profile in PROFILES:
        content = config.read_yaml(REPOSITORY / f"workflow/profiles/{profile}/profile.yaml")
        for rule, resources in content["set-resources"].items():
            if "layout" not in resources or "srun" not in resources["launch"]:
                continue
            nodes, tasks = re.search(r"-N (\S+) -n (\S+) -c ", resources["layout"]).groups()  # type: ignore[union-attr]
            assert str(resources["nodes"]) == nodes, (profile, rule)
            assert str(resources.get("tasks", tasks)) == tasks, (profile, rule)


def test_lint_finds_nothing_but_missing_containers() -> None:
    done = call("snakemake", "--lint", folder=REPOSITORY)
    titles = re.findall(r"^    \* (.*?):?$", done.stdout + done.stderr, re.MULTILINE)
    # One environment for all (envs/), and common.smk is where functions belong.
    alone = "Specify a conda environment or container for each rule."
    assert alone in titles
    assert set(titles) <= {alone, "Mixed rules and functions in same snakefile."}


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("tier=tiny", "expected tier to be valid, got 'tiny'"),
        ("teir=toy", "got 'teir'"),
        ('cases={"reactor_neutrino": []}', "did you mean 'reactor_neutrinos'?"),
        ('cases={"reactor_neutrinos": ["autoencodr"]}', "did you mean 'autoencoder'?"),
    ],
)
def test_a_mistake_in_the_configuration_ends_with_its_line(option: str, said: str, tmp_path: Path) -> None:
    done = call("snakemake", f"--snakefile={REPOSITORY}/Snakefile", "-n", "--config", option, folder=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--case", "reactor_neutrino"], "did you mean 'reactor_neutrinos'?"),
        (["--case", "reactor_neutrinos", "--task", "classifer"], "did you mean 'classifier'?"),
        (["--case", "reactor_neutrinos", "--profile", "locl"], "did you mean 'local'?"),
        (["--case", "reactor_neutrinos", "--until", "trian"], "did you mean 'train'?"),
        (["--data", "mapping.yaml"], "expected --data MAPPING and --input FILE together"),
        ([], "expected --case NAME or --data MAPPING"),
    ],
)
def test_a_mistake_at_the_front_ends_with_one_line(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = call("kilonode", "run", "--dry-run", *arguments, folder=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_missing_launcher_ends_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "workflow/profiles/odd").mkdir(parents=True)
    (tmp_path / "Snakefile").touch()
    launch = "set-resources: {train: {launch: \"'no-such-launcher -n 2'\"}}\n"
    (tmp_path / "workflow/profiles/odd/profile.yaml").write_text(launch)
    done = call("kilonode", "run", "--case", "reactor_neutrinos", "--profile", "odd", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("kilonode: expected no-such-launcher to start ranks with, got none on PATH")
    assert len(done.stderr.splitlines()) == 1


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of its own, so that a test may edit case.yaml; with a space in its path."""
    home = tmp_path_factory.mktemp("check out")
    for name in ("src", "workflow"):
        shutil.copytree(REPOSITORY / name, home / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(REPOSITORY / "Snakefile", home)
    return home


@pytest.fixture(scope="module")
def toy_run(checkout: Path) -> Path:
    """A whole toy run of one task through `kilonode run`; its folder."""
    done = call(
        "kilonode", "run", "--case", "reactor_neutrinos", "--task", "classifier", "--tier", "toy", folder=checkout
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-5000:]
    assert done.stdout.splitlines()[0].startswith(str(Path(sys.executable).with_name("snakemake")))
    assert done.stdout.splitlines()[-1] == f"report: {checkout}/results/reactor_neutrinos/toy/report.html"
    return checkout / "results/reactor_neutrinos/toy"


CHOSEN = "--configfile=results/reactor_neutrinos/toy/run.json"


@pytest.mark.slow
def test_the_page_stands_alone(toy_run: Path) -> None:
    page = (toy_run / "report.html").read_text()
    assert "simulation" in page
    run = toy_run / "classifier/seed-0"
    drawn = {"learning_curve", *(["tsne"] if (run / "maps.h5").exists() else [])}  # by the page itself
    assert page.count("<img src=") == len({path.stem for path in (run / "figures").glob("*.png")} - drawn)
    assert re.findall(r"(?:src|href)=\"(?!data:|#)[^\"]*\"", page) == []


@pytest.mark.slow
def test_every_record_has_the_shape_of_a_bench(toy_run: Path) -> None:
    folder = toy_run / "classifier/seed-0"
    for name in ("metrics", "evaluation", "explanation"):
        record = json.loads((folder / f"{name}.json").read_text())
        bench = {key: record[key] for key in ("bench", "figures", "conditions")}
        jsonschema.validate(bench, config.schema("bench"))
    said = call("kilonode", "bench", "demo", "--json", "--summary", str(toy_run / "summary.json"), folder=toy_run)
    assert said.returncode == 0, said.stderr
    found = json.loads(said.stdout)
    jsonschema.validate(found, config.schema("bench"))
    assert any(row["metric"] == "accuracy" and row["method"] == "network" for row in found["figures"])


@pytest.mark.slow
def test_a_second_run_does_nothing(toy_run: Path, checkout: Path) -> None:
    assert "Nothing to be done" in snakemake(checkout, CHOSEN, home=checkout)


@pytest.mark.slow
def test_a_learning_rate_reruns_training_and_what_follows_only(toy_run: Path, checkout: Path) -> None:
    case = checkout / "src/kilonode/cases/reactor_neutrinos/case.yaml"
    before = case.read_text()
    case.write_text(re.sub(r"\n      lr: \S+", "\n      lr: 2.0e-3", before))
    try:
        assert case.read_text() != before
        jobs = planned(snakemake(checkout, CHOSEN, "--dry-run", home=checkout))
    finally:
        case.write_text(before)
    assert jobs == {"train": 1, "evaluate": 1, "explain": 1, "gather": 1, "report": 1, "all": 1, "total": 6}


@pytest.mark.slow
def test_snakemake_reports_every_figure(toy_run: Path, checkout: Path) -> None:
    snakemake(checkout, CHOSEN, "--report", "report.zip", home=checkout)
    assert (checkout / "report.zip").stat().st_size > 100_000
