"""The loop on one rank: the steps plain torch takes, records that say what the weights do."""

from __future__ import annotations

import copy
import math
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kilonode import config
from kilonode.cases.contract import Batch
from kilonode.data.store import Store
from kilonode.data.transform import Scaler
from kilonode.training import checkpoint, loop, optim
from kilonode.training.build import build
from kilonode.training.loop import Trainer, keys

sys.path.append(str(Path(__file__).parent))
small = import_module("small_train")
STEPS, EPOCHS = small.STEPS, small.EPOCHS


@pytest.fixture(scope="module")
def here(toy: Path) -> Any:
    return small.here(toy)


@pytest.fixture(scope="module")
def straight(here: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """State of a run that nothing disturbed."""
    state = tmp_path_factory.mktemp("straight")
    assert here.train(state) == 0
    assert small.status(state)["step"] == STEPS * EPOCHS
    return state


def model_of(here: Any, weights: checkpoint.Tensors) -> tuple[Any, Scaler, Store]:
    settings = config.merged(config.task("reactor_neutrinos", "toy", "autoencoder"), small.TINY)
    store = Store(here.store, "validation")
    scaler = Scaler(settings["input"], store.stats)
    model = build("reactor_neutrinos", "autoencoder", settings["model"], (2, 8, 24))
    model.load_state_dict(weights)
    return model, scaler, store


def test_records_say_what_the_weights_do(here: Any, straight: Path) -> None:
    """The last validation loss, worked out again from the last weights, in one batch."""
    model, scaler, store = model_of(here, checkpoint.under_prefix("model.", small.newest(straight)[0]))
    x = torch.from_numpy(scaler(store.read(scaler.field)))
    with torch.no_grad():
        loss = model.eval().losses(Batch(x, None, torch.zeros(len(x), dtype=torch.int64))).double().mean().item()
    lines = small.records(straight)
    assert lines[-1]["validation_loss"] == pytest.approx(loss, rel=1e-6)
    assert [(line["epoch"], line["step"]) for line in lines] == [(1, STEPS), (2, 2 * STEPS), (3, 3 * STEPS)]
    assert lines[0]["lr"] == pytest.approx(0.01 * STEPS / (STEPS + 1), rel=1e-12)  # the last step of warming up
    assert lines[-1]["train_loss"] < 0.5 * lines[0]["train_loss"]


@pytest.mark.parametrize("backwards", [False, True])
def test_training_stops_when_validation_gets_no_better(
    backwards: bool, here: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses 1, 2, 3 ... with patience 2 end after epoch 3; 4, 3, 2, 1 never."""
    monkeypatch.setattr(
        Trainer, "evaluate", lambda self: float(9 - self.progress.epoch if backwards else 1 + self.progress.epoch)
    )
    assert here.train(tmp_path, epochs=4, patience=2) == 0
    found = small.status(tmp_path)
    assert (found["epoch"], found["best_epoch"]) == ((4, 4) if backwards else (3, 1))
    bits = small.last(tmp_path)
    same = [bits[name] == bits[name.replace("best.", "model.")] for name in bits if name.startswith("best.")]
    assert set(same) == {backwards}


@pytest.mark.parametrize("clip", [None, 0.05])
def test_steps_are_those_of_plain_torch(
    clip: float | None, here: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Warm-up and an epoch's end included: Adam on the mean loss of each batch, its gradient clipped."""
    steps = STEPS + 4
    seen: list[tuple[Batch, int, float]] = []
    models: list[Any] = []
    step = Trainer.step

    def watched(self: Trainer, share: Any, timing: Any) -> bool:
        if not seen:
            models[:] = [copy.deepcopy(self.model), self.model]
        if len(seen) == steps:
            raise KeyboardInterrupt  # ends the run
        went_on = step(self, share, timing)
        seen.append((self.batch(share, self.progress.epoch), len(share.rows), self.optimizer.param_groups[0]["lr"]))
        return went_on

    monkeypatch.setattr(Trainer, "step", watched)
    assert here.train(tmp_path, clip=clip) == 130
    plain, model = models
    optimizer = torch.optim.Adam(plain.parameters())
    norms = []
    for number, (batch, _, rate) in enumerate(seen):
        assert rate == optim.learning_rate(small.TINY["training"], number, STEPS)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        plain.losses(batch).mean().backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(plain.parameters(), clip or math.inf)))
        optimizer.step()
    assert sum(rows for _, rows, _ in seen[:STEPS]) == Store(here.store, "train").rows
    assert clip is None or min(norms[:STEPS]) > clip
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], tensor, rtol=1e-4, atol=1e-6)


def test_every_epoch_has_its_own_noise(here: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    def watched(seed: int, epoch: int, rows: np.ndarray) -> np.ndarray:
        asked.append((seed, epoch))
        return keys(seed, epoch, rows)

    monkeypatch.setattr(loop, "keys", watched)
    monkeypatch.setattr(Trainer, "evaluate", lambda self: 1.0)
    assert here.train(tmp_path, "--seed", "5") == 0
    assert asked == [(5, epoch) for epoch in range(EPOCHS) for _ in range(STEPS)]


def test_keys_differ_between_samples_epochs_and_seeds_and_ignore_the_order() -> None:
    rows = np.arange(10_000)
    some = [keys(seed, epoch, rows) for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(np.concatenate(some).tolist())) == 40_000
    assert keys(0, 1, rows[::-1]).tolist() == some[1][::-1].tolist()
