"""Our loader against plain block reads, the limit, and against other ways to read shuffled batches, on this machine.

All read the same samples, each in processes of its own that take turns, the order of which rotates. A process opens
its files, reads one epoch as a rehearsal and is timed in the next, first batch included; ``--cold`` adds turns without
the rehearsal, for which the files are put out of the system's cache.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from math import isqrt
from pathlib import Path

import numpy as np

from kilonode.bench import _launch
from kilonode.bench._measure import median, ratio
from kilonode.errors import UserError
from kilonode.progress import progress
from kilonode.records import Json, conditions, figure

BATCH = 64
OF_LIMIT, OVER_PEERS, OVER_FANCY, STEADY, OVER_TORCH = 0.5, 2.0, 50.0, 5.0, 2.0
FANCY_SHARE = 8
"""Sorted fancy indexing, many times slower than all others, reads one batch of so many."""
POLL_S = 0.02
PATIENCE_S = 900.0
MB = 1 << 20
SLACK = 128 * MB
"""What our process may have beside its window: the interpreter, libraries, buffers."""


@dataclass(frozen=True)
class Contender:
    """A reader (``_peers.READERS``) on one form of the samples; what it needs installed, and what is to be known."""

    name: str
    reader: str
    form: str
    needs: str = "h5py"
    note: str = ""

    @property
    def compressed(self) -> bool:
        """Whether its samples are."""
        return self.form in ("compressed", "single")

    @property
    def peer(self) -> bool:
        """Whether it gives shuffled batches and is not ours."""
        return self.reader not in ("blocks", "ours")


WORKERS = "torch DataLoader, 2 workers"
WHOLE = "batches are single chunks, mixed inside: its fastest use, and a poor shuffle"
CONTENDERS = (
    Contender("block read_direct, contiguous", "blocks", "contiguous", note="the limit: in order, one block of memory"),
    Contender("block read_direct, chunked", "blocks", "chunked", note="the limit: in order, one block of memory"),
    Contender("ours, contiguous", "ours", "contiguous"),
    Contender("ours, chunked", "ours", "chunked"),
    Contender("ours, compressed", "ours", "compressed"),
    Contender("h5py by sample, contiguous", "single", "contiguous"),
    Contender("h5py by sample, chunked", "single", "chunked"),
    Contender("h5py sorted fancy index, chunked", "fancy", "chunked", note=f"one batch of {FANCY_SHARE} was read"),
    Contender(f"{WORKERS}, contiguous", "torch_loader", "contiguous", "torch"),
    Contender(f"{WORKERS}, chunked", "torch_loader", "chunked", "torch"),
    Contender(f"{WORKERS}, compressed", "torch_loader", "compressed", "torch", "the file of our store"),
    Contender(f"{WORKERS}, compressed by sample", "torch_loader", "single", "torch", "its best case"),
    Contender("webdataset, 2 workers", "webdataset", "tar", "webdataset", "tar files, 1000 samples mixed"),
    Contender("zarr, chunked", "zarr", "zarr", "zarr", WHOLE),
    Contender("mosaicml-streaming, 2 workers", "streaming", "streaming", "streaming"),
)
ABSENT = {"streaming": "not installed: mosaicml-streaming needs numpy < 2.2 and torchvision"}
Turns = dict[str, list[Json]]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--samples", type=int, default=16384, metavar="N", help="how many (default 16384)")
    parser.add_argument("--sample-kb", type=int, default=48, metavar="KIB", help="of one image, float32 (default 48)")
    parser.add_argument("--turns", type=int, default=5, metavar="N", help="turns of every reader (default 5)")
    parser.add_argument("--compression", default="lz4", choices=("lz4", "zstd"), help="of the compressed form")
    parser.add_argument("--cold", action="store_true", help="measure with a cold cache as well")
    parser.add_argument(
        "--folder", type=Path, metavar="PATH", help="where samples are put for the while (default /tmp)"
    )


def run(options: argparse.Namespace) -> Json:
    """Make the samples, let all readers take turns, and compare.

    Raises
    ------
    UserError
        A number that is not positive, or no such folder.
    """
    from kilonode.data.loader import WINDOW_BYTES

    for name in ("samples", "sample_kb", "turns"):
        if getattr(options, name) < 1:
            raise UserError(f"expected a positive number, got {getattr(options, name)} (--{name.replace('_', '-')})")
    if options.folder is not None and not options.folder.is_dir():
        raise UserError(f"expected a folder, got none ({options.folder}); make it, or choose another with --folder")
    data = options.samples * (options.sample_kb * 1024 + 8)
    plan: Json = {"samples": options.samples, "shape": shape(options.sample_kb), "compression": options.compression}
    plan["window"] = min(WINDOW_BYTES, data // 3)
    with tempfile.TemporaryDirectory(prefix="kilonode-io-", dir=options.folder) as folder:
        print(f"bench io: writing {data // MB} MB of samples in every form", file=sys.stderr, flush=True)
        _process({**plan, "folder": folder, "reader": "make"})
        plan["folder"] = folder
        caches = {"": measured(plan, options.turns, cold=False)}
        if options.cold:
            caches["cold cache: "] = measured(plan, options.turns, cold=True)
        sizes = {form: _bytes(Path(folder, form)) for form in ("contiguous", "compressed")}
    rows = [figure("size of the samples", sizes["contiguous"] / 1e9, "GB")]
    rows.append(figure("compressed over bare", sizes["compressed"] / sizes["contiguous"]))
    for prefix, turns in caches.items():
        rows += [row for contender in CONTENDERS for row in _rows(contender, turns, prefix)]
        rows += compared(turns, prefix)
    rows += shuffles(options.samples, data // options.samples, plan["window"])
    plan.pop("folder")
    return {"figures": rows, "conditions": conditions(seeds=list(range(options.turns)), batch=BATCH, **plan)}


def shape(kib: int) -> list[int]:
    """Of a sample of so many KiB: three square channels where that comes out even."""
    values = kib * 256
    side = isqrt(values // 3)
    return [3, side, side] if 3 * side * side == values else [values]


def measured(plan: Json, turns: int, cold: bool) -> Turns:
    """What every reader that is installed took in every turn."""
    here = [contender for contender in CONTENDERS if find_spec(contender.needs)]
    found: Turns = {contender.name: [] for contender in here}
    slots = [(turn, here[(turn + k) % len(here)]) for turn in range(turns) for k in range(len(here))]
    for turn, contender in progress(slots, len(slots), f"bench io, {'cold' if cold else 'warm'} cache"):
        own: Json = {**plan, "reader": contender.reader, "form": contender.form, "seed": turn, "rehearse": not cold}
        if contender.reader == "fancy":
            own["batches"] = -(-plan["samples"] // (BATCH * FANCY_SHARE))
        if cold:
            drop(Path(plan["folder"], contender.form))
        found[contender.name].append({**_process(own), "window": plan["window"]})
    return found


def drop(folder: Path) -> None:
    """Put files out of the system's cache, where the file system does that."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _process(plan: Json) -> Json:
    """What a process of ``_peers`` found, and the most anonymous memory that it and its workers had.

    Raises
    ------
    RuntimeError
        It fails or takes too long.
    """
    command = [sys.executable, "-m", "kilonode.bench._peers", json.dumps(plan)]
    what, peak, deadline = f"{plan['reader']} {plan.get('form', '')}", 0, time.monotonic() + PATIENCE_S
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(command, env=_launch.environment(), stdout=out, stderr=out)
        try:
            while process.poll() is None:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"no end after {PATIENCE_S:.0f} s: {what}")
                peak = max(peak, anonymous(process.pid))
                time.sleep(POLL_S)
        finally:
            process.kill()
            process.wait()
        out.seek(0)
        text = out.read()
    if process.returncode:
        raise RuntimeError(f"{what} ended with {process.returncode}\n{text[-4000:]}")
    return {**json.loads(text.splitlines()[-1] if plan["reader"] != "make" else "{}"), "memory": peak}


