"""The performance model: what grows with the number of nodes, fitted on few, told for many, with an interval.

``t(P) = c (1 + s log2 P) + g P^x``, seconds of an optimiser step on P nodes, weak scaling, P >= 2:

- ``c``, s: compute with the input that is not hidden and what communication costs at any count (its bytes);
- ``s``, no unit: growth of the step with every doubling, in parts of ``c``: stragglers, depth of the tree, latency;
- ``g P^x``, s: what small counts cannot show. x = 1: work done once for each node (``terms.coordination``); x = 1/2:
  the slowest of P ranks whose delays have a heavy tail (the largest of P numbers with a Pareto tail of index 2 grows as
  sqrt(P): Gumbel 1958, "Statistics of extremes", the Frechet limit). Which of the two holds is not known: each has
  weight 1/2 before the data.

One node is no part of the curve: its step has no allreduce, and Horovod's thread has nothing to do.

``g`` cannot be learnt below a few hundred nodes, nor ``s`` from one point. Both have priors, stated in ``Prior`` and
made from curves and articles that are not those predicted. Inference: draws from the prior, weighted by the likelihood
(importance sampling), with ``c`` and the noise integrated as in any linear regression.

Shape legend: K measured counts, D draws, M counts asked for, E exponents.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kilonode.errors import UserError
from kilonode.scaling.curves import SHIPPED, Curve

EXPONENTS = (0.5, 1.0)
FIRST = 2
"""Nodes from which the model holds."""
DRAWS = 20_000
LEVEL = 0.90
"""Of every interval."""


@dataclass(frozen=True)
class Tail:
    """``g`` of one whole curve for one exponent: value and standard error in s, and the fit's relative residual."""

    value: float
    error: float
    residual: float

    @property
    def is_seen(self) -> bool:
        """Whether the curve tells it from none: two standard errors."""
        return self.value > 2 * self.error


def tail(curve: Curve, exponent: float) -> Tail | None:
    """Least squares of relative errors with all three terms on all counts; None with fewer than five.

    Parameters
    ----------
    curve : Curve
        One that reaches far enough.
    exponent : float
        x of the model.
    """
    chosen = curve.part(curve.nodes >= FIRST)
    if len(chosen.nodes) < 5:
        return None
    terms = np.stack([np.ones_like(chosen.nodes), np.log2(chosen.nodes), chosen.nodes**exponent], axis=1)
    relative = terms / chosen.step_s[:, None]
    values, *_ = np.linalg.lstsq(relative, np.ones(len(relative)), rcond=None)
    variance = ((relative @ values - 1) ** 2).sum() / (len(relative) - 3)
    errors = np.sqrt(np.diag(variance * np.linalg.inv(relative.T @ relative)))
    return Tail(float(values[2]), float(errors[2]), float(np.sqrt(variance)))


def efficiencies(family: str | None = None) -> np.ndarray:
    """Growth of the step per doubling, ``(1 / efficiency - 1) / log2(P / P0)``, of published works (anchors/).

    Parameters
    ----------
    family : str, optional
        Works of the same code on the same machine are left out.
    """
    lines = (SHIPPED.parent / "anchors" / "efficiencies.csv").read_text().splitlines()
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    return np.array(
        [
            (1 / float(row["efficiency"]) - 1) / np.log2(float(row["workers"]) / float(row["baseline"]))
            for row in rows
            if family is None or row["family"] != family
        ]
    )


@dataclass(frozen=True)
class Prior:
    """What is assumed before a curve is seen; no part of it comes from a curve of the family that is predicted.

    Parameters
    ----------
    growth : (float, float)
        Mean and standard deviation of ``s``, a gamma distribution: published efficiencies of other works.
    largest : mapping of float to float
        Of each exponent, the largest ``g`` in s that another curve shows; ``g`` is uniform between 0 and this.
    noise : float
        Relative scatter of one record: the median residual of the other curves.
    weight : int
        Of ``noise``, in records: how many curves it comes from.
    """

    growth: tuple[float, float]
    largest: dict[float, float]
    noise: float
    weight: int


def prior(others: Sequence[Curve], family: str | None = None, exponents: Sequence[float] = EXPONENTS) -> Prior:
    """The prior from curves, leaving out a family.

    Parameters
    ----------
    others : sequence of Curve
        Whole curves.
    family : str, optional
        The one that is to be predicted: its curves and articles are not used.
    exponents : sequence of float
        What the last term may be.
    """
    kept = [curve for curve in others if curve.family != family]
    found = {x: [one for curve in kept if (one := tail(curve, x)) is not None] for x in exponents}
    if any(not any(one.is_seen for one in tails) for tails in found.values()):
        raise UserError(
            f"expected curves that show how the step grows at large counts, got none among {len(kept)}; add some"
        )
    published, residuals = efficiencies(family), [one.residual for tails in found.values() for one in tails]
    return Prior(
        growth=(float(published.mean()), float(published.std(ddof=1))),
        largest={x: max(one.value for one in tails if one.is_seen) for x, tails in found.items()},
        noise=float(np.median(residuals)),
        weight=len(next(iter(found.values()))),
    )


