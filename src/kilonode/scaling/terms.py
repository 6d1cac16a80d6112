"""What a step of synchronous training is made of: one function a term, with formula, unit and source.

``step = slowest compute + input not hidden + communication not hidden + coordination``; the fit in ``model`` sees only
the sum, and can tell apart what grows differently with the number of nodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

BLOM = 0.375
BACKWARD = 2 / 3
"""Share of compute that is backward, where gradients appear one by one: two of three equal products a layer."""


def slowest(compute_s: float, spread: float, ranks: int) -> float:
    """Mean time in s of the slowest of ``ranks`` ranks; all others wait for it.

    ``t (1 + v z)``, ``z = Phi^-1((P - 3/8) / (P + 1/4))``: the mean of the largest of P normal numbers, 0 for one rank
    and about ``sqrt(2 ln P)`` for very many (3.24 for 1,024).

    Parameters
    ----------
    compute_s : float
        Mean compute time of a rank, s.
    spread : float
        Standard deviation of it from step to step and rank to rank, over its mean.
    ranks : int
        How many wait for one another, at least 1.

    Source
    ------
    Blom 1958, "Statistical estimates and transformed beta-variables"; within 0.03 of the exact mean for every P, and
    2 % from P = 5 on.
    """
    if ranks == 1:
        return compute_s
    return compute_s * (1 + spread * NormalDist().inv_cdf((ranks - BLOM) / (ranks + 1 - 2 * BLOM)))


@dataclass(frozen=True)
class Network:
    """What messages cost: ``latency_s`` each, ``byte_s`` a byte sent, ``reduce_s`` a byte added to another."""

    latency_s: float = 2e-6
    byte_s: float = 1 / 8e9
    reduce_s: float = 1e-10


ARIES = Network(2e-6, 1 / 8e9)
"""Cori: about 8 GB/s a node (nersc.gov, Cori configuration), 0.25-3.7 us; reduction at 10 GB/s is an assumption."""
SLINGSHOT = Network(2e-6, 1 / 23e9)
"""One 200 Gb/s port; 23 GB/s and 2 us through MPI are an assumption."""


def recursive_doubling(size: float, ranks: int, network: Network) -> float:
    """``log2 P (a + n b + n g)`` in s for n bytes: everybody exchanges everything, for short messages.

    Source
    ------
    Thakur, Rabenseifner, Gropp 2005, "Optimization of collective communication operations in MPICH", section 4.
    """
    return math.log2(ranks) * (network.latency_s + size * (network.byte_s + network.reduce_s))


def rabenseifner(size: float, ranks: int, network: Network) -> float:
    """``2 log2 P a + 2 (P-1)/P n b + (P-1)/P n g`` in s for n bytes: scatter the sums, gather them; long messages.

    Source
    ------
    As ``recursive_doubling``.
    """
    part = (ranks - 1) / ranks * size
    return 2 * math.log2(ranks) * network.latency_s + 2 * part * network.byte_s + part * network.reduce_s


def ring(size: float, ranks: int, network: Network) -> float:
    """``2 (P-1) a + 2 (P-1)/P n b + (P-1)/P n g`` in s for n bytes: the latency term is linear in P.

    Source
    ------
    As ``recursive_doubling``; Patarasu and Yuan 2009 for the ring.
    """
    part = (ranks - 1) / ranks * size
    return 2 * (ranks - 1) * network.latency_s + 2 * part * network.byte_s + part * network.reduce_s


ALLREDUCE: dict[str, Callable[[float, int, Network], float]] = {
    "recursive doubling": recursive_doubling,
    "rabenseifner": rabenseifner,
    "ring": ring,
}


def allreduce(size: float, ranks: int, network: Network) -> float:
    """Seconds of the fastest algorithm for a message of ``size`` bytes; 0 for one rank."""
    return min(algorithm(size, ranks, network) for algorithm in ALLREDUCE.values())


def exposed(communication_s: float, compute_s: float, overlap: float) -> float:
    """Communication in s that computing does not hide: ``max(0, n - o B)`` with ``B = 2/3`` of the compute time.

    Parameters
    ----------
    communication_s, compute_s : float
        Of a step, alone, s.
    overlap : float
        Share of the backward pass behind which it may hide: 0 with one message at the end, 1 at best.
    """
    return max(0.0, communication_s - overlap * BACKWARD * compute_s)


def input_wait(input_s: float, compute_s: float, prefetch: bool = True) -> float:
    """Waiting for data, s a step: ``max(0, i - t)`` where the next batch is read meanwhile, else ``i``."""
    return max(0.0, input_s - compute_s) if prefetch else input_s


def coordination(node_s: float, nodes: int) -> float:
    """``c P`` in s: what one process does once for each node in every step.

    Horovod's coordinator collects a list from every rank before each reduction. The public curves give 2.5e-5 to 6e-5
    s a node, on Cori and on Summit, and nothing tells the cause apart from others that grow as P.

    Source
    ------
    Sergeev and Del Balso 2018, arXiv:1802.05799, section 4 (the coordinator).
    """
    return node_s * nodes


@dataclass(frozen=True)
class Step:
    """A step on P ranks from its parts: what the formulas say before anything is measured at P.

    Parameters
    ----------
    compute_s, input_s : float
        Of one rank alone, s a step.
    spread : float
        Of compute, see ``slowest``.
    gradient_bytes : float
        Added up over all ranks in a step.
    overlap : float
        See ``exposed``.
    node_s : float
        See ``coordination``.
    network : Network
        Between nodes.
    """

    compute_s: float
    input_s: float = 0.0
    spread: float = 0.0
    gradient_bytes: float = 0.0
    overlap: float = 0.0
    node_s: float = 0.0
    network: Network = ARIES

    def seconds(self, ranks: int) -> float:
        """The sum of all terms, s."""
        compute = slowest(self.compute_s, self.spread, ranks)
        reduced = allreduce(self.gradient_bytes, ranks, self.network) if ranks > 1 else 0.0
        return (
            compute
            + input_wait(self.input_s, compute)
            + exposed(reduced, self.compute_s, self.overlap)
            + (coordination(self.node_s, ranks) if ranks > 1 else 0.0)
        )
