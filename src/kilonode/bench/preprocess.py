"""Simulate, ingest and preprocess on one rank and on two: the same bytes, in how much less time.

Wall time of whole commands, start of Python and MPI included; sides take turns. Ingest and preprocess get a made file
of images; simulate makes a tier of a case. Two commands of one rank each that run at once, without anything in common,
show what this machine's memory and disk leave to the second core: no two ranks can be expected to do better.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import yaml

from kilonode import config
from kilonode.bench import _launch
from kilonode.bench._measure import median, ratio, seconds, turns
from kilonode.cases import SMALL
from kilonode.records import Json, conditions, figure, file_digest

FASTER = 1.8
SHAPE = (2, 64, 64)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--mb", type=int, default=1024, metavar="N", help="size of the made file (default 1024)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="turns of both sides (default 3)")
    parser.add_argument("--case", default=SMALL, metavar="NAME", help=f"what is simulated (default {SMALL})")
    parser.add_argument("--tier", default="demo", help="of the simulation (default demo)")
    parser.add_argument("--folder", type=Path, help="where files are made and removed (default the system's)")


def run(options: argparse.Namespace) -> Json:
    """Measure all three stages."""
    folder = Path(tempfile.mkdtemp(prefix="kilonode-preprocess-", dir=options.folder))
    try:
        source, mapping = folder / "source.h5", _mapping(SMALL, folder)
        _source(source, options.mb << 20)
        images = ("--case", SMALL, "--data", mapping, "--table", "images")
        words: dict[str, tuple[object, ...]] = {
            "simulate": ("--case", options.case, "--data", options.tier, "--output", "{out}/index.json"),
            "ingest": ("--case", SMALL, "--data", mapping, "--input", source, "--output", "{out}/index.json"),
            "preprocess": (*images, "--raw", folder / "raw-1" / "index.json", "--output", "{out}/index.json"),
        }
        rows = [row for stage in words for row in _stage(stage, words[stage], folder, options.rounds)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {"figures": rows, "conditions": conditions(seeds=[0], case=options.case, megabytes=options.mb)}


def _stage(stage: str, words: tuple[object, ...], folder: Path, rounds: int) -> list[Json]:
    """Time a stage on one and on two ranks and compare what they wrote."""

    def once(ranks: int, copy: str = "") -> float:
        out = _folder(folder, stage, ranks, copy)
        shutil.rmtree(out, ignore_errors=True)
        command = _launch.mpiexec(ranks, "-m", "kilonode", stage, *(str(word).format(out=out) for word in words))
        return seconds(lambda: _launch.output(command, timeout_s=900, OMP_NUM_THREADS="1"))

    def at_once() -> float:
        with ThreadPoolExecutor(2) as both:
            return max(both.map(lambda copy: once(1, copy), ("-left", "-right")))

    found = turns({"one": lambda: once(1), "two": lambda: once(2), "both": at_once}, rounds, f"bench {stage}", warm=0)
    same = _digests(folder, stage, 1) == _digests(folder, stage, 2)
    gain, interval = ratio(found["one"], found["two"])
    most, around = ratio(2 * np.asarray(found["one"]), found["both"])
    return [
        figure(f"{stage}, one rank", *_spread(found["one"])),
        figure(f"{stage}, two ranks", *_spread(found["two"])),
        figure(f"{stage}, two ranks against one", gain, "1", interval, FASTER, gain >= FASTER),
        figure(f"{stage}, two commands at once against one after the other", most, "1", around),
        figure(f"{stage}, same bytes", float(same), "1", None, 1.0, same),
    ]


def _folder(folder: Path, stage: str, ranks: int, copy: str = "") -> Path:
    """Where a stage writes; preprocess reads what ingest wrote."""
    return folder / f"{'raw' if stage == 'ingest' else stage}-{ranks}{copy}"


def _spread(values: list[float]) -> tuple[float, str, tuple[float, float]]:
    value, interval = median(values)
    return value, "s", interval


def _digests(folder: Path, stage: str, ranks: int) -> dict[str, str]:
    home = _folder(folder, stage, ranks)
    return {str(path.relative_to(home)): file_digest(path) for path in sorted(home.rglob("*.h5"))}


def _source(path: Path, nbytes: int) -> None:
    """An HDF5 file of noise images, a hundred to a group."""
    import h5py

    rows = max(300, nbytes // (4 * int(np.prod(SHAPE))))
    draw = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        images = file.create_dataset("images", (rows, *SHAPE), "f4")
        for start in range(0, rows, 1000):
            images[start : start + 1000] = draw.random((min(1000, rows - start), *SHAPE), np.float32)
        file["run"] = np.arange(rows) // 100


def _mapping(case: str, folder: Path) -> Path:
    """A mapping of that file for one task of the case."""
    task = next(iter(config.resolve(case, "toy")["tasks"]))
    words = {"unit": "1", "long_name": "noise"}
    path = folder / "mapping.yaml"
    content = {
        "name": "noise",
        "case": case,
        "format": "hdf5",
        "source": "kilonode bench preprocess",
        "simulated": True,
        "tables": {"images": {"images": {"dataset": "images", **words}, "group": {"dataset": "run", **words}}},
        "tasks": {task: {"table": "images", "input": {"field": "images", "channels": [0]}}},
    }
    path.write_text(yaml.safe_dump(content))
    return path
