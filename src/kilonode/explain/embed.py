"""t-SNE maps of a code, how far each may be believed, and new samples placed on an old map.

Shape legend: S seeds, N samples, M new samples, F features, k neighbours.
"""

from __future__ import annotations

import numpy as np
import openTSNE
from sklearn.decomposition import PCA
from sklearn.metrics import euclidean_distances
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from kilonode.progress import progress

WIDTH = 50
"""Wider codes are first reduced by PCA, as the method's authors advise."""
NEIGHBOURS = 12
"""Neighbours whose keeping the trustworthiness measures."""
JUDGED = 5000
"""Samples whose neighbours are looked at, at most: the ranks of all in all grow with the square of N."""
EXACT = 200_000
"""Below so many samples all neighbours are true ones, at a cost that grows with the square; else near ones (Annoy)."""
GRID = 4000
"""Below so many samples forces are summed over a tree; from there they are interpolated on a grid (FIt-SNE)."""
CELL = 1.5
"""Side of a cell of that grid. With 1, the library's own choice, the transforms take most of the time; with 2 maps of
100,000 samples are less trustworthy than those of scikit-learn's tree."""
EXAGGERATED, ITERATIONS = 250, 750
"""Steps with exaggerated attraction, and all steps."""
BLOCK = 64


def tsne(features: np.ndarray, perplexity: float, seeds: int, threads: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Maps of the same samples, one a seed: the first begins with PCA, the others with random places.

    Parameters
    ----------
    features : ndarray
        (N, F), any scale: columns are standardised.
    perplexity : float
        Effective number of neighbours; at most (N - 1) / 3 is used.
    seeds : int
        How many maps: clusters that one map shows and another does not are not there.
    threads : int
        The same number gives the same bits.

    Returns
    -------
    maps : ndarray
        float32 (S, N, 2).
    trust : ndarray
        float64 (S,), see ``trustworthiness``.

    Source
    ------
    van der Maaten, Hinton 2008, JMLR 9, 2579; first places by PCA: Kobak, Berens 2019, doi:10.1038/s41467-019-13056-x;
    openTSNE: Poličar, Stražar, Zupan 2024, doi:10.18637/jss.v109.i03.
    """
    (scaled,) = standardised(features)
    maps = [
        embedded(scaled, perplexity, seed, threads) for seed in progress(range(seeds), seeds, "explain: t-SNE maps")
    ]
    return np.stack(maps), np.array([trustworthiness(scaled, found, threads) for found in maps])


def embedded(scaled: np.ndarray, perplexity: float, seed: int, threads: int) -> np.ndarray:
    """One map, float32 (N, 2), of features (N, F) as they are."""
    count = len(scaled)
    method = openTSNE.TSNE(
        perplexity=min(perplexity, (count - 1) / 3),
        early_exaggeration_iter=EXAGGERATED,
        n_iter=ITERATIONS - EXAGGERATED,
        initialization="pca" if seed == 0 else "random",
        neighbors=_neighbours(count),
        negative_gradient_method=_forces(count),
        ints_in_interval=CELL,
        n_jobs=threads,
        random_state=seed,
    )
    return np.asarray(method.fit(scaled), np.float32)


def place(
    features: np.ndarray, placed: np.ndarray, new: np.ndarray, perplexity: float = 5.0, threads: int = 1
) -> np.ndarray:
    """Places of new samples on an old map, which stays as it is; new ones do not see each other.

    Parameters
    ----------
    features : ndarray
        (N, F) of the map's samples, any scale.
    placed : ndarray
        (N, 2), their map.
    new : ndarray
        (M, F), the same features of other samples.
    perplexity : float
        Effective number of old neighbours that pull a new sample; at most (N - 1) / 3 is used.
    threads : int
        As for ``tsne``.

    Returns
    -------
    ndarray
        float32 (M, 2).

    Source
    ------
    Poličar, Stražar, Zupan 2023, doi:10.1007/s10994-021-06043-1.
    """
    scaled, others = standardised(features, new)
    perplexity = min(perplexity, (len(scaled) - 1) / 3)
    pulls = openTSNE.affinity.PerplexityBasedNN(
        scaled, perplexity=perplexity, method=_neighbours(len(scaled)), n_jobs=threads, random_state=0
    )
    old = openTSNE.TSNEEmbedding(
        placed.astype(np.float64),
        pulls,
        negative_gradient_method=_forces(len(scaled)),
        ints_in_interval=CELL,
        n_jobs=threads,
        random_state=0,
    )
    middle = (placed.max(axis=0) + placed.min(axis=0)) / 2  # the library moves the old map there
    found = old.transform(others, perplexity=perplexity, k=min(25, len(scaled) - 1))
    return (np.asarray(found) + middle).astype(np.float32)


def trustworthiness(scaled: np.ndarray, placed: np.ndarray, threads: int = 1) -> float:
    """How far a map may be believed: the mean of ``trusted``. 1 is perfect, about 0.5 is a map of no use."""
    return float(trusted(scaled, placed, threads).mean())


def trusted(scaled: np.ndarray, placed: np.ndarray, threads: int = 1) -> np.ndarray:
    """How many of the k nearest on the map are near in truth, less the more their true rank exceeds k.

    Exact for up to ``JUDGED`` samples; of more, that many drawn ones are judged, each against all N.

    Parameters
    ----------
    scaled : ndarray
        (N, F), the features whose neighbours are the true ones.
    placed : ndarray
        (N, 2), a map of them.
    threads : int
        For the search of neighbours.

    Returns
    -------
    ndarray
        float64 (n,), of each judged sample; for the same N always the same samples.

    Source
    ------
    Venna, Kaski 2001, ICANN, 485.
    """
    count = len(scaled)
    k = max(1, min(NEIGHBOURS, count // 2 - 1))
    judged = np.sort(np.random.default_rng(0).permutation(count)[:JUDGED])
    near = NearestNeighbors(n_neighbors=k + 1, n_jobs=threads).fit(placed).kneighbors(placed[judged])[1]
    beyond = []
    squares = (scaled.astype(np.float64) ** 2).sum(axis=1)
    for start in range(0, len(judged), BLOCK):
        rows = judged[start : start + BLOCK]
        true = euclidean_distances(scaled[rows], scaled, Y_norm_squared=squares, squared=True)
        for row, distances, found in zip(rows, true, near[start : start + BLOCK], strict=True):
            others = found[found != row][:k]  # a twin may stand in front of the sample itself
            distances[row] = np.inf
            ranks = 1 + (distances < distances[others][:, None]).sum(axis=1)
            beyond.append(float(np.maximum(ranks - k, 0).sum()))
    return 1 - np.array(beyond) * 2 / (k * (2 * count - 3 * k - 1))


def standardised(features: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """All standardised, and reduced, as the first."""
    scaler = StandardScaler().fit(features)
    parts = [scaler.transform(part) for part in (features, *others)]
    if features.shape[1] <= WIDTH:
        return parts
    reduction = PCA(n_components=min(WIDTH, len(features)), random_state=0).fit(parts[0])
    return [reduction.transform(part) for part in parts]


def _neighbours(count: int) -> str:
    return "exact" if count < EXACT else "annoy"


def _forces(count: int) -> str:
    return "bh" if count < GRID else "fft"
