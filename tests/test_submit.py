"""The batch text is a pure function that no value can break; limits are checked first; nothing is half submitted."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kilonode import cli
from kilonode.errors import UserError
from kilonode.slurm import batch, limits, sites
from kilonode.slurm.batch import Request
from kilonode.slurm.queue import Job

REPOSITORY = Path(__file__).resolve().parents[1]
REQUEST = Request(folder="/scratch/me", nodes=4, minutes=60, ranks_per_node=2, account="m0000", queue="regular")
PERLMUTTER = sites.read("perlmutter-cpu", REPOSITORY)
HOSTILE = [
    "a b",
    "it's",
    'say "x"',
    "$(touch HERE)",
    "`touch HERE`",
    "a;touch HERE",
    "a|b&c",
    "*",
    "~",
    "-x",
    "\\",
    "é",
]


def test_the_text_of_a_slurm_site_line_by_line() -> None:
    request = Request("/pscratch/me/kilo node", 1024, 360, 2, "m0000", "regular", "run1", ("--config", "tier=article"))
    assert batch.text(PERLMUTTER, request).splitlines() == [
        "#!/bin/bash",
        "#SBATCH --job-name=run1",
        "#SBATCH --account=m0000",
        "#SBATCH --qos=regular",
        "#SBATCH --nodes=1024",
        "#SBATCH --ntasks-per-node=2",
        "#SBATCH --time=360",
        "#SBATCH --exclusive",
        "#SBATCH --signal=B:USR1@632",
        "#SBATCH --open-mode=append",
        "#SBATCH --requeue",
        "#SBATCH --output=slurm-%j.out",
        "#SBATCH --constraint=cpu",
        "#SBATCH --licenses=scratch,cfs",
        "cd '/pscratch/me/kilo node' || exit 2",
        "export KILONODE_SITE=perlmutter-cpu KILONODE_RANKS_PER_NODE=2",
        'export SLURM_SUBMIT_DIR="$PWD"',
        "exec bash slurm/allocation.sbatch --config tier=article",
    ]


def test_the_text_of_a_pbs_site_line_by_line() -> None:
    request = Request("/flare/me", 600, 605, 2, "proj", "prod")
    assert batch.text(sites.read("aurora", REPOSITORY), request).splitlines() == [
        "#!/bin/bash",
        "#PBS -N kilonode",
        "#PBS -A proj",
        "#PBS -q prod",
        "#PBS -l select=600",
        "#PBS -l walltime=10:05:00",
        "#PBS -j oe",
        "#PBS -l place=scatter",
        "#PBS -l filesystems=home:flare",
        "cd /flare/me || exit 2",
        "export KILONODE_SITE=aurora KILONODE_RANKS_PER_NODE=2",
        'export SLURM_SUBMIT_DIR="$PWD"',
        "exec bash slurm/allocation.sbatch",
    ]


@pytest.mark.parametrize("name", sites.names(REPOSITORY))
def test_every_site_has_a_text_that_bash_reads(name: str) -> None:
    site = sites.read(name, REPOSITORY)
    text = batch.text(site, replace(REQUEST, queue=site.queue))
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0
    mark = "#SBATCH" if site.scheduler == "slurm" else "#PBS"
    lines = text.splitlines()
    directives = [line for line in lines if line.startswith("#")][1:]
    assert all(line.startswith(f"{mark} -") for line in directives)
    assert lines[1 : 1 + len(directives)] == directives  # the scheduler reads none after the first command
    assert all(f"{mark} {line}" in directives for line in site.directives)


def executed(folder: Path, options: tuple[str, ...]) -> tuple[str, ...]:
    """Run the text with a stand-in for allocation.sbatch; the words that it got."""
    (folder / "slurm").mkdir(parents=True)
    (folder / "slurm/allocation.sbatch").write_text('printf "%s\\0" "$PWD" "$@"')
    text = batch.text(PERLMUTTER, replace(REQUEST, folder=str(folder), options=options))
    done = subprocess.run(["bash"], input=text.encode(), cwd="/", capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return tuple(os.fsdecode(word) for word in done.stdout.split(b"\0")[:-1])


@pytest.mark.parametrize("word", HOSTILE)
def test_hostile_words_survive_unharmed(word: str, tmp_path: Path) -> None:
    folder = tmp_path / f"p {word}"
    assert executed(folder, (word, f"--config=a={word}")) == (str(folder), word, f"--config=a={word}")
    assert not list(tmp_path.rglob("HERE"))


@settings(max_examples=40)
@given(
    name=st.text(st.characters(exclude_characters="/", exclude_categories=("C", "Z")), min_size=1, max_size=20),
    words=st.lists(st.text(st.characters(exclude_categories=("C",)), max_size=20), max_size=3),
)
def test_any_text_survives_unharmed_or_is_refused(name: str, words: list[str]) -> None:
    with tempfile.TemporaryDirectory() as home:
        folder, options = Path(home) / f"x{name}", tuple(words)
        if all(text.isprintable() for text in (str(folder), *options)):
            assert executed(folder, options) == (str(folder), *options)
        else:
            with pytest.raises(UserError):
                batch.text(PERLMUTTER, replace(REQUEST, folder=str(folder), options=options))


@given(word=st.text(min_size=1))
def test_a_directive_holds_harmless_names_only(word: str) -> None:
    for field in ("account", "queue", "name"):
        request = replace(REQUEST, **{field: word})
        if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*", word, re.ASCII) and not word.endswith("\n"):
            assert word in batch.text(PERLMUTTER, request)
        else:
            with pytest.raises(UserError, match="expected letters, digits"):
                batch.text(PERLMUTTER, request)


@pytest.mark.parametrize("bad", ["a\nb", "a\n#SBATCH --nodes=9", "a\rb", "a\x1b[0m", "a\x00b", "\udcff"])
def test_control_characters_are_refused(bad: str) -> None:
    for request in (replace(REQUEST, folder=f"/x/{bad}"), replace(REQUEST, options=(bad,))):
        with pytest.raises(UserError, match="expected text on one line"):
            batch.text(PERLMUTTER, request)


def test_all_mistakes_come_at_once() -> None:
    with pytest.raises(UserError) as caught:
        batch.text(PERLMUTTER, replace(REQUEST, nodes=0, minutes=-1, account="a b", ranks_per_node=300))
    assert len(caught.value.problems) == 4


@pytest.mark.parametrize(("nodes", "minutes", "seconds"), [(4, 60, 122), (1024, 60, 632), (1024, 4, 120), (1, 2, 60)])
def test_the_warning_comes_early_enough_and_never_in_the_first_half(nodes: int, minutes: int, seconds: int) -> None:
    assert batch.warning_s(replace(REQUEST, nodes=nodes, minutes=minutes)) == seconds


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("archer2", {"queue": "standard", "nodes": 1025}, "standard, got 1025 (--nodes); take --queue largescale"),
        ("archer2", {"queue": "largescale", "nodes": 4}, "take --queue short or standard or taskfarm"),
        ("archer2", {"queue": "standrad"}, "did you mean 'standard'?"),
        ("frontier", {"queue": "batch", "nodes": 91, "minutes": 121}, "at most 120 minutes for 91 nodes"),
        ("aurora", {"queue": "prod", "nodes": 1024, "minutes": 721}, "at most 720 minutes for 1024 nodes"),
        ("lumi-c", {"queue": "standard", "account": "m0000"}, "expected an account like project_*, got 'm0000'"),
        ("perlmutter-gpu", {"account": ""}, "expected an account, got none (--account)"),
        ("cori-knl", {"nodes": 9490}, "no queue of cori-knl takes as many"),
    ],
)  # fmt: skip
def test_a_limit_is_told_before_anything_is_submitted(name: str, change: dict[str, object], said: str) -> None:
    site = sites.read(name, REPOSITORY)
    account = site.account.replace("*", "1")
    found = limits.problems(site, replace(REQUEST, **{"account": account, **change}))  # type: ignore[arg-type]
    assert len(found) == 1, found
    assert said in found[0]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("frontier", {"queue": "batch", "nodes": 92, "minutes": 360}),
        ("archer2", {"queue": "largescale", "nodes": 1025, "minutes": 720}),
        ("generic", {"queue": "anything", "nodes": 99999, "minutes": 99999, "account": ""}),
    ],
)
def test_what_fits_is_not_refused(name: str, change: dict[str, object]) -> None:
    assert limits.problems(sites.read(name, REPOSITORY), replace(REQUEST, **change)) == []  # type: ignore[arg-type]


def test_jobs_in_the_queue_count() -> None:
    site = sites.read("archer2", REPOSITORY)
    request = replace(REQUEST, queue="largescale", nodes=2000)
    job = Job("1", "PENDING", 2000, "1:00", "standard", "largescale", "Priority", "a", "/x")
    assert limits.problems(site, request, [job] * 7) == []
    (problem,) = limits.problems(site, request, [job] * 8)
    assert "expected at most 8 jobs of yours in queue largescale of archer2, got 8 and this one" in problem


def test_a_job_that_will_wait_for_another_is_told() -> None:
    site = sites.read("archer2", REPOSITORY)
    request = replace(REQUEST, queue="largescale", nodes=2000)
    job = Job("1", "RUNNING", 2000, "1:00", "standard", "largescale", "None", "a", "/x")
    assert limits.waits(site, request, [replace(job, state="PENDING"), replace(job, qos="standard")]) == ""
    assert "runs 1 of your jobs at a time, 1 are running: this one waits" in limits.waits(site, request, [job])
    assert limits.waits(PERLMUTTER, REQUEST, [job]) == ""


# ---- the verb


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with a space in its path, where the verb is called; no scheduler is on PATH."""
    home = tmp_path / "check out"
    home.mkdir()
    for name in ("Snakefile", "workflow", "slurm"):
        (home / name).symlink_to(REPOSITORY / name)
    monkeypatch.chdir(home)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/sh").symlink_to(shutil.which("sh") or "/bin/sh")
    (tmp_path / "bin/cp").symlink_to(shutil.which("cp") or "/bin/cp")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return home


