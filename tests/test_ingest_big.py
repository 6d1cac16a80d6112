"""Inputs larger than memory: what ingest holds at a time does not depend on the size of the file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

SAMPLE = (64, 1024)
"""Of float32: 256 KiB."""
MEASURE = """
import sys
from pathlib import Path
from kilonode.data import ingest
ingest.run("reactor_neutrinos", sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def big(path: Path, size: int, fill: bool) -> Path:
    """A file of about this many bytes; without ``fill`` HDF5 keeps no room for its zeros."""
    rows = size // (4 * int(np.prod(SAMPLE)))
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file["event"] = np.arange(rows)
        kind = {} if fill else {"chunks": (8, *SAMPLE)}
        images = file.create_dataset("images", (rows, *SAMPLE), "f4", **kind)
        for start in range(0, rows if fill else 0, 256):
            images[start : start + 256] = rng.random((min(256, rows - start), *SAMPLE), dtype=np.float32)
    return path


def peak_bytes(folder: Path, source: Path) -> int:
    """The largest resident memory of an ingest (VmHWM: mapped pages included)."""
    words = {"unit": "1", "long_name": "x"}
    tables = {"events": {"images": {"dataset": "images", **words}, "group": {"dataset": "event"}}}
    task = {"autoencoder": {"table": "events", "input": {"field": "images", "transform": "none"}}}
    content = {"name": "big", "case": "reactor_neutrinos", "format": "hdf5", "source": "a test", "simulated": True}
    mapping = folder / "mapping.yaml"
    mapping.write_text(yaml.safe_dump({**content, "tables": tables, "tasks": task}))
    command = [sys.executable, "-c", MEASURE, str(mapping), str(source), str(folder / f"{source.stem}/index.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
def test_peak_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    peaks = [peak_bytes(tmp_path, big(tmp_path / f"{size}.h5", size << 20, False)) for size in (64, 512)]
    assert peaks[1] - peaks[0] < 150 << 20, peaks


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("KILONODE_BIG") != "1", reason="set KILONODE_BIG=1: writes 17 GB, takes minutes")
@pytest.mark.timeout(1800)
def test_eight_gigabytes_pass_through_two(tmp_path: Path) -> None:
    source = big(tmp_path / "big.h5", 8 << 30, True)
    assert source.stat().st_size >= 8 << 30
    peak = peak_bytes(tmp_path, source)
    print(f"peak {peak / 2**20:.0f} MiB for {source.stat().st_size / 2**30:.2f} GiB")
    with h5py.File(source) as file, h5py.File(tmp_path / "big/shard_00000.h5") as first:
        kept = first["events/images"]
        assert np.array_equal(kept[-1], file["images"][len(kept) - 1])
    assert peak < 2 << 30
