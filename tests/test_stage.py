"""A copy on each node is the store, byte for byte, and the shared file system is asked for each byte once."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter, namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from kilonode.data import stage
from kilonode.data.store import Store
from kilonode.errors import UserError
from kilonode.records import file_digest

Run = Callable[..., subprocess.CompletedProcess[str]]
SCRIPT = Path(__file__).with_name("small_stage.py")
PIECE = 1000_003
"""Bytes; so that the files of the toy have several pieces, none of them whole."""


@pytest.fixture
def store(toy: Path, tmp_path: Path) -> Path:
    """Index of a store that may be damaged, in a folder with a space."""
    return Path(shutil.copytree(toy / "store/singles", tmp_path / "a store")) / "index.json"


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): file_digest(path) for path in folder.rglob("*") if path.is_file()}


def without_truth(folder: Path) -> dict[str, str]:
    return {name: sha256 for name, sha256 in contents(folder).items() if not name.startswith("truth/")}


def flip(path: Path) -> None:
    """One bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.fixture
def nodes(mpiexec: Run, tmp_path: Path) -> Run:
    """``nodes(store)``: three ranks on two nodes, the second with two of them."""
    launcher = mpiexec(1, "-c", "").args[0]  # skips where there is no MPI
    fake = [launcher, "-launcher", "fork", "-hosts", "n1:1,n2:2", "-n", "3", sys.executable, SCRIPT]
    return lambda store, *more: subprocess.run(
        [*map(str, fake), str(store), str(tmp_path), str(PIECE), *more],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_one_rank_copies_the_store_and_prints_its_index(store: Path, tmp_path: Path, kilonode: Run) -> None:
    to = tmp_path / "on the node/deep"
    done = kilonode("stage", "--store", store, "--to", to)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == str(to / "index.json")
    assert contents(to) == without_truth(store.parent)
    one, other = Store(to / "index.json", "train"), Store(store, "train")
    assert (one.read("singles") == other.read("singles")).all()
    assert one.stats == other.stats


def test_the_truth_comes_along_when_asked(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage.run(store, tmp_path / "to", truth=True)
    assert contents(tmp_path / "to") == contents(store.parent)
    assert "truth/train-00000.h5" in contents(tmp_path / "to")
    capsys.readouterr()


def test_a_rerun_keeps_what_is_right_and_mends_what_is_not(store: Path, tmp_path: Path) -> None:
    to = tmp_path / "to"
    stage.run(store, to, truth=False)
    before = {path.name: path.stat().st_ino for path in to.iterdir()}
    stage.run(store, to, truth=False)
    assert {path.name: path.stat().st_ino for path in to.iterdir()} == before
    flip(to / "train-00000.h5")
    (to / "test-00000.h5").unlink()
    (to / "stats.json").write_text("{")
    stage.run(store, to, truth=False)
    assert contents(to) == without_truth(store.parent)
    after = {path.name: path.stat().st_ino for path in to.iterdir()}
    assert after["validation-00000.h5"] == before["validation-00000.h5"]
    assert after["train-00000.h5"] != before["train-00000.h5"]


@pytest.mark.parametrize("to_has_one", [False, True])
def test_a_flipped_bit_at_the_source_is_refused(store: Path, tmp_path: Path, kilonode: Run, to_has_one: bool) -> None:
    to = tmp_path / "to"
    if to_has_one:
        assert kilonode("stage", "--store", store, "--to", to).returncode == 0
        (to / "validation-00000.h5").unlink()
    flip(store.parent / "validation-00000.h5")
    done = kilonode("stage", "--store", store, "--to", to)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "expected SHA-256 " in line
    assert "validation-00000.h5" in line
    assert done.stdout == ""
    assert not [name for name in contents(to) if name.endswith(".tmp") or "validation" in name or name == "index.json"]


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (lambda folder: (folder / "train-00000.h5").write_bytes(b"short"), " bytes, got 5 ("),
        (lambda folder: (folder / "train-00000.h5").unlink(), "got No such file or directory"),
        (lambda folder: (folder / "stats.json").unlink(), "stats.json"),
        (lambda folder: (folder / "index.json").write_text("[]"), "expected the index of a store"),
        (lambda folder: shutil.copy(folder.parent / "raw.json", folder / "index.json"), "got that of a raw folder"),
    ],
)
def test_what_is_no_store_is_refused(
    store: Path, toy: Path, tmp_path: Path, damage: Callable[[Path], object], part: str
) -> None:
    shutil.copy(toy / "raw/index.json", tmp_path / "raw.json")
    damage(store.parent)
    with pytest.raises(UserError) as caught:
        stage.run(store, tmp_path / "to", truth=False)
    (line,) = caught.value.problems
    assert part in line
    assert "index.json" not in contents(tmp_path / "to")
    assert not [name for name in contents(tmp_path / "to") if name.endswith(".tmp")]


