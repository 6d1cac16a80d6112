"""What decoding is worth beyond accuracy: chance, information, intervals, soft confusions and the tree they make.

Shape legend: N trials, K classes, R draws.
"""

from __future__ import annotations

import numpy as np
from scipy import stats
from scipy.cluster import hierarchy
from scipy.spatial.distance import pdist

DRAWS = 100
PERMUTATIONS = 1000


def chance(train: np.ndarray, test: np.ndarray, rng: np.random.Generator) -> float:
    """Accuracy of guesses drawn from the classes of training trials, mean of 100 draws.

    Not 1 / K: classes are unevenly frequent, and some are missing.
    """
    return float(np.mean([(rng.choice(train, len(test)) == test).mean() for _ in range(DRAWS)]))


def information(truth: np.ndarray, said: np.ndarray, rng: np.random.Generator) -> float:
    """Mutual information of classes and answers in bits, less what the same answers have by accident.

    A table of 57 x 57 filled by some hundred trials shows more than a bit where there is none; the mean of
    permuted answers is what is subtracted.
    """
    raw = _information(truth, said)
    return raw - float(np.mean([_information(truth, rng.permutation(said)) for _ in range(DRAWS)]))


def _information(truth: np.ndarray, said: np.ndarray) -> float:
    _, rows = np.unique(truth, return_inverse=True)
    _, columns = np.unique(said, return_inverse=True)
    joint = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(joint, (rows, columns), 1 / len(truth))
    expected = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    there = joint > 0
    return float((joint[there] * np.log2(joint[there] / expected[there])).sum())


def clopper_pearson(right: int, count: int) -> tuple[float, float]:
    """Exact 95 % interval of a share.

    Source
    ------
    Clopper, Pearson 1934, Biometrika 26, 404.
    """
    low = stats.beta.ppf(0.025, right, count - right + 1) if right else 0.0
    high = stats.beta.ppf(0.975, right + 1, count - right) if right < count else 1.0
    return float(low), float(high)


def soft_confusion(truth: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean probabilities given to trials of each class that occurs.

    Returns
    -------
    tuple
        Classes int64 (K,) that occur; float64 (K, K), rows of true classes, columns of the same classes.
    """
    classes = np.unique(truth)
    rows = np.stack([probabilities[truth == value].mean(axis=0) for value in classes])
    return classes, np.asarray(rows[:, classes], dtype=np.float64)


def tree(rows: np.ndarray) -> np.ndarray:
    """Ward's linkage of rows by Euclidean distance, as SciPy has it, (K - 1, 4)."""
    return np.asarray(hierarchy.linkage(rows, "ward", metric="euclidean"))


def agreement(rows: np.ndarray, articulators: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """How far the tree of confusions follows the articulators, and how often a shuffled tree does as well.

    Parameters
    ----------
    rows : float (K, K)
        Soft confusions.
    articulators : float (K, A)
        True articulators of the same classes.

    Returns
    -------
    tuple
        Correlation of cophenetic distances in both Ward trees; one-sided p-value of permuted classes.

    Source
    ------
    Sokal, Rohlf 1962, Taxon 11, 33; permutation test: Mantel 1967, Cancer Research 27, 209.
    """
    seen = hierarchy.cophenet(tree(rows))
    true = hierarchy.cophenet(tree(articulators))
    found = float(np.corrcoef(seen, true)[0, 1])
    count = len(rows)
    square = np.zeros((count, count))
    square[np.triu_indices(count, 1)] = true
    square += square.T
    as_good = 0
    for _ in range(PERMUTATIONS):
        order = rng.permutation(count)
        shuffled = square[np.ix_(order, order)][np.triu_indices(count, 1)]
        as_good += np.corrcoef(seen, shuffled)[0, 1] >= found
    return found, (1 + as_good) / (1 + PERMUTATIONS)


def distances_agree(rows: np.ndarray, articulators: np.ndarray) -> float:
    """Rank correlation of distances between confusion rows and between articulators, without any tree."""
    return float(stats.spearmanr(pdist(rows), pdist(articulators)).statistic)
