"""The one place that knows MPI and Horovod (with launch.py, how ranks start and end).

Rules it keeps (measured, docs/decisions.md): mpi4py is imported before torch and Horovod, so that mpi4py owns
``MPI_Init`` and ``MPI_Finalize``; small agreements go through mpi4py on a communicator of their own; ranks
leave together. Without a launcher there is one rank and neither library is imported.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from kilonode.errors import UserError
from kilonode.launch import LAUNCHED_BY as LAUNCHED_BY
from kilonode.launch import SIZES as SIZES
from kilonode.launch import abort, assert_all, launched, prepare
from kilonode.launch import failed as failed

if TYPE_CHECKING:
    import torch

BACKENDS = ("horovod", "mpi4py")
CYCLE_MS, CROWDED_CYCLE_MS, IDLE_CYCLE_MS = "1", "5", "20"
"""Milliseconds between two looks of Horovod's thread at what is to be sent: with several ranks; with several where
computing takes all CPUs, so that each look takes time from it; and with one rank."""
GRADIENT_GROUPS = 4
"""Fused messages a step: few and always the same, so that a run can be repeated bit for bit."""


class Comm:
    """One rank, alone. ``MpiComm`` has the same methods for many.

    Attributes
    ----------
    rank, size : int
        This rank's number and how many there are.
    local_rank : int
        This rank's number on its node.
    backend : str
        ``single``, ``mpi4py`` or ``horovod``.
    """

    rank = 0
    size = 1
    local_rank = 0
    backend = "single"
    library = "none"

    @property
    def is_root(self) -> bool:
        """Rank 0, the one that prints and writes what all share."""
        return self.rank == 0

    def gather(self, value: Any) -> list[Any] | None:
        """Everybody's value on rank 0, in rank order; None elsewhere."""
        return [value]

    def allgather(self, value: Any) -> list[Any]:
        """Everybody's value on every rank, in rank order."""
        return [value]

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value."""
        return value

    def nodes(self) -> Comm | None:
        """The first rank of each node, numbered anew; None on all other ranks. All ranks must ask."""
        return self

    def divide(self, group: int) -> Comm:
        """The ranks that name the same group, numbered anew. All ranks must ask."""
        return self

    def send(self, value: Any, to: int) -> None:
        """A message to one rank, which looks for it with ``received``."""

    def received(self) -> tuple[int, Any] | None:
        """Sender and content of a message that is there; None if there is none."""
        return None

    def spread(self, array: np.ndarray, root: int) -> None:
        """Overwrite a contiguous array with that of one rank, in place."""

    def barrier(self) -> None:
        """Wait for all."""

    def highest(self, level: int) -> int:
        """The largest level any rank has."""
        return level

    def sum(self, values: Sequence[float]) -> np.ndarray:
        """Sum over ranks, float64, always added in rank order: the bits do not depend on the placement."""
        return np.sum(np.asarray(self.allgather(np.asarray(values, dtype=np.float64))), axis=0)

    def add(self, array: np.ndarray) -> None:
        """Sum over ranks, in place, of any contiguous array; every rank gets the same bits."""

    def distribute(
        self, optimizer: torch.optim.Optimizer, named: Iterable[tuple[str, torch.nn.Parameter]], passes: int = 1
    ) -> torch.optim.Optimizer:
        """The optimiser, made to add gradients over ranks once after every ``passes`` backward passes."""
        return optimizer

    def synchronise(self, optimizer: torch.optim.Optimizer) -> None:
        """Wait until every ``.grad`` is the sum over ranks."""

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """One step with the gradients as they are."""
        optimizer.step()

    def share(self, tensors: dict[str, torch.Tensor]) -> None:
        """Overwrite tensors with rank 0's, in place."""

    def abort(self, code: int) -> None:
        """End all ranks now, whatever they are doing; any thread may call it."""
        os._exit(code)

    def close(self) -> None:
        """Leave together."""


class MpiComm(Comm):
    """Many ranks; gradients through mpi4py, everything else too."""

    backend = "mpi4py"

    def __init__(self, world: Any = None) -> None:
        from mpi4py import MPI

        self._mpi = MPI
        self._world = MPI.COMM_WORLD.Dup() if world is None else world
        self.rank = self._world.rank
        self.size = self._world.size
        self.library = MPI.Get_library_version().split("\n")[0].strip()
        node = self._world.Split_type(MPI.COMM_TYPE_SHARED)
        self.local_rank, self._neighbours = node.rank, node.size
        node.Free()

    def gather(self, value: Any) -> list[Any] | None:  # noqa: D102 - as in Comm
        found: list[Any] | None = self._world.gather(value)
        return found

    def allgather(self, value: Any) -> list[Any]:  # noqa: D102
        found: list[Any] = self._world.allgather(value)
        return found

    def broadcast(self, value: Any) -> Any:  # noqa: D102
        return self._world.bcast(value)

    def nodes(self) -> Comm | None:  # noqa: D102
        firsts = self._world.Split(self._mpi.UNDEFINED if self.local_rank else 0)
        return None if self.local_rank else MpiComm(firsts)

    def divide(self, group: int) -> Comm:  # noqa: D102
        return MpiComm(self._world.Split(group))

    def send(self, value: Any, to: int) -> None:  # noqa: D102
        self._world.send(value, to)

    def received(self) -> tuple[int, Any] | None:  # noqa: D102
        status = self._mpi.Status()
        found = self._world.improbe(status=status)
        return None if found is None else (status.source, found.recv())

    def spread(self, array: np.ndarray, root: int) -> None:  # noqa: D102
        self._world.Bcast(array, root)

    def barrier(self) -> None:  # noqa: D102
        self._world.Barrier()

    def highest(self, level: int) -> int:  # noqa: D102
        answer = np.array([level], dtype=np.int32)
        self._world.Allreduce(self._mpi.IN_PLACE, answer, op=self._mpi.MAX)
        return int(answer[0])

    def add(self, array: np.ndarray) -> None:  # noqa: D102
        self._world.Allreduce(self._mpi.IN_PLACE, array)

    def synchronise(self, optimizer: torch.optim.Optimizer) -> None:  # noqa: D102
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    with _on_host(parameter.grad) as array:
                        self.add(array)

    def share(self, tensors: dict[str, torch.Tensor]) -> None:  # noqa: D102
        for name in sorted(tensors):
            with _on_host(tensors[name].detach()) as array:
                self._world.Bcast(array)

    def abort(self, code: int) -> None:  # noqa: D102
        abort(code)

    def close(self) -> None:  # noqa: D102
        self._world.Barrier()


