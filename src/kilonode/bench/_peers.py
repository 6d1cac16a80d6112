"""What the I/O benchmark starts, one process a reader: ``python -m kilonode.bench._peers JSON``.

``make`` writes the same samples in every form. Every other reader opens one form, which is not timed, and gives the
batches of an epoch; printed is how long each was waited for. The first value of a sample is its number, and so is its
label: a reader that loses, doubles or mixes up samples fails.

Shape legend: N samples, B of a batch.
"""

from __future__ import annotations

import io
import json
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from kilonode.data import shard
from kilonode.data.loader import Loader
from kilonode.data.store import Store
from kilonode.records import Json, file_digest, write_json

Batch = tuple[Any, Any]
"""Images (B, ...) float32 and labels (B,) int64."""
Epoch = Callable[[int], Iterator[Batch]]
CHUNK = 64
"""Samples of a chunk, and of a batch."""
WORKERS = 2
TARS, MIXED = 8, 1000
"""Files of webdataset, and samples that it mixes, as its manual has it."""
FIELDS: Json = {
    "x": {"dtype": "float32", "unit": "1", "long_name": "image"},
    "y": {"dtype": "int64", "unit": "1", "long_name": "number of the sample", "shape": []},
}


@dataclass(frozen=True)
class Plan:
    """What one process does: ``reader``, a name in ``READERS`` or make, reads ``form``, a folder in ``folder``.

    ``batches`` ends it early; ``rehearse`` reads an epoch before the one that is timed.
    """

    reader: str
    folder: str
    samples: int
    shape: tuple[int, ...]
    window: int
    form: str = ""
    compression: str = "lz4"
    seed: int = 0
    batches: int | None = None
    rehearse: bool = True

    def path(self, name: str = "") -> Path:
        """A file of the form."""
        return Path(self.folder, self.form, name)

    def shuffled(self, epoch: int) -> Iterator[np.ndarray]:
        """Rows of every batch, perfectly shuffled."""
        rows = np.random.default_rng([self.seed, epoch]).permutation(self.samples)
        for number, start in enumerate(range(0, self.samples, CHUNK)):
            if self.batches is None or number < self.batches:
                yield rows[start : start + CHUNK]