def stub(checkout: Path, name: str, shell: str) -> None:
    path = checkout.parent / "bin" / name
    path.write_text(f"#!/bin/sh\n{shell}\n")
    path.chmod(0o755)


def called(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(["submit", *words])
    return int(ended.value.code or 0)


GENERIC = ("--site", "generic", "--nodes", "2")


def test_the_dry_run_of_a_thousand_nodes(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert called("--site", "perlmutter-cpu", "--nodes", "1024", "--account", "m0000", "--dry-run") == 0
    request = Request(str(checkout), 1024, 60, 2, "m0000", "regular")
    assert capsys.readouterr().out == batch.text(PERLMUTTER, request)
    assert not (checkout / "logs").exists()


def test_what_is_submitted_is_what_the_dry_run_printed(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stub(checkout, "sbatch", f'[ "$1" = --parsable ] && cp "$2" "{checkout.parent}/got" && echo "17;cluster"')
    stub(checkout, "squeue", "exit 0")
    words = (*GENERIC, "--", "--config", "a='b c'")
    assert called(*GENERIC, "--dry-run", "--", "--config", "a='b c'") == 0
    text = capsys.readouterr().out
    assert called(*words) == 0
    said = capsys.readouterr()
    assert said.out == "submit: job 17, 2 nodes of generic; kilonode status shows how far it is\n"
    assert said.err == ""
    assert (checkout.parent / "got").read_text() == text
    (kept,) = (checkout / "logs/submit").iterdir()
    assert kept.read_text() == text


def test_a_scheduler_that_refuses_ends_with_one_line(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stub(checkout, "sbatch", "echo 'sbatch: error: Invalid qos' >&2; echo 'sbatch: error: more' >&2; exit 1")
    assert called(*GENERIC) == 2
    lines = capsys.readouterr().err.splitlines()
    assert "jobs in the queue were not counted (no squeue here)" in lines[0]
    assert lines[1:] == [
        "kilonode: expected sbatch to take the job, got 'sbatch: error: Invalid qos sbatch: error: more'; "
        "mend what it says and submit again"
    ]
    assert not list((checkout / "logs/submit").iterdir())


def test_without_a_scheduler_nothing_is_written(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert called(*GENERIC) == 2
    assert "expected sbatch to submit with, got none on PATH (generic)" in capsys.readouterr().err
    assert not (checkout / "logs").exists()


def test_no_rank_at_all_is_not_the_default(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert called(*GENERIC, "--ranks-per-node", "0", "--dry-run") == 2
    assert capsys.readouterr().err == "kilonode: expected at least 1, got 0 (ranks)\n"


def test_a_pbs_site_is_submitted_with_qsub(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stub(checkout, "qsub", f'[ $# = 1 ] && cp "$1" "{checkout.parent}/got" && echo 99.aurora-pbs')
    assert called("--site", "aurora", "--nodes", "600", "--account", "proj") == 0
    assert capsys.readouterr().out.startswith("submit: job 99.aurora-pbs, 600 nodes of aurora;")
    assert "#PBS -l select=600\n" in (checkout.parent / "got").read_text()


def test_a_retired_system_takes_no_job(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--site", "cori-knl", "--nodes", "1024", "--account", "m0000")
    assert called(*words, "--dry-run") == 0
    assert "#SBATCH --constraint=knl,quad,cache" in capsys.readouterr().out
    assert called(*words) == 2
    assert "got cori-knl, which was retired" in capsys.readouterr().err


def test_a_full_queue_is_seen_before_submission(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = "1|PENDING|2000|1:00|standard|largescale|Priority|a name|/x"
    stub(checkout, "squeue", "\n".join(f"echo '{row}'" for _ in range(8)))
    stub(checkout, "sbatch", "echo 1")
    assert called("--site", "archer2", "--nodes", "2000", "--account", "e1", "--queue", "largescale") == 2
    assert "expected at most 8 jobs of yours in queue largescale" in capsys.readouterr().err
    assert not (checkout / "logs").exists()
