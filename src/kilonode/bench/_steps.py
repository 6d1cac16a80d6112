"""Optimiser steps of a real training, without its epochs, records and checkpoints."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kilonode import comm, config
from kilonode.data.loader import Loader, Share
from kilonode.data.store import Store
from kilonode.data.transform import Scaler
from kilonode.records import Json


@dataclass
class Steps:
    """A trainer and an endless supply of its batches.

    Attributes
    ----------
    trainer : Trainer
        Of the training stage, unchanged.
    choice : dict
        Precision, layout and what the probe measured.
    waited : float
        Seconds spent waiting for batches so far.
    """

    trainer: Any
    loader: Loader
    choice: Json
    waited: float = 0.0
    _shares: Iterator[Share] = field(init=False)

    def __post_init__(self) -> None:
        self._shares = self.loader.epochs(0)

    def take(self, count: int) -> int:
        """Train so many steps; the samples in them."""
        from kilonode.training.loop import Timing

        samples = 0
        for _ in range(count):
            start = time.perf_counter()
            share = next(self._shares)
            self.waited += time.perf_counter() - start
            self.trainer.step(share, Timing())
            samples += share.global_size
        return samples

    def close(self) -> None:
        """End the reader."""
        self._shares.close()  # type: ignore[attr-defined] # a generator


def settings_of(case: str, data: str, task: str, **training: Any) -> Json:
    """A task as the training stage completes it, with some rules of its own."""
    from kilonode.training import rules

    settings = config.task(case, data, task)
    settings["training"] = {**rules.complete(settings["training"], task), **training}
    return settings


def steps(
    case: str, task: str, settings: Json, store: Path, ranks: comm.Comm, seed: int = 0, state: Path | None = None
) -> Steps:
    """What the training stage would train, up to its first step."""
    import torch

    from kilonode.training import precision
    from kilonode.training.build import build
    from kilonode.training.loop import Trainer

    rules = settings["training"]
    torch.set_num_threads(rules["threads"])
    torch.set_flush_denormal(True)
    precision.keep_memory()
    torch.manual_seed(seed)
    splits = [Store(store, name) for name in ("train", "validation")]
    scaler = Scaler(settings["input"], splits[0].stats)
    fields = [name for name in (scaler.field, settings.get("target")) if name]
    shape = scaler(splits[0].take(scaler.field, np.array([0]))).shape[1:]
    model = build(case, task, settings["model"], shape)
    loaders = [
        Loader(split, fields, rules["batch"], seed, ranks.rank, ranks.size, shuffle=name == "train")
        for name, split in zip(("train", "validation"), splits, strict=True)
    ]
    source = (loaders[0], scaler, settings.get("target"))
    with tempfile.TemporaryDirectory() as folder:
        choice = precision.choose(rules, model, source, ranks, Path(folder), "bench", "cpu")
    precision.prepare(model, choice)
    trainer = Trainer(model, settings, (loaders[0], loaders[1]), scaler, ranks, state or store.parent, seed, "bench")
    return Steps(trainer, loaders[0], asdict(choice))
