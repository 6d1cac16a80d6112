"""What computes: the processor or an accelerator, and what is said when its memory is too small."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from kilonode.comm import Comm
from kilonode.errors import UserError
from kilonode.records import Json


def place(device: str, ranks: Comm) -> str:
    """The device of this rank as torch names it, made to give the same bits every time.

    Parameters
    ----------
    device : str
        cpu or cuda. The ranks of a node take its accelerators in turn.
    ranks : Comm
        All of them.

    Raises
    ------
    UserError
        There is no such device, or gradients that lie on it cannot be added so.
    """
    if device == "cpu":
        return device
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS repeats its bits only with this
    import torch

    if not torch.cuda.is_available():
        raise UserError(
            f"expected a CUDA device, got none that torch {torch.__version__} can use (--device cuda); "
            "use --device cpu, or an environment whose torch is built for CUDA"
        )
    if ranks.backend == "horovod" and ranks.size > 1:
        raise UserError(
            "expected --backend mpi4py beside --device cuda, got horovod (--backend); Horovod is built here for the "
            "CPU and MPI and cannot reduce what lies on a GPU; mpi4py sends gradients through the host's memory"
        )
    torch.use_deterministic_algorithms(True, warn_only=True)  # a layer without such a way still trains
    torch.backends.cudnn.benchmark = False
    return f"cuda:{ranks.local_rank % torch.cuda.device_count()}"


@contextmanager
def memory_for(rules: Json, size: int) -> Iterator[None]:
    """Turn the many ways of running out of memory into one line.

    Raises
    ------
    UserError
        The block ran out of it; with what one of ``size`` ranks had at once, and how to need less.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        words = ("allocate memory", "out of memory", "bad_alloc", "bad allocation")
        if not isinstance(error, MemoryError) and not any(word in str(error) for word in words):
            raise
        reason = (str(error).splitlines() or ["MemoryError"])[0]
        each = -(-rules["batch"] // size // rules["accumulate"])
        raise UserError(
            f"expected memory for {each} samples of a rank at once, got {reason} ({socket.gethostname()}); "
            "use more nodes, raise training.accumulate or lower training.batch in case.yaml, then run the same command "
            "to continue from the last checkpoint"
        ) from error
