"""The loop: step, watch, evaluate, record, checkpoint, stop? - the same number of steps on every rank."""

from __future__ import annotations

import json
import math
import os
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kilonode.cases.contract import Batch
from kilonode.comm import Comm
from kilonode.data.loader import Loader, Share
from kilonode.data.transform import Scaler
from kilonode.progress import clock
from kilonode.records import Json, finite
from kilonode.training import checkpoint, optim
from kilonode.training.stop import DIVERGED, GO, SAVE, STOP, Watch

WATCH_EVERY = 10
"""Steps between two questions to all ranks; one question takes 0.004-0.08 ms."""


@dataclass
class Progress:
    """Where the loop is; with the tensors, all a checkpoint needs."""

    epoch: int = 0
    step_in_epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    best: float = math.inf
    best_epoch: int = -1
    records_bytes: int = 0
    done: bool = False


@dataclass
class Timing:
    """Seconds of the steps of one epoch on this rank."""

    steps: list[float] = field(default_factory=list)
    input: float = 0.0
    communication: float = 0.0
    samples: int = 0


class Trainer:
    """Trains one model on one rank of many.

    Parameters
    ----------
    model : contract.Model, a torch.nn.Module
        A case's model (``contract.Model``), the same on every rank.
    settings : dict
        The task: ``input``, ``target``, ``training``.
    loaders : tuple of Loader
        Training and validation, this rank's share.
    scaler : Scaler
        From stored values to inputs.
    comm : Comm
        The ranks.
    state : Path
        Folder of checkpoints and records.
    seed : int
        Of the order and the noise.
    identity : str
        What must be equal for a checkpoint to be continued.
    """

    def __init__(
        self,
        model: Any,
        settings: Json,
        loaders: tuple[Loader, Loader],
        scaler: Scaler,
        comm: Comm,
        state: Path,
        seed: int,
        identity: str,
    ) -> None:
        self.model, self.settings, self.scaler, self.comm = model, settings, scaler, comm
        self.training, self.validation = loaders
        self.rules: Json = settings["training"]
        self.state, self.seed, self.identity = state, seed, identity
        self.progress, self.best_weights = Progress(), self._weights()
        comm.share(dict(model.state_dict()))
        plain = optim.optimizer(model.parameters(), self.rules)
        self.optimizer = comm.distribute(plain, model.named_parameters())

    # ---- one step

    def batch(self, share: Share, epoch: int) -> Batch:
        """The rank's samples as tensors, with the key all their randomness is drawn from."""
        target = self.settings.get("target")
        return Batch(
            x=torch.from_numpy(self.scaler(share.fields[self.scaler.field])),
            y=torch.from_numpy(share.fields[target].astype(np.int64)) if target else None,
            key=torch.from_numpy(keys(self.seed, epoch, share.rows)),
        )

    def _loss(self, share: Share) -> Any:
        """Sum of the losses of this rank's samples; without any (a short last batch) a zero with zero gradients."""
        if len(share.rows) == 0:  # torch has layers that do not run on nothing
            return torch.stack([parameter.sum() for parameter in self.model.parameters()]).sum() * 0.0
        return self.model.losses(self.batch(share, self.progress.epoch)).sum()

    def step(self, share: Share, timing: Timing) -> None:
        """One optimiser step on one global batch.

        The loss is divided by the samples of all ranks and gradients are added, so N ranks with b samples each
        give the gradient of one rank with N*b, however unequal the shares.
        """
        start = time.perf_counter()
        now = self.progress
        for group in self.optimizer.param_groups:
            group["lr"] = optim.learning_rate(self.rules, now.step, self.training.steps)
        self.optimizer.zero_grad()
        losses = self._loss(share)
        (losses / share.global_size).backward()
        before = time.perf_counter()
        self.comm.synchronise(self.optimizer)
        timing.communication += time.perf_counter() - before
        if self.rules["clip"] is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.rules["clip"])
        self.comm.step(self.optimizer)
        now.loss_sum += losses.item()
        now.loss_count += len(share.rows)
        now.step += 1
        now.step_in_epoch += 1
        timing.samples += share.global_size
        timing.steps.append(time.perf_counter() - start)

    # ---- all epochs

    def fit(self, watch: Watch) -> str:
        """Train until the end, a stop or a divergence.

        Returns
        -------
        str
            ``complete``, ``stopped`` or ``diverged``; the same on every rank.
        """
        self._restore()
        self.started = time.monotonic()
        self.first_epoch = self.progress.epoch
        while not self.progress.done:
            verdict = self._epoch(watch)
            if verdict in (STOP, DIVERGED):
                return "stopped" if verdict == STOP else "diverged"
        return "complete"

    def _epoch(self, watch: Watch) -> int:
        now, timing = self.progress, Timing()
        self.model.train()
        waiting = time.perf_counter()
        with closing(self.training.epoch(now.epoch, now.step_in_epoch)) as shares:
            for share in shares:
                timing.input += time.perf_counter() - waiting
                self.step(share, timing)
                if now.step_in_epoch % WATCH_EVERY == 0 and now.step_in_epoch < self.training.steps:
                    verdict = watch.decide(diverged=not math.isfinite(now.loss_sum))
                    if verdict in (SAVE, STOP):
                        self._save(watch)
                    if verdict in (STOP, DIVERGED):
                        return verdict
                waiting = time.perf_counter()
        train_loss = self._mean(now.loss_sum, now.loss_count)
        validation_loss = self.evaluate() if math.isfinite(train_loss) else math.nan
        if not math.isfinite(validation_loss):  # the last step may have broken the weights
            return DIVERGED
        self._end_epoch(train_loss, validation_loss, timing)
        self._save(watch)
        return STOP if watch.decide(diverged=False) == STOP and not now.done else GO

    def evaluate(self) -> float:
        """Mean loss over the whole validation split: every sample of every rank, training randomness off."""
        self.model.eval()
        total, count = 0.0, 0
        with torch.no_grad(), closing(self.validation.epoch(0)) as shares:
            for share in shares:
                if len(share.rows) == 0:
                    continue
                total += float(self.model.losses(self.batch(share, 0)).double().sum())
                count += len(share.rows)
        return self._mean(total, count)

    def _mean(self, total: float, count: int) -> float:
        sums = self.comm.sum([total, count])
        return float(sums[0] / sums[1])

    def _end_epoch(self, train_loss: float, validation_loss: float, timing: Timing) -> None:
        now = self.progress
        if validation_loss < now.best:
            now.best, now.best_epoch, self.best_weights = validation_loss, now.epoch, self._weights()
        now.epoch, now.step_in_epoch, now.loss_sum, now.loss_count = now.epoch + 1, 0, 0.0, 0
        patience = now.epoch - 1 - now.best_epoch >= self.rules["patience"]
        now.done = now.epoch >= self.rules["epochs"] or patience
        if self.comm.is_root:
            self._record(train_loss, validation_loss, timing)

    # ---- records and checkpoints

    def _record(self, train_loss: float, validation_loss: float, timing: Timing) -> None:
        now, steps = self.progress, np.asarray(timing.steps)
        spent = float(steps.sum()) + timing.input
        record = {
            "epoch": now.epoch,
            "step": now.step,
            "train_loss": train_loss,
            "validation_loss": validation_loss,
            "lr": optim.learning_rate(self.rules, now.step - 1, self.training.steps),
            "samples_per_s": timing.samples / spent,
            "input_wait": timing.input / spent,
            "communication_wait": timing.communication / spent,
            "step_ms": {f"p{p}": float(np.percentile(steps, p)) * 1e3 for p in (50, 95, 99, 100)},
        }
        with (self.state / "metrics.jsonl").open("a") as stream:
            stream.write(json.dumps(finite(record)) + "\n")
            stream.flush()
            os.fsync(stream.fileno())  # the next checkpoint counts on it
            now.records_bytes = stream.tell()
        per_epoch = (time.monotonic() - self.started) / (now.epoch - self.first_epoch)
        left = "" if now.done else f", at most {clock(per_epoch * (self.rules['epochs'] - now.epoch))} left"
        mark = " (best)" if now.best_epoch == now.epoch - 1 else ""
        print(
            f"train: epoch {now.epoch} of {self.rules['epochs']}, loss {train_loss:.5g}, "
            f"validation {validation_loss:.5g}{mark}, {timing.samples / spent:.0f} samples/s{left}",
            flush=True,
        )

    def _weights(self) -> checkpoint.Tensors:
        return {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}

    def _save(self, watch: Watch) -> None:
        start, states = time.monotonic(), self.comm.gather(torch.get_rng_state())
        sums = self.comm.gather((self.progress.loss_sum, self.progress.loss_count))
        if states is not None and sums is not None:
            tensors = {
                **checkpoint.with_prefix("model.", self._weights()),
                **checkpoint.with_prefix("best.", self.best_weights),
                **checkpoint.flat(self.optimizer),
                **{f"random.{rank}": state for rank, state in enumerate(states)},
            }
            state = {"identity": self.identity, "ranks": self.comm.size, "loss_sums": sums, **vars(self.progress)}
            state["best"] = None if math.isinf(self.progress.best) else self.progress.best
            checkpoint.save(self.state, self.progress.step, tensors, state)
        watch.saved(time.monotonic() - start)

    def _restore(self) -> None:
        found = checkpoint.restore(self.state, self.identity, self.comm)
        if found is None:
            if self.comm.is_root:
                if any(self.state.glob("checkpoint-*.json")):
                    print(f"train: no checkpoint of this configuration ({self.state}); starting anew", flush=True)
                checkpoint.clear(self.state)  # also records of a run that was killed before its first checkpoint
            return
        tensors, state = found
        self.model.load_state_dict(checkpoint.under_prefix("model.", tensors))
        self.best_weights = checkpoint.under_prefix("best.", tensors)
        checkpoint.unflatten(self.optimizer, tensors)
        self.progress = Progress(**{name: state[name] for name in vars(Progress())})
        self.progress.best = math.inf if state["best"] is None else state["best"]
        same = state["ranks"] == self.comm.size
        if same:
            torch.set_rng_state(tensors[f"random.{self.comm.rank}"])
            self.progress.loss_sum, self.progress.loss_count = state["loss_sums"][self.comm.rank]
        elif not self.comm.is_root:
            self.progress.loss_sum, self.progress.loss_count = 0.0, 0
        else:
            self.progress.loss_sum = sum(part[0] for part in state["loss_sums"])
            self.progress.loss_count = sum(part[1] for part in state["loss_sums"])
        if self.comm.is_root:
            records = self.state / "metrics.jsonl"
            if records.exists():
                with records.open("r+") as stream:
                    stream.truncate(self.progress.records_bytes)
            note = (
                "" if same else f"; it had {state['ranks']} ranks, now {self.comm.size}: same samples, other rounding"
            )
            print(f"train: continuing from step {self.progress.step}{note}", flush=True)


def keys(seed: int, epoch: int, rows: np.ndarray) -> np.ndarray:
    """A 64-bit key of each sample in each epoch, int64 (B,): the same on whichever rank the sample falls."""
    base = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0]
    with np.errstate(over="ignore"):
        mixed = base + rows.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)  # odd: a bijection of 64 bits
    return mixed.view(np.int64)
