"""What is left of an answer as shape noise grows, and what a split that is not along realisations would feign.

Shape legend: N maps, H rows, W columns, F features, L noise levels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kilonode import intervals
from kilonode.cases.contract import Trained
from kilonode.cases.mass_maps import baseline, simulate
from kilonode.cases.mass_maps.statistics import power_spectrum
from kilonode.errors import DataError

SPLITS = ("train", "validation", "test")
LEVELS: tuple[float | None, ...] = (None, 100.0, 30.0, 10.0)
"""Galaxies a square arcminute; None is no noise."""
MOST = {"train": 2000, "validation": 500, "test": 1500}
"""Maps used, at most."""
STRENGTHS = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1000.0)
Answers = dict[str, np.ndarray]
"""Method -> whether each test map was answered rightly, bool (N,)."""


def apart(train: np.ndarray, test: np.ndarray) -> None:
    """Refuse test maps of realisations that trained the method: a score on them is no score."""
    if shared := np.intersect1d(train, test).tolist():
        raise DataError(
            f"expected test realisations that trained nothing, got {shared[:5]} in both; split along realisations"
        )


def fitted(x: dict[str, np.ndarray], y: dict[str, np.ndarray]) -> np.ndarray:
    """Classes that logistic regression gives the test rows; its penalty is chosen on validation."""
    tried = []
    for strength in STRENGTHS:
        estimator = baseline.logistic(strength).fit(x["train"], y["train"])
        tried.append((float((estimator.predict(x["validation"]) == y["validation"]).mean()), estimator))
    answer: np.ndarray = max(tried, key=lambda pair: pair[0])[1].predict(x["test"])
    return answer


def noise(trained: Trained) -> tuple[dict[float | None, Answers], np.ndarray]:
    """Answer the test maps at every noise level, and give their realisations.

    ``network`` was trained at the level of the data and meets the others unprepared; ``network_features`` and
    ``power_spectrum`` are logistic regressions fitted anew at each level, on equal terms.
    """
    rows = {split: np.arange(min(MOST[split], trained.stores[split].rows)) for split in SPLITS}
    y = {split: trained.stores[split].take(trained.settings["target"], rows[split]).astype(int) for split in SPLITS}
    group = {split: trained.stores[split].take("group", rows[split]) for split in SPLITS}
    apart(group["train"], group["test"])
    found: dict[float | None, Answers] = {}
    for level in LEVELS:
        x = {split: _at(level, trained.stores[split], rows[split]) for split in SPLITS}
        features = {split: trained.network.features(x[split]) for split in SPLITS}
        spectrum = {split: power_spectrum(x[split]) for split in SPLITS}
        found[level] = {
            "network": trained.network.outputs(x["test"]).argmax(axis=1) == y["test"],
            "network_features": fitted(features, y) == y["test"],
            "power_spectrum": fitted(spectrum, y) == y["test"],
        }
    return found, group["test"]


def random_split(x: np.ndarray, y: np.ndarray, sizes: dict[str, int]) -> np.ndarray:
    """Do what is forbidden, for comparison: mix all maps, then split; bool (N,), which test maps were right."""
    order = np.random.default_rng(0).permutation(len(y))
    ends = np.cumsum([sizes[split] for split in SPLITS])[:-1]
    rows = dict(zip(SPLITS, np.split(order, ends), strict=True))
    answer = fitted({split: x[part] for split, part in rows.items()}, {split: y[part] for split, part in rows.items()})
    return np.asarray(answer == y[rows["test"]])


def right(answers: np.ndarray, groups: np.ndarray) -> intervals.Estimate:
    """Share of right answers with its interval over realisations."""
    return intervals.bootstrap(intervals.mean(answers.astype(float)), intervals.resamples(groups))


def _at(level: float | None, store: Any, rows: np.ndarray) -> np.ndarray:
    """Clean maps with fresh noise of one level; a map's noise depends on its number alone."""
    clean = store.take("truth/kappa_clean", rows)
    arcmin = float(store.take("truth/params", rows[:1])[0, 3])
    numbers = store.take("sample_id", rows)
    white = np.stack(
        [np.random.default_rng([11, number]).standard_normal(clean.shape[1:], dtype=np.float32) for number in numbers]
    )
    return simulate.observed(clean, white, simulate.noise_sigma(level, arcmin), 0.0)
