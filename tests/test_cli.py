"""The command line: quick, frozen, and it says what it wants."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from inspect import signature
from pathlib import Path

import pytest

from kilonode import __version__, bench, cli, scaling
from kilonode.errors import UserError

Run = Callable[..., subprocess.CompletedProcess[str]]

# Literal: scripts and papers depend on it. A change here is a change for every user, and belongs in CHANGELOG.md.
CASE, TASK, DATA = "--case NAME!", "--task NAME!", "--data TIER|MAPPING!"
TUNED = "--tuned PATH"
FROZEN = {
    "run": [
        "--case NAME",
        "--task NAME*",
        "--tier toy|demo|article",
        "--data MAPPING",
        "--input FILE",
        "--seeds N",
        "--profile NAME",
        "--until STAGE",
        "--force STAGE*",
        "--dry-run",
        "snakemake -- OPTION*",
    ],
    "simulate": [CASE, DATA, "--output PATH!"],
    "ingest": [CASE, DATA, "--input PATH!", "--output PATH!"],
    "preprocess": [CASE, DATA, "--table NAME!", "--raw PATH!", "--output PATH!"],
    "tune": [
        CASE,
        TASK,
        "--data TIER|MAPPING",
        "--method NAME",
        "--trials N",
        "--workers W",
        "--ranks-per-trial N",
        "--sampler NAME",
        "--seed N",
        "--store PATH",
        "--folder PATH",
        "--time-left [D-]H:M:S",
    ],
    "stage": ["--store PATH!", "--to PATH!", "--truth"],
    "train": [
        CASE,
        TASK,
        DATA,
        "--seed N",
        "--store PATH!",
        "--state PATH!",
        TUNED,
        "--backend horovod|mpi4py",
        "--time-left [D-]H:M:S",
        "--device cpu|cuda",
        "--patience-s S",
    ],
    "finish": ["--state PATH!", "--weights PATH!", "--metrics PATH!"],
    "evaluate": [
        CASE,
        TASK,
        DATA,
        "--seed N",
        "--store PATH!",
        "--weights PATH!",
        "--output PATH!",
        "--curves PATH!",
        TUNED,
    ],
    "explain": [
        CASE,
        TASK,
        DATA,
        "--store PATH!",
        "--weights PATH!",
        "--curves PATH!",
        "--history PATH!",
        "--output PATH!",
        "--figures PATH!",
        "--embedding PATH!",
        "--seed N",
        TUNED,
    ],
    "gather": ["records*!", "--output PATH!"],
    "report": ["--summary PATH!", "--output PATH!", "--scaling PATH*"],
    "compare": ["runs RUN!", "--json", "--output PATH"],
    "publish": ["--summary PATH!", "--output PATH!"],
    "describe": ["--case NAME*", "--records PATH", "--output PATH"],
    "submit": [
        "--site NAME!",
        "--nodes N!",
        "--account NAME",
        "--queue NAME",
        "--minutes N",
        "--ranks-per-node N",
        "--name NAME",
        "--dry-run",
        "snakemake -- OPTION*",
    ],
    "status": ["folder FOLDER", "--json"],
    "doctor": ["--site NAME", "--patience-s S", "--json"],
    "check": ["file*!", "--json"],
    "scaling": [f"what {'|'.join(scaling.NAMES)}!", "options OPTION!"],
    "bench": [f"what {'|'.join(bench.names())}!", "options OPTION!"],
}


def described(action: argparse.Action) -> str:
    """``--option METAVAR``, with ``!`` where it is required, ``*`` where it may be repeated."""
    name = "/".join(action.option_strings) or action.dest
    values = "|".join(map(str, action.choices)) if action.choices else action.metavar or ""
    repeated = "*" if action.nargs in ("+", "*") or isinstance(action, argparse._AppendAction) else ""
    return f"{name} {values}".strip() + repeated + ("!" if action.required and action.nargs != "*" else "")


def verbs() -> dict[str, argparse.ArgumentParser]:
    (actions,) = (a for a in cli.parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(actions.choices)


def options(parser: argparse.ArgumentParser) -> list[str]:
    return [described(action) for action in parser._actions if not isinstance(action, argparse._HelpAction)]


def test_verbs_and_options_are_frozen() -> None:
    assert {verb: options(parser) for verb, parser in verbs().items()} == FROZEN
    top = [a for a in cli.parser()._actions if not isinstance(a, argparse._SubParsersAction)]
    assert [action.option_strings for action in top] == [["-h", "--help"], ["--version"]]


@pytest.mark.parametrize("verb", cli.VERBS)
def test_a_stage_takes_what_its_verb_parses(verb: str) -> None:
    parsed = {action.dest for action in verbs()[verb]._actions if action.dest != "help"}
    assert set(signature(import_module(cli.VERBS[verb][0]).run).parameters) == parsed


def test_every_option_has_help() -> None:
    for verb, parser in verbs().items():
        assert parser.description
        for action in parser._actions:
            assert action.help, (verb, action.dest)


def test_help_is_quick_and_imports_nothing_big(kilonode: Run) -> None:
    def seconds() -> float:
        """Of a processor: other tests may run beside this one."""
        start = os.times()
        assert kilonode("--help").returncode == 0
        end = os.times()
        return end.children_user + end.children_system - start.children_user - start.children_system

    assert min(seconds() for _ in range(3)) < 0.5
    code = "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr))\n"
    code += "from kilonode import cli; cli.main(['--help'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert "kilonode" in loaded
    assert loaded.isdisjoint({"torch", "h5py", "numpy", "yaml", "jsonschema", "mpi4py", "sklearn", "matplotlib"})


@pytest.mark.parametrize("verb", cli.VERBS)
def test_help_of_every_verb(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([verb, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: kilonode {verb} ")
    assert cli.VERBS[verb][2].split("(")[0].strip()[:40] in " ".join(said.split())


def test_the_version_is_that_of_the_package(kilonode: Run) -> None:
    assert kilonode("--version").stdout == f"kilonode {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["trian"], "invalid choice: 'trian'"),
        ([], "the following arguments are required: VERB"),
        (["simulate", "--case", "x", "--data", "toy"], "the following arguments are required: --output"),
        (["check", "--jsn", "x"], "unrecognized arguments: --jsn"),
        (["train", "--seed", "x"], "argument --seed: invalid int value: 'x'"),
    ],
)
def test_what_is_not_understood_is_exit_2(arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert part in capsys.readouterr().err


def stage(monkeypatch: pytest.MonkeyPatch, run: Callable[..., object]) -> None:
    """Put another stage behind ``kilonode check FILE``."""
    monkeypatch.setattr("kilonode.data.check.run", run)


@pytest.mark.parametrize(("status", "code"), [(None, 0), (0, 0), (75, 75)])
def test_a_stage_decides_on_the_exit_code(status: int | None, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    stage(monkeypatch, lambda file, json_output: status)
    with pytest.raises(SystemExit) as ended:
        cli.main(["check", "x"])
    assert ended.value.code == code


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("expected a, got b", "second"), 2, ["kilonode: expected a, got b", "kilonode: second"]),
        (
            FileNotFoundError(2, "No such file or directory", "a.txt"),
            2,
            [
                "kilonode: expected to read or write, got No such file or directory (a.txt); "
                "check the path and permissions"
            ],
        ),
        (KeyboardInterrupt(), 130, ["interrupted; run the same command to continue"]),
    ],
)
def test_a_user_error_is_a_line_without_a_traceback(
    error: BaseException,
    code: int,
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(file: list[Path], json_output: bool) -> None:
        raise error

    stage(monkeypatch, run)
    with pytest.raises(SystemExit) as ended:
        cli.main(["check", "x"])
    assert ended.value.code == code
    assert capsys.readouterr().err.splitlines() == said


def test_a_defect_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    stage(monkeypatch, lambda file, json_output: 1 / 0)
    with pytest.raises(SystemExit) as ended:
        cli.main(["check", "x"])
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("Traceback (most recent call last):")
    assert said.endswith("ZeroDivisionError: division by zero\n")
