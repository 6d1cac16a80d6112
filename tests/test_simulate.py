"""Simulation on any number of ranks: the same bytes, and a killed one continues."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from kilonode import config
from kilonode.data import simulate
from kilonode.errors import UserError
from kilonode.records import file_digest

Run = Callable[..., subprocess.CompletedProcess[str]]
CASE = ("--case", "reactor_neutrinos", "--data", "toy")
SMALL: dict[str, Any] = {
    "groups": 10,
    "groups_per_shard": 3,
    "per_run": {"antineutrino": 4, "physical": 3, "shuffled": 2, "lithium9": 1, "single": 2},
}

# What a test plants on one rank before the command line starts: "<rank> <shard> <mishap> <arguments ...>".
PLANTED = """
import os, sys
from kilonode import cli
from kilonode.data import raw
from kilonode.errors import DataError
rank, shard, mishap, *arguments = sys.argv[1:]
write = raw._write_shard
def failing(path, *more):
    if os.environ.get("PMI_RANK", "0") == rank and shard in path.name:
        if mishap == "user":
            raise DataError(f"expected no trouble, got some ({path})")
        raise ZeroDivisionError("planted")
    write(path, *more)
raw._write_shard = failing
cli.main(arguments)
"""


def digests(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in sorted(folder.rglob("*.h5"))}


def small(monkeypatch: pytest.MonkeyPatch, **more: Any) -> None:
    """Simulate little: ``run`` in this process sees these settings."""
    resolved = config.resolve("reactor_neutrinos", "toy")
    resolved["simulation"] = {**resolved["simulation"], **SMALL, **more}
    monkeypatch.setattr(config, "resolve", lambda case, data: resolved)


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("shard_*.h5")}


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small raw folder of 10 runs, 3 in a shard; ``resolve`` keeps giving its settings."""
    small(monkeypatch)
    simulate.run("reactor_neutrinos", "toy", tmp_path / "raw/index.json")
    return tmp_path / "raw"


def again(folder: Path) -> set[str]:
    """Names of the shards that a rerun writes."""
    before = times(folder)
    simulate.run("reactor_neutrinos", "toy", folder / "index.json")
    return {name for name, when in times(folder).items() if before.get(name) != when}


@pytest.mark.mpi
@pytest.mark.parametrize("ranks", [2, 3, 8])
def test_any_number_of_ranks_writes_the_same_bytes(mpiexec: Run, toy: Path, tmp_path: Path, ranks: int) -> None:
    done = mpiexec(ranks, "-m", "kilonode", "simulate", *CASE, "--output", tmp_path / "index.json")
    assert done.returncode == 0, done
    assert digests(tmp_path) == digests(toy / "raw")
    assert len(digests(tmp_path)) == 10
    one, many = (json.loads((place / "index.json").read_text()) for place in (toy / "raw", tmp_path))
    del one["conditions"], many["conditions"]
    assert one == many


def test_the_index_describes_the_shards(raw: Path) -> None:
    index = json.loads((raw / "index.json").read_text())
    assert [entry["file"] for entry in index["shards"]] == [f"shard_{k:05d}.h5" for k in range(4)]
    assert {entry["file"]: entry["sha256"] for entry in index["shards"]} == digests(raw)
    assert index["simulated"] is True
    assert "reactor_neutrinos-1" in index["source"]
    groups = []
    for entry in index["shards"]:
        with h5py.File(raw / entry["file"]) as file:
            groups.append(np.unique(file["pairs/group"][()]).tolist())
            assert entry["rows"] == {table: len(file[f"{table}/group"]) for table in ("pairs", "singles")}
            for table, fields in index["tables"].items():
                assert set(file[table]) - {"truth"} == {name for name in fields if "/" not in name}
                for name, spec in fields.items():
                    assert file[f"{table}/{name}"].shape[1:] == tuple(spec["shape"])
                    assert file[f"{table}/{name}"].attrs["unit"] == spec["unit"]
    assert groups == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]


def test_a_rerun_writes_nothing_but_the_index(raw: Path) -> None:
    assert again(raw) == set()


def test_a_missing_shard_is_made_again_alone(raw: Path) -> None:
    before = digests(raw)
    (raw / "shard_00002.h5").unlink()
    assert again(raw) == {"shard_00002.h5"}
    assert digests(raw) == before


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "text"])
def test_a_broken_shard_is_made_again_alone(raw: Path, damage: str) -> None:
    before, path = digests(raw), raw / "shard_00001.h5"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1  # in the data: only the hash in the index can tell
    broken = {"truncated": content[:-9], "flipped": content, "empty": b"", "text": b"nonsense"}
    path.write_bytes(broken[damage])
    assert again(raw) == {"shard_00001.h5"}
    assert digests(raw) == before


