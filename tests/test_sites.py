"""Sites as data: bash and Python read the same file, every rule's layout follows from it, mistakes are told."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

from kilonode import config
from kilonode.errors import UserError
from kilonode.slurm import batch, sites
from kilonode.slurm.batch import Request

REPOSITORY = Path(__file__).resolve().parents[1]
NAMES = sites.names(REPOSITORY)
ALLOCATION = {"SLURM_JOB_NUM_NODES": "4", "SLURM_CPUS_ON_NODE": "8", "PATH": "/usr/bin:/bin"}
FACTS = ("scheduler", "retired", "account", "queue_option", "queue", "queues", "directives")


def sourced(name: str, shell: str, **more: str) -> str:
    """What a line of shell prints after a site's file, in an allocation of four nodes with eight CPUs."""
    file = REPOSITORY / sites.FOLDER / f"{name}.env"
    done = subprocess.run(
        ["bash", "-euc", f'. "{file}"\n{shell}'],
        env={**ALLOCATION, **more},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def layout(name: str, rule: str, **more: str) -> str:
    """How a rule is started at a site, as bash sees it in the end."""
    profile = "pbs" if sites.read(name, REPOSITORY).scheduler == "pbs" else "allocation"
    content = config.read_yaml(REPOSITORY / f"workflow/profiles/{profile}/profile.yaml")["set-resources"][rule]
    words = " ".join(ast.literal_eval(content[part]) for part in ("launch", "layout"))
    return sourced(name, f"echo {words}", **more).strip()


def test_every_promised_site_is_there() -> None:
    promised = "perlmutter-cpu perlmutter-gpu frontier aurora lumi-c lumi-g archer2 juwels-booster generic cori-knl"
    assert set(promised.split()) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_bash_and_python_read_the_same_facts(name: str) -> None:
    site = sites.read(name, REPOSITORY)
    values = sourced(name, "".join(f"printf '%s\\0' \"${{{fact}:-}}\"; " for fact in FACTS)).split("\0")
    facts = dict(zip(FACTS, values, strict=False))
    assert facts["scheduler"] == site.scheduler
    assert (facts["retired"] == "yes") == site.retired
    assert (facts["account"], facts["queue_option"], facts["queue"]) == (site.account, site.queue_option, site.queue)
    assert tuple(sites.rows(facts["directives"])) == site.directives
    assert [row.split()[0] for row in sites.rows(facts["queues"])] == [queue.name for queue in site.queues]
    ranks, cpus = sourced(name, "echo $KILONODE_RANKS_PER_NODE $KILONODE_CPUS_PER_NODE").split()
    assert int(ranks) == site.ranks_per_node
    assert int(cpus) == (site.cpus_per_node or 8)


@pytest.mark.parametrize("name", NAMES)
def test_a_site_names_its_sources_and_what_nobody_has_proven(name: str) -> None:
    head = (REPOSITORY / sites.FOLDER / f"{name}.env").read_text().partition("scheduler=")[0]
    assert re.search(r"Proven on the testbed|Nothing\s+(# )?here\s+(# )?has run\s+(# )?there|Retired", head)
    assert name == "generic" or re.search(r"read 20\d\d-\d\d|of June 2021", head)


def test_every_site_has_its_section_in_the_docs() -> None:
    sections = re.findall(r"^### (\S+)$", (REPOSITORY / "docs/slurm.md").read_text(), re.MULTILINE)
    assert sorted(sections) == NAMES


def test_the_docs_show_the_text_that_is_submitted() -> None:
    shown = (REPOSITORY / "docs/slurm.md").read_text().partition("```\n#!/bin/bash\n")[2].partition("```")[0]
    request = Request("/pscratch/me/kilonode", 1024, 60, 2, "m0000", "regular")
    assert batch.text(sites.read("perlmutter-cpu", REPOSITORY), request) == f"#!/bin/bash\n{shown}"


@pytest.mark.parametrize("name", NAMES)
def test_the_queue_it_takes_is_among_those_it_knows(name: str) -> None:
    site = sites.read(name, REPOSITORY)
    assert site.queue in {queue.name for queue in site.queues} or not site.queues
    assert all(queue.most is None or queue.fewest <= queue.most for queue in site.queues)


@pytest.mark.parametrize("name", NAMES)
def test_ranks_fit_into_the_cpus_of_a_node(name: str) -> None:
    site = sites.read(name, REPOSITORY)
    words = layout(name, "train")
    cpus, nodes = site.cpus_per_node or 8, 4
    each = cpus // site.ranks_per_node
    if site.scheduler == "slurm":
        assert words.startswith("srun --mpi=")
        assert words.endswith(f" --kill-on-bad-exit=1 -N {nodes} -n {nodes * site.ranks_per_node} -c {each}")
        assert layout(name, "evaluate") == f"srun -N 1 -n 1 -c {cpus}"
    else:
        assert words.endswith(f"-n {nodes * site.ranks_per_node} -ppn {site.ranks_per_node} --depth {each}")


@pytest.mark.parametrize("name", NAMES)
def test_a_request_may_ask_for_other_ranks(name: str) -> None:
    assert re.search(r" -n 4 ", layout(name, "train", KILONODE_RANKS_PER_NODE="1"))


def test_pbs_runs_one_step_at_a_time() -> None:
    """Its mpiexec would put two steps on the same first nodes."""
    assert config.read_yaml(REPOSITORY / "workflow/profiles/pbs/profile.yaml")["cores"] == 1


GOOD = "scheduler=slurm\nexport KILONODE_RANKS_PER_NODE=1\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + "direktives=x\n", "got 'direktives' (.*); did you mean 'directives'?"),
        (GOOD + 'queue="$HOME"\n', "expected a literal, got '$HOME'"),
        (GOOD + 'queues="\nregular many 48h - -\n"\n', "got 'regular many 48h - -'"),
        (GOOD.replace("slurm", "lsf"), "expected scheduler=slurm|pbs, got 'lsf'"),
        ("scheduler=slurm\n", "expected export KILONODE_RANKS_PER_NODE=<number>, got none"),
    ],
)
def test_a_mistake_in_a_sites_file_is_told(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / sites.FOLDER / "mine.env"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    with pytest.raises(UserError, match=re.escape(said).replace(r"\(\.\*\)", r"\(.*\)")):
        sites.read("mine", tmp_path)


def test_a_site_of_ones_own_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / sites.FOLDER / "mine.env"
    file.parent.mkdir(parents=True)
    file.write_text(GOOD + 'account="p_*"  # ours\nqueues="\nlong 1-8 2d 5 -   # a comment\n"\n')
    site = sites.read("mine", tmp_path)
    assert (site.account, site.cpus_per_node) == ("p_*", None)
    assert site.queues == (sites.Queue("long", 1, 8, 2880, 5, None),)


def test_an_unknown_site_gets_the_near_one() -> None:
    with pytest.raises(UserError, match="did you mean 'archer2'"):
        sites.read("archr2", REPOSITORY)
