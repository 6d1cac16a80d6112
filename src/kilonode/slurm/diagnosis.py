"""What the ranks saw, judged: a pure function from their reports to findings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kilonode.records import Json

OK, WARN, WRONG = "ok", "warn", "wrong"
GIB = 1 << 30
LEAST_MEMORY_B = GIB // 2
"""Of a rank. Torch, MPI and Horovod alone took 0.17 GiB a rank (64 ranks, measured); this leaves room for data."""
LEAST_SCRATCH_B = 5 * GIB
"""Of a node; below it staging has little use."""
SKEW_S = 1.0
"""Clocks may differ so much. Snakemake compares times of files, in whole seconds at worst."""
SONAMES = {".so.12": "MPICH", ".so.40": "Open MPI"}
"""Which libraries can stand for each other; Cray MPICH, Intel MPI and MVAPICH share MPICH's."""
ALL_THREADS = 3
"""MPI_THREAD_MULTIPLE."""


@dataclass(frozen=True)
class Finding:
    """One row: what was looked at, whether it is good, what was seen, and what to change."""

    check: str
    level: str
    seen: str
    remedy: str = ""


@dataclass(frozen=True)
class Reports:
    """All that came back.

    Attributes
    ----------
    machines, mpis : dict of int to dict
        By rank, what ``probe.machine`` and ``probe.mpi`` told.
    ranks, nodes : int
        How many were to answer.
    said : str
        End of the launcher's stderr.
    late : bool
        Not all had answered in time.
    """

    ranks: int
    nodes: int
    machines: dict[int, Json] = field(default_factory=dict)
    mpis: dict[int, Json] = field(default_factory=dict)
    said: str = ""
    late: bool = False

    def firsts(self, part: str) -> list[tuple[str, Json]]:
        """What the first rank of each node told of this part, with the node's name."""
        return [(row["node"], row[part]) for row in self.machines.values() if row[part] is not None]


def diagnose(reports: Reports) -> list[Finding]:
    """All findings, in the order in which things start. Without any machine there is one: nothing started."""
    found = [launcher(reports)]
    if reports.machines:
        found += [check(reports) for check in CHECKS]
    return found


def some(names: Iterable[Any], shown: int = 4) -> str:
    """The first few of many names."""
    every = sorted({str(name) for name in names})
    return ", ".join(every[:shown]) + (f" and {len(every) - shown} more" if len(every) > shown else "")


def launcher(reports: Reports) -> Finding:
    """Whether every rank of every node started."""
    nodes = {row["node"] for row in reports.machines.values()}
    seen = f"{len(reports.machines)} of {reports.ranks} ranks on {len(nodes)} of {reports.nodes} nodes answered"
    if len(reports.machines) == reports.ranks and len(nodes) == reports.nodes:
        return Finding("launcher", OK, seen)
    said = f"; it said: {reports.said}" if reports.said else ""
    remedy = "see what the launcher said, and KILONODE_SRUN in the site's file; srun --mpi=list names what it can"
    return Finding("launcher", WRONG, seen + said, remedy)


def mpi(reports: Reports) -> Finding:
    """Whether it is one MPI of all ranks, with threads."""
    name = "MPI"
    failed = {rank: row["failed"] for rank, row in reports.mpis.items() if row["failed"]}
    if failed:
        seen = f"rank {some(failed)}: {next(iter(failed.values()))}"
        return Finding(name, WRONG, seen, "do what it says; run make env")
    if len(reports.mpis) < len(reports.machines):
        silent = [reports.machines[rank]["node"] for rank in reports.machines if rank not in reports.mpis]
        why = "gave no answer in time" if reports.late else f"ended: {reports.said}"
        remedy = "PMI of launcher and library must agree: --mpi=pmi2 for MPICH, cray_shasta for Cray MPICH"
        return Finding(name, WRONG, f"MPI did not start on {some(silent)}, it {why}", remedy)
    libraries = {row["library"] for row in reports.mpis.values()}
    sizes = {row["size"] for row in reports.mpis.values()}
    if sizes != {reports.ranks}:
        seen = f"{some(sizes)} ranks in MPI, {reports.ranks} started"
        return Finding(name, WRONG, seen, "start with srun --mpi=pmi2")
    if len(libraries) > 1:
        return Finding(name, WRONG, f"several libraries: {some(libraries)}", "set LD_LIBRARY_PATH on every node alike")
    if min(row["threads"] for row in reports.mpis.values()) < ALL_THREADS:
        remedy = "unset HOROVOD_MPI_THREADS_DISABLE, MPI4PY_RC_THREAD_LEVEL"
        return Finding(name, WRONG, "no MPI_THREAD_MULTIPLE", remedy)
    return Finding(name, OK, f"{libraries.pop()}, {reports.ranks} ranks, MPI_THREAD_MULTIPLE")


