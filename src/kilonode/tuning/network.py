"""The training of one trial: the engine's trainer, which also measures what the search compares, and ends early."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kilonode.comm import Comm
from kilonode.data.transform import Scaler
from kilonode.records import Json
from kilonode.training.loop import Trainer
from kilonode.training.records import NAME
from kilonode.training.stop import Watch
from kilonode.training.timing import Timing
from kilonode.tuning.study import missed
from kilonode.tuning.trial import SAVE_EVERY_S, history

BATCH = 256


class TrialTrainer(Trainer):
    """A ``Trainer`` that knows the bars of its trial.

    ``values`` holds what is compared, one number an epoch: accuracy on validation groups where the task has a target,
    as for classical methods, else the validation loss.
    """

    def __init__(
        self,
        model: Any,
        settings: Json,
        loaders: tuple[Any, Any],
        scaler: Scaler,
        comm: Comm,
        state: Path,
        seed: int,
        identity: str,
        bars: dict[int, float],
    ) -> None:
        super().__init__(model, settings, loaders, scaler, comm, state, seed, identity)
        self.values: list[float] = []
        self._bars, self._saved = bars, time.monotonic()

    def evaluate(self) -> float:
        """Mean validation loss; beside it the value of this epoch is kept."""
        loss = super().evaluate()
        self.values.append(self._accuracy() if self.settings.get("target") else loss)
        return loss

    def _accuracy(self) -> float:
        right, count = 0, 0
        with torch.no_grad(), closing(self.validation.epoch(0)) as shares:
            for share in shares:
                if len(share.rows):
                    batch = self.batch(share, 0)
                    right += int((self.model(batch.x).argmax(1) == batch.y).sum())
                    count += len(share.rows)
        sums = self.comm.sum([right, count])
        return float(sums[0] / sums[1])

    def _end_epoch(self, timing: Timing) -> bool:
        finite = super()._end_epoch(timing)
        higher = bool(self.settings.get("target"))
        self.progress.done = self.progress.done or missed(self.values, self._bars, higher)
        return finite

    def _record(self, train_loss: float, validation_loss: float, noise: float | None, timing: Timing) -> None:
        now = self.progress
        losses = {"train_loss": train_loss, "validation_loss": validation_loss}
        now.records_bytes = self.records.add({"epoch": now.epoch, "step": now.step, "value": self.values[-1], **losses})

    def _save(self, watch: Watch) -> None:
        if watch.reason or time.monotonic() - self._saved > SAVE_EVERY_S:
            super()._save(watch)
            self._saved = time.monotonic()

    def _restore(self) -> None:
        super()._restore()
        self.comm.barrier()
        self.values = history(self.state / NAME)


def predict(model: Any, x: np.ndarray) -> np.ndarray:
    """Probabilities of classes, float32 (N, K), of scaled inputs."""
    model.eval()
    with torch.no_grad():
        parts = [
            model(torch.from_numpy(x[start : start + BATCH])).softmax(1).numpy() for start in range(0, len(x), BATCH)
        ]
    found: np.ndarray = np.concatenate(parts)
    return found