@dataclass(frozen=True)
class Fit:
    """Draws of the parameters given a curve, of equal weight: ``base`` c, ``growth`` s, ``tail`` g, ``exponent`` x.

    ``noise`` is the relative scatter of one record; each is a ndarray (D,). ``effective`` counts the different draws.
    """

    base: np.ndarray
    growth: np.ndarray
    tail: np.ndarray
    exponent: np.ndarray
    noise: np.ndarray
    effective: float

    def draws(self, nodes: np.ndarray) -> np.ndarray:
        """Seconds of a step without noise, (D, M), at the counts (M,)."""
        counts = np.asarray(nodes, dtype=np.float64)[None, :]
        log, power = np.log2(counts), counts ** self.exponent[:, None]
        return self.base[:, None] * (1 + self.growth[:, None] * log) + self.tail[:, None] * power

    def step(self, nodes: np.ndarray) -> np.ndarray:
        """Median and interval of a record to come at each count: seconds of a step (3, M): middle, low, high."""
        steps = self.draws(nodes)
        records = steps * (1 + self.noise * np.random.default_rng(1).standard_normal(len(self.noise)))[:, None]
        low, high = np.quantile(records, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
        return np.stack([np.median(steps, axis=0), low, high])


def fit(curve: Curve, given: Prior, seed: int = 0) -> Fit:
    """Fit the counts of a curve from two nodes on.

    Noise is relative and the same at every count: ``sigma^2`` has a scaled inverse chi-squared prior (``Prior.noise``,
    ``weight``). Where records say their own error, it is added in quadrature, also to records to come.

    Parameters
    ----------
    curve : Curve
        What was measured; cut it to small counts before.
    given : Prior
        Made without this curve.
    seed : int
        Of the draws; the same gives the same.

    Raises
    ------
    UserError
        No count of at least two nodes.
    """
    chosen = curve.part(curve.nodes >= FIRST)
    if not len(chosen.nodes):
        raise UserError(
            f"expected a count of at least {FIRST} nodes, got only one node ({curve.name}); "
            "measure 2 nodes or more: one node has no communication"
        )
    rng = np.random.default_rng(seed)
    drawn = _from_prior(given, rng)
    weights, base, square, spread = _likelihood(chosen, given, *drawn)
    taken = rng.choice(len(weights), size=len(weights), p=weights)
    freedom = given.weight + len(chosen.nodes) - 1
    noise = np.sqrt(spread[taken] / rng.chisquare(freedom, len(taken)) + chosen.own_error**2)
    exponent, growth, power = (values[taken] for values in drawn)
    return Fit(
        base=base[taken] + noise / np.sqrt(square[taken]) * rng.standard_normal(len(taken)),
        growth=growth,
        tail=power,
        exponent=exponent,
        noise=noise,
        effective=float(1 / (weights**2).sum()),
    )


def _likelihood(
    chosen: Curve, given: Prior, exponent: np.ndarray, growth: np.ndarray, power: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of each draw, ndarrays (D,): weight, best ``c``, its information over sigma^2, and the scale of sigma^2.

    Relative errors ``1 = c (1 + s log2 P) / t + g P^x / t + noise``; ``c`` has the prior 1/c and is integrated with
    sigma^2, which leaves Student's form ``spread^(-freedom / 2) / (c sqrt(information))``.
    """
    seconds, log = chosen.step_s[None, :], np.log2(chosen.nodes)[None, :]
    shape = (1 + growth[:, None] * log) / seconds
    rest = 1 - power[:, None] * chosen.nodes[None, :] ** exponent[:, None] / seconds
    square = (shape**2).sum(axis=1)
    base = (shape * rest).sum(axis=1) / square
    spread = given.weight * given.noise**2 + ((rest - base[:, None] * shape) ** 2).sum(axis=1)
    positive = base > 0
    base = np.where(positive, base, 1.0)  # such a draw gets no weight
    freedom = given.weight + len(chosen.nodes) - 1
    likelihood = -freedom / 2 * np.log(spread) - np.log(square) / 2 - np.log(base)
    weights = np.exp(likelihood - likelihood[positive].max()) * positive
    return weights / weights.sum(), base, square, spread


def _from_prior(given: Prior, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Exponent, growth and tail, ndarrays (D,): as many draws of every exponent."""
    exponents = np.repeat(list(given.largest), DRAWS)
    mean, deviation = given.growth
    growth = rng.gamma((mean / deviation) ** 2, deviation**2 / mean, size=len(exponents))
    tails = rng.random(len(exponents)) * np.repeat(list(given.largest.values()), DRAWS)
    return exponents, growth, tails
