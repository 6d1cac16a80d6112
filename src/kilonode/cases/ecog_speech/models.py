"""Networks: one or two tanh layers on means over time, as in the article, and convolutions over time.

Shape legend: B batch, C one channel, H electrodes, W moments, T moments after averaging, F features, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from kilonode.cases.contract import Batch, chosen
from kilonode.cases.layers import uniform

DEFAULTS: dict[str, Any] = {
    "network": "tanh",
    "classes": 57,
    "layers": 1,
    "width": 300,
    "pool": 8,
    "input_dropout": 0.0,
    "dropout": 0.0,
}
TASKS = ("syllables", "consonants", "vowels", "convolutions")


def build(task: str, settings: Mapping[str, Any], shape: tuple[int, ...]) -> Decoder:
    """Build the network of a task.

    Parameters
    ----------
    task : str
        Any of this case.
    settings : Mapping
        ``network`` (tanh or conv), ``classes``, ``width``, ``dropout``; tanh also ``layers`` (1 or 2), ``pool`` and
        ``input_dropout``.
    shape : tuple of int
        (C, H, W): 1 x electrodes x moments.

    Raises
    ------
    ValueError
        An unknown task, setting or network; windows shorter than what is averaged.
    """
    found = chosen(task, settings, dict.fromkeys(TASKS, DEFAULTS))
    kinds = {"tanh": TanhNetwork, "conv": TemporalConvolutions}
    if found["network"] not in kinds:
        raise ValueError(f"network needs one of {sorted(kinds)}, got {found['network']!r}")
    if shape[2] < found["pool"]:
        raise ValueError(f"pool needs at most {shape[2]} moments, got {found['pool']}")
    return kinds[found["network"]](found, shape)


class Decoder(nn.Module):
    """What both share: cross-entropy, and dropout whose numbers come from the key of each sample."""

    logits: nn.Linear

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout

    def hidden(self, x_BCHW: torch.Tensor, key_B: torch.Tensor | None) -> torch.Tensor:
        """The penultimate layer, (B, F); with a key, training noise is on."""
        raise NotImplementedError

    def features(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Give the penultimate layer, (B, F)."""
        return self.hidden(x_BCHW, None)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Logits, (B, K)."""
        logits_BK: torch.Tensor = self.logits(self.hidden(x_BCHW, None))
        return logits_BK

    def losses(self, batch: Batch) -> torch.Tensor:
        """Cross-entropy of each sample, (B,)."""
        assert batch.y is not None, "the decoder needs labels; give the task a target"
        hidden = self.hidden(batch.x, batch.key if self.training else None)
        return functional.cross_entropy(self.logits(hidden), batch.y, reduction="none")


def dropped(x_BF: torch.Tensor, rate: float, key_B: torch.Tensor | None, stage: int) -> torch.Tensor:
    """Dropout drawn from the key; every stage has numbers of its own. Without a key nothing happens."""
    if key_B is None or rate == 0:
        return x_BF
    keep = uniform(key_B + 7_919 * (stage + 1), x_BF.shape[1]) >= rate
    return x_BF * keep / (1 - rate)


class TanhNetwork(Decoder):
    """Means over ``pool`` moments of each electrode, one or two tanh layers, one logit a class: the article's decoder.

    Source
    ------
    Livezey et al. 2019, arXiv:1803.09807: fully connected networks found by random search. Their inputs were single
    samples; means over 40 ms keep what the simulated response has and make a trial eight times as quick.
    """

    def __init__(self, settings: Mapping[str, Any], shape: tuple[int, ...]) -> None:
        super().__init__(settings["dropout"])
        self.pool, self.input_dropout = int(settings["pool"]), float(settings["input_dropout"])
        sizes = [shape[0] * shape[1] * (shape[2] // self.pool)] + [int(settings["width"])] * int(settings["layers"])
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        for layer in self.layers:
            assert isinstance(layer, nn.Linear)
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.logits = nn.Linear(sizes[-1], int(settings["classes"]))

    def hidden(self, x_BCHW: torch.Tensor, key_B: torch.Tensor | None) -> torch.Tensor:
        """Give the last tanh layer, (B, F)."""
        x_BF = functional.avg_pool1d(x_BCHW.flatten(1, 2), self.pool).flatten(1)
        x_BF = dropped(x_BF, self.input_dropout, key_B, 0)
        for stage, layer in enumerate(self.layers, start=1):
            x_BF = dropped(torch.tanh(layer(x_BF)), self.dropout, key_B, stage)
        return x_BF


class TemporalConvolutions(Decoder):
    """Three convolutions over time with all electrodes as channels, mean over time, one logit a class."""

    def __init__(self, settings: Mapping[str, Any], shape: tuple[int, ...]) -> None:
        super().__init__(settings["dropout"])
        width = int(settings["width"])
        self.convolutions = nn.Sequential(
            nn.Conv1d(shape[0] * shape[1], width, 9, stride=2, padding=4), nn.GELU(),
            nn.Conv1d(width, width, 9, stride=2, padding=4), nn.GELU(),
            nn.Conv1d(width, 2 * width, 5, stride=2, padding=2), nn.GELU(),
        )  # fmt: skip
        self.steps = 4  # the mean over four parts of the window keeps what came first
        self.logits = nn.Linear(2 * width * self.steps, int(settings["classes"]))

    def hidden(self, x_BCHW: torch.Tensor, key_B: torch.Tensor | None) -> torch.Tensor:
        """Give the mean of the last convolution over four parts of the window, (B, F)."""
        x_BTF = self.convolutions(x_BCHW.flatten(1, 2))
        return dropped(functional.adaptive_avg_pool1d(x_BTF, self.steps).flatten(1), self.dropout, key_B, 0)
