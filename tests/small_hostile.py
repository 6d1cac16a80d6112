"""Stores of one shard, and everything that the tests do to them to make them bad."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from kilonode.cases.ragged import ragged
from kilonode.data import shard
from kilonode.records import digest

NAME = "train-00000.h5"
IDENTITY = "0" * 64
Json = dict[str, Any]
Change = Callable[[h5py.File], object]
GROUPS = {"train": [0, 1, 2], "validation": [3], "test": [4, 5]}


@dataclass(frozen=True)
class Valid:
    """A shard, and the index that knows it."""

    content: bytes
    index: Json

    def indexed(self, content: bytes, forged: bool) -> Json:
        """The index beside other content; forged: made for it."""
        index = copy.deepcopy(self.index)
        index["shards"][0]["data"]["bytes"] = len(content)
        if forged:
            index["shards"][0]["data"]["sha256"] = hashlib.sha256(content).hexdigest()
        return index


def valid(path: Path, kind: str) -> Valid:
    """A store that is ``dense``, ``packed`` (compressed chunks) or ``jagged`` (fields of unequal length)."""
    random = np.random.default_rng(0)
    rows = {"dense": 9, "packed": 3000, "jagged": 40}[kind]
    arrays: dict[str, Any] = {"group": np.arange(rows) % 3}
    if kind == "jagged":
        arrays["x"] = ragged([random.random((count, 3)).astype(np.float32) for count in random.integers(0, 9, rows)])
    else:
        arrays["x"] = random.integers(0, 4, (rows, 2, 4)).astype(np.float32)
    fields: Json = {
        "x": {"unit": "pe", "long_name": "charge", "shape": [2, 4], "dtype": "float32"},
        "group": {"unit": "1", "long_name": "run", "shape": [], "dtype": "int64"},
    }
    if kind == "jagged":
        fields["x"] |= {"shape": [3], "layout": "ragged"}
    attributes = {"case": "c", "source": "s", "simulated": True, "identity": IDENTITY.encode()}
    shard.write(path, arrays, fields, attributes, "lz4" if kind == "packed" else "none")
    content = path.read_bytes()
    promised = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    index = {
        "kilonode_schema": 1,
        "identity": IDENTITY,
        "fields": fields,
        "rows": {"train": rows, "validation": 0, "test": 0},
        "shards": [{"file": NAME, "split": "train", "rows": rows, "data": promised}],
        "groups": GROUPS,
        "split_sha256": digest(GROUPS),
    }
    return Valid(content, index)


def cut(content: bytes, parts: int) -> Iterator[tuple[str, bytes]]:
    """Truncations."""
    for k in range(1, parts):
        yield f"cut_{k:02d}", content[: len(content) * k // parts]
    yield f"cut_{parts}", content[:-1]


def flipped(content: bytes, positions: list[int]) -> Iterator[tuple[str, bytes]]:
    """One bit each."""
    for position in positions:
        other = bytearray(content)
        other[position] ^= 1 << (position % 8)
        yield f"flip_{position}", bytes(other)


def positions(path: Path, count: int) -> list[int]:
    """Of the superblock, of the headers (what is not data), and of the data or its compressed chunks."""
    inside: list[tuple[int, int]] = []
    with h5py.File(path) as file:
        for name in shard.names(file, path):
            data = file[name].id
            if file[name].chunks is None:
                inside.append((data.get_offset(), data.get_storage_size()))
            else:
                infos = [data.get_chunk_info(k) for k in range(data.get_num_chunks())]
                inside += [(info.byte_offset, info.size) for info in infos]
    size = path.stat().st_size
    is_data = np.zeros(size, bool)
    for start, length in inside:
        is_data[start : start + length] = True
    found = list(range(0, 96, 96 // count))
    for places in (np.flatnonzero(~is_data), np.flatnonzero(is_data)):
        found += [int(place) for place in places[:: max(1, len(places) // count)]]
    return sorted(set(found))


def edited(path: Path, content: bytes, change: Change) -> bytes:
    """The file after a change through HDF5."""
    path.write_bytes(content)
    with h5py.File(path, "a") as file:
        change(file)
    return path.read_bytes()


def replaced(name: str, array: Any, **options: Any) -> Change:
    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, data=array, **options)

    return change


def empty(name: str, shape: tuple[int, ...], **options: Any) -> Change:
    """A dataset that nothing was ever written to."""

    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, shape, "f4", **options)

    return change


def linked(name: str, link: object) -> Change:
    def change(file: h5py.File) -> None:
        if name in file:
            del file[name]
        file[name] = link

    return change


def put(name: str, where: Any, value: Any) -> Change:
    """One value of a dataset."""

    def change(file: h5py.File) -> None:
        file[name][where] = value

    return change


def hard_cycle(file: h5py.File) -> None:
    inner = file.create_group("a/b")
    inner["c"] = file["a"]


def lattice(file: h5py.File) -> None:
    """No cycle, but 2^40 paths."""
    group = file.create_group("g")
    for _ in range(40):
        inner = group.create_group("a")
        group["b"] = inner
        group = inner


def virtual(source: str, shape: tuple[int, ...] = (9, 2, 4)) -> Change:
    def change(file: h5py.File) -> None:
        layout = h5py.VirtualLayout(shape, "f4")
        layout[:] = h5py.VirtualSource(source, "x", shape)
        del file["x"]
        file.create_virtual_dataset("x", layout)

    return change


def external(file: h5py.File) -> None:
    del file["x"]
    file.create_dataset("x", (9, 2, 4), "f4", external=[("/etc/passwd", 0, 288)])


def objects(file: h5py.File) -> None:
    del file["x"]
    dataset = file.create_dataset("x", (9,), h5py.ref_dtype)
    dataset[:] = file["group"].ref


def attribute(name: str, value: Any) -> Change:
    return lambda file: file.attrs.__setitem__(name, value)


# What a dense file becomes -> what `check` says although the index was made for it.
DENSE: dict[str, tuple[Change, str]] = {
    "float16": (replaced("x", np.zeros((9, 2, 4), "f2")), "dataset 'x' of shape (9, 2, 4), float32, got (9, 2, 4), fl"),
    "big_endian": (replaced("x", np.zeros((9, 2, 4), ">f4")), "dataset 'x' of shape"),
    "integers": (replaced("x", np.zeros((9, 2, 4), "i4")), "dataset 'x' of shape"),
    "booleans": (replaced("x", np.zeros((9, 2, 4), bool)), "dataset 'x' of shape"),
    "complex": (replaced("x", np.zeros((9, 2, 4), "c8")), "dataset 'x' of shape"),
    "compound": (replaced("x", np.zeros((9, 2, 4), [("a", "f4")])), "dataset 'x' of shape"),
    "strings": (replaced("x", ["a"] * 9), "dataset 'x' of shape"),
    "vlen": (replaced("x", ["a"] * 9, dtype=h5py.string_dtype()), "dataset 'x' of shape"),
    "references": (objects, "dataset 'x' of shape (9, 2, 4), float32, got (9,), object"),
    "void": (replaced("x", np.zeros((9, 2, 4), "V4")), "dataset 'x' of shape"),
    "scalar": (replaced("x", np.float32(1)), "dataset 'x' of shape (9, 2, 4), float32, got (), float32"),
    "flat": (replaced("x", np.zeros(9, "f4")), "dataset 'x' of shape"),
    "one_axis_more": (replaced("x", np.zeros((9, 2, 4, 1), "f4")), "dataset 'x' of shape"),
    "one_row_more": (replaced("x", np.zeros((10, 2, 4), "f4")), "dataset 'x' of shape"),
    "zero_samples": (replaced("x", np.zeros((0, 2, 4), "f4")), "dataset 'x' of shape"),
    "zero_channels": (replaced("x", np.zeros((9, 0, 4), "f4")), "dataset 'x' of shape"),
    "thirty_axes": (replaced("x", np.zeros((1,) * 30, "f4")), "dataset 'x' of shape"),
    "group_of_reals": (replaced("group", np.zeros(9)), "dataset 'group' of shape (9,), int64, got (9,), float64"),
    "no_group": (lambda file: file.pop("group"), "expected dataset 'group', got none"),
    "nothing": (lambda file: file.clear(), "expected dataset 'group', got none"),
    "a_group_for_x": (lambda file: (file.pop("x"), file.create_group("x")), "expected dataset 'x', got none"),
    "infinite": (put("x", (8, 1, 3), np.inf), "expected finite values in 'x', got inf at (8, 1, 3) and 0 more"),
    "minus_infinite": (put("x", (0, 0, 0), -np.inf), "expected finite values in 'x', got -inf at (0, 0, 0)"),
    "all_nan": (put("x", ..., np.nan), "expected finite values in 'x', got nan at (0, 0, 0) and 71 more"),
    "never_written": (empty("x", (9, 2, 4)), "expected 288 bytes in dataset 'x', got 0"),
    "never_written_chunks": (empty("x", (9, 2, 4), chunks=(1, 2, 4)), "expected 288 bytes in dataset 'x', got 0"),
    "some_chunks": (
        lambda file: (empty("x", (9, 2, 4), chunks=(1, 2, 4))(file), put("x", 3, 1.0)(file)),
        "expected 9 chunks in dataset 'x', got 1",
    ),
    "odd_chunks": (replaced("x", np.zeros((9, 2, 4), "f4"), chunks=(9, 1, 3)), "of whole rows in dataset 'x'"),
    "huge_chunks": (
        replaced("x", np.zeros((9, 2, 4), "f4"), chunks=(2**20, 2, 4), maxshape=(None, 2, 4), compression="gzip"),
        "expected chunks within dataset 'x', got (1048576, 2, 4)",
    ),
    "two_petabytes": (empty("x", (2**44, 2, 4), chunks=(2**10, 2, 4)), "dataset 'x' of shape"),
    "wide": (empty("x", (9, 2**30, 2**30), chunks=(1, 1, 1024)), "dataset 'x' of shape"),
    "unlimited": (empty("x", (2**62,), chunks=(1,), maxshape=(None,)), "dataset 'x' of shape"),
    "deep_external_link": (linked("a/b/c", h5py.ExternalLink("other.h5", "/x")), "external links, got one (dataset 'a"),
    "link_to_itself": (linked("x", h5py.ExternalLink(NAME, "/x")), "external links, got one (dataset 'x'"),
    "two_soft_links": (
        lambda file: (linked("x", h5py.SoftLink("/y"))(file), linked("y", h5py.SoftLink("/x"))(file)),
        "a broken link (dataset 'x'",
    ),
    "soft_link_to_the_root": (linked("a", h5py.SoftLink("/")), "got a cycle (group 'a'"),
    "hard_link_to_the_root": (lambda file: file.__setitem__("a", file["/"]), "got a cycle (group 'a'"),
    "cycle_of_two": (lambda file: (file.create_group("a"), file["a"].__setitem__("b", file["/"])), "(group 'a/b'"),
    "lattice": (lattice, "does not end with ("),
    "deep": (lambda file: file.create_group("/".join("g" * 3000)), "a complete HDF5 file, got maximum recursion"),
    "deep_with_data": (lambda file: file.create_dataset("/".join("g" * 99), data=1.0), "expected no dataset 'g/g/g/"),
    "alias": (lambda file: file.__setitem__("y", file["x"]), "expected no dataset 'y', got one"),
    "virtual_inside": (virtual("."), "virtual or external dataset (dataset 'x'"),
    "virtual_above": (virtual("../../secret.h5"), "virtual or external dataset (dataset 'x'"),
    "virtual_elsewhere": (virtual("/etc/passwd"), "virtual or external dataset (dataset 'x'"),
    "virtual_huge": (virtual("other.h5", (2**40, 2, 4)), "virtual or external dataset (dataset 'x'"),
    "other_identity": (attribute("identity", np.bytes_("1" * 64)), "got one of another"),
    "no_identity": (lambda file: file.attrs.pop("identity"), "got one of another"),
    "identity_of_numbers": (attribute("identity", np.arange(4)), "expected a "),
    "schema_of_text": (attribute("kilonode_schema", "1"), "expected a kilonode file of schema 1, got 1"),
    "schema_of_numbers": (attribute("kilonode_schema", np.array([1, 2])), "expected a complete HDF5 file, got "),
}  # fmt: skip

ZEROS = np.zeros((3000, 2, 4), "f4")
PACKED: dict[str, tuple[Change, str]] = {
    "nan": (put("x", (2999, 1, 3), np.nan), "expected finite values in 'x', got nan at (2999, 1, 3) and 0 more"),
    "float64": (replaced("x", ZEROS.astype("f8"), chunks=(100, 2, 4)), "dataset 'x' of shape (3000, 2, 4), float32"),
    "short": (replaced("x", ZEROS[:-1], chunks=(100, 2, 4), compression="gzip"), "dataset 'x' of shape"),
    "odd_chunks": (replaced("x", ZEROS, chunks=(3000, 2, 1), compression="gzip"), "of whole rows in dataset 'x'"),
    "chunks_beyond": (
        replaced("x", ZEROS, chunks=(4000, 2, 4), maxshape=(None, 2, 4), compression="gzip"),
        "expected chunks within dataset 'x', got (4000, 2, 4)",
    ),
    "three_chunks_missing": (
        lambda file: (empty("x", (3000, 2, 4), chunks=(500, 2, 4))(file), put("x", slice(1500), 1.0)(file)),
        "expected 6 chunks in dataset 'x', got 3",
    ),
    "bomb": (
        lambda file: file.create_dataset("y", data=np.zeros(2**25, "u1"), chunks=(2**25,), compression="gzip"),
        "expected no dataset 'y', got one",
    ),
    "not_decodable": (
        lambda file: file["x"].id.write_direct_chunk((0, 0, 0), b"\x02\x01!\x04" + b"\xff" * 60),
        "expected dataset 'x' as it was",
    ),
    "too_small_a_chunk": (lambda file: file["x"].id.write_direct_chunk((0, 0, 0), b"\0" * 7), "dataset 'x' as it was"),
}  # fmt: skip


def shifted(*edits: tuple[int, int]) -> Change:
    """Offsets with some values changed."""

    def change(file: h5py.File) -> None:
        for place, value in edits:
            file["x/offsets"][place] = value

    return change


def offsets(make: Callable[[np.ndarray], np.ndarray]) -> Change:
    def change(file: h5py.File) -> None:
        found = make(file["x/offsets"][()])
        del file["x/offsets"]
        file["x/offsets"] = found

    return change


def values(make: Callable[[np.ndarray], np.ndarray]) -> Change:
    def change(file: h5py.File) -> None:
        found = make(file["x/values"][()])
        del file["x/values"]
        file["x/values"] = found

    return change


RISE, OFFSETS, VALUES = "expected offsets of 'x' to rise", "dataset 'x/offsets' of shape", "dataset 'x/values' of shape"
JAGGED: dict[str, tuple[Change, str]] = {
    "negative_first": (shifted((0, -1)), RISE),
    "not_from_zero": (shifted((0, 1)), RISE),
    "negative": (shifted((20, -5)), RISE),
    "most_negative": (shifted((20, -(2**63))), RISE),
    "decreasing": (shifted((20, 0)), RISE),
    "too_large": (shifted((20, 2**40)), RISE),
    "largest": (shifted((20, 2**63 - 1)), RISE),
    "last_too_large": (shifted((40, 10**6)), RISE),
    "last_too_small": (shifted((40, 0)), RISE),
    "wraps_around": (shifted((19, 2**63 - 1), (20, -(2**63))), RISE),
    "all_zero": (offsets(np.zeros_like), RISE),
    "reversed": (offsets(lambda found: found[::-1]), RISE),
    "int32": (offsets(lambda found: found.astype("i4")), OFFSETS),
    "uint64": (offsets(lambda found: found.astype("u8")), OFFSETS),
    "reals": (offsets(lambda found: found.astype("f8")), OFFSETS),
    "one_less": (offsets(lambda found: found[:-1]), OFFSETS),
    "one_more": (offsets(lambda found: np.append(found, found[-1])), OFFSETS),
    "no_offset": (offsets(lambda found: found[:0]), OFFSETS),
    "two_axes": (offsets(lambda found: found[:, None]), OFFSETS),
    "offsets_gone": (lambda file: file.pop("x/offsets"), "expected dataset 'x/offsets', got none"),
    "values_gone": (lambda file: file.pop("x/values"), "expected dataset 'x/values', got none"),
    "field_gone": (lambda file: file.pop("x"), "expected dataset 'x/offsets', got none"),
    "dense": (replaced("x", np.zeros((40, 3), "f4")), "expected dataset 'x/offsets', got none"),
    "values_of_doubles": (values(lambda found: found.astype("f8")), VALUES),
    "values_of_another_shape": (values(lambda found: found[:, :2]), VALUES),
    "fewer_values": (values(lambda found: found[:-1]), RISE),
    "more_values": (values(lambda found: np.concatenate([found, found])), RISE),
    "no_values": (values(lambda found: found[:0]), RISE),
    "one_value": (values(lambda found: found[0, 0]), "dataset 'x/values'"),
    "nan": (put("x/values", (7, 2), np.nan), "expected finite values in 'x/values', got nan at (7, 2)"),
    "infinite": (put("x/values", 0, np.inf), "expected finite values in 'x/values', got inf at (0, 0)"),
    "external_offsets": (linked("x/offsets", h5py.ExternalLink("o.h5", "/o")), "links, got one (dataset 'x/offsets'"),
    "soft_values": (linked("x/values", h5py.SoftLink("/nowhere")), "a broken link (dataset 'x/values'"),
    "a_third": (lambda file: file.__setitem__("x/weights", [1.0]), "expected no dataset 'x/weights', got one"),
}  # fmt: skip


def at(*where: str | int, to: Any) -> Callable[[Json], object]:
    """Set one place of the index."""

    def change(content: Json) -> None:
        inner: Any = content
        for key in where[:-1]:
            inner = inner[key]
        inner[where[-1]] = to

    return change


def without(*where: str | int) -> Callable[[Json], object]:
    def change(content: Json) -> None:
        inner: Any = content
        for key in where[:-1]:
            inner = inner[key]
        del inner[where[-1]]

    return change


SHARD, X = ("shards", 0), ("fields", "x")
INDEX: dict[str, tuple[Callable[[Json], object], str]] = {
    "no_schema": (without("kilonode_schema"), "expected a store of schema 1, got None"),
    "schema_99": (at("kilonode_schema", to=99), "expected a store of schema 1, got 99"),
    "schema_of_text": (at("kilonode_schema", to="1"), "expected a store of schema 1, got '1'"),
    "no_identity": (without("identity"), "expected an identity, got None"),
    "identity_number": (at("identity", to=5), "expected an identity, got 5"),
    "other_identity": (at("identity", to="1" * 64), "got one of another"),
    "no_fields": (without("fields"), "expected fields, got None"),
    "empty_fields": (at("fields", to={}), "expected fields, got {}"),
    "list_of_fields": (at("fields", to=["x"]), "expected fields, got ['x']"),
    "field_null": (at(*X, to=None), "type of numbers for field 'x'"),
    "no_dtype": (without(*X, "dtype"), "type of numbers for field 'x'"),
    "dtype_object": (at(*X, "dtype", to="O"), "type of numbers for field 'x'"),
    "dtype_unknown": (at(*X, "dtype", to="f99"), "type of numbers for field 'x'"),
    "dtype_text": (at(*X, "dtype", to="U5"), "type of numbers for field 'x'"),
    "dtype_complex": (at(*X, "dtype", to="c8"), "type of numbers for field 'x'"),
    "dtype_code": (at(*X, "dtype", to="f4,(2"), "type of numbers for field 'x'"),
    "dtype_list": (at(*X, "dtype", to=[["a", "f4"]]), "type of numbers for field 'x'"),
    "dtype_other": (at(*X, "dtype", to="float64"), "dataset 'x' of shape (9, 2, 4), float64, got"),
    "no_shape": (without(*X, "shape"), "expected a shape for field 'x', got None"),
    "shape_number": (at(*X, "shape", to=8), "expected a shape for field 'x', got 8"),
    "shape_negative": (at(*X, "shape", to=[-2, 4]), "expected a shape for field 'x', got [-2, 4]"),
    "shape_real": (at(*X, "shape", to=[2.0, 4]), "expected a shape for field 'x', got [2.0, 4]"),
    "shape_true": (at(*X, "shape", to=[True, 4]), "expected a shape for field 'x', got [True, 4]"),
    "shape_huge": (at(*X, "shape", to=[2**70, 4]), "expected a shape for field 'x', got [118"),
    "shape_other": (at(*X, "shape", to=[4, 2]), "dataset 'x' of shape (9, 4, 2), float32, got (9, 2, 4)"),
    "layout_unknown": (at(*X, "layout", to="spiral"), "for field 'x', got 'spiral'"),
    "layout_list": (at(*X, "layout", to=[]), "for field 'x', got []"),
    "layout_ragged": (at(*X, "layout", to="ragged"), "expected dataset 'x/offsets', got none"),
    "layout_shared": (at(*X, "layout", to="shared"), "dataset 'x' of shape (2, 4), float32, got (9, 2, 4)"),
    "field_less": (without(*X), "expected no dataset 'x', got one"),
    "field_more": (at("fields", "y", to={"shape": [], "dtype": "f4"}), "expected dataset 'y', got none"),
    "no_shards": (without("shards"), "expected shards, got None"),
    "empty_shards": (at("shards", to=[]), "expected shards, got []"),
    "object_of_shards": (at("shards", to={"file": NAME}), "expected shards, got {"),
    "shard_null": (at(*SHARD, to=None), "name of a file beside the index, got None"),
    "shard_text": (at(*SHARD, to=NAME), "name of a file beside the index, got None"),
    "file_above": (at(*SHARD, "file", to=f"../{NAME}"), "name of a file beside the index, got '../"),
    "file_elsewhere": (at(*SHARD, "file", to="/etc/passwd"), "name of a file beside the index, got '/etc"),
    "file_number": (at(*SHARD, "file", to=5), "name of a file beside the index, got 5"),
    "file_empty": (at(*SHARD, "file", to=""), "name of a file beside the index, got ''"),
    "file_with_nul": (at(*SHARD, "file", to="a\0b"), "name of a file beside the index"),
    "file_with_line": (at(*SHARD, "file", to=f"{NAME}\n"), "name of a file beside the index"),
    "no_split": (without(*SHARD, "split"), "expected a split of train, validation, test, got None"),
    "split_unknown": (at(*SHARD, "split", to="holdout"), "got 'holdout' for train-00000.h5"),
    "split_list": (at(*SHARD, "split", to=["train"]), "got ['train'] for train-00000.h5"),
    "no_rows": (without(*SHARD, "rows"), "expected rows of train-00000.h5, got None"),
    "rows_negative": (at(*SHARD, "rows", to=-9), "expected rows of train-00000.h5, got -9"),
    "rows_real": (at(*SHARD, "rows", to=9.0), "expected rows of train-00000.h5, got 9.0"),
    "rows_text": (at(*SHARD, "rows", to="9"), "expected rows of train-00000.h5, got '9'"),
    "rows_more": (at(*SHARD, "rows", to=10), "expected 10 rows of train as its shards have, got 9"),
    "both_rows_more": (
        lambda content: (at(*SHARD, "rows", to=10)(content), at("rows", "train", to=10)(content)),
        "dataset 'x' of shape (10, 2, 4), float32, got (9, 2, 4)",
    ),
    "no_total": (without("rows"), "expected 9 rows of train as its shards have, got None"),
    "total_list": (at("rows", to=[9]), "expected 9 rows of train as its shards have, got None"),
    "total_of_nothing": (at("rows", "test", to=1), "expected 0 rows of test as its shards have, got 1"),
    "no_data": (without(*SHARD, "data"), "expected size and SHA-256 of train-00000.h5, got {}"),
    "data_list": (at(*SHARD, "data", to=[]), "expected size and SHA-256 of train-00000.h5, got []"),
    "no_hash": (without(*SHARD, "data", "sha256"), "expected size and SHA-256 of train-00000.h5"),
    "short_hash": (at(*SHARD, "data", "sha256", to="00"), "expected size and SHA-256 of train-00000.h5"),
    "other_hash": (at(*SHARD, "data", "sha256", to="0" * 64), "expected SHA-256 000000"),
    "negative_size": (at(*SHARD, "data", "bytes", to=-1), "expected size and SHA-256 of train-00000.h5"),
    "truth_text": (at(*SHARD, "truth", to="yes"), "expected size and SHA-256 of train-00000.h5, got 'yes'"),
    "one_shard_twice": (
        lambda content: (content["shards"].append(content["shards"][0]), at("rows", "train", to=18)(content)),
        "expected every shard once, got one twice",
    ),
    "one_group_twice": (at("groups", "test", to=[2, 5]), "no group in two splits, got 1 in test and train, such as 2"),
    "all_groups_twice": (at("groups", "validation", to=[0, 1, 2]), "got 3 in train and validation, such as 0"),
    "groups_list": (at("groups", to=[1, 2]), "expected groups of each split, got [1, 2]"),
    "groups_of_lists": (at("groups", "train", to=[[1]]), "expected groups of each split"),
    "other_groups": (at("groups", "train", to=[7]), "expected the groups of split_sha256, got others"),
    "both_layouts": (at("tables", to={}), "expected tables, got {}"),
}  # fmt: skip


def texts(index: Json) -> dict[str, bytes]:
    """An index that is no JSON."""
    good = json.dumps(index).encode()
    return {
        "empty": b"",
        "half": good[: len(good) // 2],
        "all_but_the_end": good[:-1],
        "words": b"not JSON",
        "nul": b"\0" * 100,
        "latin": good.replace(b"charge", b"charg\xe9"),
        "twice": good + good,
        "deep": b"[" * 100_000 + b"]" * 100_000,
        "long_number": good.replace(b'"rows": 9', b'"rows": ' + b"9" * 5000),
        "bytes": good.replace(b"{", b"\x1f\x8b", 1),
    }
