"""The ``training`` section of a task: what is taken where it says nothing, and what of it changes the result."""

from __future__ import annotations

import os

from kilonode.errors import UserError
from kilonode.records import Json

DEFAULTS: Json = {
    "weight_decay": 0.0,
    "momentum": 0.9,
    "nesterov": False,
    "trust": 0.001,
    "scale": "none",
    "reference_batch": None,
    "milestones": [],
    "factor": 0.1,
    "power": 2.0,
    "accumulate": 1,
    "noise_scale": True,
    "window_mb": 256,
    "precision": "fp32",
    "layout": "channels_last",
    "compile": False,
}
CHECKPOINT: Json = {"steps": None, "minutes": 10.0, "keep": 2}
WITHOUT_EFFECT = ("checkpoint", "noise_scale")
"""How a run is watched and saved: another choice continues the same run."""


def complete(section: Json, where: str) -> Json:
    """A task's ``training`` section with every default filled in.

    Parameters
    ----------
    section : dict
        As in ``case.yaml``, checked against the schema.
    where : str
        The task, for messages.

    Raises
    ------
    UserError
        Choices that need another one beside them; all of them at once.
    """
    rules = {**DEFAULTS, **section, "checkpoint": {**CHECKPOINT, **section.get("checkpoint", {})}}
    problems = []
    if rules["scale"] != "none" and rules["reference_batch"] is None:
        problems.append(
            f"expected training.reference_batch beside scale: {rules['scale']}, got none ({where}); "
            "give the batch that lr was chosen for"
        )
    if rules["schedule"] == "step" and not rules["milestones"]:
        problems.append(
            f"expected training.milestones beside schedule: step, got none ({where}); "
            "list the epochs at which the rate falls"
        )
    if rules["nesterov"] and not (rules["optimizer"] == "sgd" and rules["momentum"] > 0):
        problems.append(
            f"expected optimizer: sgd with momentum beside nesterov: true, got {rules['optimizer']} with momentum "
            f"{rules['momentum']} ({where}); leave nesterov out, or choose sgd"
        )
    if problems:
        raise UserError(*problems)
    return rules


def of_profile() -> Json:
    """Threads and precision that a profile states for its machine: ``KILONODE_TRAINING=threads=2,precision=bf16``."""
    said = os.environ.get("KILONODE_TRAINING", "")
    found: Json = dict(word.split("=", 1) for word in said.split(",") if "=" in word)
    threads, precision = found.get("threads", "1"), found.get("precision", "fp32")
    right = threads.isdecimal() and int(threads) > 0 and precision in ("fp32", "bf16", "auto")
    if said and (not right or not found or set(found) - {"threads", "precision"}):
        raise UserError(f"expected threads=N,precision=NAME, got {said!r} (KILONODE_TRAINING); correct the profile")
    return {**found, **({"threads": int(threads)} if "threads" in found else {})}


def identity(rules: Json) -> Json:
    """The part of complete rules that the result depends on."""
    return {key: value for key, value in rules.items() if key not in WITHOUT_EFFECT}
