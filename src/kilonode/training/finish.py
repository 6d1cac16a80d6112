"""Stage ``finish``: the state of a training becomes the rule's outputs and its exit code."""

from __future__ import annotations

import json
from pathlib import Path

from kilonode.errors import EXIT_AGAIN, UserError
from kilonode.records import Json, complete, figure, read_json, write_json
from kilonode.training import checkpoint

SHOWN = 8
"""Sample numbers in a message; status.json has all."""


def run(state: Path, weights: Path, metrics: Path) -> int:
    """Write weights and record of a complete training.

    Returns
    -------
    int
        0 if it is complete; 75 if it was stopped and the same command continues it.

    Raises
    ------
    UserError
        It diverged, or there is no training here: another try would end the same way.
    """
    status: Json = read_json(state / "status.json")
    if status["status"] == "stopped":
        print(f"train: stopped ({status['reason']}) at step {status['step']}; run the same command to continue")
        return EXIT_AGAIN
    if status["status"] == "diverged":
        raise UserError(
            f"expected a finite loss, got none {_where(status)} ({state}); "
            "lower training.lr or training.clip in case.yaml; the last good checkpoint is kept"
        )
    found = checkpoint.newest(state, status["identity"])
    if found is None or found[1]["step"] != status["step"]:
        raise UserError(f"expected the last checkpoint of a complete training, got none ({state}); rerun train")
    history = [json.loads(line) for line in (state / "metrics.jsonl").read_text().splitlines()]
    with complete(weights) as temporary:
        best = checkpoint.under_prefix("best.", found[0])
        temporary.write_bytes(checkpoint.pack(best, {"identity": status["identity"]}))
    write_json(metrics, {"bench": "train", **_figures(status, history), "history": history})
    write_json(state / "status.json", {**status, "finished": True})
    return 0


def _where(status: Json) -> str:
    """Step, rank, layer and samples of the first value that was not finite."""
    found = status.get("divergence")
    if found is None:
        return f"by step {status['step']}"
    samples, more = found["samples"][:SHOWN], len(found["samples"]) - SHOWN
    ids = ", ".join(str(number) for number in samples) + (f" and {more} more" if more > 0 else "")
    during = "at" if found["during"] == "training" else "in validation after"
    return f"{during} step {found['step']} on rank {found['rank']}: first in {found['where']}, samples {ids}"


def _figures(status: Json, history: list[Json]) -> Json:
    """The numbers of a training in the shape of schemas/bench.json."""
    later = history[1:] or history  # the first epoch warms caches
    rate = sum(record["samples_per_s"] for record in later) / len(later)
    noise = [record["noise_scale"] for record in history if record.get("noise_scale") is not None]
    timing = status.get("timing", {"step_ms": {}, "shares": {}})
    return {
        "figures": [
            figure("best_validation_loss", status["best_validation_loss"]),
            figure("best_epoch", status["best_epoch"], "epoch"),
            figure("epochs", status["epoch"], "epoch"),
            figure("parameters", status["parameters"]),
            figure("samples_per_s", rate, "samples/s"),
            figure("input_wait", sum(record["input_wait"] for record in later) / len(later)),
            figure("communication_wait", sum(record["communication_wait"] for record in later) / len(later)),
            figure("step_median", history[-1]["step_ms"]["p50"], "ms"),
            figure("noise_scale", noise[-1] if noise else None, "samples"),
            *(figure(f"step_{name}", value, "ms") for name, value in timing["step_ms"].items()),
            *(figure(f"share_{name}", value) for name, value in timing["shares"].items()),
        ],
        "conditions": status["conditions"],
    }
