# Parsed again in every job: nothing here may import torch, h5py or a case module.
import sys
from pathlib import Path

sys.path.insert(0, str(Path(workflow.basedir) / "src"))

from kilonode import cases as known_cases
from kilonode import config as settings
from kilonode.errors import EXIT_USER, UserError


def checked(function, *arguments):
    """Call; a user's mistakes end Snakemake with their lines and exit code 2, without a traceback."""
    try:
        return function(*arguments)
    except UserError as error:
        print(*error.problems, sep="\n", file=sys.stderr, flush=True)
        sys.exit(EXIT_USER)


checked(
    settings.check,
    config,
    settings.read_yaml(
        Path(workflow.basedir) / "workflow/config/schemas/config.schema.yaml"
    ),
    "--config or --configfile",
)

OWN = config["own_data"]


def mapping(data):
    """What --data takes: the tier, or the mapping file of somebody's own data."""
    return OWN[data]["mapping"] if data in OWN else data


def runs():
    """Every (case, data, task, seed) that was asked for: own data if any is given, else the tier of each case."""
    chosen = config["cases"] or {name: [] for name in known_cases.names()}
    for case, tasks in chosen.items():
        for data in OWN or [config["tier"]]:
            every = checked(settings.resolve, case, mapping(data))["tasks"]
            for task in tasks or every:
                for seed in config["seeds"]:
                    yield f"results/{case}/{data}/{task}/seed-{seed}"


def task_of(wildcards):
    """The resolved configuration of the run's task."""
    return checked(
        settings.task, wildcards.case, mapping(wildcards.data), wildcards.task
    )


def data_argument(wildcards):
    """The --data argument of a verb."""
    return mapping(wildcards.data)


def part(*path):
    """A rule parameter: the digest of one part of the configuration, so that only its rules rerun when it changes."""

    def digest(wildcards):
        filled = [name.format(**dict(wildcards)) for name in path]
        return checked(settings.part, wildcards.case, mapping(wildcards.data), *filled)

    return digest


def store_of(wildcards):
    """Index of the store that the run's task reads."""
    table = task_of(wildcards)["table"]
    return f"results/{wildcards.case}/{wildcards.data}/store/{table}/index.json"


def tuned_folder(wildcards):
    """--tuned of the run's task, if its tier says how many trials; its searches are inputs of `searches`."""
    if not task_of(wildcards).get("tuning", {}).get("trials"):
        return ""
    return f"--tuned results/{wildcards.case}/{wildcards.data}/{wildcards.task}/tuning"


def searches(wildcards):
    """What the searches of the run's task leave behind: of the network, and of its rivals if it has any."""
    folder = tuned_folder(wildcards).removeprefix("--tuned ")
    methods = ["network", *(["baseline"] if "target" in task_of(wildcards) else [])]
    return [f"{folder}/{method}/best.json" for method in methods] if folder else []


wildcard_constraints:
    case="|".join(known_cases.names()),
    data="|".join([*settings.TIERS, *OWN]),
    task="[a-z][a-z0-9_]*",
    table="[a-z][a-z0-9_]*",
    seed="[0-9]+",