def test_an_index_cannot_name_files_elsewhere(store: Path, tmp_path: Path) -> None:
    content = json.loads(store.read_text())
    content["shards"][0]["file"] = "../../stolen.h5"
    store.write_text(json.dumps(content))
    with pytest.raises(UserError, match="expected the name of a file beside the index"):
        stage.run(store, tmp_path / "to", truth=False)


@pytest.mark.parametrize("to", ["a store", "a store/../a store"])
def test_a_store_is_not_copied_onto_itself(store: Path, tmp_path: Path, to: str) -> None:
    with pytest.raises(UserError, match="expected another folder"):
        stage.run(store, tmp_path / to, truth=False)


def test_no_room_means_a_warning_and_the_original(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(stage.shutil, "disk_usage", lambda path: usage(0, 0, 4321))
    stage.run(store, tmp_path / "to", truth=False)
    said = capsys.readouterr()
    assert said.out == f"{store}\n"
    (line,) = said.err.splitlines()
    need = sum(path.stat().st_size for path in store.parent.iterdir() if path.is_file()) + stage.SLACK_BYTES
    assert line.startswith(f"kilonode: warning: expected {need} bytes free on each node, got 4321 on 1 of 1")
    assert not (tmp_path / "to").exists()


def test_what_is_there_needs_no_room(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = namedtuple("usage", "total used free")
    stage.run(store, tmp_path / "to", truth=False)
    heads = sum((store.parent / name).stat().st_size for name in ("index.json", "stats.json"))
    monkeypatch.setattr(stage.shutil, "disk_usage", lambda path: usage(0, 0, stage.SLACK_BYTES + heads))
    capsys.readouterr()
    stage.run(store, tmp_path / "to", truth=False)
    assert capsys.readouterr().out == f"{tmp_path}/to/index.json\n"


@pytest.mark.parametrize("place", ["a file", "a file/deeper"])
def test_a_target_that_is_no_folder_is_one_line(store: Path, tmp_path: Path, kilonode: Run, place: str) -> None:
    (tmp_path / "a file").touch()
    done = kilonode("stage", "--store", store, "--to", tmp_path / place)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "expected to write" in done.stderr


@pytest.mark.mpi
def test_two_nodes_read_every_byte_once_between_them(store: Path, nodes: Run, tmp_path: Path) -> None:
    done = nodes(store)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout == f"{tmp_path}/node 0/index.json\n"
    for node in ("node 0", "node 1"):
        assert contents(tmp_path / node) == without_truth(store.parent)
    assert not (tmp_path / "node 2").exists()
    reads: list[Counter[str]] = []
    for rank in range(3):
        reads.append(Counter())
        for line in (tmp_path / f"reads-{rank}.txt").read_text().splitlines():
            name, count = line.rsplit(" ", 1)
            reads[rank][name] += int(count)
            assert int(count) <= PIECE
    shards = {path.name: path.stat().st_size for path in store.parent.glob("*.h5")}
    assert reads[0] + reads[1] == shards
    assert reads[0]
    assert reads[1]
    assert not reads[2]
    assert not set(reads[0]) & set(reads[1])


@pytest.mark.mpi
def test_a_node_gets_only_what_it_lacks(store: Path, nodes: Run, tmp_path: Path) -> None:
    assert nodes(store, "--truth").returncode == 0
    kept = {path.name: path.stat().st_ino for path in (tmp_path / "node 0").iterdir()}
    (tmp_path / "node 1/train-00000.h5").unlink()
    done = nodes(store, "--truth")
    assert done.returncode == 0, done.stderr
    assert {path.name: path.stat().st_ino for path in (tmp_path / "node 0").iterdir()} == kept
    for node in ("node 0", "node 1"):
        assert contents(tmp_path / node) == contents(store.parent)
    reads = "".join((tmp_path / f"reads-{rank}.txt").read_text() for rank in range(3))
    assert {line.rsplit(" ", 1)[0] for line in reads.splitlines()} == {"train-00000.h5"}


@pytest.mark.mpi
@pytest.mark.parametrize("name", ["train-00000.h5", "validation-00000.h5", "test-00000.h5"])
def test_a_flipped_bit_ends_all_nodes_with_one_line(store: Path, nodes: Run, tmp_path: Path, name: str) -> None:
    flip(store.parent / name)
    done = nodes(store)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("kilonode: ")]
    assert "expected SHA-256 " in line
    assert name in line
    for node in ("node 0", "node 1"):
        assert not {name, "index.json"} & set(contents(tmp_path / node))
        assert not [file for file in contents(tmp_path / node) if file.endswith(".tmp")]


@pytest.mark.mpi
def test_a_node_that_cannot_write_ends_all(store: Path, nodes: Run, tmp_path: Path) -> None:
    (tmp_path / "node 1").touch()
    done = nodes(store)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("kilonode: ")]
    assert "expected to write" in line
    assert "node 1" in line
    assert "index.json" not in contents(tmp_path / "node 0")
