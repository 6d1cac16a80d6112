"""What a case gives the engine, and what the engine hands back to it.

A case is a folder ``cases/<case>/`` of six files of the same shape, and two more where they are needed (README, "add
a case"): ``measures.py`` where no general metric answers its question, ``truth.py`` where its simulation knows which
pixels matter. The engine knows a case by its ``case.yaml`` and the functions below, never by its name.

Shape legend: N samples, B batch, C channels, H rows, W columns, F features, K classes, S seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
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
    ``measures.measure(trained) -> Measured``
        Only where the case has this file: what it alone measures, beside what every task gets.
    ``truth.pixels(task, fields, shape) -> bool (N, C or 1, H, W)``
        Only where a task has ``explain.saliency``: which pixels of inputs of ``shape`` (C, H, W) the simulation knows
        to matter, from the stored ``fields`` named there. A sample with none, or with all, is not scored.
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

    @property
    def measures(self) -> ModuleType | None:
        """What only this case measures, if it has such a file."""
        name = f"{self.package}.measures"
        return import_module(name) if find_spec(name) else None

    @property
    def truth(self) -> ModuleType:
        """Where the simulation has put what matters, for tasks with ``explain.saliency``."""
        return import_module(f"{self.package}.truth")


def chosen(task: str, settings: Mapping[str, Any], defaults: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Model settings of a task, completed by the case's defaults (task -> setting -> value).

    Raises
    ------
    ValueError
        An unknown task or setting.
    """
    if task not in defaults:
        raise ValueError(f"task needs one of {sorted(defaults)}, got {task!r}")
    if unknown := set(settings) - set(defaults[task]):
        raise ValueError(f"model settings of {task} need keys among {sorted(defaults[task])}, got {sorted(unknown)}")
    return {**defaults[task], **settings}


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


class Rows(Protocol):
    """One split of a store (``data.store.Store``)."""

    @property
    def rows(self) -> int:
        """How many samples."""

    @property
    def fields(self) -> Mapping[str, Any]:
        """Name -> unit, long name, labels, ..."""

    def read(self, field: str) -> Any:
        """All rows of a field; truth has names ``truth/<x>``."""

    def take(self, field: str, rows: np.ndarray) -> Any:
        """These rows of a field."""


class Answering(Protocol):
    """A trained network (``evaluation.network.Network``)."""

    model: Any
    """The ``Model``, in evaluation mode."""
    scaler: Any
    """``scaler(raw)``: what the model sees, float32 (N, C, H, W); ``scaler.scale``: what it divides by."""

    def features(self, raw: np.ndarray) -> np.ndarray:
        """The code of raw inputs, float32 (N, F)."""

    def outputs(self, raw: np.ndarray) -> np.ndarray:
        """Reconstructions (N, C, H, W) or logits (N, K) of raw inputs."""


@dataclass(frozen=True)
class Trained:
    """What ``measures.measure`` works on; truth is open to it, and test groups are for the final numbers alone."""

    task: str
    settings: Mapping[str, Any]
    """The task's configuration."""
    network: Answering
    stores: Mapping[str, Rows]
    """Split -> its rows and truth: train, validation, test."""
    raw: Mapping[str, np.ndarray]
    """Split -> the task's input field as stored, (N, ...); one split is in memory at a time."""
    simulated: bool
    """Whether the case's own simulator made the data; user data may lack truth and further fields."""
    tuned: Path | None = None
    """Folder of the task's searches, ``<method>/outer.h5`` in it; None where nothing was tuned."""


@dataclass(frozen=True)
class Measured:
    """What ``measures.measure`` gives back."""

    rows: list[dict[str, Any]]
    """``records.figure(...)`` each, with question, metric, method, role and n; ``name`` is filled in."""
    curves: dict[str, dict[str, tuple[np.ndarray, ...]]] = field(default_factory=dict)
    """Question -> method -> (label, score, weight), as in ``Explanation.curves``."""
    arrays: Arrays = field(default_factory=dict)
    """For the figures: they find them in ``Explanation.arrays``."""


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
    arrays: Arrays = field(default_factory=dict)
    """What ``measures.measure`` kept for the figures."""


def load(name: str) -> Case:
    """The case of this name (see ``cases.names``)."""
    case = import_module(f"kilonode.cases.{name}").CASE
    assert isinstance(case, Case)
    return case
