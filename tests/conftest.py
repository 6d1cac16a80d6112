"""What many tests share: a small data set, the command line, several MPI ranks."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

Done = subprocess.CompletedProcess[str]
Run = Callable[..., Done]

# The same examples on every machine; no deadline, because CI machines are slow at times.
settings.register_profile("kilonode", derandomize=True, deadline=None)
settings.load_profile("kilonode")


# One thread a process, said before anything starts threads: tests share a small machine, where threads that wait for
# each other spin (a fit of trees took 190 s instead of 2), and the bits of a training depend on their number.
os.environ["OMP_NUM_THREADS"] = "1"

# A shell that starts a job in the background makes it ignore Ctrl-C; tests of Ctrl-C need it as a terminal has it.
signal.signal(signal.SIGINT, signal.default_int_handler)


def _run(*command: str | Path, timeout: float = 120, **options: Any) -> Done:
    words = [str(word) for word in command]
    child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    try:
        out, err = child.communicate(timeout=timeout)
    except BaseException as error:
        if isinstance(error, subprocess.TimeoutExpired):  # who waits for whom
            error.add_note(
                subprocess.run(["ps", "-eo", "pid,ppid,stat,wchan:20,args"], capture_output=True, text=True).stdout
            )
        child.kill()
        child.communicate()
        raise
    return Done(words, child.returncode, out, err)


@pytest.fixture(autouse=True)
def _denormals() -> Iterator[None]:
    """A training in this process rounds denormal numbers to zero for good: other tests need them."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture(scope="session")
def kilonode() -> Run:
    """``kilonode("check", path)``: the command line in a process of its own; ``cwd`` and ``env`` as in subprocess."""
    return lambda *arguments, **options: _run(sys.executable, "-m", "kilonode", *arguments, **options)


@pytest.fixture(scope="session")
def mpiexec() -> Run:
    """``mpiexec(2, "-m", "kilonode", "simulate", ...)``: Python on several ranks; skips where there is no MPI."""
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    launcher = shutil.which("mpiexec", path=places)
    if launcher is None:
        pytest.skip("needs mpiexec: run `make env`")
    return lambda ranks, *arguments, **options: _run(launcher, "-n", str(ranks), sys.executable, *arguments, **options)


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory, kilonode: Run) -> Path:
    """A folder with ``raw/`` and ``store/{pairs,singles}/``, toy tier; copy it, never change it."""
    home = tmp_path_factory.mktemp("toy")
    what = ("--case", "reactor_neutrinos", "--data", "toy")
    made = [kilonode("simulate", *what, "--output", home / "raw/index.json")]
    for table in ("pairs", "singles"):
        paths = ("--raw", home / "raw/index.json", "--output", home / f"store/{table}/index.json")
        made.append(kilonode("preprocess", *what, "--table", table, *paths))
    assert [done.returncode for done in made] == [0, 0, 0], made
    return home


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, so that two workers end together."""
    slow = {scope(item.nodeid) for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (scope(item.nodeid) != "tests/slurm", scope(item.nodeid) not in slow))


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give workers whole files, in our order; xdist's own groups do not work with pytest 9."""
    from xdist.scheduler import LoadScopeScheduling

    class ByScope(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return scope(nodeid)

    config.option.loadscopereorder = False
    return ByScope(config, log)


def scope(nodeid: str) -> str:
    """What stays together on one worker: a file, and all that share the machine's one Slurm."""
    return "tests/slurm" if nodeid.startswith("tests/slurm/") else nodeid.partition("::")[0]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests ran on a real Slurm, and why others did not."""
    counts = dict.fromkeys(("passed", "failed", "error", "skipped"), 0)
    reasons = set()
    for outcome in counts:
        for report in terminalreporter.getreports(outcome):
            if "slurm" in getattr(report, "keywords", ()) and (report.when == "call" or outcome != "passed"):
                counts[outcome] += 1
                if outcome == "skipped":
                    reasons.add(str(report.longrepr[-1]))
    ran = counts["passed"] + counts["failed"]
    why = f" ({'; '.join(sorted(reasons))})" if reasons else ""
    terminalreporter.write_line(
        f"Slurm tests: {ran} ran, {counts['failed'] + counts['error']} failed, {counts['skipped']} skipped{why}"
    )
