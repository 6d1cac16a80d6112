"""What a search may vary: the ``space`` of a task, and that of its classical methods.

A dimension is written in ``case.yaml`` as ``training.lr: {low: 1.0e-4, high: 1.0e-1, log: true}``, with ``whole: true``
for integers, or ``model.pool: {among: [2, 4, 8]}``. Its name is the place in the task's configuration.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import optuna

from kilonode.cases.contract import Estimator
from kilonode.errors import UserError
from kilonode.records import Json

METHOD = "method"
"""The dimension that chooses among classical methods; those of one method are named ``<method>.<argument>``."""


def suggest(trial: optuna.trial.Trial, space: Json) -> Json:
    """A point of a task's space, name -> value, as the study's sampler wants it."""
    return {name: _value(trial, name, spec) for name, spec in space.items()}


def _value(trial: optuna.trial.Trial, name: str, spec: Json) -> Any:
    if "among" in spec:
        return trial.suggest_categorical(name, spec["among"])
    log = bool(spec.get("log", False))
    if spec.get("whole", False):
        return trial.suggest_int(name, int(spec["low"]), int(spec["high"]), log=log)
    return trial.suggest_float(name, float(spec["low"]), float(spec["high"]), log=log)


def suggest_classical(trial: optuna.trial.Trial, estimators: Mapping[str, Estimator]) -> Json:
    """A classical method and its arguments; values are numbered, since a list may mix kinds."""
    name = str(trial.suggest_categorical(METHOD, sorted(estimators)))
    choice: Json = {METHOD: name}
    for argument, values in estimators[name].space.items():
        number = trial.suggest_categorical(f"{name}.{argument}", list(range(len(values))))
        choice[argument] = values[number]
    return choice


def check(space: Json, where: str) -> None:
    """Refuse ranges that are none; all of them at once.

    Raises
    ------
    UserError
        low above high, or a logarithm of nothing.
    """
    problems = []
    for name, spec in space.items():
        if "among" in spec:
            continue
        low, high = spec["low"], spec["high"]
        if low > high or (spec.get("log") and low <= 0):
            wanted = "0 < low <= high" if spec.get("log") else "low <= high"
            problems.append(f"expected {wanted} in tuning.space.{name}, got {low} and {high} ({where}); mend it")
    if problems:
        raise UserError(*problems)


def applied(settings: Json, choice: Json) -> Json:
    """A task's configuration with a point of its space put in."""
    result = copy.deepcopy(settings)
    for name, value in choice.items():
        section, _, key = name.partition(".")
        result[section][key] = value
    return result


def sections(choice: Json) -> Json:
    """The same point as an overlay on the task: ``{"model": {...}, "training": {...}}``."""
    found: Json = {}
    for name, value in choice.items():
        section, _, key = name.partition(".")
        found.setdefault(section, {})[key] = value
    return found
