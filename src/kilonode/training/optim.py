"""Optimisers and learning-rate schedules by name, as ``case.yaml`` names them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch

from kilonode.records import Json
from kilonode.training.large_batch import Lamb, Lars
from kilonode.training.rules import DEFAULTS

FINAL = 0.01
"""Share of the peak that a cosine or polynomial schedule ends at."""


def optimizer(parameters: Iterable[torch.nn.Parameter], settings: Json) -> torch.optim.Optimizer:
    """The optimiser of a task's ``training`` section: adam, adamw, sgd, lars or lamb."""
    rules = {**DEFAULTS, **settings}
    kind, lr, decay = rules["optimizer"], rules["lr"], rules["weight_decay"]
    if kind == "sgd":
        return torch.optim.SGD(
            parameters, lr=lr, momentum=rules["momentum"], nesterov=rules["nesterov"], weight_decay=decay
        )
    if kind == "lars":
        return Lars(_layers(parameters), lr, rules["momentum"], decay, rules["trust"])
    if kind == "lamb":
        return Lamb(_layers(parameters), lr, weight_decay=decay)
    plain: Any = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[kind]
    return plain(parameters, lr=lr, weight_decay=decay)


def _layers(parameters: Iterable[torch.nn.Parameter]) -> list[Json]:
    """Groups for the optimisers that look at layers: weights, and what has one axis or none."""
    listed = list(parameters)
    groups: list[Json] = [
        {"params": [weight for weight in listed if weight.ndim > 1]},
        {"params": [weight for weight in listed if weight.ndim <= 1], "adapt": False, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def peak(settings: Json) -> float:
    """Learning rate after warming up: ``lr`` as stated, or scaled from ``reference_batch`` to ``batch``.

    ``linear`` (Goyal et al. 2017, arXiv:1706.02677) for SGD and LARS; ``sqrt`` keeps the noise of a step the same
    and is what LAMB's authors used (You et al. 2019, arXiv:1904.00962).
    """
    rules = {**DEFAULTS, **settings}
    lr = float(rules["lr"])
    if rules["scale"] == "none":
        return lr
    ratio = rules["batch"] / rules["reference_batch"]
    return lr * (ratio if rules["scale"] == "linear" else math.sqrt(ratio))


def learning_rate(settings: Json, step: int, steps_per_epoch: int) -> float:
    """Learning rate of optimiser step ``step``, counted from 0 over all epochs.

    Linear warm-up over ``warmup_epochs`` to ``peak``, then as ``schedule`` says: ``constant``; ``cosine`` and
    ``polynomial`` (of ``power``) from the peak to 1 % of it at the last epoch; ``step``, times ``factor`` at each of
    the epochs ``milestones``. A pure function of the step: nothing to save in a checkpoint.
    """
    rules = {**DEFAULTS, **settings}
    top = peak(rules)
    warmup = rules["warmup_epochs"] * steps_per_epoch
    if step < warmup:
        return top * (step + 1) / (warmup + 1)
    if rules["schedule"] == "constant":
        return top
    if rules["schedule"] == "step":
        passed = sum(step >= epoch * steps_per_epoch for epoch in rules["milestones"])
        return float(top * rules["factor"] ** passed)
    done = min(1.0, (step - warmup) / max(1.0, rules["epochs"] * steps_per_epoch - warmup))
    left = (1 - done) ** rules["power"] if rules["schedule"] == "polynomial" else 0.5 * (1 + math.cos(math.pi * done))
    return float(top * (FINAL + (1 - FINAL) * left))
