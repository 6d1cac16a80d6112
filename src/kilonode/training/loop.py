"""The loop: step, watch, evaluate, record, checkpoint, stop? - the same number of steps on every rank."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kilonode.cases.contract import Batch
from kilonode.comm import Comm
from kilonode.data.loader import Loader, Share
from kilonode.data.transform import Scaler
from kilonode.errors import UserError
from kilonode.progress import Meter
from kilonode.records import Json
from kilonode.training import batch_norm, checkpoint, diagnose, optim, rules
from kilonode.training.gradients import Gradients
from kilonode.training.gradients import keys as keys
from kilonode.training.noise import NoiseSums, measured_every, too_large
from kilonode.training.position import Progress
from kilonode.training.records import Records, line
from kilonode.training.stop import DIVERGED, GO, SAVE, STOP, Watch
from kilonode.training.timing import Timing as Timing
from kilonode.training.watchdog import SAVING, Watchdog

WATCH_EVERY = 10
"""Steps between two questions to all ranks; one question takes 0.004-0.08 ms."""
SLOW_STEP_S = 3.0
"""Where an epoch's first step takes longer on any rank, they ask after every step: a signal leaves 60 s to stop."""
PLAIN_EVERY_S = 30.0
"""Seconds between two lines within an epoch where there is no terminal."""


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
    device : str
        What torch computes on: cpu, cuda:0 ...

    Raises
    ------
    UserError
        Accumulation with a network that normalises over the batch.
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
        device: str = "cpu",
    ) -> None:
        self.model, self.settings, self.scaler, self.comm = model, settings, scaler, comm
        self.training, self.validation = loaders
        self.rules = rules.complete(settings["training"], "training")
        self.state, self.seed, self.identity, self.device = state, seed, identity, torch.device(device)
        layers = batch_norm.synchronise(model, comm)
        accumulate = self.rules["accumulate"]
        if layers and accumulate > 1:
            raise UserError(
                f"expected training.accumulate 1 for a network with batch normalisation, got {accumulate} (training); "
                "its averages need the whole batch at once: use more ranks, or another normalisation"
            )
        model.to(self.device)
        comm.share(dict(model.state_dict()))
        plain = optim.optimizer(model.parameters(), self.rules)
        self.optimizer = comm.distribute(plain, model.named_parameters(), accumulate)
        self.gradients = Gradients(model, self.optimizer, comm, layers, accumulate)
        self.progress, self.best_weights = Progress(), self._weights()
        self.records, self.watchdog = Records(state), Watchdog(comm)
        self.finding: diagnose.Finding | None = None
        self.found_at = 0
        self.warned = False

    # ---- one step

    def batch(self, share: Share, epoch: int) -> Batch:
        """The rank's samples as tensors, with the key all their randomness is drawn from."""
        target = self.settings.get("target")
        x = torch.from_numpy(self.scaler(share.fields[self.scaler.field]))
        y = torch.from_numpy(share.fields[target].astype(np.int64)) if target else None
        key = torch.from_numpy(keys(self.seed, epoch, share.rows))
        return Batch(x.to(self.device), None if y is None else y.to(self.device), key.to(self.device))

    def step(self, share: Share, timing: Timing) -> bool:
        """One optimiser step on one global batch.

        Returns
        -------
        bool
            False if the gradient is not finite, the same on every rank: the weights are left as they were.
        """
        start, waited = time.perf_counter(), timing.communication
        now, state = self.progress, torch.get_rng_state()
        for group in self.optimizer.param_groups:
            group["lr"] = optim.learning_rate(self.rules, now.step, self.training.steps)
        parts = self.comm.size * self.rules["accumulate"]
        measured = self.rules["noise_scale"] and parts > 1 and now.step % measured_every(self.training.steps) == 0
        loss, norm = self.gradients.compute(
            share, lambda piece: self.batch(piece, now.epoch), timing, now.noise if measured else None
        )
        if not (math.isfinite(loss) and math.isfinite(norm)):
            torch.set_rng_state(state)
            self._look_into(share, now.epoch)
        if not math.isfinite(norm):
            return False
        if self.rules["clip"] is not None:
            self.gradients.clip(norm, self.rules["clip"])
        self.comm.step(self.optimizer)
        now.loss_sum += loss
        now.loss_count += len(share.rows)
        now.step += 1
        now.step_in_epoch += 1
        timing.samples += share.global_size
        timing.steps.append(time.perf_counter() - start)
        now.spent.step(timing.steps[-1], timing.communication - waited)
        self.watchdog.measured(timing.steps[-1])
        return True

    def _look_into(self, share: Share, epoch: int) -> None:
        """Remember where this rank's first value that is not finite came from."""
        if self.finding is None and len(share.rows):
            self.finding = diagnose.find(self.model, self.batch(share, epoch), share.rows)
            self.found_at = self.progress.step

    # ---- all epochs

    def fit(self, watch: Watch) -> str:
        """Train until the end, a stop or a divergence.

        Returns
        -------
        str
            ``complete``, ``stopped`` or ``diverged``; the same on every rank.
        """
        self.watchdog.beat("reading the checkpoint", SAVING)
        self._restore()
        self.started, self.first_epoch = time.monotonic(), self.progress.epoch
        total = self.rules["epochs"] * self.training.steps
        steps = self.progress.step
        meter = Meter(total, "train: step", "samples", self.comm.is_root, steps, PLAIN_EVERY_S, sys.stdout)
        now = self.progress
        shares = self.training.epochs(now.epoch, now.step_in_epoch, self.rules["epochs"])
        with meter, closing(shares):
            while not self.progress.done:
                verdict = self._epoch(watch, meter, islice(shares, self.training.steps - now.step_in_epoch))
                if verdict in (STOP, DIVERGED):
                    return "stopped" if verdict == STOP else "diverged"
        return "complete"

    def _epoch(self, watch: Watch, meter: Meter, shares: Iterable[Share]) -> int:
        now, timing, every = self.progress, Timing(), WATCH_EVERY
        self.model.train()
        waiting = time.perf_counter()
        self.watchdog.beat(f"step {now.step}")
        for share in shares:
            waited = time.perf_counter() - waiting
            timing.input += waited
            now.spent.add("input", waited)
            if not self.step(share, timing):
                return DIVERGED
            meter.advance(share.global_size)
            if len(timing.steps) == 1:
                slow = self.comm.highest(int(timing.steps[0] > SLOW_STEP_S))
                every = 1 if slow else WATCH_EVERY
            verdict = self._ask(watch, every) if now.step_in_epoch < self.training.steps else GO
            if verdict in (STOP, DIVERGED):
                return verdict
            waiting = time.perf_counter()
            self.watchdog.beat(f"step {now.step}")
        if not self._end_epoch(timing):
            return DIVERGED
        self._save(watch)
        return STOP if watch.decide(diverged=False) == STOP and not now.done else GO

    def _ask(self, watch: Watch, every: int) -> int:
        """Every so many steps, and before each checkpoint between epochs, ask all ranks; save if there is reason to."""
        now, saving = self.progress, self.rules["checkpoint"]["steps"]
        due = saving is not None and now.step % saving == 0
        if not due and now.step_in_epoch % every:
            return GO
        verdict = watch.decide(diverged=not math.isfinite(now.loss_sum))
        if verdict != DIVERGED and (due or verdict in (SAVE, STOP)):
            self._save(watch)
        return verdict

    def evaluate(self) -> float:
        """Mean loss over the whole validation split: every sample of every rank, training randomness off."""
        self.model.eval()
        total, count = 0.0, 0
        with torch.no_grad(), closing(self.validation.epoch(0)) as shares:
            for share in shares:
                self.watchdog.beat(f"validation after step {self.progress.step}")
                if len(share.rows) == 0:
                    continue
                loss = float(self.model.losses(self.batch(share, 0)).double().sum())
                if not math.isfinite(loss):
                    with torch.enable_grad():
                        self._look_into(share, 0)
                total += loss
                count += len(share.rows)
        sums = self.comm.sum([total, count])
        return float(sums[0] / sums[1])

    def _end_epoch(self, timing: Timing) -> bool:
        """Evaluate, record, and decide whether it was the last; False if a loss is not finite."""
        now, start = self.progress, time.perf_counter()
        sums = self.comm.sum(now.sums())
        train_loss = float(sums[0] / sums[1])
        validation_loss = self.evaluate() if math.isfinite(train_loss) else math.nan
        now.spent.add("validation", time.perf_counter() - start)
        if not math.isfinite(validation_loss):  # the last step may have broken the weights
            return False
        if validation_loss < now.best:
            now.best, now.best_epoch, self.best_weights = validation_loss, now.epoch, self._weights()
        now.epoch, now.step_in_epoch = now.epoch + 1, 0
        now.forget()
        patience = now.epoch - 1 - now.best_epoch >= self.rules["patience"]
        now.done = now.epoch >= self.rules["epochs"] or patience
        if self.comm.is_root:
            noise = NoiseSums(*sums[2:]).scale() if self.rules["noise_scale"] else None
            self._record(train_loss, validation_loss, noise, timing)
        return True

    # ---- records and checkpoints

    def _record(self, train_loss: float, validation_loss: float, noise: float | None, timing: Timing) -> None:
        now, epochs = self.progress, self.rules["epochs"]
        losses = {"train_loss": train_loss, "validation_loss": validation_loss}
        rate = optim.learning_rate(self.rules, now.step - 1, self.training.steps)
        record = {"epoch": now.epoch, "step": now.step, **losses, "lr": rate, "noise_scale": noise, **timing.record()}
        now.records_bytes = self.records.add(record)
        per_epoch = (time.monotonic() - self.started) / (now.epoch - self.first_epoch)
        left = None if now.done else per_epoch * (epochs - now.epoch)
        print(line(record, epochs, now.best_epoch == now.epoch - 1, left), flush=True)
        warm = now.epoch > self.rules["warmup_epochs"]  # the first steps have hardly any noise
        if noise is not None and self.rules["batch"] > noise and warm and not self.warned:
            print(f"train: warning: {too_large(self.rules['batch'], noise)} (said once)", flush=True)
            self.warned = True

    def _weights(self) -> checkpoint.Tensors:
        return {name: tensor.detach().cpu().clone() for name, tensor in self.model.state_dict().items()}

    def _save(self, watch: Watch) -> None:
        start, now = time.monotonic(), self.progress
        self.watchdog.beat(f"checkpoint {now.step}", SAVING)
        states, sums = self.comm.gather(checkpoint.random_state(self.device)), self.comm.gather(now.sums())
        if states is not None and sums is not None:
            tensors = {
                **checkpoint.with_prefix("model.", self._weights()),
                **checkpoint.with_prefix("best.", self.best_weights),
                **checkpoint.flat(self.optimizer),
            }
            for rank, state in enumerate(states):
                tensors |= checkpoint.with_prefix(f"random.{rank}.", state)
            described = {"identity": self.identity, "ranks": self.comm.size, "sums": sums, **now.to_json()}
            checkpoint.save(self.state, now.step, tensors, described, self.rules["checkpoint"]["keep"])
        self.comm.barrier()  # the others must not take rank 0's writing for a step that hangs
        now.spent.add("checkpoint", time.monotonic() - start)
        watch.saved(time.monotonic() - start)

    def _restore(self) -> None:
        found = checkpoint.restore(self.state, self.identity, self.comm)
        if found is None:
            if self.comm.is_root:
                if any(self.state.glob("checkpoint-*.json")):
                    print(f"train: no checkpoint of this configuration ({self.state}); starting anew", flush=True)
                checkpoint.clear(self.state)  # also records of a run that was killed before its first checkpoint
                self.records.start(0)
            return
        tensors, state = found
        self.model.load_state_dict(checkpoint.under_prefix("model.", tensors))
        self.best_weights = checkpoint.under_prefix("best.", tensors)
        checkpoint.unflatten(self.optimizer, tensors)
        self.progress = now = Progress.from_json(state)
        now.take(state["sums"], self.comm)
        same = state["ranks"] == self.comm.size
        if same:
            checkpoint.set_random_state(checkpoint.under_prefix(f"random.{self.comm.rank}.", tensors), self.device)
        if self.comm.is_root:
            self.records.start(now.records_bytes)
            note = (
                "" if same else f"; it had {state['ranks']} ranks, now {self.comm.size}: same samples, other rounding"
            )
            print(f"train: continuing from step {now.step}{note}", flush=True)
