"""What a case gives the engine, and what the engine hands back to it.

A case is a folder ``cases/<case>/`` of six files of the same shape (README, "add a case"). The engine
knows a case by its ``case.yaml`` and the functions below, never by its name.

Shape legend: N samples, B batch, C channels, H rows, W columns, F features, K classes, S seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    import torch

Arrays = dict[str, np.ndarray]
"""Field name -> array whose axis 0 is the sample."""

Tables = dict[str, Arrays]
"""Table name -> its arrays. All arrays of one table have the same length; truth fields are named ``truth/<x>``."""


@dataclass(frozen=True)
class Case:
    """A case folder; its modules are imported when they are used, so that listing cases costs nothing.

    ``simulate.simulate(seed, group, settings) -> Tables``
        All samples of one split group. Depends on nothing else: any number of ranks gives the same bytes.
    ``models.build(task, settings, shape) -> Model``
        ``shape`` is (C, H, W) of one input as the data has it.
    ``baseline.features(task, x) -> Arrays``
        Classical features (N, F) of raw inputs ``x`` (N, C, H, W), for the same probes as the learned code.
    ``baseline.oracle(task, truth) -> Arrays``
        Features (N, F) only the truth knows: the bound on what any method may reach. May be empty.
    ``baseline.estimators(task) -> dict[str, Estimator]``
        For supervised tasks: classical methods on raw inputs, with a search space each.
    ``figures.draw(explanation) -> dict[str, Figure]``
        What the article shows and a reader expects of this case; name -> figure.
    """

    package: str

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.package.rpartition(".")[2]

    @property
    def simulate(self) -> ModuleType:
        """The simulator (numpy only)."""
        return import_module(f"{self.package}.simulate")

    @property
    def models(self) -> ModuleType:
        """The networks (torch)."""
        return import_module(f"{self.package}.models")

    @property
    def baseline(self) -> ModuleType:
        """The classical methods (scikit-learn)."""
        return import_module(f"{self.package}.baseline")

    @property
    def figures(self) -> ModuleType:
        """The case's own figures (matplotlib)."""
        return import_module(f"{self.package}.figures")


@dataclass(frozen=True)
class Batch:
    """One rank's share of a global batch.

    ``x``: float32 (B, C, H, W), transformed and scaled. ``y``: int64 (B,) or None for unsupervised tasks.
    ``key``: int64 (B,), a pure function of (seed, epoch, sample): everything random in training is drawn
    from it (``layers.uniform``), so the result does not depend on how samples fall on ranks.
    """

    x: torch.Tensor
    y: torch.Tensor | None
    key: torch.Tensor


class Model(Protocol):
    """What the engine asks of a ``torch.nn.Module`` that a case builds."""

    def losses(self, batch: Batch) -> torch.Tensor:
        """Loss of each sample, (B,); the engine averages over the samples of all ranks."""

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """The code or penultimate layer, (B, F)."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The output: a reconstruction (B, C, H, W) or logits (B, K)."""


@dataclass(frozen=True)
class Estimator:
    """A classical method and the space it is searched in.

    ``make(**choice)`` gives an unfitted scikit-learn estimator that takes (N, F) rows, here the flattened
    and scaled inputs, or ``features[method]`` where ``inputs`` names such a block of ``baseline.features``.
    """

    make: Any
    space: Mapping[str, list[Any]] = field(default_factory=dict)
    inputs: str = "pixels"


@dataclass(frozen=True)
class Explanation:
    """Everything a figure may show, of test groups only. Arrays are what ``explain`` stored."""

    case: str
    task: str
    inputs: np.ndarray
    """(n, C, H, W) the first n of the embedded samples, scaled as the network sees them."""
    corrupted: np.ndarray | None
    """(n, C, H, W) the same under the training corruption; None where a task has none."""
    outputs: np.ndarray
    """(n, C, H, W) reconstructions or (n, K) probabilities."""
    embedding: np.ndarray
    """(S, N, 2) t-SNE maps of the code, one a seed."""
    trustworthiness: np.ndarray
    """(S,) share of true neighbours kept by each map, in [0, 1]."""
    columns: Arrays
    """Labels and nuisances of the N embedded samples: name -> (N,)."""
    labels: Mapping[str, Mapping[int, str]]
    """Names of the values of a categorical column: column -> value -> name."""
    saliency: np.ndarray
    """(U, C, H, W) mean absolute input gradient of each code unit or class, U of them."""
    curves: Mapping[str, Mapping[str, tuple[np.ndarray, ...]]]
    """Question -> method -> (label (N,), score (N,), weight (N,)): what a ROC curve needs."""
    units: Mapping[str, str] = field(default_factory=dict)
    """Unit of each column."""


def load(name: str) -> Case:
    """The case of this name (see ``cases.names``)."""
    case = import_module(f"kilonode.cases.{name}").CASE
    assert isinstance(case, Case)
    return case
