"""t-SNE maps of a code, and how far each may be believed.

Shape legend: S seeds, N samples, F features.
"""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE, trustworthiness
from sklearn.preprocessing import StandardScaler

from kilonode.progress import progress

WIDTH = 50
"""Wider codes are first reduced by PCA, as the method's authors advise."""
NEIGHBOURS = 12
"""Neighbours whose keeping the trustworthiness measures."""


def tsne(features: np.ndarray, perplexity: float, seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """Maps of the same samples, one a seed.

    Parameters
    ----------
    features : ndarray
        (N, F), any scale: columns are standardised.
    perplexity : float
        Effective number of neighbours; at most (N - 1) / 3 is used.
    seeds : int
        How many maps: clusters that one map shows and another does not are not there.

    Returns
    -------
    maps : ndarray
        float32 (S, N, 2).
    trust : ndarray
        float64 (S,), share of map neighbours that are true ones, corrected for chance; 1 is perfect.

    Source
    ------
    van der Maaten, Hinton 2008, JMLR 9, 2579; trustworthiness: Venna, Kaski 2001, ICANN, 485.
    """
    scaled = StandardScaler().fit_transform(features)
    if scaled.shape[1] > WIDTH:
        scaled = PCA(n_components=WIDTH, random_state=0).fit_transform(scaled)
    perplexity = min(perplexity, (len(scaled) - 1) / 3)
    maps, trust = [], []
    for seed in progress(range(seeds), seeds, "explain: t-SNE maps"):
        found = TSNE(perplexity=perplexity, init="random", max_iter=1000, random_state=seed).fit_transform(scaled)
        maps.append(found.astype(np.float32))
        trust.append(trustworthiness(scaled, found, n_neighbors=max(1, min(NEIGHBOURS, len(scaled) // 2 - 1))))
    return np.stack(maps), np.array(trust)
