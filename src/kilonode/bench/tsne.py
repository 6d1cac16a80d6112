"""Our t-SNE against scikit-learn's on the same samples, with the same threads, iterations and perplexity.

The samples are clusters on a curved surface of three dimensions in a space of sixteen, with noise; or codes of your
own (--codes). Both begin with PCA. How far a map may be believed is measured on the same drawn samples for both.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kilonode import intervals
from kilonode.errors import UserError
from kilonode.records import Json, conditions, figure

FASTER = 5.0
WIDTH, LATENT, CLUSTERS, NOISE = 16, 3, 40, 0.05
LEAST = 100
EXAMPLES = """examples:
  kilonode bench tsne --json                  100,000 x 16: a quarter to half an hour
  kilonode bench tsne --points 10000
  kilonode bench tsne --codes codes.npy --threads 2
"""


@dataclass(frozen=True)
class Side:
    """What a map took, and how far it may be believed."""

    wall_s: float
    processor_s: float
    trusted: np.ndarray
    """Of each judged sample, the same for both sides (``embed.trusted``)."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--points", type=int, default=100_000, metavar="N", help="samples (default 100000)")
    parser.add_argument("--codes", type=Path, metavar="FILE", help="measure on these (N, F) numbers, .npy, instead")
    parser.add_argument("--perplexity", type=float, default=30.0, metavar="P", help="neighbours (default 30)")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="of both (default: all cores)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the samples (default 0)")


def run(options: argparse.Namespace) -> Json:
    """Make both maps and compare.

    Raises
    ------
    UserError
        Too few samples, or a file that holds none.
    """
    from kilonode.explain import embed

    threads = options.threads or len(os.sched_getaffinity(0))
    x = _codes(options.codes) if options.codes else clusters(options.points, options.seed)
    if len(x) < LEAST:
        raise UserError(f"expected at least {LEAST} samples, got {len(x)} (--points or --codes); ask for more")
    (scaled,) = embed.standardised(x)
    sides: dict[str, Callable[[], np.ndarray]] = {
        "openTSNE": lambda: embed.embedded(scaled, options.perplexity, 0, threads),
        "scikit-learn": lambda: _scikit_learn(scaled, options.perplexity, threads),
    }
    found = {}
    for name, side in sides.items():
        print(f"bench tsne: {name} on {len(x)} x {x.shape[1]}, {threads} threads", file=sys.stderr, flush=True)
        wall, processor = time.perf_counter(), time.process_time()
        placed = side()
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        found[name] = Side(wall, processor, embed.trusted(scaled, placed, threads))
    return {"figures": rows(found), "conditions": conditions(
        seeds=[options.seed], points=len(x), features=x.shape[1], threads=threads, perplexity=options.perplexity,
        iterations=embed.ITERATIONS, samples=str(options.codes or "clusters on a curved surface"),
    )}  # fmt: skip


def rows(found: dict[str, Side]) -> list[Json]:
    """The figures of both sides; the first is ours. The paired difference says what a better value means."""
    (name, ours), (rival, theirs) = found.items()
    made = []
    for label, side in found.items():
        made += [figure(f"{label}: time", side.wall_s, "s"), figure(f"{label}: processor time", side.processor_s, "s")]
    faster, busier = theirs.wall_s / ours.wall_s, theirs.processor_s / ours.processor_s
    judged = len(ours.trusted)
    resampled = intervals.resamples(np.arange(judged))
    trust = [intervals.bootstrap(intervals.mean(side.trusted), resampled) for side in (ours, theirs)]
    gain = intervals.difference(*trust)
    told: Json = {"target": trust[1].value, "met": trust[0].value >= trust[1].value, "judged": judged}
    return [
        *made,
        figure(f"{name} is faster, times", faster, target=FASTER, met=faster >= FASTER),
        figure(f"{name} needs less processor time, times", busier, note="the fair ratio where others use the machine"),
        figure(f"{name}: trustworthiness", trust[0].value, "1", trust[0].interval, **told),
        figure(f"{rival}: trustworthiness", trust[1].value, "1", trust[1].interval, judged=judged),
        figure(f"trustworthiness, {name} minus {rival}, paired", gain.value, "1", gain.interval, judged=judged),
    ]


def clusters(points: int, seed: int) -> np.ndarray:
    """Clusters on a curved surface, with noise: float32 (N, 16).

    A cluster is a blob of three latent numbers; sines of random directions bend the latent space into sixteen.
    """
    rng = np.random.default_rng(seed)
    centres = rng.uniform(-3, 3, (CLUSTERS, LATENT))
    widths = rng.uniform(0.1, 0.5, CLUSTERS)
    which = rng.integers(0, CLUSTERS, points)
    latent = centres[which] + widths[which, None] * rng.standard_normal((points, LATENT))
    bent = np.sin(latent @ rng.standard_normal((LATENT, WIDTH)) + rng.uniform(0, 2 * np.pi, WIDTH))
    return np.asarray(bent + NOISE * rng.standard_normal((points, WIDTH)), np.float32)


def _scikit_learn(scaled: np.ndarray, perplexity: float, threads: int) -> np.ndarray:
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    from kilonode.explain.embed import ITERATIONS

    method = TSNE(perplexity=perplexity, init="pca", max_iter=ITERATIONS, random_state=0, n_jobs=threads)
    with threadpool_limits(threads):
        found: np.ndarray = method.fit_transform(scaled)
    if method.n_iter_ < ITERATIONS - 1:
        print(f"bench tsne: scikit-learn stopped by itself after {method.n_iter_} steps", file=sys.stderr)
    return found


def _codes(path: Path) -> np.ndarray:
    """Numbers of somebody's own, float32 (N, F)."""
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(f"expected numbers, got {error} ({path}); save an array (N, F) with numpy.save") from None
    if found.ndim != 2 or found.dtype.kind not in "fiu" or not np.isfinite(found).all():
        raise UserError(f"expected finite numbers (N, F), got {found.dtype} {found.shape} ({path}); mend the file")
    return found.astype(np.float32)
