"""What the schedule of messages costs at up to 4,096 ranks: SimGrid replays that of a real training, moving no data."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kilonode.cases import SMALL
from kilonode.comm import CYCLE_MS, GRADIENT_GROUPS
from kilonode.errors import UserError
from kilonode.records import Json, conditions, figure, read_json
from kilonode.scaling import terms

EXAMPLES = f"""Tensor sizes come from the weights of a training of the case, compute time from its record. Needs
SimGrid's smpicc and smpirun (Debian: apt-get install libsimgrid-dev).

examples:
  kilonode scaling simulate --case {SMALL} --ranks 1024 --json
  kilonode scaling simulate --case {SMALL} --compute-ms 270 --ranks 64
"""
SOURCE = Path(__file__).parent / "replay.c"
NETWORKS = {"aries": (terms.ARIES, "0.5us"), "slingshot": (terms.SLINGSHOT, "0.35us")}
"""Cost of messages, and latency of one link: assumed for Aries, a switch of Slingshot (arXiv:2008.08886)."""
GROUP = 4 * 6 * 16
"""Nodes of a dragonfly group of Cori's size: 6 chassis of 16 blades of 4 nodes."""
EFFICIENT = 0.90
"""Target of our schedule at 1,024 ranks."""
LIMIT_S = 600


@dataclass(frozen=True)
class Schedule:
    """Bytes of the messages of a step in their order, and whether they hide behind the backward pass."""

    name: str
    groups: tuple[int, ...]
    overlap: bool

    def seconds(self, compute_s: float, spread: float, cycle_s: float, ranks: int, network: terms.Network) -> float:
        """The formulas' step in s: the slowest rank, then what no computing hides.

        Without overlap that is every message and the mean longest wait for the thread, ``cycle P / (P + 1)``; with
        overlap the last message with its wait, and what the others take longer than the backward pass.
        """
        each = [cycle_s * ranks / (ranks + 1) + terms.allreduce(size, ranks, network) for size in self.groups]
        slowest = terms.slowest(compute_s, spread, ranks)
        if not self.overlap:
            return slowest + sum(each)
        covered = compute_s * terms.BACKWARD * (len(each) - 1) / len(each)
        return slowest + each[-1] + max(0.0, sum(each[:-1]) - covered)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("--case", required=True, metavar="NAME", help="whose training is replayed")
    parser.add_argument("--task", metavar="NAME", help="one of its tasks (default: that of the newest training)")
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="PATH", help="default results")
    parser.add_argument("--ranks", type=int, default=1024, metavar="N", help="power of two, 2 to 4096 (default 1024)")
    parser.add_argument("--compute-ms", type=float, metavar="MS", help="of a rank and step (default: as recorded)")
    parser.add_argument("--spread", type=float, default=0.03, metavar="V", help="of it, over its mean (default 0.03)")
    parser.add_argument("--steps", type=int, default=2, metavar="N", help="simulated (default 2)")
    parser.add_argument("--network", choices=sorted(NETWORKS), default="aries", help="default aries")


def run(options: argparse.Namespace) -> Json:
    """Replay our schedule and those without overlap, grouping or fusion, each in a process of its own."""
    ranks = options.ranks
    if not 2 <= ranks <= 4096 or ranks & (ranks - 1):
        raise UserError(f"expected a power of two from 2 to 4096, got {ranks} (--ranks); choose 64, 256, 1024 or 4096")
    record, sizes = training(options.results, options.case, options.task)
    compute_s = options.compute_ms / 1e3 if options.compute_ms else compute_of(record)
    network, link = NETWORKS[options.network]
    chosen = schedules(sizes)
    with tempfile.TemporaryDirectory(prefix="kilonode-simulate-") as folder:
        program = compiled(Path(folder))
        platform(Path(folder), ranks, network, link)
        words = (compute_s, options.spread, float(CYCLE_MS) / 1e3, options.steps, ranks)
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            steps = list(pool.map(lambda one: replay(program, one, *words), chosen))
    rows = []
    for one, step in zip(chosen, steps, strict=True):
        said = one.seconds(compute_s, options.spread, float(CYCLE_MS) / 1e3, ranks, network)
        goal = EFFICIENT if one is chosen[0] and ranks == 1024 else None
        efficiency = compute_s / step
        met = None if goal is None else efficiency >= goal
        rows.append(figure(f"efficiency at {ranks} ranks, {one.name}", efficiency, target=goal, met=met))
        beside: Json = {"formula": 1e3 * said, "note": f"formula {1e3 * said:.4g} ms, {100 * (said / step - 1):+.1f} %"}
        rows.append(figure(f"step at {ranks} ranks, {one.name}", 1e3 * step, "ms", **beside))
    what = {"ranks": ranks, "gradient_bytes": sum(sizes), "tensors": len(sizes), "compute_ms": 1e3 * compute_s}
    more = {"case": options.case, "spread": options.spread, "network": options.network, "steps": options.steps}
    return {"figures": rows, "conditions": conditions(seeds=[0], simulated=True, **what, **more)}


