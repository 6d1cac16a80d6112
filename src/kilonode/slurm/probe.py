"""What one rank sees: ``python -m kilonode.slurm.probe TOKEN``, started by ``kilonode doctor`` as training would be.

Two lines on stdout, so that a rank whose MPI hangs or aborts has told of its machine before: first the machine, then
MPI and Horovod. Whether that is good is not judged here.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import sys
import time
from pathlib import Path

from kilonode import comm, launch
from kilonode.errors import UserError
from kilonode.records import Json, versions

MARK = "kilonode-probe "
RANKS = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK", "PALS_RANKID", "SLURM_PROCID")
LOCAL_RANKS = ("MPI_LOCALRANKID", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK", "PALS_LOCAL_RANKID")
SETTINGS = ("OMP_NUM_THREADS", "OMP_PLACES", "OMP_PROC_BIND", "HDF5_USE_FILE_LOCKING", "CRAY_MPICH_DIR")
MPI_LIBRARIES = ("libmpi.so", "libmpich.so", "libmpi_cray.so", "libmpi_gnu")


def _number(names: tuple[str, ...]) -> int:
    return next((int(os.environ[name]) for name in names if name in os.environ), 0)


def machine(token: Path) -> Json:
    """The place of this rank, and what its node offers.

    Parameters
    ----------
    token : Path
        A file that whoever asks has just written: who sees it shares the folder.
    """
    first = _number(LOCAL_RANKS) == 0  # one rank of a node tries its disks
    return {
        "rank": _number(RANKS),
        "node": os.environ.get("SLURMD_NODENAME", platform.node()),
        "host": platform.node(),
        "cpus": sorted(os.sched_getaffinity(0)),
        "cpus_of_node": os.cpu_count(),
        "memory_b": memory(),
        "settings": {name: os.environ[name] for name in SETTINGS if name in os.environ},
        "versions": versions(),
        "prefix": sys.prefix,
        "folder": _folder(token) if first else None,
        "scratch": _scratch(Path(os.environ.get("TMPDIR", "/tmp"))) if first else None,
    }


def memory() -> int:
    """Bytes that processes of this node may still take: what the kernel has, or the limit of the job if less."""
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(lines["MemAvailable"].split()[0]) * 1024
    return min([available, *limits(Path("/proc/self/cgroup").read_text(), Path("/sys/fs/cgroup"))])


def limits(membership: str, root: Path) -> list[int]:
    """Memory limits in bytes of the control groups that a process is in, and of those around them; versions 1 and 2.

    Parameters
    ----------
    membership : str
        As in ``/proc/self/cgroup``: lines ``number:kinds:path``, in version 2 without a kind.
    root : Path
        Where control groups are mounted.
    """
    found = []
    for kinds, path in (line.split(":", 2)[1:] for line in membership.splitlines()):
        if kinds in ("", "memory"):
            base, name = (root / "memory", "memory.limit_in_bytes") if kinds else (root, "memory.max")
            group = base / path.lstrip("/")
            around = [group, *(parent for parent in group.parents if parent.is_relative_to(base))]
            texts = [(folder / name).read_text().strip() for folder in around if (folder / name).is_file()]
            found += [int(text) for text in texts if text.isdecimal()]  # version 2 says "max" for none
    return found


def _folder(token: Path) -> Json:
    """Whether the working folder is the same here, can be locked, and what its clock says (seconds ahead of ours)."""
    found: Json = {"path": str(token.parents[1]), "shared": token.is_file(), "lock": "", "clock_s": None}
    path = token.with_name(f"{token.name}.{os.environ.get('SLURMD_NODENAME', platform.node())}.{os.getpid()}")
    try:
        before = time.time()
        with path.open("w") as stream:
            after = time.time()
            written = path.stat().st_mtime
            found["clock_s"] = written - min(max(written, before), after)  # 0 while it lies between
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as HDF5 does
    except OSError as error:
        found["lock"] = error.strerror or str(error)
    finally:
        path.unlink(missing_ok=True)
    return found


def _scratch(path: Path) -> Json:
    """Node-local storage: free bytes, the kind of file system, and why it cannot be written."""
    try:
        trial = path / f"kilonode-probe.{os.getpid()}"
        trial.write_bytes(b"1")
        trial.unlink()
        return {"path": str(path), "free_b": shutil.disk_usage(path).free, "kind": _kind(path), "failed": ""}
    except OSError as error:
        return {"path": str(path), "free_b": 0, "kind": "", "failed": error.strerror or str(error)}


def _kind(path: Path) -> str:
    """The file system that a path lies on, by the longest mount point above it."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    above = [(len(point), kind) for point, kind in mounts if path.resolve().is_relative_to(point)]
    return max(above)[1] if above else "unknown"


def mpi() -> Json:
    """What MPI and Horovod say of themselves, after one sum over all ranks through each."""
    try:
        ranks = comm.start("horovod") if launch.launched() else None
        found: Json = {"failed": "", **_library(), "horovod": _horovod(ranks)}  # in this order: MPI before torch
    except UserError as error:
        return {"failed": " ".join(error.problems)}
    except (ImportError, RuntimeError, ValueError) as error:  # no library, another ABI, an extension for another torch
        return {"failed": " ".join(str(error).split())}
    found["time"] = None
    if ranks is not None:
        ranks.barrier()
        found["time"] = time.time()  # all ranks within a millisecond or two
        ranks.close()
    return found


def _library() -> Json:
    from mpi4py import MPI

    name = MPI.Get_library_version().split("\n")[0].strip()
    return {"library": name, "loaded": libraries(), "threads": MPI.Query_thread(), "size": MPI.COMM_WORLD.size}


def _horovod(ranks: comm.Comm | None) -> Json:
    """How it was built, and a sum of ones over all ranks."""
    import horovod.torch as hvd
    import torch

    found: Json = {"mpi": bool(hvd.mpi_built()), "sum": None}
    if ranks is not None:
        found["sum"] = float(hvd.allreduce(torch.ones(1), op=hvd.Sum, name="doctor")[0])
    return found


def libraries() -> list[str]:
    """Paths of the MPI libraries in this process; two of them are a mistake."""
    words = [line.split(maxsplit=5) for line in Path("/proc/self/maps").read_text().splitlines()]
    paths = {os.path.realpath(parts[5]) for parts in words if len(parts) == 6}
    return sorted(path for path in paths if Path(path).name.startswith(MPI_LIBRARIES))


def _tell(found: Json) -> None:
    """One write, so that launchers keep the line together."""
    os.write(1, f"{MARK}{json.dumps(found)}\n".encode())


def main(token: str) -> None:
    """Tell both parts, each in one line."""
    rank = _number(RANKS)
    _tell({"rank": rank, "machine": machine(Path(token))})
    _tell({"rank": rank, "mpi": mpi()})


if __name__ == "__main__":
    main(sys.argv[1])
