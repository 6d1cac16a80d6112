"""What tests start with mpiexec: ``python ranks.py PROGRAM FOLDER ...``; rank 0 writes what was seen into FOLDER."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from kilonode import cli, comm, config
from kilonode.errors import UserError

sys.path.append(str(Path(__file__).parents[1]))
SIZES = (10, 100, 1_000, 12_345, 100_000, 1_000_000)


def sha256(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def parts(rank: int) -> list[float]:
    """Numbers whose sum depends on the order they are added in."""
    return [float(x) for x in np.random.default_rng(rank).normal(size=5) * 10.0 ** np.arange(-8, 12, 4)]


def write(ranks: comm.Comm, folder: Path, mine: Any) -> None:
    """``out.json``: what every rank saw, in rank order."""
    seen = ranks.gather(mine)
    if seen is not None:
        (folder / "out.json").write_text(json.dumps(seen))
    ranks.close()


def talk(folder: Path) -> None:
    """Every small agreement, the last rank first."""
    import torch

    ranks = comm.start("mpi4py")
    time.sleep(0.1 * (ranks.size - ranks.rank))
    me = ranks.rank
    tensors = {
        "scalar": torch.tensor(float(me)),
        "row": torch.arange(5.0) + me,
        "none": torch.empty(0, 3),
        "bytes": torch.full((7,), me, dtype=torch.uint8),
        "whole": torch.tensor([me - 2**40]),
        "double": torch.tensor(0.1 * me, dtype=torch.float64),
        "flag": torch.tensor([me == 0]),
        "strided": (torch.arange(6.0).view(2, 3) + me).T,
    }
    ranks.share(tensors)
    weight = torch.nn.Parameter(torch.zeros(2, 3).T)
    weight.grad = torch.arange(6.0).view(2, 3).T * (me + 1)
    ranks.synchronise(torch.optim.SGD([weight]))
    added = np.array([me, 1.0])
    ranks.add(added)
    mine = {
        "me": [ranks.rank, ranks.size, ranks.local_rank, ranks.is_root, ranks.backend],
        "gather": ranks.gather([me]),
        "allgather": ranks.allgather(str(me)),
        "broadcast": ranks.broadcast({"from": me}),
        "highest": [ranks.highest((me * 2) % 3), ranks.highest(-me)],
        "sum": ranks.sum(parts(me)).tolist(),
        "share": {name: tensor.tolist() for name, tensor in tensors.items()},
        "synchronise": weight.grad.tolist(),
        "add": added.tolist(),
    }
    write(ranks, folder, mine)


def bits(folder: Path) -> None:
    """Hashes of float32 sums of many sizes, as mpi4py adds gradients."""
    ranks = comm.start("mpi4py")
    import torch

    rng = np.random.default_rng(ranks.rank)
    weights = [torch.nn.Parameter(torch.zeros(size)) for size in SIZES]
    for weight, size in zip(weights, SIZES, strict=True):
        weight.grad = torch.from_numpy(rng.normal(size=size).astype(np.float32))
    ranks.synchronise(torch.optim.SGD(weights))
    write(ranks, folder, [ranks.local_rank, [sha256(weight.grad.numpy()) for weight in weights]])


def smoke(folder: Path) -> None:
    """What the Horovod that was built can do."""
    ranks = comm.start("horovod")
    import horovod.torch as hvd
    import torch

    try:
        hvd.allreduce(torch.ones(3, dtype=torch.bfloat16), op=hvd.Sum, name="half")
        refused = ""
    except ValueError as error:
        refused = str(error)
    total = hvd.allreduce(torch.ones(3), op=hvd.Sum, name="ones").tolist()
    write(ranks, folder, [hvd.mpi_built(), hvd.mpi_threads_supported(), hvd.size(), total, refused])


class Told:
    """A stream that keeps what this rank itself writes, whatever the launcher makes of it."""

    def __init__(self, stream: Any, path: Path) -> None:
        self.stream, self.path = stream, path

    def write(self, text: str) -> int:
        with self.path.open("a") as file:
            file.write(text)
        return int(self.stream.write(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def fail(folder: Path, where: str, who: str) -> None:
    """A verb that fails before or after MPI starts, on all ranks or on one, for which the others wait or do not."""
    me = int(os.environ["PMI_RANK"])
    sys.stderr = Told(sys.stderr, folder / f"told.{me}")  # type: ignore[assignment]
    concerned = who in ("all", "each", str(me))

    def run(**_: object) -> None:
        ranks = comm.start("mpi4py") if where != "early" else comm.Comm()
        if concerned:
            if where == "defect":
                raise ZeroDivisionError("planted")
            raise UserError(f"expected peace, got trouble{f' on {me}' if who == 'each' else ''} (here); go on")
        ranks = comm.start("mpi4py") if where == "early" else ranks
        if where != "return":
            ranks.barrier()

    sys.modules["planted"] = planted = type(sys)("planted")
    planted.run = run  # type: ignore[attr-defined]
    cli.VERBS["bench"] = ("planted", *cli.VERBS["bench"][1:])
    cli.main(["bench", "demo"])


def first_rows(store: Any, rows: int) -> Any:
    """A store cut off after its first rows: all that a loader asks of it knows no others.

    Of a smaller store so many that the last batch is as short; where there is not one batch, all.
    """
    if rows > store.rows:
        rows = store.rows - (store.rows - rows) % BATCH * (store.rows > BATCH)

    class Few(type(store)):  # type: ignore[misc]
        extents = (rows,)

    store.__class__, store.rows = Few, rows
    return store


BATCH, ROWS, HELD_OUT = 13, 9 * 13 + 1, 2 * 13 + 2  # ten steps; the last batches have one sample and two


def exact(folder: Path, stores: str, backend: str, asked: str) -> None:
    """Gradients of a whole and of the last batch, weights after ten steps, and the validation loss; of every task.

    ``asked`` is JSON: [case, task, variant], where the variant is plain, in pieces, normalised, lars or lamb.
    """
    ranks = comm.start(backend)
    import torch

    torch.set_num_threads(1)
    found: dict[str, np.ndarray] = {}
    for case, task, variant in json.loads(asked):
        settings = config.task(case, "toy", task)
        # Linear in the gradients: Adam moves a weight whose gradient is nothing but rounding as far as any other.
        settings["training"].update(batch=BATCH, epochs=1, clip=None, lr=0.01, warmup_epochs=0)
        settings["training"].update(optimizer="sgd", momentum=0.9)
        settings["training"]["accumulate"] = 3 if variant == "in pieces" else 1
        if variant in ("lars", "lamb"):
            settings["training"].update(optimizer=variant, weight_decay=0.01)
        index = Path(stores) / case / settings["table"] / "index.json"
        for name, value in one(ranks, folder, index, (case, task, variant), settings).items():
            found[f"{case} {task} {variant} {name}"] = value
    if ranks.is_root:
        np.savez(folder / "out.npz", **found)
    ranks.close()


def normalised(shape: tuple[int, ...]) -> Any:
    """A small network with two batch normalisations: of an image and of a row."""
    import torch
    from torch import nn

    class Normalised(nn.Module):
        def __init__(self) -> None:
            super().__init__()  # biases before a normalisation have no gradient, and Adam would amplify its rounding
            self.image = nn.Sequential(nn.Conv2d(shape[0], 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU())
            self.row = nn.Sequential(nn.Linear(6, 5, bias=False), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 1))

        def losses(self, batch: Any) -> torch.Tensor:
            out: torch.Tensor = self.row(self.image(batch.x).mean((2, 3)))[:, 0]
            return (out - batch.x.flatten(1).mean(1)) ** 2

    return Normalised()


def one(
    ranks: comm.Comm, folder: Path, index: Path, what: tuple[str, str, str], settings: dict[str, Any]
) -> dict[str, np.ndarray]:
    import torch

    from kilonode.data.loader import Loader, Share
    from kilonode.data.store import Store
    from kilonode.data.transform import Scaler
    from kilonode.training.batch_norm import BatchNorm
    from kilonode.training.build import build
    from kilonode.training.loop import Trainer
    from kilonode.training.timing import Timing

    case, task, variant = what
    stores = [Store(index, "train"), Store(index, "validation")]
    scaler = Scaler(settings["input"], stores[0].stats)
    fields = [name for name in (scaler.field, settings.get("target")) if name]
    training, validation = (
        Loader(first_rows(store, rows), fields, BATCH, 7, ranks.rank, ranks.size, shuffle=True)
        for store, rows in zip(stores, (ROWS, HELD_OUT), strict=True)
    )
    torch.manual_seed(ranks.rank)  # rank 0's weights must win
    shape = scaler(stores[0].take(scaler.field, np.array([0]))).shape[1:]
    model = normalised(shape) if variant == "normalised" else build(case, task, settings["model"], shape)
    trainer = Trainer(model, settings, (training, validation), scaler, ranks, folder, 7, "exact")
    found = {}

    def gradient(share: Share) -> np.ndarray:
        trainer.comm.step = lambda optimizer: None  # type: ignore[method-assign]
        trainer.step(share, Timing())
        del trainer.comm.step
        return np.concatenate([parameter.grad.flatten().numpy().copy() for parameter in model.parameters()])

    shares = [  # a loader may use its arrays again
        Share(share.rows.copy(), {name: values.copy() for name, values in share.fields.items()}, share.global_size)
        for share in training.epoch(0)
    ]
    found["whole"], found["last"] = gradient(shares[0]), gradient(shares[-1])
    mine = shares[0]  # the mistake of averaging over ranks: each rank's mean counts the same, however few its samples
    found["wrong"] = gradient(Share(mine.rows, mine.fields, len(mine.rows) * ranks.size))
    if variant == "normalised":  # and that of normalising over this rank's samples alone
        layers = [layer for layer in model.modules() if isinstance(layer, BatchNorm)]
        before = copy.deepcopy(model.state_dict())
        for layer in layers:
            layer.comm = comm.Comm()
        found["apart"] = gradient(mine)
        for layer in layers:
            layer.comm = ranks
        model.load_state_dict(before)  # without the running values of that
    found["parts"] = np.array(ranks.allgather([len(share.rows) for share in shares]))
    trainer.rules["clip"] = 1.0  # gradients of a likelihood are large
    for share in shares:
        trainer.step(share, Timing())
    found["weights"] = np.concatenate([value.detach().flatten().numpy() for value in model.state_dict().values()])
    found["validation"] = np.array(trainer.evaluate())
    found["agree"] = np.array(len(set(ranks.allgather((sha256(found["weights"]), found["validation"].item())))))
    return found


def stops(folder: Path, store: str, backend: str, scenarios: str) -> None:
    """Whole trainings one after another, some disturbed; each in its folder, which may begin as a copy of another's."""
    import pytest

    for number in (signal.SIGUSR1, signal.SIGTERM):
        signal.signal(number, cli._note_stop)
    ranks = comm.start(backend)
    ranks.close, close = ranks.barrier, ranks.close  # type: ignore[method-assign]
    comm.start = lambda backend="": ranks
    import small_train

    from kilonode.training import train

    for name, plan, origin in json.loads(scenarios):
        if origin and ranks.is_root:
            shutil.copytree(folder / origin, folder / name)
        ranks.barrier()
        os.environ.pop("KILONODE_STOP", None)
        with pytest.MonkeyPatch.context() as patch:
            small_train.plant(plan, patch.setattr)
            train.run("reactor_neutrinos", "autoencoder", "toy", 0, Path(store), folder / name, backend, "")
    close()


if __name__ == "__main__":
    try:
        globals()[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
    except Exception as error:  # one rank's must not leave the others waiting
        for line in comm.failed((f"{type(error).__name__}: {error}",), 1):
            print(line, file=sys.stderr)
        sys.exit(1)