def abi(reports: Reports) -> Finding:
    """Whether there is one MPI library in each process, and the site's."""
    name, remedy = "MPI ABI", "use the site's library by its ABI: envs/README.md"
    loaded = [row["loaded"] for row in reports.mpis.values() if not row["failed"]]
    paths = sorted({path for each in loaded for path in each})
    if not paths:
        return Finding(name, WARN, "no MPI library was loaded", "see MPI")
    if any(len(each) > 1 for each in loaded):
        return Finding(name, WRONG, f"two MPI libraries in one process: {some(paths)}", remedy)
    kind = next((kind for part, kind in SONAMES.items() if part in paths[0]), "unknown")
    seen = f"{some(paths)} ({kind} ABI)"
    own = any(path.startswith(row["prefix"]) for row in reports.machines.values() for path in paths)
    if own and any("CRAY_MPICH_DIR" in row["settings"] for row in reports.machines.values()):
        return Finding(name, WARN, f"{seen}, though Cray MPICH is here", remedy)
    return Finding(name, OK, seen)


def horovod(reports: Reports) -> Finding:
    """Whether Horovod is built with MPI and adds over all ranks."""
    rows = [row["horovod"] for row in reports.mpis.values() if not row["failed"]]
    remedy = "remove its cached wheel (KILONODE_CACHE) and run make env"
    if not rows:
        return Finding("Horovod", WARN, "not reached, because MPI did not start", "see MPI")
    if not all(row["mpi"] for row in rows):
        return Finding("Horovod", WRONG, "built without MPI", remedy)
    sums = {row["sum"] for row in rows if row["sum"] is not None}
    if sums and sums != {float(reports.ranks)}:
        return Finding("Horovod", WRONG, f"a sum of ones gave {some(sums)} on {reports.ranks} ranks", remedy)
    added = f", a sum over {reports.ranks} ranks is right" if sums else ", one rank: nothing to add"
    return Finding("Horovod", OK, f"built with MPI{added}")


def affinity(reports: Reports) -> Finding:
    """Whether each rank has CPUs of its own, one of them for Horovod's thread."""
    by_node: dict[str, list[set[int]]] = {}
    for row in reports.machines.values():
        by_node.setdefault(row["node"], []).append(set(row["cpus"]))
    least = min(len(row["cpus"]) for row in reports.machines.values())
    seen = f"{least} CPUs or more for each rank"
    shared = [node for node, sets in by_node.items() if len(set.union(*sets)) < sum(map(len, sets))]
    if shared:
        remedy = "bind ranks: --cpu-bind=cores in KILONODE_SRUN; mpiexec -bind-to core:N (MPICH)"
        return Finding("affinity", WARN, f"{seen}, but ranks share CPUs on {some(shared)}", remedy)
    if least < 2 <= reports.ranks:
        return Finding(
            "affinity", WARN, f"{seen}: Horovod's thread has none of its own", "fewer ranks a node (HVD #2804)"
        )
    return Finding("affinity", OK, seen)


def threads(reports: Reports) -> Finding:
    """Whether OpenMP starts no more threads than the rank has CPUs."""
    rows = reports.machines.values()
    many = [
        row["node"]
        for row in rows
        if (asked := row["settings"].get("OMP_NUM_THREADS", "")).isdecimal() and int(asked) > len(row["cpus"])
    ]
    values = some(row["settings"].get("OMP_NUM_THREADS", "unset") for row in rows)
    bound = some(row["settings"].get("OMP_PROC_BIND", "unset") for row in rows)
    seen = f"OMP_NUM_THREADS {values}, OMP_PROC_BIND {bound} (a training takes threads from case.yaml)"
    if many:
        cpus = min(len(row["cpus"]) for row in rows)
        remedy = f"set OMP_NUM_THREADS to {max(1, cpus - 1)} or less; one CPU is for Horovod's thread"
        return Finding("threads", WRONG, f"{seen}: more than the CPUs of a rank on {some(many)}", remedy)
    return Finding("threads", OK, seen)


