"""Stage ``train``: one task of one data set with one seed, on any number of ranks."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from kilonode import comm, config
from kilonode.data.loader import Loader
from kilonode.data.store import Store
from kilonode.data.transform import Scaler
from kilonode.errors import UserError
from kilonode.records import Json, conditions, digest, read_json, write_json
from kilonode.training.device import memory_for, place
from kilonode.training.rules import complete as completed
from kilonode.training.rules import identity as identity_of
from kilonode.training.rules import of_profile
from kilonode.training.watchdog import SAVING, Watchdog


def run(
    case: str,
    task: str,
    data: str,
    seed: int,
    store: Path,
    state: Path,
    backend: str,
    time_left: str,
    device: str = "cpu",
    patience_s: float = 600.0,
    tuned: Path | None = None,
) -> None:
    """Train until the end, a stop or a divergence, and say which in ``state/status.json``.

    A rerun continues from the newest valid checkpoint of the same configuration. Every rank exits 0 also when
    it stops early: a failing rank makes ``srun`` kill its peers (hpc notes); ``finish`` gives the exit code.

    Parameters
    ----------
    case, task, data : str
        What to train on.
    seed : int
        Of the weights, the order and the noise.
    store : Path
        Index of the store; test data and truth are not opened.
    state : Path
        Folder of checkpoints and records.
    backend : str
        horovod or mpi4py.
    time_left : str
        What the scheduler grants; empty: no limit.
    device : str
        cpu or cuda. Ranks share a node's accelerators in turn.
    patience_s : float
        Seconds, or 20 usual steps if that is longer, after which ranks that wait for another end all.
    tuned : Path, optional
        Folder of the task's searches; the best configuration is taken.

    Raises
    ------
    UserError
        More ranks than samples in a batch, no such device, not enough memory.
    """
    began = time.monotonic()
    settings = config.task(case, data, task, tuned)
    rules = settings["training"] = {**completed(settings["training"], f"{case}/{task}"), **of_profile()}
    os.environ["OMP_NUM_THREADS"] = str(rules["threads"])  # read when torch is imported
    ranks = comm.start(backend)  # before torch: mpi4py must own MPI
    import torch

    from kilonode.training import checkpoint, precision
    from kilonode.training.build import build
    from kilonode.training.loop import Trainer
    from kilonode.training.stop import Watch

    minutes = rules["checkpoint"]["minutes"]
    with Watchdog(ranks, patience_s) as watchdog, memory_for(rules, ranks.size):
        watch = Watch(ranks, time_left, began, None if minutes is None else 60 * minutes)
        torch.set_num_threads(rules["threads"])
        torch.set_flush_denormal(True)
        precision.keep_memory()
        torch.manual_seed(seed)
        if ranks.size > rules["batch"]:
            raise UserError(
                f"expected at most {rules['batch']} ranks, one for each sample of a global batch, got {ranks.size}; "
                f"use fewer ranks or raise training.batch of {task} in case.yaml"
            )
        splits = [Store(store, name) for name in ("train", "validation")]
        scaler = Scaler(settings["input"], splits[0].stats)
        fields = [name for name in (scaler.field, settings.get("target")) if name]
        first = scaler(splits[0].take(scaler.field, np.array([0])))
        model = build(case, task, settings["model"], first.shape[1:])
        identity = digest(
            [
                case,
                task,
                data,
                seed,
                settings["model"],
                identity_of(rules),
                settings["input"],
                splits[0].index["identity"],
            ]
        )
        if ranks.is_root:
            state.mkdir(parents=True, exist_ok=True)
            if _finished(state):
                checkpoint.clear(state)
        ranks.barrier()
        window = rules["window_mb"] << 20
        loaders = [
            Loader(split, fields, rules["batch"], seed, ranks.rank, ranks.size, name == "train", window)
            for name, split in zip(("train", "validation"), splits, strict=True)
        ]
        where = place(device, ranks)
        source = (loaders[0], scaler, settings.get("target"))
        choice = precision.choose(rules, model, source, ranks, state, identity, where)
        precision.prepare(model, choice)
        trainer = Trainer(model, settings, (loaders[0], loaders[1]), scaler, ranks, state, seed, identity, where)
        trainer.watchdog = watchdog
        status = trainer.fit(watch)
        watchdog.beat("the end", SAVING)
        reasons = ranks.gather(watch.reason)  # a signal may have reached one rank only
        divergence = _divergence(trainer, ranks, splits) if status == "diverged" else None
        if reasons is not None:
            reason = next(filter(None, reasons), "") if status == "stopped" else ""
            content = _status(status, reason, trainer, identity, ranks, seed, choice)
            write_json(state / "status.json", {**content, **({"divergence": divergence} if divergence else {})})
            print(f"train: {status} after epoch {trainer.progress.epoch}, step {trainer.progress.step}", flush=True)
        ranks.close()


def _divergence(trainer: Any, ranks: comm.Comm, splits: list[Store]) -> Json | None:
    """Who saw the first value that was not finite, where, and in which samples; on rank 0."""
    mine = None
    if trainer.finding is not None:
        split = splits[0] if trainer.model.training else splits[1]
        rows = np.sort(trainer.finding.rows)
        ids = split.take("sample_id", rows) if "sample_id" in split.fields else rows
        mine = (trainer.found_at, ranks.rank, trainer.finding.where, [int(number) for number in ids])
    found = [item for item in ranks.gather(mine) or () if item is not None]
    if not found:
        return None
    step, rank, where, samples = min(found)
    during = "training" if trainer.model.training else "validation"
    return {"step": step, "rank": rank, "where": where, "samples": samples, "during": during}


def _finished(state: Path) -> bool:
    """Whether an earlier run here was turned into outputs: the next one starts anew."""
    path = state / "status.json"
    return path.is_file() and bool(read_json(path).get("finished"))


def _status(status: str, reason: str, trainer: object, identity: str, ranks: comm.Comm, seed: int, choice: Any) -> Json:
    progress = trainer.progress  # type: ignore[attr-defined] # typing it would import torch at the top
    model = trainer.model  # type: ignore[attr-defined]
    spent: Json = progress.spent.summary()
    return {
        "status": status,
        "reason": reason,
        "step": progress.step,
        "epoch": progress.epoch,
        "best_epoch": progress.best_epoch + 1,
        "best_validation_loss": progress.best,
        "identity": identity,
        "timing": spent,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "conditions": conditions(
            seeds=[seed],
            ranks=ranks.size,
            backend=ranks.backend,
            mpi=ranks.library,
            threads=trainer.rules["threads"],  # type: ignore[attr-defined]
            device=str(trainer.device),  # type: ignore[attr-defined]
            **vars(choice),
            job=os.environ.get("SLURM_JOB_ID"),
        ),
    }
