"""The loops that ``bench step`` compares: ``python -m kilonode.bench._sides plain|lightning|ours|validation PLAN``.

Each lives in a process of its own, as it would for its user, and trains when it is told to: a line with a number on
stdin is that many steps, answered by one JSON line. Between two turns it sleeps.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from kilonode import comm
from kilonode.bench._steps import settings_of, steps
from kilonode.cases.contract import Batch
from kilonode.data.store import Store
from kilonode.data.transform import Scaler
from kilonode.records import Json
from kilonode.training import optim
from kilonode.training.build import build

WORKERS = 2
"""Of the plain loop's DataLoader."""
ANSWERS = 3
"""The descriptor answers go to; what a loop or a library prints goes nowhere."""


class Turns:
    """Counts steps and waits for the next turn."""

    def __init__(self, **known: Any) -> None:
        self._answer(known)

    def _answer(self, content: Json) -> None:
        os.write(ANSWERS, json.dumps(content).encode() + b"\n")
        line = sys.stdin.readline()
        if not line:
            os._exit(0)  # workers and readers end with their parent
        self._left, self._samples, self._waited, self._start = int(line), 0, 0.0, time.perf_counter()

    def done(self, samples: int, waited: float) -> None:
        """One step is done, before which ``waited`` seconds passed without a batch."""
        self._left, self._samples, self._waited = self._left - 1, self._samples + samples, self._waited + waited
        if self._left == 0:
            spent = time.perf_counter() - self._start
            self._answer({"seconds": spent, "samples": self._samples, "waited": self._waited})


class Samples(torch.utils.data.Dataset[Any]):
    """One sample of the store after another, as most people write it; the rows of all shards."""

    def __init__(self, plan: Json, settings: Json) -> None:
        store = Store(Path(plan["store"]), "train")
        self._files = [store.folder / entry["file"] for entry in store.entries]
        self._starts = np.cumsum([0, *(entry["rows"] for entry in store.entries)])
        self._scaler, self._target = Scaler(settings["input"], store.stats), settings.get("target")

    def __len__(self) -> int:
        return int(self._starts[-1])

    @cached_property
    def _opened(self) -> list[h5py.File]:
        return [h5py.File(path, "r") for path in self._files]

    def __getitem__(self, row: int) -> tuple[np.ndarray, int, int]:
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        file, at = self._opened[number], row - self._starts[number]
        x = self._scaler(file[self._scaler.field][at][None])[0]
        return x, int(file[self._target][at]) if self._target else 0, row


class Plain:
    """What a plain loop needs: network, optimiser, DataLoader; fp32, torch's own layout and threads."""

    def __init__(self, plan: Json) -> None:
        settings = _settings(plan)
        self.rules, samples = settings["training"], Samples(plan, settings)
        torch.manual_seed(0)
        self.model = build(plan["case"], plan["task"], settings["model"], samples[0][0].shape)
        self.optimizer = optim.optimizer(self.model.parameters(), self.rules)
        self.loader = torch.utils.data.DataLoader(samples, self.rules["batch"], shuffle=True, num_workers=WORKERS)

    def loss(self, batch: Any) -> torch.Tensor:
        """Mean loss of a batch of the loader."""
        found: torch.Tensor = self.model.losses(Batch(*batch)).mean()
        return found

    def batches(self) -> Iterator[tuple[Any, float]]:
        """Batches without end, with the seconds each was waited for."""
        while True:
            start = time.perf_counter()
            for batch in self.loader:
                yield batch, time.perf_counter() - start
                start = time.perf_counter()


def plain(plan: Json) -> None:
    """The plain PyTorch loop."""
    from torch.utils.flop_counter import FlopCounterMode

    side = Plain(plan)
    example = next(iter(side.loader))
    with FlopCounterMode(display=False) as counter:
        torch.autograd.backward(side.loss(example))
    turns = Turns(flop=counter.get_total_flops() / len(example[0]))
    for batch, waited in side.batches():
        side.optimizer.zero_grad()
        loss = side.loss(batch)
        torch.autograd.backward(loss)
        if side.rules["clip"] is not None:
            torch.nn.utils.clip_grad_norm_(side.model.parameters(), side.rules["clip"])
        side.optimizer.step()
        loss.item()
        turns.done(len(batch[0]), waited)


def lightning(plan: Json) -> None:
    """The same under Lightning."""
    import lightning as pl

    side = Plain(plan)
    turns = Turns()

    class Module(pl.LightningModule):  # type: ignore[misc, unused-ignore] # Any where it is not installed
        def __init__(self) -> None:
            super().__init__()
            self.model = side.model
            self.ended = time.perf_counter()

        def training_step(self, batch: Any, number: int) -> Any:
            return side.loss(batch)

        def configure_optimizers(self) -> Any:
            return side.optimizer

        def on_train_batch_start(self, batch: Any, number: int) -> None:
            self.waited = time.perf_counter() - self.ended

        def on_train_batch_end(self, outputs: Any, batch: Any, number: int) -> None:
            turns.done(len(batch[0]), self.waited)
            self.ended = time.perf_counter()

    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=-1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, gradient_clip_val=side.rules["clip"],
    )  # fmt: skip
    trainer.fit(Module(), side.loader)


def ours(plan: Json) -> None:
    """The training stage's own steps, with the precision and layout that its probe chooses."""
    made = steps(plan["case"], plan["task"], _settings(plan), Path(plan["store"]), comm.Comm())
    turns = Turns(**made.choice)
    while True:
        before = made.waited
        turns.done(made.take(1), made.waited - before)


def validation(plan: Json) -> None:
    """Best validation losses of short trainings, one a seed, with the planned precision."""
    from kilonode.training.stop import Watch

    found, choice = [], {}
    for seed in range(plan["seeds"]):
        with tempfile.TemporaryDirectory() as folder:
            ranks = comm.Comm()
            made = steps(plan["case"], plan["task"], _settings(plan), Path(plan["store"]), ranks, seed, Path(folder))
            made.trainer.fit(Watch(ranks, "", time.monotonic()))
            found.append(made.trainer.progress.best)
            choice = made.choice
    Turns(losses=found, **choice)


def _settings(plan: Json) -> Json:
    """The planned task: the width of one tier on the data of another."""
    settings = settings_of(plan["case"], plan["data"], plan["task"], **plan["training"])
    settings["model"] = plan["model"]
    return settings


if __name__ == "__main__":
    os.dup2(1, ANSWERS)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    globals()[sys.argv[1]](json.loads(sys.argv[2]))
