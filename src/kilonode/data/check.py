"""Verb ``check``: print what a data file holds, or why it is not to be trusted."""

from __future__ import annotations

import json
import resource
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

from kilonode.data.store import inspect
from kilonode.errors import DataError
from kilonode.records import Json, finite

PATIENCE_S, BYTES_PER_S = 3, 20_000_000
"""Processor time a file may take, and more for a big one."""
MEMORY_BYTES = 1 << 30
"""Memory a file may take, and four times its size: a compressed row may be large."""


def run(file: list[Path], json_output: bool) -> None:
    """Print fields, shapes, units and hash of each file; the first bad one ends it with its reason."""
    for path in file:
        found = finite(_inspect_apart(path))
        if json_output:
            print(json.dumps(found, sort_keys=True))
            continue
        attributes = found["attributes"]
        made = "simulated" if attributes.get("simulated") else "measured"
        print(f"{path}: {attributes.get('case', '?')}, {made}, {attributes.get('source', '?')}")
        for name, spec in found["fields"].items():
            shape = " x ".join(str(k) for k in spec["shape"])
            span = f"{spec['minimum']:.6g} to {spec['maximum']:.6g}" if spec["minimum"] is not None else "empty"
            print(f"  {name:<14} {shape:<20} {spec['dtype']:<8} {spec['unit']:<10} {span:<26} {spec['long_name']}")
        print(f"  sha256 {found['sha256']} ({found['index']})")


def _inspect_apart(path: Path) -> Json:
    """``inspect`` in a process of its own: HDF5 2.0 crashes on some damaged files and never returns from others."""
    size = path.stat().st_size if path.is_file() else 0
    limit = PATIENCE_S + size // BYTES_PER_S
    with ProcessPoolExecutor(1, get_context("fork"), _limit, (limit, MEMORY_BYTES + 4 * size)) as pool:
        try:
            return pool.submit(inspect, path).result()
        except BrokenProcessPool:
            raise DataError(
                f"expected an HDF5 file, got what HDF5 crashes on or does not end with ({path}); make or copy it again"
            ) from None


def _limit(seconds: int, nbytes: int) -> None:
    """Of processor time, and of memory beyond what this process has."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for what, wanted in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, taken + nbytes)):
        _, most = resource.getrlimit(what)
        resource.setrlimit(what, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))
