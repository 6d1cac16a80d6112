"""Optimisers and learning-rate schedules by name, as ``case.yaml`` names them."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from kilonode.records import Json


def optimizer(parameters: Iterable[torch.nn.Parameter], settings: Json) -> torch.optim.Optimizer:
    """The optimiser of a task's ``training`` section: adam, adamw or sgd."""
    decay = settings.get("weight_decay", 0.0)
    if settings["optimizer"] == "sgd":
        momentum = settings.get("momentum", 0.9)
        return torch.optim.SGD(parameters, lr=settings["lr"], momentum=momentum, weight_decay=decay)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings["optimizer"]]
    return kind(parameters, lr=settings["lr"], weight_decay=decay)


def learning_rate(settings: Json, step: int, steps_per_epoch: int) -> float:
    """Learning rate of optimiser step ``step``, counted from 0 over all epochs.

    Linear warm-up over ``warmup_epochs``, then constant, or a cosine down to 1 % at the last epoch.
    A pure function of the step: nothing to save in a checkpoint.
    """
    peak = float(settings["lr"])
    warmup = settings["warmup_epochs"] * steps_per_epoch
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    if settings["schedule"] == "constant":
        return peak
    done = (step - warmup) / max(1.0, settings["epochs"] * steps_per_epoch - warmup)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))
