"""The network: a variational autoencoder whose decoder gives every pixel a mean and a variance.

Pixels arrive in standard deviations of the sky's noise, so the known floor of the variance is 1. Densities are of
these pixels; ``log_jacobian`` takes them to electrons. The encoder sees asinh(x / 3), a transform of its input alone:
no Jacobian belongs to it.

Shape legend: B batch, C channels, H rows, W columns, L latent numbers, K importance draws; h, w what is
left of H, W after some halvings; T filters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from kilonode.cases.contract import Batch, Model, chosen
from kilonode.cases.layers import uniform

DEFAULTS = {"density": {"latent": 16, "width": 16, "augment": True, "slope": 0.1, "draws": 100}}
STAGES = (1, 2, 4, 4)
"""Filters of the four halvings, in units of the width."""
HIDDEN = 8
"""Units of the dense layer, in units of the width."""
TEMPLATES = 4
"""Linear templates of the encoder, in units of the width."""
ASINH = 3.0
"""Input, in units of the sky's noise, where the encoder's scale turns from linear to logarithmic."""
AT_ONCE = 2048
"""Images decoded together when draws are summed."""
EMPTY = -4.0
"""Where the free variance begins: 1 + softplus(-4) = 1.02."""
FIXED_KEY = 0
"""Of the two mirrored draws that a loss takes at inference, the same for every sample."""


def build(task: str, settings: Mapping[str, Any], shape: tuple[int, int, int]) -> Model:
    """Build the network.

    Parameters
    ----------
    task : {"density"}
        The one task.
    settings : Mapping
        ``task.model`` of case.yaml; see there. Missing keys take ``DEFAULTS``.
    shape : (int, int, int)
        (C, H, W) of an input; at least 9 rows and columns.

    Returns
    -------
    Model
        In training mode, initialised from torch's global generator.

    Raises
    ------
    ValueError
        An unknown task or setting, or a value outside its range.
    """
    settings = chosen(task, settings, DEFAULTS)
    for name, least in {"latent": 1, "width": 1, "draws": 1}.items():
        if settings[name] < least:
            raise ValueError(f"model setting {name} needs at least {least}, got {settings[name]}")
    if min(shape[1:]) < 9:
        raise ValueError(f"images need at least 9 rows and columns, got {tuple(shape[1:])}")
    return VAE(shape, **settings)


class Encoder(nn.Module):
    """Four halvings beside linear templates, one dense layer, then mean and log variance of the posterior.

    Templates of the whole image sum its light before anything bends: a few per cent of a faint galaxy's flux or shape
    are lost once noise has gone through a non-linear layer.
    """

    def __init__(self, shape: tuple[int, int, int], latent: int, width: int, slope: float) -> None:
        super().__init__()
        channels, height, breadth = shape
        self.slope = slope
        self.sizes = [(height, breadth)]
        layers, before = [], channels
        for factor in STAGES:
            layers.append(nn.Conv2d(before, factor * width, 3, stride=2, padding=1))
            before = factor * width
            self.sizes.append((-(-self.sizes[-1][0] // 2), -(-self.sizes[-1][1] // 2)))
        self.convolutions = nn.ModuleList(layers)
        self.templates = nn.Linear(math.prod(shape), TEMPLATES * width)
        self.dense = nn.Linear(before * math.prod(self.sizes[-1]) + TEMPLATES * width, HIDDEN * width)
        self.posterior = nn.Linear(HIDDEN * width, 2 * latent)

    def forward(self, x_BCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log variance of the posterior, (B, L) each."""
        u_BThw = torch.asinh(x_BCHW / ASINH)
        for convolution in self.convolutions:
            u_BThw = functional.leaky_relu(convolution(u_BThw), self.slope)
        sums = torch.asinh(self.templates(x_BCHW.flatten(1)))
        hidden = functional.leaky_relu(self.dense(torch.cat([u_BThw.flatten(1), sums], 1)), self.slope)
        mean_BL, log_var_BL = self.posterior(hidden).chunk(2, dim=1)
        return mean_BL, log_var_BL