def memory(reports: Reports) -> Finding:
    """Whether there is memory for each rank of a node."""
    ranks: dict[str, int] = {}
    for row in reports.machines.values():
        ranks[row["node"]] = ranks.get(row["node"], 0) + 1
    each = {row["node"]: row["memory_b"] / ranks[row["node"]] for row in reports.machines.values()}
    least = min(each, key=lambda node: each[node])
    seen = f"{each[least] / GIB:.1f} GiB or more for each rank (least on {least})"
    if each[least] < LEAST_MEMORY_B:
        return Finding(
            "memory", WRONG, seen, "fewer ranks a node (--ranks-per-node), or --mem=0 among the site's directives"
        )
    return Finding("memory", OK, seen)


def folder(reports: Reports) -> Finding:
    """Whether all nodes see the working folder."""
    told = reports.firsts("folder")
    away = [node for node, row in told if not row["shared"]]
    if away:
        return Finding(
            "folder", WRONG, f"{told[0][1]['path']} is not seen on {some(away)}", "work on a shared file system"
        )
    return Finding("folder", OK, f"{told[0][1]['path']} on {len(told)} nodes")


def locking(reports: Reports) -> Finding:
    """Whether HDF5 will be able to open files."""
    settings = {row["settings"].get("HDF5_USE_FILE_LOCKING", "unset") for row in reports.machines.values()}
    refused = {node: row["lock"] for node, row in reports.firsts("folder") if row["lock"]}
    off = settings <= {"FALSE", "0"}
    seen = f"HDF5_USE_FILE_LOCKING {some(settings)}, locks {'refused' if refused else 'work'} here"
    if refused and not off:
        why = f"{seen} on {some(refused)} ({next(iter(refused.values()))})"
        return Finding("HDF5 locking", WRONG, why, "export HDF5_USE_FILE_LOCKING=FALSE")
    return Finding("HDF5 locking", OK, seen)


def scratch(reports: Reports) -> Finding:
    """Whether there is node-local storage to stage to."""
    told = reports.firsts("scratch")
    failed = {node: row for node, row in told if row["failed"]}
    if failed:
        row = next(iter(failed.values()))
        return Finding(
            "scratch", WRONG, f"{row['path']} on {some(failed)}: {row['failed']}", "set TMPDIR to node-local storage"
        )
    least = min((row for _, row in told), key=lambda row: row["free_b"])
    seen = f"{least['path']} ({least['kind']}), {least['free_b'] / GIB:.1f} GiB or more free"
    if least["free_b"] < LEAST_SCRATCH_B:
        return Finding("scratch", WARN, seen, "set TMPDIR to a larger disk, or do not stage")
    if least["kind"] == "tmpfs":
        return Finding("scratch", WARN, f"{seen}, which is memory", "count it with the ranks' memory when staging")
    return Finding("scratch", OK, seen)


def clocks(reports: Reports) -> Finding:
    """Whether nodes and file server agree on the time."""
    times = [row["time"] for row in reports.mpis.values() if not row["failed"] and row["time"] is not None]
    spread = max(times) - min(times) if times else 0.0
    server = {node: abs(row["clock_s"]) for node, row in reports.firsts("folder") if row["clock_s"] is not None}
    ahead = max(server.values(), default=0.0)
    seen = f"ranks within {spread:.3f} s, file server within {ahead:.3f} s"
    if spread > SKEW_S or ahead > SKEW_S:
        far = (
            f" (file server: {some(node for node, value in server.items() if value > SKEW_S)})"
            if ahead > SKEW_S
            else ""
        )
        return Finding("clocks", WRONG, seen + far, "tell the site; reruns go wrong when files come from the future")
    return Finding("clocks", OK, seen)


def versions(reports: Reports) -> Finding:
    """Whether the software is the same everywhere."""
    first = next(iter(reports.machines.values()))["versions"]
    names = {name for row in reports.machines.values() for name in {*first, *row["versions"]}}
    differ = {
        name: {row["versions"].get(name, "none") for row in reports.machines.values()}
        for name in names
        if any(row["versions"].get(name) != first.get(name) for row in reports.machines.values())
    }
    if differ:
        seen = "; ".join(f"{name} {some(values)}" for name, values in sorted(differ.items()))
        nodes = some(row["node"] for row in reports.machines.values() if row["versions"] != first)
        return Finding(
            "versions", WRONG, f"{seen} ({nodes})", "use one environment on all nodes: stage it, or an image"
        )
    return Finding(
        "versions",
        OK,
        ", ".join(
            f"{name} {first[name]}" for name in ("python", "torch", "horovod", "mpi4py", "h5py") if name in first
        ),
    )


CHECKS: Sequence[Callable[[Reports], Finding]] = (
    mpi, abi, horovod, versions, folder, locking, scratch, clocks, memory, affinity, threads,
)  # fmt: skip
