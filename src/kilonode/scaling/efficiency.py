"""Three efficiencies of a series of runs: of the median step, of the epochs' mean rate, of the time to a quality.

They differ, and all three are told: public trainings at 1,024 nodes read 92 %, 87 % and 65 % (docs/scaling.md).
Repeats are compared with repeats of the same round, so that a machine that slows down slows both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kilonode.bench._measure import median, ratio
from kilonode.records import Json
from kilonode.scaling.curves import of_training

KINDS = ("step", "epoch", "time to quality")
Ratio = tuple[float, tuple[float, float]]


@dataclass(frozen=True)
class Run:
    """What counts of one run.

    Attributes
    ----------
    count : int
        Nodes, or ranks where there is no scheduler.
    repeat : int
        Round in which it was measured.
    step_s, rate : float
        Median step with its share of input, s; samples/s of the epochs after the first, stalls included, validation
        and checkpoints not.
    losses : tuple of (float, float)
        Seconds since the launch and validation loss, at the end of each epoch.
    """

    count: int
    repeat: int
    step_s: float
    rate: float
    losses: tuple[tuple[float, float], ...]

    @property
    def best(self) -> float:
        """Lowest validation loss."""
        return min(loss for _, loss in self.losses)

    def seconds_to(self, quality: float) -> float | None:
        """Since the launch, start-up, validation and checkpoints included; None if it never came so far."""
        return next((seconds for seconds, loss in self.losses if loss <= quality), None)


def run_of(record: Json) -> Run:
    """From a record of ``kilonode scaling run``."""
    under = record["conditions"]
    values = {row["name"]: row["value"] for row in record["figures"]}
    return Run(
        count=under["nodes"] if under["over"] == "nodes" else under["ranks"],
        repeat=under["repeat"],
        step_s=of_training(record)["step_s"],
        rate=values["samples_per_s"],
        losses=tuple((epoch["elapsed_s"], epoch["validation_loss"]) for epoch in record["history"]),
    )


def reached(runs: Sequence[Run]) -> float:
    """A quality that every run came to: the highest of their lowest validation losses."""
    return max(run.best for run in runs)


def efficiencies(runs: Sequence[Run], strong: bool, quality: float | None = None) -> dict[int, dict[str, Ratio]]:
    """Of each count against the smallest, with 95 % intervals.

    With P0 the smallest count: weak ``t(P0) / t(P)``, strong ``t(P0) P0 / (t(P) P)`` of median steps t;
    ``R(P) P0 / (R(P0) P)`` of rates R; ``T(P0) P0 / (T(P) P)`` of times T to the same validation loss.

    Parameters
    ----------
    runs : sequence of Run
        Of one series; no run that is functional only.
    strong : bool
        Whether all counts share one batch.
    quality : float, optional
        A validation loss; without one there is no time to it.
    """
    by_count: dict[int, dict[int, Run]] = {}
    for run in runs:
        by_count.setdefault(run.count, {})[run.repeat] = run
    first = min(by_count)
    return {
        count: _against(by_count[first], by_count[count], count / first, strong, quality)
        for count in sorted(by_count)
        if set(by_count[first]) & set(by_count[count])
    }


def _against(
    base: Mapping[int, Run], now: Mapping[int, Run], more: float, strong: bool, quality: float | None
) -> dict[str, Ratio]:
    both = sorted(set(base) & set(now))
    pairs = [(base[repeat], now[repeat]) for repeat in both]
    found = {
        "step": ratio([a.step_s / (more if strong else 1.0) for a, _ in pairs], [b.step_s for _, b in pairs]),
        "epoch": ratio([b.rate / more for _, b in pairs], [a.rate for a, _ in pairs]),
    }
    if quality is not None:
        times = [(a.seconds_to(quality), b.seconds_to(quality)) for a, b in pairs]
        ratios = [a / more / b for a, b in times if a is not None and b is not None]
        if len(ratios) == len(pairs):
            found["time to quality"] = median(ratios)
    return found
