"""Files that appear complete or not at all."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilonode import records
from kilonode.errors import UserError
from kilonode.records import complete, digest, file_digest, finite, read_json, write_json, write_text

FULL = """
import resource, sys
from pathlib import Path
import numpy as np
from kilonode.data import shard
from kilonode.errors import UserError
from kilonode.records import write_text
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
arrays = {"x": np.random.default_rng(0).random(int(sys.argv[2]))}
try:
    write_text(Path(sys.argv[1], "a.txt"), "x" * 5000)
except UserError as error:
    print(error)
try:
    shard.write(Path(sys.argv[1], "a.h5"), arrays, {"x": {"unit": "1", "long_name": "x"}}, {})
except UserError as error:
    print(error)
"""


def test_a_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "a.txt"
    with complete(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
        assert temporary.parent == path.parent  # else the rename is no rename
    assert path.read_text() == "whole"
    assert os.listdir(path.parent) == ["a.txt"]


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    with (tmp_path / "a.txt").open() as reader:
        write_text(tmp_path / "a.txt", "new")
        assert reader.read() == "old"
    assert (tmp_path / "a.txt").read_text() == "new"


@pytest.mark.parametrize("mishap", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failed_block_leaves_nothing_and_keeps_the_old_file(tmp_path: Path, mishap: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(mishap), complete(path) as temporary:  # noqa: PT012 - the block is the test
        temporary.write_text("half")
        raise mishap
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("values", [10, 100_000])  # h5py fails when it closes the file, or when it writes
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, values: int) -> None:
    command = [sys.executable, "-c", FULL, str(tmp_path), str(values), "1000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.splitlines()
    advice = "check permissions and free space there"
    assert first == f"expected to write, got {os.strerror(errno.EFBIG)} ({tmp_path}/a.txt); {advice}"
    assert second.startswith("expected to write, got ")
    assert os.strerror(errno.EFBIG) in second
    assert second.endswith(f"({tmp_path}/a.h5); {advice}")
    assert os.listdir(tmp_path) == []


def test_what_cannot_be_written_names_the_final_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, reason in {
        Path("/proc/none/a.txt"): errno.ENOENT,
        tmp_path / "file" / "a.txt": errno.EEXIST,
        tmp_path / "file" / "b" / "a.txt": errno.ENOTDIR,
    }.items():
        with pytest.raises(UserError) as caught:
            write_text(path, "x")
        assert str(caught.value).startswith(f"expected to write, got {os.strerror(reason)} ({path}); ")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system")
def test_a_full_and_a_read_only_file_system(tmp_path: Path) -> None:
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path], check=False).returncode:
        pytest.skip("this container may not mount")
    try:
        with pytest.raises(UserError, match="got No space left on device"):
            write_text(tmp_path / "a.txt", "x" * 100_000)
        assert os.listdir(tmp_path) == []
        subprocess.run(["mount", "-o", "remount,ro", tmp_path], check=True)
        with pytest.raises(UserError, match=rf"got Read-only file system \({tmp_path}/a.txt\)"):
            write_text(tmp_path / "a.txt", "x")
    finally:
        subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_follow_the_umask(tmp_path: Path, umask: int) -> None:
    code = (
        "import os, sys; os.umask(int(sys.argv[2])); from pathlib import Path; from kilonode.records import complete\n"
        "with complete(Path(sys.argv[1])) as temporary: os.close(os.open(temporary, os.O_CREAT, 0o600))"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "a", str(umask)], check=True, timeout=60)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~umask


def test_json_has_no_nan_and_no_numpy(tmp_path: Path) -> None:
    content = {
        1: float("nan"),
        "b": [np.float32(0.5), np.int64(3), -np.inf, (np.bool_(True), None)],
        "a": np.array(2.5),
    }
    write_json(tmp_path / "a.json", content)
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text) == {"1": None, "a": 2.5, "b": [0.5, 3, None, [True, None]]}
    assert text.index('"1"') < text.index('"a"') < text.index('"b"')  # sorted: the same content, the same bytes


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_keep_every_bit(value: float) -> None:
    assert json.loads(json.dumps(finite({"x": value})))["x"].hex() == value.hex()


def test_reading_what_is_no_json(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected a file, got nothing \(.*none.json\)"):
        read_json(tmp_path / "none.json")
    for number, broken in enumerate((b'{"a": 1', b"\xff\xfe", b"")):
        path = tmp_path / f"{number}.json"
        path.write_bytes(broken)
        with pytest.raises(UserError, match=rf"expected JSON, got .* \({path}\); delete it"):
            read_json(path)


def test_digests() -> None:
    assert digest({"b": 1, "a": [1.5, "x"]}) == digest({"a": [1.5, "x"], "b": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert digest({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_a_file_digest_is_that_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_digest(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_conditions_hold_what_a_number_depends_on() -> None:
    found = records.conditions(seeds=[1], ranks=2)
    assert (found["seeds"], found["ranks"]) == ([1], 2)
    assert found["cores"] == len(os.sched_getaffinity(0))
    assert found["versions"]["numpy"] == np.__version__
    assert found["commit"] != ""
    assert found["time"].endswith("+00:00")
    json.dumps(found, allow_nan=False)