def schedules(sizes: Sequence[int]) -> list[Schedule]:
    """Ours, and what it is compared with.

    Parameters
    ----------
    sizes : sequence of int
        Bytes of each gradient.
    """
    parts = np.array_split(np.array(sizes), min(GRADIENT_GROUPS, len(sizes)))  # by count, as Horovod's num_groups
    ours = tuple(int(part.sum()) for part in parts)
    return [
        Schedule(f"ours ({len(ours)} groups, overlap)", ours, True),
        Schedule("without overlap", ours, False),
        Schedule("without groups (one message at the end)", (sum(sizes),), False),
        Schedule(f"without fusion ({len(sizes)} messages, overlap)", tuple(int(size) for size in sizes), True),
    ]


def training(results: Path, case: str, task: str | None) -> tuple[Json, list[int]]:
    """Record of the newest finished training of a case, and the bytes of each tensor it reduces.

    Integer tensors and running statistics are no parameters and have no gradient.

    Raises
    ------
    UserError
        No such training here.
    """
    from safetensors import safe_open

    found = sorted(results.glob(f"{case}/*/{task or '*'}/seed-*/metrics.json"), key=lambda path: path.stat().st_mtime)
    found = [path for path in found if path.with_name("weights.safetensors").is_file()]
    if not found:
        raise UserError(
            f"expected a finished training, got none ({results}/{case}/*/{task or '*'}/seed-*); "
            f"run kilonode run --case {case} --until train, or say --results"
        )
    sizes = []
    with safe_open(found[-1].with_name("weights.safetensors"), "np") as weights:
        for name in weights.keys():  # noqa: SIM118  # safe_open is no mapping
            part = weights.get_slice(name)
            if part.get_dtype().startswith(("F", "BF")) and "running_" not in name:
                sizes.append(4 * int(np.prod(part.get_shape(), dtype=np.int64)))
    return read_json(found[-1]), sizes


def compute_of(record: Json) -> float:
    """Seconds that a rank computes in a step: the median step without its wait for others."""
    values = {row["name"]: row["value"] for row in record["figures"]}
    median = values.get("step_p50") or values.get("step_median")
    communication, waited = values.get("communication_wait"), values.get("input_wait")
    if median is None or communication is None or waited is None:
        raise UserError("expected step and waits in the record of a training, got none; say --compute-ms")
    return median / 1e3 * (1 - communication / (1 - waited))


def compiled(folder: Path) -> Path:
    """The replay as a program for smpirun.

    Raises
    ------
    UserError
        SimGrid is not here, or does not compile it.
    """
    if shutil.which("smpicc") is None or shutil.which("smpirun") is None:
        raise UserError(
            "expected SimGrid's smpicc and smpirun, got nothing (PATH); on Debian: apt-get install libsimgrid-dev"
        )
    program = folder / "replay"
    _call(["smpicc", "-O2", str(SOURCE), "-o", str(program), "-lm"])
    return program


def platform(folder: Path, ranks: int, network: terms.Network, link: str) -> None:
    """Write a dragonfly with room for the ranks, one a node, and the list of its hosts.

    Groups of Cori's size with 4 links between each two; chassis 5, blades 1, nodes 4 links wide (the widths are an
    assumption, and that Slingshot is wired alike).
    """
    groups = max(2, -(-ranks // GROUP))
    speed = f'speed="1Gf" bw="{1 / network.byte_s / 1e9:g}GBps" lat="{link}"'
    shape = f'sharing_policy="SPLITDUPLEX" topology="DRAGONFLY" topo_parameters="{groups},4;6,5;16,1;4"'
    (folder / "platform.xml").write_text(
        '<?xml version="1.0"?><!DOCTYPE platform SYSTEM "https://simgrid.org/simgrid.dtd"><platform version="4.1">'
        f'<cluster id="dragonfly" prefix="n" suffix="" radical="0-{groups * GROUP - 1}" {speed} {shape}/></platform>\n'
    )
    (folder / "hosts").write_text("".join(f"n{i}\n" for i in range(ranks)))


def replay(
    program: Path, schedule: Schedule, compute_s: float, spread: float, cycle_s: float, steps: int, ranks: int
) -> float:
    """Mean simulated seconds of a step."""
    options = ("smpi/coll-selector:mpich", "smpi/simulate-computation:no", "smpi/host-speed:1Gf")
    command = ["smpirun", "-np", str(ranks), "-hostfile", "hosts", "-platform", "platform.xml"]
    command += [*(f"--cfg={option}" for option in options), "--log=root.thres:error", str(program)]
    command += [f"{compute_s:.9f}", f"{spread:g}", f"{cycle_s:g}", str(int(schedule.overlap)), str(steps)]
    return float(_call([*command, *map(str, schedule.groups)]).split()[-1])


def _call(command: list[str]) -> str:
    """Standard output of a program run in the folder of its last path; what went wrong in its own last words."""
    folder = next(Path(word).parent for word in reversed(command) if word.endswith("/replay"))
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        raise UserError(f"expected {command[0]} to end in {LIMIT_S} s, got no end; lower --ranks or --steps") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise UserError(f"expected {command[0]} to work, got {last} (exit {done.returncode}); check the installation")
    return done.stdout
