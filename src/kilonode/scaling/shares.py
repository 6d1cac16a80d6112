"""Where the time of one training went, and the setting that changes the largest loss."""

from __future__ import annotations

from dataclasses import dataclass

from kilonode.comm import CYCLE_MS
from kilonode.records import Json
from kilonode.scaling.terms import Network, allreduce

UPDATE_BYTES = 28
"""Moved for each parameter by Adam's update: weight, gradient, two moments read, three of them written, fp32."""
MEMORY_BYTE_S = 1 / 10e9
"""One thread's stream from memory, about 10 GB/s: an assumption."""

REMEDIES = {
    "input": "copy the store to each node's own disk (kilonode stage), then raise training.window_mb of the task; "
    "kilonode bench io says which of the two reads is slow",
    "communication": "raise training.batch, or training.accumulate for the same batch from fewer messages; "
    "fewer ranks a node with more threads each",
    "stragglers": "leave two cores of each node without threads of ours (lower threads a rank), for the system and for "
    "Horovod's thread; leave out slow nodes; raise training.batch, so that delays of ranks even out",
    "small batch": "raise training.batch (with training.scale: linear and reference_batch) up to the noise scale; "
    "or use fewer ranks",
    "validation": "make the validation split smaller (split in case.yaml): every epoch reads all of it",
    "checkpoint": "raise training.checkpoint.minutes of the task",
}
LITTLE = 0.10
"""All losses together below this: nothing is worth changing before the computing itself."""


@dataclass(frozen=True)
class Shares:
    """Parts of the time of a training, adding up to one: what computes, and what is lost to what.

    ``communication`` is what the messages cost by formula; ``small batch`` is what every step costs however little it
    computes (the update of the weights, one cycle of Horovod's thread), by formula too; ``stragglers`` is the rest of
    the measured wait for other ranks.
    """

    compute: float
    lost: dict[str, float]

    @property
    def largest(self) -> str:
        """The largest loss by name."""
        return max(self.lost, key=self.lost.__getitem__)

    @property
    def advice(self) -> str:
        """What to change first."""
        if sum(self.lost.values()) < LITTLE:
            return (
                f"{sum(self.lost.values()):.0%} is lost in all: make the computing itself faster "
                "(training.precision: auto, training.layout, training.compile; kilonode bench step)"
            )
        return REMEDIES[self.largest]


def of_training(record: Json, network: Network) -> Shares | None:
    """The shares of a training's record (metrics.json); None where it is of another kind.

    Parameters
    ----------
    record : dict
        As ``finish`` writes it.
    network : Network
        What a message costs between the nodes it ran on.
    """
    values = {row["name"]: row["value"] for row in record["figures"] if row["value"] is not None}
    median = values.get("step_p50") or values.get("step_median")
    measured = _measured(values)
    if measured is None or not median or record.get("bench") != "train":
        return None
    step = median / 1e3
    ranks, threads = (int(record["conditions"].get(name) or 1) for name in ("ranks", "threads"))
    parameters = values.get("parameters") or 0
    in_steps = (measured["compute"] + measured["communication"]) / step  # of a second of steps, as a share of all time
    update = min(measured["compute"], UPDATE_BYTES * parameters * MEMORY_BYTE_S / threads * in_steps)
    waited = measured["communication"]
    messages = min(waited, allreduce(4 * parameters, ranks, network) * in_steps) if ranks > 1 else 0.0
    cycle = min(waited - messages, float(CYCLE_MS) / 1e3 * in_steps) if ranks > 1 else 0.0
    lost = {
        "input": measured["input"],
        "communication": messages,
        "stragglers": waited - messages - cycle,
        "small batch": update + cycle,
        "validation": measured["validation"],
        "checkpoint": measured["checkpoint"],
    }
    return Shares(measured["compute"] - update, lost)


def _measured(values: dict[str, float]) -> dict[str, float] | None:
    """Share of each kind of the whole run; records without them have the waits of their steps alone."""
    kinds = ("input", "compute", "communication", "validation", "checkpoint")
    if all(f"share_{kind}" in values for kind in kinds):
        return {kind: values[f"share_{kind}"] for kind in kinds}
    if not {"input_wait", "communication_wait"} <= set(values):
        return None
    waits = {"input": values["input_wait"], "communication": values["communication_wait"]}
    return {**dict.fromkeys(kinds, 0.0), **waits, "compute": 1 - sum(waits.values())}
