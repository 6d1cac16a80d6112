"""Linear decoders: what a referee would ask for, with the same averaging over time and the same number of trials.

Shape legend: N trials, C one channel, H electrodes, W moments, T means, F features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kilonode.cases.contract import Arrays, Estimator
from kilonode.cases.ecog_speech import speech

POOLS = (8, 16)
"""Samples averaged; at 200 Hz 40 and 80 ms. The network may choose among the same."""
COMPONENTS = [30, 60, 100, 150, 200]


def features(task: str, x: np.ndarray) -> Arrays:
    """Means over time of each electrode.

    Parameters
    ----------
    task : str
        Any of this case.
    x : float (N, C, H, W)
        Amplitudes, z-score.

    Returns
    -------
    Arrays
        ``means_8`` and ``means_16`` (N, H T): over so many samples; ``activity`` (N, 1): over all.
    """
    return {**{f"means_{pool}": means(x, pool) for pool in POOLS}, "activity": x.mean(axis=(1, 2, 3))[:, None]}


def means(x: np.ndarray, pool: int) -> np.ndarray:
    """(N, C, H, W) -> float32 (N, C H T): means over ``pool`` samples, an incomplete last part left out."""
    count = x.shape[-1] // pool
    cut = x[..., : count * pool].reshape(*x.shape[:-1], count, pool)
    return np.asarray(cut.mean(axis=-1, dtype=np.float32).reshape(len(x), -1))


def oracle(task: str, truth: Mapping[str, np.ndarray]) -> Arrays:
    """Give the articulators themselves, (N, 12); empty where there is no truth."""
    found = truth.get("truth/articulators")
    return {} if found is None else {"oracle": found.reshape(len(found), -1)}


def bound(articulators: np.ndarray, task_of: Any, seen: np.ndarray) -> np.ndarray:
    """Classes that who knows every articulator and its spread would answer: the Gaussian classifier of equal spread.

    Parameters
    ----------
    articulators : float (N, 2, 6)
        Of each trial.
    task_of : callable
        From syllable to class.
    seen : int
        Syllables of training trials: their shares are the prior.
    """
    classes, counts = np.unique(seen, return_counts=True)
    centres = speech.targets(classes).reshape(len(classes), -1)
    distance = ((articulators.reshape(len(articulators), 1, -1) - centres[None]) ** 2).sum(axis=2)
    posterior = np.exp(-0.5 * (distance - distance.min(axis=1, keepdims=True)) / speech.NOISE**2) * counts
    answers = task_of(classes)
    votes = np.stack([posterior[:, answers == value].sum(axis=1) for value in range(answers.max() + 1)], axis=1)
    return np.asarray(votes.argmax(axis=1))


def estimators(task: str) -> dict[str, Estimator]:
    """Multinomial logistic regression and linear discriminant analysis, after PCA, and the latter with shrinkage."""
    strength = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0]
    found = {}
    for pool in POOLS:
        inputs = f"means_{pool}"
        found[f"logistic_{pool}"] = Estimator(_logistic, {"C": strength, "components": COMPONENTS}, inputs)
        found[f"pca_lda_{pool}"] = Estimator(_pca_lda, {"components": COMPONENTS, "shrinkage": SHRINKAGE}, inputs)
    # Of 40-ms means it would take ten times as long (28 s for 1,200 trials); with all components PCA loses nothing.
    found["lda_16"] = Estimator(shrunk_lda, {"shrinkage": [0.3, "auto"]}, "means_16")
    return found


SHRINKAGE = [0.0, 0.03, 0.1, 0.3, "auto"]


def _reduced(components: int) -> Any:
    return PCA(components, svd_solver="randomized", random_state=0)


def _logistic(C: float = 1e-2, components: int = 100) -> Any:
    return make_pipeline(_reduced(components), LogisticRegression(C=C, max_iter=300))


def _pca_lda(components: int = 100, shrinkage: float | str = 0.1) -> Any:
    return make_pipeline(_reduced(components), shrunk_lda(shrinkage))


def shrunk_lda(shrinkage: float | str = 0.1) -> Any:
    """Linear discriminant analysis of standardised features with a shrunk covariance."""
    return make_pipeline(StandardScaler(), LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage))
