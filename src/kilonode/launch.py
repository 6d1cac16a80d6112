"""How ranks are started and how they end; below ``comm``, which is what they do in between.

A failure on one rank must neither leave the others waiting nor be printed by each of them.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Sequence

from kilonode.errors import UserError

LAUNCHED_BY = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK", "PALS_RANKID")
"""What mpiexec, srun and aprun set in a rank's environment (MPICH/Slurm PMI2, PMIx, Open MPI, PALS)."""
SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
"""How many ranks were started, by the first that is set: for mpiexec inside a Slurm job the last counts helpers."""


def launched() -> bool:
    """Whether a launcher started this process as one of its ranks."""
    return any(name in os.environ for name in LAUNCHED_BY)


def prepare() -> None:
    """What MPI must find in the environment when it starts."""
    # MPICH otherwise adds inside a node first, so that the bits depend on which ranks share a node (seen at 3
    # and 6 ranks on two nodes; docs/decisions.md has the cost). A site may set it to 1.
    os.environ.setdefault("MPIR_CVAR_ALLREDUCE_DEVICE_COLLECTIVE", "0")
    if "SLURM_STEP_ID" in os.environ:
        # Slurm 22.05 garbles PMI messages of 1 KiB and more, and hangs. MPICH's UCX addresses are 4 KiB with
        # whatever the memory held, so that it fails now and then; libfabric's are 16 bytes.
        os.environ.setdefault("MPIR_CVAR_CH4_NETMOD", "ofi")
        # Where there is no fast network MPICH takes libfabric's old `sockets`, with which all ranks now and then
        # wait in MPI_Init for ever; without it, `tcp`. Fast networks are preferred to both.
        os.environ.setdefault("FI_PROVIDER", "^sockets")


def failed(lines: Sequence[str], code: int, patience_s: float = 5.0) -> Sequence[str]:
    """What to print when this rank cannot go on; other ranks must neither wait for it for ever nor repeat it.

    If all ranks fail within ``patience_s`` (bad input usually fails all), rank 0 gets everybody's lines, the
    others none, and all may exit normally. Otherwise this rank prints its lines and ends all ranks.
    """
    if not launched():
        return lines
    prepare()
    try:
        from mpi4py import MPI  # joins the others, if this rank failed before it had
    except (ImportError, RuntimeError):  # RuntimeError: no MPI library; every rank tells
        return lines
    if MPI.Is_finalized() or MPI.COMM_WORLD.size == 1:
        return lines
    request, deadline = MPI.COMM_WORLD.Ibarrier(), time.monotonic() + patience_s
    while not request.Test():
        if time.monotonic() > deadline:
            for line in lines:
                print(f"rank {MPI.COMM_WORLD.rank}: {line}", file=sys.stderr, flush=True)
            time.sleep(0.5)  # mpiexec drops what it has not yet forwarded when a rank aborts (seen once in six)
            abort(code)
        time.sleep(0.01)
    everybody = MPI.COMM_WORLD.gather(tuple(lines))
    return list(dict.fromkeys(line for part in everybody for line in part)) if everybody is not None else ()


def abort(code: int) -> None:
    """MPI_Abort of all ranks that cannot hang.

    MPICH leaves through ``exit``, where Horovod waits for its thread, which waits in a message to a rank that may be
    dead; the lock of Python is held all the while. So this rank waits there for the launcher, which kills all; ending
    by itself it would race the launcher, and mpiexec then waited for ever (once in some hundreds). A launcher that
    has not heard sees it die of a signal after five seconds, and kills the others for that. It must be the world that
    is aborted: of any other communicator, a duplicate of the world too, MPICH 5 tells the launcher nothing.
    """
    from mpi4py import MPI

    libc = ctypes.CDLL(None)
    if hasattr(libc, "on_exit"):  # glibc
        libc.on_exit(libc.pause, None)
    signal.alarm(5)
    MPI.COMM_WORLD.Abort(code)


def assert_all(size: int) -> None:
    """`srun --mpi=none` starts N jobs of one rank without a word; refuse that."""
    name = next((name for name in SIZES if name in os.environ), None)
    expected = int(os.environ[name]) if name else 1
    if size < expected:
        raise UserError(
            f"expected {expected} MPI ranks as the launcher started, got {size} ({name}); "
            "start them with srun --mpi=pmi2, or with the mpiexec of the MPI that mpi4py uses"
        )
