"""HDF5 files of ours: written whole and always the same, refused when they are not what they should be."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from kilonode.data import shard
from kilonode.errors import DataError
from kilonode.records import file_digest

ARRAYS = {
    "x": np.random.default_rng(0).random((7, 2, 3)).astype(np.float32),
    "y": np.arange(7, dtype=np.uint8),
    "deep/z": np.arange(7, dtype=np.int64),
    "none": np.zeros((0, 4)),
}
FIELDS = {
    "x": {"unit": "µs", "long_name": "a time"},
    "y": {"unit": "1", "long_name": "kind", "labels": {"0": "a", "1": "b"}},
    "deep/z": {"unit": "1", "long_name": "number"},
    "none": {"unit": "1", "long_name": "nothing"},
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.h5"
    shard.write(path, ARRAYS, FIELDS, {"case": "c", "seed": 3, "simulated": True, "config": {"b": 1, "a": [2]}})
    return path


def problems(action: Callable[[], object]) -> list[str]:
    with pytest.raises(DataError) as caught:
        action()
    return list(caught.value.problems)


def opened(path: Path) -> list[str]:
    with shard.opened(path) as file:
        return shard.names(file, path)


def test_what_is_written_can_be_read(path: Path) -> None:
    with shard.opened(path) as file:
        assert shard.names(file, path) == ["deep/z", "none", "x", "y"]
        for name, array in ARRAYS.items():
            assert file[name].dtype == array.dtype
            np.testing.assert_array_equal(file[name][()], array)
            assert file[name].attrs["unit"] == FIELDS[name]["unit"]
            assert file[name].attrs["long_name"] == FIELDS[name]["long_name"]
        assert json.loads(file["y"].attrs["labels"]) == {"0": "a", "1": "b"}
        assert "labels" not in file["x"].attrs
        assert file.attrs["kilonode_schema"] == shard.SCHEMA
        assert (file.attrs["case"], file.attrs["seed"], bool(file.attrs["simulated"])) == ("c", 3, True)
        assert file.attrs["config"] == '{"a": [2], "b": 1}'
        assert json.loads(file.attrs["versions"])["numpy"] == np.__version__


def test_data_are_contiguous_so_that_they_can_be_mapped(path: Path) -> None:
    with shard.opened(path) as file:
        offset = file["x"].id.get_offset()
        assert file["x"].chunks is None
    raw = path.read_bytes()
    assert raw[offset : offset + ARRAYS["x"].nbytes] == ARRAYS["x"].tobytes()


def test_the_same_arrays_give_the_same_bytes(path: Path) -> None:
    other = path.with_name("b.h5")
    time.sleep(1.1)  # HDF5's time stamps count seconds
    shard.write(other, ARRAYS, FIELDS, {"case": "c", "seed": 3, "simulated": True, "config": {"a": [2], "b": 1}})
    assert file_digest(other) == file_digest(path)


def test_bytes_become_text_of_fixed_length(tmp_path: Path) -> None:
    shard.write(tmp_path / "a.h5", {}, {}, {"identity": b"abc", "case": "abc"})
    with shard.opened(tmp_path / "a.h5") as file:
        assert h5py.check_string_dtype(file.attrs.get_id("identity").dtype).length == 3
        assert h5py.check_string_dtype(file.attrs.get_id("case").dtype).length is None
        assert file.attrs["identity"] == b"abc"


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        shard.write(tmp_path / "a.h5", {"x": ARRAYS["x"], "unknown": ARRAYS["y"]}, FIELDS, {})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("schema", [2, "1.0", None])
def test_another_schema_is_refused(path: Path, schema: int | str | None) -> None:
    with h5py.File(path, "a") as file:
        del file.attrs["kilonode_schema"]
        if schema is not None:
            file.attrs["kilonode_schema"] = schema
    line = f"expected a kilonode file of schema 1, got {schema} ({path}); rerun preprocess"
    assert problems(lambda: opened(path)) == [line]
    with shard.opened_foreign(path) as file:  # somebody else's data
        assert shard.names(file, path) == ["deep/z", "none", "x", "y"]


def test_what_is_no_hdf5_file_is_refused(path: Path, tmp_path: Path) -> None:
    text, empty, short = tmp_path / "text.h5", tmp_path / "empty.h5", tmp_path / "short.h5"
    text.write_text("x,y\n1,2\n")
    empty.touch()
    short.write_bytes(path.read_bytes()[:-1])
    advice = "make or copy it again"
    for bad, reason in {text: "file signature not found", empty: "file signature not found"}.items():
        assert problems(lambda p=bad: opened(p)) == [f"expected a complete HDF5 file, got {reason} ({bad}); {advice}"]
    (line,) = problems(lambda: opened(short))
    assert line.startswith("expected a complete HDF5 file, got truncated file: eof = ")
    assert line.endswith(f" ({short}); {advice}")
    for bad, found in {tmp_path: "something else", tmp_path / "none.h5": "nothing"}.items():
        (line,) = problems(lambda p=bad: opened(p))
        assert line.startswith(f"expected an HDF5 file, got {found} ({bad}); ")


def _external_link(file: h5py.File) -> None:
    file["bad"] = h5py.ExternalLink("/etc/passwd", "/x")


def _dangling_link(file: h5py.File) -> None:
    file["bad"] = h5py.SoftLink("/nowhere")


def _soft_cycle(file: h5py.File) -> None:
    file["bad"] = h5py.SoftLink("/bad")


def _soft_link_to_parent(file: h5py.File) -> None:
    file["deep/bad"] = h5py.SoftLink("/deep")


def _hard_cycle(file: h5py.File) -> None:
    file["deep/er/bad"] = file["deep"]


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((7,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (7,))
    file.create_virtual_dataset("bad", layout)


def _external_storage(file: h5py.File) -> None:
    file.create_dataset("bad", (7,), "u1", external=[("/etc/passwd", 0, 7)])


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (_external_link, "expected no external links, got one (dataset 'bad' in F); copy the data into the file"),
        (_dangling_link, "expected a readable object, got a broken link (dataset 'bad' in F); make the file again"),
        (_soft_cycle, "expected a readable object, got a broken link (dataset 'bad' in F); make the file again"),
        (_soft_link_to_parent, "expected a tree, got a cycle (group 'deep/bad' in F); remove the link"),
        (_hard_cycle, "expected a tree, got a cycle (group 'deep/er/bad' in F); remove the link"),
        (
            _virtual,
            "expected data inside the file, got a virtual or external dataset (dataset 'bad' in F); "
            "copy the data into it",
        ),
        (
            _external_storage,
            "expected data inside the file, got a virtual or external dataset (dataset 'bad' in F); "
            "copy the data into it",
        ),
    ],
)
def test_data_outside_the_file_and_loops_are_refused(
    path: Path, change: Callable[[h5py.File], None], line: str
) -> None:
    with h5py.File(path, "a") as file:
        file.require_group("deep/er")
        change(file)
    assert problems(lambda: opened(path)) == [line.replace("F)", f"{path})")]


def test_a_link_to_a_dataset_in_the_same_file_is_a_name(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["hard"], file["soft"] = file["x"], h5py.SoftLink("/deep/z")
    assert opened(path) == ["deep/z", "hard", "none", "soft", "x", "y"]


def test_a_deep_nest_is_refused_not_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "deep.h5"
    with h5py.File(path, "w") as file:
        file.attrs["kilonode_schema"] = shard.SCHEMA
        group = file
        for _ in range(1200):
            group = group.create_group("g")
    (line,) = problems(lambda: opened(path))
    assert line.startswith("expected a complete HDF5 file, got maximum recursion depth exceeded")


def test_a_shard_is_held_against_its_description_all_at_once(path: Path) -> None:
    fields = {
        "x": {"shape": [2, 3], "dtype": "float32"},
        "y": {"shape": [], "dtype": "int64"},
        "deep/z": {"shape": [2], "dtype": "int64"},
        "w": {"shape": [], "dtype": "float32"},
    }
    with shard.opened(path) as file:
        found = problems(lambda: shard.verify(file, path, fields, 7))
    assert found == [
        f"expected dataset 'deep/z' of shape (7, 2), int64, got (7,), int64 ({path}); rerun preprocess",
        f"expected dataset 'w', got none ({path}); rerun preprocess",
        f"expected dataset 'y' of shape (7,), int64, got (7,), uint8 ({path}); rerun preprocess",
        f"expected no dataset 'none', got one ({path}); rerun preprocess",
    ]
    fine = {name: {"shape": list(array.shape[1:]), "dtype": str(array.dtype)} for name, array in ARRAYS.items()}
    with shard.opened(path) as file:
        assert len(problems(lambda: shard.verify(file, path, fine, 7))) == 1  # 'none' has 0 samples
        assert len(problems(lambda: shard.verify(file, path, fine, 6))) == 4


def test_big_endian_data_are_another_type(tmp_path: Path) -> None:
    path = tmp_path / "big.h5"
    shard.write(path, {"x": ARRAYS["x"].astype(">f4")}, FIELDS, {})
    with shard.opened(path) as file:
        found = problems(lambda: shard.verify(file, path, {"x": {"shape": [2, 3], "dtype": "float32"}}, 7))
    assert len(found) == 1
    assert "got (7, 2, 3), >f4" in found[0]


def test_values_that_are_not_finite_are_named() -> None:
    where = Path("run7.h5")
    shard.refuse_non_finite("x", np.array([1, 2]), where)
    shard.refuse_non_finite("x", np.array([1.5, -2.5]), where)
    x = np.zeros((3, 2), np.float32)
    x[1, 1], x[2, 0] = np.nan, -np.inf
    line = "expected finite values in 'x', got nan at ({}, 1) and 1 more (run7.h5); mend or mask them at the source"
    assert problems(lambda: shard.refuse_non_finite("x", x, where)) == [line.format(1)]
    assert problems(lambda: shard.refuse_non_finite("x", x, where, start=100)) == [line.format(101)]
    assert "got inf at ()" in problems(lambda: shard.refuse_non_finite("x", np.array(np.inf), where))[0]