class HorovodComm(MpiComm):
    """Gradients through Horovod, overlapped with the backward pass; the rest as in ``MpiComm``."""

    backend = "horovod"

    def __init__(self) -> None:
        super().__init__()
        for name, value in horovod_settings(self.size, crowded(self._neighbours)).items():
            os.environ.setdefault(name, value)
        try:
            import horovod.torch as hvd
        except ImportError as error:
            raise UserError(
                f"expected Horovod, got {error} (--backend horovod); run `make env`, or use --backend mpi4py"
            ) from error
        hvd.init()
        if hvd.size() != self.size:
            raise UserError(
                f"expected Horovod to see {self.size} ranks as MPI does, got {hvd.size()}; "
                "Horovod was built against another MPI: remove its cached wheel and run `make env`"
            )
        self._hvd = hvd

    def distribute(  # noqa: D102
        self, optimizer: torch.optim.Optimizer, named: Iterable[tuple[str, torch.nn.Parameter]], passes: int = 1
    ) -> torch.optim.Optimizer:
        # Sum, not Average: the loss is already divided by the samples of all ranks, which may be unequal.
        wrapped: torch.optim.Optimizer = self._hvd.DistributedOptimizer(
            optimizer,
            named_parameters=named,
            op=self._hvd.Sum,
            num_groups=GRADIENT_GROUPS,
            backward_passes_per_step=passes,
        )
        return wrapped

    def synchronise(self, optimizer: torch.optim.Optimizer) -> None:  # noqa: D102
        optimizer.synchronize()  # type: ignore[attr-defined] # added by DistributedOptimizer

    def step(self, optimizer: torch.optim.Optimizer) -> None:  # noqa: D102
        with optimizer.skip_synchronize():  # type: ignore[attr-defined] # added by DistributedOptimizer
            optimizer.step()

    def close(self) -> None:  # noqa: D102
        self._world.Barrier()
        self._hvd.shutdown()


def crowded(neighbours: int) -> bool:
    """Whether the threads of so many ranks on this node leave no CPU to Horovod's thread.

    A rank bound to CPUs has those; one that may use the whole node shares it with its neighbours.
    """
    mine, all_of_node = len(os.sched_getaffinity(0)), os.cpu_count() or 1
    own = mine if mine < all_of_node else all_of_node // neighbours
    return own <= int(os.environ.get("OMP_NUM_THREADS") or own)


def horovod_settings(size: int, crowded: bool) -> dict[str, str]:
    """What Horovod finds in the environment unless the site has set it; measured, docs/decisions.md."""
    several = CROWDED_CYCLE_MS if crowded else CYCLE_MS
    return {
        # Its thread wakes so often. One rank has nothing to send, so it need not wake.
        "HOROVOD_CYCLE_TIME": several if size > 1 else IDLE_CYCLE_MS,
        # A group is one message, never merged with its neighbours: what is added together, and in which
        # order, must not depend on timing.
        "HOROVOD_DISABLE_GROUP_FUSION": "1",
        "HOROVOD_STALL_CHECK_TIME_SECONDS": "120",
        "HOROVOD_STALL_SHUTDOWN_TIME_SECONDS": "600",
    }


@contextmanager
def _on_host(tensor: torch.Tensor) -> Iterator[np.ndarray]:
    """The tensor as an array MPI can work on; what is strided or on an accelerator goes through a copy and back."""
    if tensor.device.type == "cpu" and tensor.is_contiguous():
        yield tensor.numpy()
        return
    staged = tensor.cpu().contiguous()
    yield staged.numpy()
    tensor.copy_(staged)


def start(backend: str = "mpi4py") -> Comm:
    """Join the ranks this process was started with.

    Parameters
    ----------
    backend : str
        ``horovod`` for training; ``mpi4py`` for everything that reduces no gradients (torch is not imported).

    Raises
    ------
    UserError
        The launcher started more tasks than MPI sees: each would believe it were alone.
    """
    if not launched():
        assert_all(1)
        return Comm()
    prepare()
    comm = HorovodComm() if backend == "horovod" else MpiComm()
    assert_all(comm.size)
    return comm
