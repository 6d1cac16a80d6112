"""A trained network, ready to be asked: randomness off, one batch after another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from kilonode.data.store import Store
from kilonode.data.transform import Scaler
from kilonode.errors import DataError
from kilonode.records import Json
from kilonode.training.build import build

BATCH = 256


class Network:
    """A model with its weights and its scaler.

    Parameters
    ----------
    case, task : str
        What was trained.
    settings : dict
        The task's configuration.
    store : Store
        Any split of its store.
    weights : Path, optional
        What ``train`` wrote; None: random weights, the control every explanation needs.
    """

    def __init__(self, case: str, task: str, settings: Json, store: Store, weights: Path | None) -> None:
        self.scaler = Scaler(settings["input"], store.stats)
        self.shape: tuple[int, ...] = self.scaler(store.take(self.scaler.field, np.array([0]))).shape[1:]
        torch.manual_seed(0)
        self.model: Any = build(case, task, settings["model"], self.shape)
        if weights is not None:
            try:
                self.model.load_state_dict(safetensors.torch.load_file(weights))
            except (OSError, RuntimeError, safetensors.SafetensorError) as error:
                reason = " ".join(str(error).split())[:300]
                raise DataError(f"expected weights of {case}/{task}, got {reason} ({weights}); rerun train") from None
        self.model.eval()

    def features(self, raw: np.ndarray) -> np.ndarray:
        """The code of raw inputs, float32 (N, F)."""
        return self._batched(self.model.features, raw)

    def outputs(self, raw: np.ndarray) -> np.ndarray:
        """Reconstructions (N, C, H, W) or logits (N, K) of raw inputs."""
        return self._batched(self.model, raw)

    def _batched(self, function: Callable[[torch.Tensor], torch.Tensor], raw: np.ndarray) -> np.ndarray:
        parts = []
        with torch.no_grad():
            for start in range(0, len(raw), BATCH):
                parts.append(function(torch.from_numpy(self.scaler(raw[start : start + BATCH]))).numpy())
        return np.concatenate(parts)