def anonymous(pid: int) -> int:
    """Bytes of resident memory behind which no file stands, of a process and its children; 0 of one that ended."""
    with contextlib.suppress(OSError, IndexError):
        status = Path(f"/proc/{pid}/status").read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(status.partition("\nRssAnon:")[2].split()[0]) * 1024 + sum(map(anonymous, map(int, children)))
    return 0


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.h5"))


def _rate(turns: list[Json]) -> np.ndarray:
    return np.array([turn["samples"] / turn["seconds"] for turn in turns])


def _rows(contender: Contender, found: Turns, prefix: str) -> list[Json]:
    """All figures of one reader."""
    name = prefix + contender.name
    if contender.name not in found:
        absent = ABSENT.get(contender.needs, f"not installed: {contender.needs}")
        return [figure(name, None, "samples/s", note=absent)]
    turns, notes = found[contender.name], [contender.note] if contender.note else []
    if prefix and sum(turn["fetched"] for turn in turns) < 0.5 * sum(turn["bytes"] for turn in turns):
        notes += [] if "workers" in contender.name or contender.compressed else ["the cache was not cold"]
    if contender.reader == "ours" and any(turn["memory"] > SLACK + turn["window"] for turn in turns):
        notes.append(
            "MEMORY BEYOND ITS WINDOW: the file was not mapped but read whole, and this is the speed of memory"
        )
    rows = [figure(name, *_with_unit(_rate(turns), "samples/s"), note="; ".join(notes))]
    for what, unit, values in (
        ("", "GB/s", [turn["bytes"] / turn["seconds"] / 1e9 for turn in turns]),
        (", median wait", "ms", [turn["p50"] * 1e3 for turn in turns]),
        (", p99 wait", "ms", [turn["p99"] * 1e3 for turn in turns]),
        (", anonymous memory", "MiB", [turn["memory"] / MB for turn in turns]),
    ):
        rows.append(figure(name + (what or ", read"), *_with_unit(np.array(values), unit)))
    return rows


