"""Stage ``gather``: the records of many runs become one summary and one table."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from kilonode import config
from kilonode.errors import UserError
from kilonode.records import Json, conditions, file_digest, finite, read_json, write_json, write_text

COLUMNS = (
    "case", "data", "task", "seed", "question", "metric", "method", "role", "value", "low", "high", "unit",
    "n", "groups", "n_effective", "commit", "host", "time",
)  # fmt: skip


def run(records: list[Path], output: Path) -> None:
    """Write the summary (.json) and the same numbers as a table (.csv).

    Parameters
    ----------
    records : list of Path
        ``evaluation.json`` files; ``explanation.json``, ``metrics.json``, ``weights.safetensors`` and
        ``figures/`` stand beside each.
    output : Path
        The summary.
    """
    runs = [_run(path) for path in records]
    figures = [row for found in runs for row in found.pop("figures")]
    seeds = sorted({seed for found in runs for seed in found["conditions"]["seeds"]})
    measured = {"bench": "summary", "figures": figures, "conditions": conditions(seeds=seeds)}
    config.check(finite(measured), config.schema("bench"), output)
    write_text(output.with_suffix(".csv"), _table(figures, runs))
    write_json(output, {**measured, "runs": runs})


def _run(path: Path) -> Json:
    """One run: its rows, and where the rest of it stands."""
    folder = path.parent
    record, training, explanation = (
        read_json(folder / name) for name in ("evaluation.json", "metrics.json", "explanation.json")
    )
    if not record["figures"]:
        raise UserError(f"expected measured numbers, got none ({path}); rerun evaluate")
    first = record["figures"][0]
    weights = folder / "weights.safetensors"
    return {
        **{key: first[key] for key in ("case", "data", "task", "seed")},
        "folder": str(folder),
        "figures": record["figures"],
        "conditions": record["conditions"],
        "training": {key: training[key] for key in ("figures", "conditions")},
        "explanation": {key: explanation[key] for key in ("figures", "captions", "conditions")},
        "weights": {"file": str(weights), "bytes": weights.stat().st_size, "sha256": file_digest(weights)},
    }


def _table(figures: list[Json], runs: list[Json]) -> str:
    """Comma-separated values with one line a number and the record it comes from."""
    made = {(r["case"], r["data"], r["task"], r["seed"]): r["conditions"] for r in runs}
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in figures:
        low, high = row["interval"] or ("", "")
        origin = made[row["case"], row["data"], row["task"], row["seed"]]
        line: dict[str, Any] = {**row, "low": low, "high": high}
        writer.writerow({**line, **{key: origin[key] for key in ("commit", "host", "time")}})
    return text.getvalue()
