"""What is reported: against labels and against truth, at every overlap, with counts, controls and equal steps."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from small_weather import made, trained

from kilonode.cases.contract import Explanation, Measured
from kilonode.cases.extreme_weather import cells, figures, measures, models, rivals, trainings

TRAINING = {"batch": 4, "lr": 1e-3, "clip": 5.0, "epochs": 1, "weight_decay": 5e-4}
MODELS: dict[str, dict[str, Any]] = {
    "cells": {"variant": "cells", "levels": 2, "width": 0.0625, "reconstruction": 10.0},
    "masks": {"variant": "unet", "levels": 3, "width": 0.125},
}


@dataclass
class Asked:
    """What was measured, and with what thresholds and small networks were trained."""

    found: Measured
    tuned: list[np.ndarray]
    fits: list[tuple[Any, ...]]


@functools.cache
def measured(kind: str) -> Asked:
    """Boxes of a network that has learnt nothing."""
    model, fits, seen = MODELS[kind], [], []
    fit, tuned = trainings.fit, rivals.tuned

    def noted_fit(
        model: Any, x: Any, y: Any, steps: int, rules: Any, seed: int, pool: Any = None, what: str = ""
    ) -> Any:
        assert what
        fits.append((model.weight, steps, seed, pool.tolist(), y.tobytes()))
        return fit(model, x, y, steps, rules, seed, pool)

    def noted_tuned(fields: np.ndarray, *rest: Any) -> Any:
        seen.append(fields)
        return tuned(fields, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rivals, "TRIALS", 3)
        patch.setattr(cells, "MOST", 100)
        patch.setattr(trainings, "fit", noted_fit)
        patch.setattr(rivals, "tuned", noted_tuned)
        torch.manual_seed(0)
        network = models.build("boxes", model, (16, 48, 72))
        few = {"fractions": [0.5], "seeds": 2, "epochs": 1} if kind == "cells" else {}
        settings = {"target": "boxes", "model": model, "training": TRAINING, "measures": few}
        found = measures.measure(trained("boxes", "frames", "images", network, settings))
    return Asked(found, seen, fits)


def rows(found: Measured, question: str) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["metric"], row["method"]): row for row in found.rows if row["question"] == question}


def explanation(found: Measured, task: str) -> Explanation:
    none = np.zeros((0, 1, 1, 1))
    return Explanation("extreme_weather", task, none, None, none, none, np.zeros(0), {}, {}, none, {}, {}, found.arrays)


@pytest.mark.parametrize("kind", MODELS)
def test_boxes_are_scored_against_labels_and_truth_at_every_overlap_and_class(kind: str) -> None:
    found = measured(kind).found
    test = np.concatenate([made(group)["frames"]["truth/boxes"][::2, :, 4].ravel() for group in (4, 5)])
    for question in ("boxes_labels", "boxes_truth"):
        told = rows(found, question)
        for overlap in (0.1, 0.3, 0.5):
            for method in ("network", "thresholds"):
                assert 0 <= told[f"map_{overlap}", method]["value"] <= 1
                for number, name in enumerate(("TD", "TC", "ETC", "AR")):
                    one = told[f"ap_{overlap}_{name}", method]
                    assert np.isnan(one["value"]) == (one["boxes"] == 0)
                    assert question == "boxes_labels" or one["boxes"] == (test == number).sum()
            assert told[f"map_{overlap}_gain_on_thresholds", "network"]["against"] == "thresholds"
    way = "masks" if kind == "masks" else "one box a cell"
    bounds = rows(found, "bounds")
    assert 0.5 < bounds["map_0.1", way]["value"] <= 1
    assert bounds["map_0.1", "labels"]["value"] < 1  # labels are not the truth
    drawn = set(figures.draw(explanation(found, "boxes")))
    assert {"map", "precision_recall"} <= drawn
    assert ("network" in drawn) == (kind == "cells")


def test_with_few_labels_both_trainings_have_the_same_frames_steps_and_seeds() -> None:
    asked = measured("cells")
    assert len(asked.fits) == 4
    for alone, helped in zip(asked.fits[::2], asked.fits[1::2], strict=True):
        assert (alone[0], helped[0]) == (0.0, 10.0)
        assert alone[1:] == helped[1:]
    told = rows(asked.found, "few_labels")
    methods = ("labels alone", "with reconstruction")
    assert {told["map_50%_labels", method]["labelled_frames"] for method in methods} == {4}
    assert len(told["gain_50%_labels", "with reconstruction"]["interval"]) == 2
    assert "few_labels" in figures.draw(explanation(asked.found, "boxes"))


def test_thresholds_never_see_a_test_frame() -> None:
    (seen,) = measured("cells").tuned
    known = {frame.tobytes() for group in (1, 2) for frame in made(group)["frames"]["images"]}
    assert {frame.tobytes() for frame in seen} <= known


def test_patches_are_scored_against_labels_and_truth_with_their_controls() -> None:
    torch.manual_seed(0)
    model = {"variant": "published", "kernels": [5, 5], "filters": [4, 8], "pools": [2, 2], "dense": 16}
    network = models.build("patches", model, (8, 32, 32))
    asked = {"networks": ["residual", "each patch standardised"]}
    settings = {"target": "y", "model": model, "training": TRAINING, "measures": asked}
    found = measures.measure(trained("patches", "cyclones", "x", network, settings))
    truth, networks = rows(found, "truth"), rows(found, "networks")
    assert truth["accuracy", "labels"]["value"] < 1
    assert rows(found, "class")["accuracy", "labels"]["role"] == "oracle"
    assert truth["accuracy", "network"]["value"] != networks["accuracy", "network"]["value"]
    assert networks["accuracy", "each patch standardised"]["role"] == "network"
    assert rows(found, "controls")["jitter", "simulation"]["value"] >= 3
    assert any(metric.startswith("false_alarms_") for metric, _ in rows(found, "kinds"))
    assert found.arrays["confusion"].sum(axis=(1, 2)).tolist() == [rows(found, "truth")["accuracy", "labels"]["n"]] * 2
    assert "confusion" in figures.draw(explanation(found, "patches"))