def make(plan: Plan) -> None:
    """Write all forms: noise of a detector, digitised, so that it can be compressed to about half."""
    rng = np.random.default_rng(0)
    x = np.empty((plan.samples, *plan.shape), np.float32)
    for part in np.array_split(x, max(1, len(x) // 1024)):
        part[...] = np.rint(rng.standard_normal(part.shape, np.float32) * 8) / 8
    y = np.arange(plan.samples)
    x.reshape(len(x), -1)[:, 0] = y
    paths = {form: Path(plan.folder, form, "train.h5") for form in ("contiguous", "compressed", "chunked", "single")}
    for form, compression in (("contiguous", "none"), ("compressed", plan.compression)):
        shard.write(paths[form], {"x": x, "y": y}, FIELDS, {"identity": b"bench"}, compression)
    _hdf5(paths["chunked"], x, y, min(CHUNK, len(x)), {})
    _hdf5(paths["single"], x, y, 1, _filter(plan.compression))
    for path in paths.values():
        _index(path, plan)
    _tars(Path(plan.folder, "tar"), x, y)
    if find_spec("zarr"):
        _zarr(Path(plan.folder, "zarr"), x, y)
    if find_spec("streaming"):
        _streaming(Path(plan.folder, "streaming"), x, y)


def _filter(compression: Any) -> Any:
    import hdf5plugin

    return hdf5plugin.Blosc(cname=compression, clevel=5, shuffle=hdf5plugin.Blosc.SHUFFLE)


def _hdf5(path: Path, x: np.ndarray, y: np.ndarray, chunk: int, compression: Any) -> None:
    """An HDF5 file as others write them, with what a store asks of its shards."""
    path.parent.mkdir()
    with h5py.File(path, "w") as file:
        file.attrs.update({"kilonode_schema": shard.SCHEMA, "identity": np.bytes_(b"bench")})
        file.create_dataset("x", data=x, chunks=(chunk, *x.shape[1:]), **compression)
        file["y"] = y
        for name, spec in FIELDS.items():
            file[name].attrs.update(unit=spec["unit"], long_name=spec["long_name"])


def _index(path: Path, plan: Plan) -> None:
    """Make one file a store."""
    data = {"bytes": path.stat().st_size, "sha256": file_digest(path)}
    shards = [{"file": path.name, "split": "train", "rows": plan.samples, "data": data}]
    index: Json = {"kilonode_schema": shard.SCHEMA, "identity": "bench", "shards": shards}
    index["fields"] = {"x": {**FIELDS["x"], "shape": list(plan.shape)}, "y": FIELDS["y"]}
    write_json(path.with_name("index.json"), {**index, "rows": {"train": plan.samples, "validation": 0, "test": 0}})


def _tars(folder: Path, x: np.ndarray, y: np.ndarray) -> None:
    """Shards of webdataset; images are bare bytes, which it hands on as they are."""
    folder.mkdir()
    for number, rows in enumerate(np.array_split(y, TARS)):
        with tarfile.open(folder / f"{number:05d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for row in rows.tolist():
                for kind, content in (("x", x[row].tobytes()), ("y", str(row).encode())):
                    member = tarfile.TarInfo(f"{row:08d}.{kind}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))


def _zarr(folder: Path, x: np.ndarray, y: np.ndarray) -> None:
    import zarr

    for name, array in (("x", x), ("y", y)):
        chunks = (min(CHUNK, len(x)), *array.shape[1:])
        zarr.create_array(folder / name, data=array, chunks=chunks, compressors=None)


def _streaming(folder: Path, x: np.ndarray, y: np.ndarray) -> None:
    columns = {"x": f"ndarray:float32:{','.join(map(str, x.shape[1:]))}", "y": "int"}
    with import_module("streaming").MDSWriter(out=str(folder), columns=columns) as writer:
        for image, label in zip(x, y.tolist(), strict=True):
            writer.write({"x": image, "y": label})


def ours(plan: Plan) -> Epoch:
    """Read through our loader, shuffled."""
    loader = Loader(Store(plan.path("index.json"), "train"), ["x", "y"], CHUNK, plan.seed, window_bytes=plan.window)

    def epoch(number: int) -> Iterator[Batch]:
        for share in loader.epoch(number):
            yield share.fields["x"], share.fields["y"]

    return epoch


def blocks(plan: Plan) -> Epoch:
    """Read the file in its order, a chunk at a time, into the same memory: nothing that uses HDF5 is faster."""
    file = h5py.File(plan.path("train.h5"), "r")
    x, y = file["x"], file["y"]
    images, labels = np.empty((CHUNK, *plan.shape), np.float32), np.empty(CHUNK, np.int64)

    def epoch(number: int) -> Iterator[Batch]:
        for start in range(0, plan.samples, CHUNK):
            stop = min(start + CHUNK, plan.samples)
            there, here = np.s_[start:stop], np.s_[: stop - start]
            x.read_direct(images, there, here)
            y.read_direct(labels, there, here)
            yield images[here], labels[here]

    return epoch


def single(plan: Plan) -> Epoch:
    """Read shuffled, one image after the other; the labels are in memory, as an experienced user has them."""
    x, y = _file(plan.path("train.h5"))
    images = np.empty((CHUNK, *plan.shape), np.float32)

    def epoch(number: int) -> Iterator[Batch]:
        for rows in plan.shuffled(number):
            for place, row in enumerate(rows):
                images[place] = x[row]
            yield images[: len(rows)], y[rows]

    return epoch


def fancy(plan: Plan) -> Epoch:
    """Read shuffled batches, each by one sorted list of rows; the labels are in memory."""
    x, y = _file(plan.path("train.h5"))
    return lambda number: ((x[rows], y[rows]) for rows in map(np.sort, plan.shuffled(number)))


def _file(path: Path) -> tuple[Any, np.ndarray]:
    """Images on disk, labels in memory."""
    import hdf5plugin  # noqa: F401 - registers the filters

    file = h5py.File(path, "r")
    return file["x"], file["y"][()]


class Lazy:
    """A data set of torch over one HDF5 file, opened by each worker: an open file does not survive a fork."""

    def __init__(self, path: Path, samples: int) -> None:
        self._path, self._samples = path, samples
        self._read: Any = None

    def __len__(self) -> int:
        return self._samples

    def __getitem__(self, row: int) -> Batch:
        self._read = self._read or _file(self._path)
        x, y = self._read
        return x[row], y[row]


def torch_loader(plan: Plan) -> Epoch:
    """Read by torch's DataLoader, whose workers live over all epochs."""
    data: Any = Lazy(plan.path("train.h5"), plan.samples)
    return _by_torch(data, plan, batch_size=CHUNK, shuffle=True)


def _by_torch(data: Any, plan: Plan, **options: Any) -> Epoch:
    import torch

    torch.manual_seed(plan.seed)
    loader = torch.utils.data.DataLoader(data, num_workers=WORKERS, persistent_workers=True, **options)
    return lambda number: iter(loader)


def webdataset(plan: Plan) -> Epoch:
    """Read tar shards; batches are made in the workers, as its manual advises."""
    urls = [str(path) for path in sorted(plan.path().glob("*.tar"))]
    data = import_module("webdataset").WebDataset(urls, shardshuffle=TARS, seed=plan.seed).shuffle(MIXED)
    data = data.map(lambda file: (np.frombuffer(file["x"], np.float32).reshape(plan.shape), int(file["y"])))
    return _by_torch(data.batched(CHUNK), plan, batch_size=None)


def zarr(plan: Plan) -> Epoch:
    """Read whole chunks in random order, each mixed in memory."""
    import zarr as library

    x, y = (library.open_array(plan.path(name), mode="r") for name in "xy")

    def epoch(number: int) -> Iterator[Batch]:
        rng = np.random.default_rng([plan.seed, number])
        for chunk in rng.permutation(-(-plan.samples // CHUNK)).tolist():
            part = np.s_[chunk * CHUNK : min((chunk + 1) * CHUNK, plan.samples)]
            images, labels = np.asarray(x[part]), np.asarray(y[part])
            mixed = rng.permutation(len(labels))
            yield images[mixed], labels[mixed]

    return epoch


def streaming(plan: Plan) -> Epoch:
    """Read shards of mosaicml-streaming."""
    data = import_module("streaming").StreamingDataset(local=str(plan.path()), shuffle=True, batch_size=CHUNK)
    epoch: Any = _by_torch(data, plan, batch_size=CHUNK)
    return lambda number: ((batch["x"], batch["y"]) for batch in epoch(number))


READERS: dict[str, Callable[[Plan], Epoch]] = {
    reader.__name__: reader for reader in (ours, blocks, single, fancy, torch_loader, webdataset, zarr, streaming)
}


def timed(batches: Iterator[Batch], plan: Plan) -> Json:
    """Take every batch, look at its samples, and say how long it all took.

    Raises
    ------
    RuntimeError
        Samples are missing, doubled or mixed up.
    """
    waits, seen, nbytes = [], np.zeros(plan.samples, np.int64), 0
    start = last = time.perf_counter()
    for x, y in batches:
        waits.append(time.perf_counter() - last)
        images, labels = np.asarray(x), np.asarray(y)
        seen += np.bincount(labels, minlength=len(seen))
        nbytes += images.nbytes + labels.nbytes
        if not np.array_equal(images.reshape(len(labels), -1)[:, 0], labels):
            raise RuntimeError(f"{plan.reader}, {plan.form}: images and labels do not belong together")
        last = time.perf_counter()
    seconds = time.perf_counter() - start
    if seen.max() > 1 or (plan.batches is None and not seen.all()):
        raise RuntimeError(f"{plan.reader}, {plan.form}: {(seen != 1).sum()} samples missing or doubled")
    p50, p99 = np.percentile(waits, [50, 99]).tolist()
    return {"samples": int(seen.sum()), "bytes": nbytes, "seconds": seconds, "p50": p50, "p99": p99}


def fetched() -> int:
    """Bytes that this process had from the disk so far, and not from the cache."""
    return int(Path("/proc/self/io").read_text().partition("\nread_bytes: ")[2].split()[0])


def main(text: str) -> None:
    """Do what a plan in JSON says; the last line printed is the result."""
    asked = json.loads(text)
    plan = Plan(**{**asked, "shape": tuple(asked["shape"])})
    if plan.reader == "make":
        make(plan)
        return
    epoch = READERS[plan.reader](plan)
    if plan.rehearse:
        for _ in epoch(0):
            pass
    before = fetched()
    print(json.dumps({**timed(epoch(1), plan), "fetched": fetched() - before}))


if __name__ == "__main__":
    main(sys.argv[1])
