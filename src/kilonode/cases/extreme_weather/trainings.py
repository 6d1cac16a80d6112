"""Small trainings beside the main one, for questions that need many networks: few labels, other networks, no time.

Shape legend: N samples, B batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from kilonode.cases.contract import Batch
from kilonode.progress import progress


def fit(
    model: Any,
    x: np.ndarray,
    y: np.ndarray,
    steps: int,
    rules: dict[str, Any],
    seed: int,
    pool: np.ndarray | None = None,
    what: str = "",
) -> Any:
    """Train a network on one rank with Adam and a cosine schedule; the same arguments give the same weights.

    Parameters
    ----------
    model : contract.Model
        Trained in place.
    x, y : ndarray
        (N, ...) inputs as the network sees them, and targets.
    steps : int
        Optimiser steps.
    rules : dict
        ``batch``, ``lr``, perhaps ``weight_decay`` and ``clip``, as in ``training`` of case.yaml.
    seed : int
        Of the order.
    pool : ndarray, optional
        Rows that make half of every batch, the rest comes from all: where few samples have labels.
    what : str
        What the progress is called; empty: none is shown.

    Returns
    -------
    contract.Model
        The network, in evaluation mode.
    """
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=rules["lr"], weight_decay=rules.get("weight_decay", 0.0))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    half = 0 if pool is None else max(1, rules["batch"] // 2)
    special, usual = _turns(pool, half * steps, rng), _turns(np.arange(len(x)), (rules["batch"] - half) * steps, rng)
    model.train()
    for step in progress(range(steps), steps, f"evaluate: {what}", show=bool(what)):
        count = rules["batch"] - half
        rows = np.concatenate([special[step * half : (step + 1) * half], usual[step * count : (step + 1) * count]])
        key = torch.from_numpy(rng.integers(0, 2**62, len(rows)))
        batch = Batch(torch.from_numpy(x[rows]), torch.from_numpy(y[rows].astype(np.int64)), key)
        optimizer.zero_grad()
        model.losses(batch).mean().backward()
        if clip := rules.get("clip"):
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        schedule.step()
    return model.eval()


def _turns(rows: np.ndarray | None, count: int, rng: np.random.Generator) -> np.ndarray:
    """Rows in random order, again and again, until there are so many."""
    if rows is None or count == 0:
        return np.zeros(0, np.int64)
    return np.concatenate([rng.permutation(rows) for _ in range(-(-count // len(rows)))])[:count]
