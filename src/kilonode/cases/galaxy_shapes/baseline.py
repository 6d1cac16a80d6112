"""Classical descriptions: moments of an image, and a linear model of the same latent width with its exact likelihood.

The fitted profiles stand in ``profiles`` and ``likelihood``; PCA of the code's width is the engine's.

Shape legend: N samples, C channels, H rows, W columns, n = C H W pixels, L latent numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kilonode.cases.contract import Arrays, Estimator
from kilonode.cases.galaxy_shapes.likelihood import LN_2PI

WINDOWS = (3.0, 7.0)
"""Widths of the Gaussian windows of the moments, pixels."""
STEPS = 15
"""Of expectation maximisation."""


def features(task: str, x: np.ndarray) -> Arrays:
    """Compute moments of raw inputs.

    Parameters
    ----------
    task : {"density"}
        The one task.
    x : float (N, C, H, W)
        Pixels, units of the sky's noise; channels are summed.

    Returns
    -------
    Arrays
        ``moments`` (N, 8): log flux in a narrow and a wide Gaussian window, centroid x and y (pixels), log size
        (pixels), two ellipticities, and concentration (narrow over wide flux).
    """
    image_Nn = x.sum(axis=1).reshape(len(x), -1).astype(np.float64)
    rows, columns = (np.arange(side) - (side - 1) / 2 for side in x.shape[2:])
    dy, dx = (grid.ravel() for grid in np.meshgrid(rows, columns, indexing="ij"))
    narrow, wide = (np.exp(-0.5 * (dx**2 + dy**2) / width**2) for width in WINDOWS)
    windows = np.stack([narrow, *(wide * part for part in (1, dx, dy, dx**2, dy**2, dx * dy))], axis=1)
    inner, flux, mx, my, xx, yy, xy = (image_Nn @ windows).T
    flux = np.maximum(flux, 1.0)
    x0, y0 = mx / flux, my / flux
    xx, yy, xy = xx / flux - x0**2, yy / flux - y0**2, xy / flux - x0 * y0
    size = np.maximum(xx + yy, 0.1)
    columns_N = [np.log(np.maximum(inner, 1)), np.log(flux), x0, y0, np.log(size), (xx - yy) / size, 2 * xy / size]
    return {"moments": np.stack([*columns_N, inner / flux], axis=1)}


def oracle(task: str, truth: Mapping[str, np.ndarray]) -> Arrays:
    """Give nothing: the truth bounds the likelihood (``measures``), and the read-outs ask for the truth itself."""
    return {}


def estimators(task: str) -> Mapping[str, Estimator]:
    """Give none: the task has no target."""
    return {}


@dataclass(frozen=True)
class FactorAnalysis:
    """x ~ N(mean, W W^T + diag(noise)), noise at least the sky's: the linear rival of the network, exact marginals.

    Source
    ------
    Rubin, Thayer 1982, Psychometrika 47, 69: expectation maximisation; here the noise may not fall below 1.
    """

    mean: np.ndarray
    """(n,)"""
    loadings: np.ndarray
    """(n, L)"""
    noise: np.ndarray
    """(n,), at least 1"""

    @classmethod
    def of(cls, x: np.ndarray, latent: int, seed: int = 0) -> FactorAnalysis:
        """Fit to training pixels (N, n) in units of the sky's noise."""
        latent = min(latent, len(x) - 1)
        mean = x.mean(axis=0)
        total = np.maximum(x.var(axis=0), 1.0)
        loadings = np.random.default_rng(seed).standard_normal((x.shape[1], latent)).astype(np.float32)
        loadings *= np.sqrt(np.maximum(total - 1, 1e-2))[:, None] / np.sqrt(latent)
        noise = np.ones_like(total)
        centred = (x - mean).astype(np.float32)
        for _ in range(STEPS):
            weighted = loadings / noise[:, None]
            spread = np.linalg.inv(np.eye(latent) + loadings.T @ weighted)
            code = centred @ weighted @ spread
            cross = centred.T @ code / len(x)
            second = code.T @ code / len(x) + spread
            loadings = np.linalg.solve(second, cross.T).T
            noise = np.maximum(total - (loadings * cross).sum(axis=1), 1.0)
        return cls(mean, loadings, noise)

    def log_likelihood(self, x: np.ndarray) -> np.ndarray:
        """Exact log marginal density of each image (N, n), nats, (N,)."""
        centred = (x - self.mean).astype(np.float64)
        weighted = self.loadings.astype(np.float64) / self.noise[:, None]
        inner = np.eye(weighted.shape[1]) + self.loadings.T.astype(np.float64) @ weighted
        along = centred @ weighted
        square = (centred**2 / self.noise).sum(axis=1) - (along * np.linalg.solve(inner, along.T).T).sum(axis=1)
        volume = np.linalg.slogdet(inner)[1] + np.log(self.noise).sum()
        return np.asarray(-0.5 * (square + volume + x.shape[1] * LN_2PI))