class Decoder(nn.Module):
    """The encoder backwards to mean and variance of every pixel.

    The last doubling makes the four pixels of each place at once (Shi et al. 2016, arXiv:1609.05158): half the time of
    a transposed convolution followed by heads at full size.
    """

    def __init__(self, encoder: Encoder, channels: int, latent: int, width: int, slope: float) -> None:
        super().__init__()
        self.slope, self.sizes = slope, encoder.sizes
        self.first = nn.Linear(latent, HIDDEN * width)
        self.second = nn.Linear(HIDDEN * width, STAGES[-1] * width * math.prod(self.sizes[-1]))
        layers = []
        for place in range(len(STAGES) - 1, 0, -1):
            small, large = self.sizes[place + 1], self.sizes[place]
            odd = (large[0] - 2 * small[0] + 1, large[1] - 2 * small[1] + 1)
            before, after = STAGES[place] * width, STAGES[place - 1] * width
            layers.append(nn.ConvTranspose2d(before, after, 3, stride=2, padding=1, output_padding=odd))
        self.convolutions = nn.ModuleList(layers)
        self.heads = nn.Conv2d(STAGES[0] * width, 8 * channels, 3, padding=1)
        assert self.heads.bias is not None
        with torch.no_grad():  # begin at the empty sky: from a variance of 1.7 the way there takes hundreds of steps
            self.heads.bias[4 * channels :].fill_(EMPTY)

    def forward(self, z_BL: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and variance of the pixels, (B, C, H, W) each; the variance is at least the sky's, 1."""
        height, breadth = self.sizes[0]
        hidden = functional.leaky_relu(self.first(z_BL), self.slope)
        x_BThw = functional.leaky_relu(self.second(hidden), self.slope).view(len(z_BL), -1, *self.sizes[-1])
        for convolution in self.convolutions:
            x_BThw = functional.leaky_relu(convolution(x_BThw), self.slope)
        both = functional.pixel_shuffle(self.heads(x_BThw), 2)[..., :height, :breadth]
        mean_BCHW, free_BCHW = both.chunk(2, dim=1)
        return mean_BCHW, 1 + functional.softplus(free_BCHW)


class VAE(nn.Module):
    """z ~ N(0, 1); pixels ~ N(mean(z), variance(z)), variance at least the sky's; posterior N(mu(x), sigma(x)).

    Parameters
    ----------
    shape : (int, int, int)
        (C, H, W).
    latent, width : int
        Latent numbers; filters of the first layer.
    augment : bool
        In training, turn and mirror samples by their keys: the sky has no preferred side.
    slope : float
        Of LeakyReLU below zero.
    draws : int
        Importance draws of ``log_likelihood``.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        latent: int,
        width: int,
        augment: bool,
        slope: float,
        draws: int,
    ) -> None:
        super().__init__()
        self.latent, self.augment, self.draws = latent, augment and shape[1] == shape[2], draws
        self.encoder = Encoder(shape, latent, width, slope)
        self.decoder = Decoder(self.encoder, shape[0], latent, width, slope)

    def features(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """The posterior mean, (B, L)."""
        mean_BL: torch.Tensor = self.encoder(x_BCHW)[0]
        return mean_BL

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """The mean image at the posterior mean, (B, C, H, W)."""
        mean_BCHW: torch.Tensor = self.decoder(self.features(x_BCHW))[0]
        return mean_BCHW

    def losses(self, batch: Batch) -> torch.Tensor:
        """Negative evidence lower bound of each sample, nats, (B,).

        In training one draw of the posterior from the sample's key. At inference two fixed ones that mirror each
        other: the same for every sample and epoch, so that validation losses can be compared.
        """
        x_BCHW = turned(batch.x, batch.key) if self.training and self.augment else batch.x
        mean_BL, log_var_BL = self.encoder(x_BCHW)
        spread_BL = torch.exp(0.5 * log_var_BL)
        kl_B = 0.5 * (mean_BL**2 + spread_BL**2 - 1 - log_var_BL).sum(1)
        if self.training:
            draws = [normal(batch.key, self.latent)]
        else:
            fixed = normal(torch.full_like(batch.key, FIXED_KEY), self.latent)
            draws = [fixed, -fixed]
        seen = [log_normal(x_BCHW, *self.decoder(mean_BL + spread_BL * draw)) for draw in draws]
        return kl_B - torch.stack(seen).mean(0)

    @torch.no_grad()
    def log_weights(
        self, x_BCHW: torch.Tensor, draws: int, seed: int = 0,
        weight_BCHW: torch.Tensor | None = None, variance_BCHW: torch.Tensor | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """Log importance weights log p(x|z) p(z) / q(z|x) of draws from the posterior, nats, (B, K).

        Parameters
        ----------
        x_BCHW : Tensor
            Pixels.
        draws : int
            K.
        seed : int
            Of the draws, which depend on it and the place in the batch.
        weight_BCHW : Tensor, optional
            0 for pixels that do not count.
        variance_BCHW : Tensor, optional
            Instead of the decoder's own.
        """
        generator = torch.Generator().manual_seed(seed)
        weights = []
        for place, (mean_L, log_var_L) in enumerate(zip(*self.encoder(x_BCHW), strict=True)):
            noise_KL = torch.randn(draws, self.latent, generator=generator)
            z_KL = mean_L + torch.exp(0.5 * log_var_L) * noise_KL
            counted = None if weight_BCHW is None else weight_BCHW[place]
            parts = []
            for some in z_KL.split(AT_ONCE):
                mean, variance = self.decoder(some)
                given = variance if variance_BCHW is None else variance_BCHW[place]
                parts.append(log_normal(x_BCHW[place], mean, given, counted))
            prior_minus_posterior_K = 0.5 * (noise_KL**2 - z_KL**2 + log_var_L).sum(1)
            weights.append(torch.cat(parts) + prior_minus_posterior_K)
        return torch.stack(weights)


def log_normal(
    x: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Log density of independent pixels, summed over all but the first axis; ``weight`` 0 leaves a pixel out."""
    terms = (x - mean) ** 2 / variance + torch.log(variance) + math.log(2 * math.pi)
    terms = terms if weight is None else terms * weight
    return -0.5 * terms.flatten(1).sum(1)


def bound(log_weights: torch.Tensor, draws: int) -> torch.Tensor:
    """Importance-weighted bound on log p(x) of the first ``draws`` draws, nats, (B,).

    One draw gives the usual bound; it rises with the number of draws towards log p(x) (Burda et al. 2016,
    arXiv:1509.00519).
    """
    return torch.logsumexp(log_weights[:, :draws].double(), 1) - math.log(draws)


def normal(key: torch.Tensor, count: int) -> torch.Tensor:
    """``count`` standard normal numbers for each key, a pure function of the key (Box and Muller 1958), (B, count)."""
    radius, angle = uniform(key, 2 * count).chunk(2, dim=1)
    return torch.sqrt(-2 * torch.log1p(-radius)) * torch.cos(2 * math.pi * angle)


def turned(x_BCHW: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Each square sample under one of the eight symmetries of the square, chosen by its key."""
    choice = (uniform(~key, 1)[:, 0] * 8).long().view(-1, 1, 1, 1)
    x = torch.where(choice % 2 == 1, x_BCHW.flip(-1), x_BCHW)
    x = torch.where(choice // 2 % 2 == 1, x.flip(-2), x)
    return torch.where(choice // 4 == 1, x.transpose(-1, -2), x)
