"""Nested cross-validation: what the winners of each fold's search say of outer test blocks that no trial has seen.

Shape legend: N trials, K classes, F folds, S shares of the training trials.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from scipy import stats

from kilonode import intervals
from kilonode.records import Json, figure

METHODS = ("network", "baseline")
Answers = dict[tuple[int, float], dict[str, np.ndarray]]
"""(fold, share of training trials) -> ``y``, ``group``, ``probabilities`` of the fold's outer test blocks."""


def answers(tuned: Path | None) -> dict[str, Answers]:
    """What ``kilonode tune`` left of outer folds: method -> answers; empty where there was no nested search."""
    found: dict[str, Answers] = {}
    for method in METHODS:
        path = tuned / method / "outer.h5" if tuned is not None else None
        if path is None or not path.exists():
            continue
        with h5py.File(path, "r") as file:
            parts = {
                (int(fold.removeprefix("fold-")), float(share.removeprefix("fraction-"))): {
                    name: array[()] for name, array in arrays.items()
                }
                for fold, shares in file.items()
                for share, arrays in shares.items()
            }
        if parts:
            found[method] = parts
    return found


def pooled(found: Answers) -> dict[str, np.ndarray]:
    """Answers of all folds with all training trials, one after another."""
    whole = [part for (_, share), part in sorted(found.items()) if share == 1.0]
    width = max(part["probabilities"].shape[1] for part in whole)
    return {
        "y": np.concatenate([part["y"] for part in whole]),
        "group": np.concatenate([part["group"] for part in whole]),
        "probabilities": np.concatenate(
            [np.pad(part["probabilities"], ((0, 0), (0, width - part["probabilities"].shape[1]))) for part in whole]
        ),
    }


def accuracies(found: Answers) -> tuple[np.ndarray, np.ndarray]:
    """Shares (S,) and accuracy in each fold at each share, (F, S)."""
    folds, shares = sorted({fold for fold, _ in found}), sorted({share for _, share in found})
    values = np.full((len(folds), len(shares)), np.nan)
    for (fold, share), part in found.items():
        right = part["probabilities"].argmax(axis=1) == part["y"]
        values[folds.index(fold), shares.index(share)] = right.mean()
    return np.array(shares), values


def rows(found: dict[str, Answers], chance: float, trials: int) -> tuple[list[Json], dict[str, np.ndarray]]:
    """Accuracy over folds, slopes with training size, and whether the network's differ from the linear method's.

    Parameters
    ----------
    found : dict
        From ``answers``.
    chance : float
        Accuracy of guesses.
    trials : int
        Training trials of a fold.

    Returns
    -------
    tuple
        Rows for the record, with intervals over folds, which are rather short: folds share training trials; arrays for
        the figures.
    """
    made: list[Json] = []
    arrays: dict[str, np.ndarray] = {}
    slopes: dict[str, np.ndarray] = {}
    whole: dict[str, np.ndarray] = {}
    for method, parts in found.items():
        shares, values = accuracies(parts)
        arrays |= {f"curve_{method}": values, "curve_shares": shares * trials}
        whole[method] = values[:, -1]
        labels: Json = {"question": "nested", "about": "outer test blocks of all folds", "method": method,
                        "role": "network" if method == "network" else "baseline", "n": len(values)}  # fmt: skip
        for metric, sample in (("accuracy", values[:, -1]), ("times_chance", values[:, -1] / chance)):
            made.append(figure("", float(sample.mean()), "1", intervals.student(sample), metric=metric, **labels))
        if all(part["probabilities"].shape[1] == 2 for part in parts.values()):
            sample = np.array([_auc(part) for (_, share), part in sorted(parts.items()) if share == 1.0])
            made.append(figure("", float(sample.mean()), "1", intervals.student(sample), metric="auc", **labels))
        if len(shares) > 1:
            slopes[method] = np.array([np.polyfit(shares * trials / 1000, row / chance, 1)[0] for row in values])
            slope = slopes[method]
            unit = "times chance per 1,000 trials"
            made.append(figure("", float(slope.mean()), unit, intervals.student(slope), metric="slope", **labels))
    for metric, both in (("accuracy_gain", whole), ("slope_gain", slopes)):
        if len(both) == 2:
            gain = both["network"] - both["baseline"]
            labels = {"question": "nested", "about": "paired by fold", "method": "network", "role": "network",
                      "against": "baseline", "n": len(gain)}  # fmt: skip
            made.append(figure("", float(gain.mean()), "1", intervals.student(gain), metric=metric, **labels))
            made.append(figure("", wilcoxon(gain), "1", metric=f"{metric}_p", **labels))
    return made, arrays


def _auc(part: dict[str, np.ndarray]) -> float:
    """Of the second of two classes."""
    return intervals.auc(part["y"] == 1, part["probabilities"][:, 1])(np.ones(len(part["y"])))


def wilcoxon(gain: np.ndarray) -> float | None:
    """Two-sided signed-rank p-value over folds; with 5 folds it cannot fall below 0.0625."""
    return float(stats.wilcoxon(gain).pvalue) if len(gain) > 1 and gain.any() else None