def test_more_groups_keep_the_whole_shards(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch, groups=14)
    assert again(raw) == {"shard_00003.h5", "shard_00004.h5"}  # the fourth held one run of three
    with h5py.File(raw / "shard_00003.h5") as file:
        assert np.unique(file["pairs/group"][()]).tolist() == [9, 10, 11]


def test_fewer_groups_leave_no_run_too_many(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch, groups=5)
    assert again(raw) == {"shard_00001.h5"}
    entries = json.loads((raw / "index.json").read_text())["shards"]
    assert [entry["file"] for entry in entries] == ["shard_00000.h5", "shard_00001.h5"]
    with h5py.File(raw / "shard_00001.h5") as file:
        assert np.unique(file["pairs/group"][()]).tolist() == [3, 4]


@pytest.mark.parametrize("change", [{"seed": 2}, {"version": 2}, {"detectors": 4}])
def test_other_physics_make_all_again(raw: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, int]) -> None:
    small(monkeypatch, **change)
    assert len(again(raw)) == 4


def test_a_shard_holds_what_its_groups_alone_give(raw: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    small(monkeypatch, groups_per_shard=1)
    simulate.run("reactor_neutrinos", "toy", tmp_path / "one/index.json")
    for name in ("pairs/pairs", "singles/singles", "pairs/truth/event"):
        parts = []
        for folder in (raw, tmp_path / "one"):
            files = [h5py.File(path) for path in sorted(folder.glob("*.h5"))]
            parts.append(np.concatenate([file[name][()] for file in files]))
        np.testing.assert_array_equal(*parts)


def test_values_that_are_not_finite_never_reach_a_file(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kilonode.cases.reactor_neutrinos import simulate as physics

    def spoiled(*arguments: Any) -> Any:
        tables = make(*arguments)
        tables["pairs"]["dt"][3] = np.nan
        return tables

    make = physics.simulate
    monkeypatch.setattr(physics, "simulate", spoiled)
    (raw / "shard_00000.h5").unlink()
    with pytest.raises(UserError, match=r"expected finite values in 'pairs/dt', got nan at \(3,\) and 2 more"):
        again(raw)
    assert not (raw / "shard_00000.h5").exists()


KILLED = """
import os, sys
from kilonode import cli
from kilonode.data import shard
number, *arguments = map(str, sys.argv[1:])
write, written = shard.write, []
def killing(path, *more):
    if len(written) == 3:
        os.kill(os.getpid(), int(number))
    write(path, *more)
    written.append(path)
shard.write = killing
cli.main(arguments)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_simulation_leaves_no_half_file(toy: Path, tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "kilonode", "simulate", *CASE, "--output", str(tmp_path / "index.json")]
    done = subprocess.run([sys.executable, "-c", KILLED, str(int(number)), *command[3:]], check=False, timeout=60)
    assert done.returncode == (130 if number == signal.SIGINT else -number)
    assert not (tmp_path / "index.json").exists()
    there, whole = digests(tmp_path), digests(toy / "raw")
    assert len(there) == 3
    assert there.items() <= whole.items()
    before = times(tmp_path)
    subprocess.run(command, check=True, timeout=60)
    assert digests(tmp_path) == whole
    assert before.items() <= times(tmp_path).items()
    if number == signal.SIGINT:  # ended in good order: nothing else lies about
        assert sorted(os.listdir(tmp_path)) == ["index.json", *sorted(whole)]


@pytest.mark.mpi
@pytest.mark.parametrize(("mishap", "code"), [("user", 2), ("defect", 1)])
def test_trouble_on_one_rank_ends_all_with_one_message(
    mpiexec: Run, toy: Path, tmp_path: Path, mishap: str, code: int
) -> None:
    shutil.copytree(toy / "raw", tmp_path / "raw")  # the others have nothing to do but wait
    (tmp_path / "raw/shard_00004.h5").unlink()
    start = time.monotonic()
    arguments = ("simulate", *CASE, "--output", tmp_path / "raw/index.json")
    done = mpiexec(3, "-c", PLANTED, "1", "shard_00004", mishap, *arguments)
    assert time.monotonic() - start < 30
    assert done.returncode == code, done
    line = "expected no trouble, got some" if mishap == "user" else "ZeroDivisionError: planted"
    assert done.stderr.count(line) == 1
    if mishap == "user":
        said = [text for text in done.stderr.splitlines() if not text.endswith(" left")]  # a slow machine's progress
        assert said == [f"kilonode: {line} ({tmp_path / 'raw/shard_00004.h5'})"]


@pytest.mark.mpi
def test_a_mistake_that_all_ranks_see_is_said_once(mpiexec: Run, tmp_path: Path) -> None:
    output = ("--output", tmp_path / "index.json")
    done = mpiexec(3, "-m", "kilonode", "simulate", "--case", "reactor_neutrino", "--data", "toy", *output)
    assert done.returncode == 2
    line = "kilonode: expected a case, got 'reactor_neutrino' (--case); did you mean 'reactor_neutrinos'?\n"
    assert done.stderr == line
