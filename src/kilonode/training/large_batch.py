"""Optimisers for large batches: each layer's step is measured against the size of its weights.

Weights of one axis or none (biases, scales of normalisation) have no size worth measuring against: a bias starts at
zero and would stay there. They belong in a group with ``adapt`` False, which takes the plain step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

Groups = Iterable[dict[str, Any]]


class Lars(torch.optim.Optimizer):
    """Layer-wise adaptive rate scaling: stochastic gradient descent with momentum and a rate of each layer's own.

    ``rate = lr * trust * |w| / (|g| + weight_decay * |w|)``; ``v = momentum * v + rate * (g + weight_decay * w)``;
    ``w = w - v``. Where ``|w|`` or ``|g|`` is zero, and in groups with ``adapt`` False, ``rate = lr``.

    Parameters
    ----------
    groups : iterable of dict
        ``params``, and ``weight_decay`` and ``adapt`` where they differ from the defaults.
    lr : float
        Global rate, gamma in the paper. (Horovod makes an optimiser again from its groups alone: all has a default.)
    momentum, weight_decay : float
        m and beta in the paper.
    trust : float
        eta in the paper, which used 0.001.

    Source
    ------
    You, Gitman, Ginsburg 2017, "Large batch training of convolutional networks", arXiv:1708.03888, equation 6 and
    algorithm 1; the tests have the same in numpy.
    """

    def __init__(
        self, groups: Groups, lr: float = 1e-3, momentum: float = 0.9, weight_decay: float = 0.0, trust: float = 0.001
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust, "adapt": True}
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step with the gradients as they are; ``closure`` is not used."""
        for group in self.param_groups:
            decay = group["weight_decay"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                rate = torch.as_tensor(group["lr"], dtype=weight.dtype, device=weight.device)
                if group["adapt"]:
                    size, slope = weight.norm(), weight.grad.norm()
                    ratio = group["trust"] * size / (slope + decay * size)
                    rate = rate * torch.where((size > 0) & (slope > 0), ratio, 1.0)
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                velocity = state["momentum"].mul_(group["momentum"]).add_(rate * (weight.grad + decay * weight))
                weight.sub_(velocity)


class Lamb(torch.optim.Optimizer):
    """Layer-wise adaptive moments: Adam's step with decoupled decay, made as long as the layer's weights.

    ``r = m / (sqrt(v) + eps)`` of the bias-corrected moments; ``u = r + weight_decay * w``;
    ``w = w - lr * |w| / |u| * u``. Where ``|w|`` or ``|u|`` is zero, and in groups with ``adapt`` False,
    ``w = w - lr * u``.

    Parameters
    ----------
    groups : iterable of dict
        ``params``, and ``weight_decay`` and ``adapt`` where they differ from the defaults.
    lr : float
        eta in the paper.
    betas : (float, float)
        Memory of the two moments.
    eps : float
        Added to the root of the second moment.
    weight_decay : float
        lambda in the paper.

    Source
    ------
    You et al. 2019, "Large batch optimization for deep learning: training BERT in 76 minutes", arXiv:1904.00962,
    algorithm 2 with phi(z) = z; the tests have the same in numpy.
    """

    def __init__(
        self,
        groups: Groups,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "adapt": True})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step with the gradients as they are; ``closure`` is not used."""
        for group in self.param_groups:
            first, second = group["betas"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state.update(step=torch.tensor(0.0), mean=torch.zeros_like(weight), square=torch.zeros_like(weight))
                state["step"] += 1
                count = float(state["step"])
                state["mean"].mul_(first).add_(weight.grad, alpha=1 - first)
                state["square"].mul_(second).addcmul_(weight.grad, weight.grad, value=1 - second)
                mean, square = state["mean"] / (1 - first**count), state["square"] / (1 - second**count)
                update = mean / (square.sqrt() + group["eps"]) + group["weight_decay"] * weight
                rate = torch.as_tensor(group["lr"], dtype=weight.dtype, device=weight.device)
                if group["adapt"]:
                    size, length = weight.norm(), update.norm()
                    rate = rate * torch.where((size > 0) & (length > 0), size / length, 1.0)
                weight.sub_(rate * update)
