"""Log-likelihoods of the same images under every rival, nats per image; the network never saw them.

The fitted profiles have seen the very pixels they are scored on and the network has not: so they are also scored with
the penalty of their parameters (BIC), and the network once more given its code, which has seen them as well.

Shape legend: N images, n = H W pixels, K draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kilonode.cases.galaxy_shapes import models, profiles
from kilonode.cases.galaxy_shapes.likelihood import Fitted, fit, log_normal

MANY = 1000
"""Draws of the bound that shows how far the usual one is from its limit."""
MANY_OF, MANY_IMAGES = 16, 24
"""That bound is taken of one image in so many, and of no more than this."""
SERSIC_OF, SERSIC_IMAGES = 4, 600
"""So are Sersic fits: each costs 30 times a Gaussian's."""
BATCH = 32


@dataclass(frozen=True)
class Bounds:
    """What importance draws say of log p(x) under the network, nats (N,)."""

    one: np.ndarray
    """Mean over draws of the bound with one draw (the evidence lower bound)."""
    usual: np.ndarray
    """The bound with the model's number of draws."""
    given_code: np.ndarray
    """log p(x | posterior mean): no marginal, the code has seen the image."""


def penalty(parameters: int, pixels: int) -> float:
    """What BIC takes off a maximum likelihood, nats (Schwarz 1978): 29.6 for 7 parameters and 4761 pixels."""
    return 0.5 * parameters * float(np.log(pixels))


def in_electrons(log_p: np.ndarray, sky_var: np.ndarray, pixels: int) -> np.ndarray:
    """Log density of pixels in electrons, from that of pixels in units of the sky's noise: the Jacobian."""
    return np.asarray(log_p - 0.5 * pixels * np.log(sky_var.astype(np.float64)))


def tensor(x: np.ndarray) -> torch.Tensor:
    """Images (N, n) as a network takes them."""
    side = round(x.shape[1] ** 0.5)
    return torch.from_numpy(np.ascontiguousarray(x, np.float32)).view(-1, 1, side, side)


def of_network(model: Any, x: np.ndarray, weight: np.ndarray | None = None, draws: int | None = None) -> Bounds:
    """Score images (N, n); ``weight`` 0 leaves pixels out."""
    draws = model.draws if draws is None else draws
    found = []
    with torch.no_grad():
        for start in range(0, len(x), BATCH):
            some = tensor(x[start : start + BATCH])
            counted = None if weight is None else tensor(weight[start : start + BATCH])
            log_weights = model.log_weights(some, draws, seed=start, weight_BCHW=counted)
            mean, variance = model.decoder(model.features(some))
            given = models.log_normal(some, mean, variance, counted)
            found.append(torch.stack([log_weights.mean(1), models.bound(log_weights, draws), given]).double().numpy())
    return Bounds(*np.concatenate(found, axis=1))


def with_variance(model: Any, x: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """The network's bound with a given variance instead of its own: what its mean images are worth, (N,)."""
    found = []
    for start in range(0, len(x), BATCH):
        some, given = (tensor(array[start : start + BATCH]) for array in (x, variance))
        log_weights = model.log_weights(some, model.draws, seed=start, variance_BCHW=given)
        found.append(models.bound(log_weights, model.draws).numpy())
    return np.concatenate(found)


def by_draws(model: Any, x: np.ndarray) -> dict[int, np.ndarray]:
    """The bound with 1, the usual number and 1000 draws on the first images."""
    some = tensor(x[: min(-(-len(x) // MANY_OF), MANY_IMAGES)])
    log_weights = torch.cat([model.log_weights(one[None], MANY, seed=place) for place, one in enumerate(some)])
    found = {1: log_weights.mean(1).double().numpy()}
    return found | {draws: models.bound(log_weights, draws).numpy() for draws in sorted({model.draws, MANY})}


def gaussian(x: np.ndarray, photon: np.ndarray, weight: np.ndarray | None = None) -> Fitted:
    """The bivariate Gaussian fitted to every image (N, n)."""
    return fit(profiles.Gaussian(round(x.shape[1] ** 0.5)), x, photon, weight)


def sersic(x: np.ndarray, photon: np.ndarray, psf_fwhm: np.ndarray, start: Fitted) -> Fitted:
    """The Sersic profile behind the known seeing, fitted to the first images."""
    count = min(-(-len(x) // SERSIC_OF), SERSIC_IMAGES)
    known = profiles.Sersic(round(x.shape[1] ** 0.5), psf_fwhm[:count], start.params[:count])
    return fit(known, x[:count], photon[:count])


def oracle(x: np.ndarray, noiseless: np.ndarray, photon: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log density under the true noiseless image, (N,), and the true variance of every pixel, (N, n)."""
    variance = 1 + photon[:, None].astype(np.float32) * noiseless
    return log_normal(x, noiseless, variance), variance