def _with_unit(values: np.ndarray, unit: str) -> tuple[float, str, tuple[float, float]]:
    value, interval = median(values)
    return value, unit, interval


def compared(found: Turns, prefix: str = "") -> list[Json]:
    """The ratios that are asked for; judged with a warm cache only, for a disk is as slow for everybody."""
    rates = {name: _rate(turns) for name, turns in found.items()}
    rows = []

    def over(what: str, ours: str, other: str, target: float, note: str = "") -> None:
        value, interval = ratio(rates[ours], rates[other])
        judged: Json = {} if prefix else {"target": target, "met": value >= target}
        rows.append(figure(prefix + what, value, "1", interval, **judged, note=note))

    def best(peers: list[Contender]) -> str:
        return max((peer.name for peer in peers if peer.name in rates), key=lambda name: float(np.median(rates[name])))

    over("ours over block read_direct, chunked", "ours, chunked", "block read_direct, chunked", OF_LIMIT)
    over("ours over block read_direct, contiguous", "ours, contiguous", "block read_direct, contiguous", OF_LIMIT)
    first = best([contender for contender in CONTENDERS if contender.peer and not contender.compressed])
    over("ours over the best peer", "ours, contiguous", first, OVER_PEERS, note=f"which is {first}")
    over("ours over sorted fancy index", "ours, chunked", "h5py sorted fancy index, chunked", OVER_FANCY)
    first = best([contender for contender in CONTENDERS if contender.peer and contender.compressed])
    what = "compressed: ours over the better torch DataLoader, 2 workers"
    over(what, "ours, compressed", first, OVER_TORCH, note=f"which is {first}")
    for contender in (contender for contender in CONTENDERS if not contender.peer):
        value, interval = median([turn["p99"] / turn["p50"] for turn in found[contender.name]])
        ours = contender.reader == "ours" and not prefix
        judged: Json = {"target": STEADY, "met": value <= STEADY} if ours else {}
        rows.append(figure(f"{prefix}{contender.name}: p99 over median wait", value, "1", interval, **judged))
    return rows


def shuffles(samples: int, sample_bytes: int, window: int, epochs: int = 20) -> list[Json]:
    """How well our order mixes a file sorted by label, with a window that is smaller than it; and a perfect shuffle."""
    from kilonode.data.order import order

    rng = np.random.default_rng(0)
    kinds = {
        "ours": [order([samples], sample_bytes, BATCH, window, 0, epoch) for epoch in range(epochs)],
        "perfect": [rng.permutation(samples) for _ in range(epochs)],
    }
    rows = [figure("shuffle: window over data", window / (samples * sample_bytes))]
    for kind, visits in kinds.items():
        for what, values in mixing(visits, samples).items():
            rows.append(figure(f"shuffle, {kind}: {what}", *_with_unit(np.array(values), "1")))
    return rows


def mixing(visits: list[np.ndarray], samples: int, labels: int = 10) -> dict[str, list[float]]:
    """Of every epoch: how far the visits follow the file, and how long a label stays, in a file sorted by label."""
    found: dict[str, list[float]] = {
        "rank correlation with the file, absolute": [],
        "mean run of one label": [],
        "longest run of one label": [],
        "spread of a label's share over batches": [],
    }
    for rows in visits:
        label = rows * labels // samples
        runs = np.diff(np.flatnonzero(np.diff(label, prepend=-1, append=-1)))
        shares = np.array([(part == 0).mean() for part in np.split(label, range(BATCH, samples, BATCH))])
        correlation = abs(float(np.corrcoef(np.arange(samples), rows)[0, 1])) if samples > 1 else 0.0
        values = (correlation, float(runs.mean()), float(runs.max()), float(shares.std()))
        for what, value in zip(found, values, strict=True):
            found[what].append(value)
    return found
