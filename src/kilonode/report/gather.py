"""Stage ``gather``: the records of many runs become one summary, its tables and a card for every trained network."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from kilonode import config
from kilonode.errors import UserError
from kilonode.records import Json, conditions, file_digest, finite, read_json, write_json, write_text
from kilonode.report import cards
from kilonode.report.overview import COLUMNS as OVERVIEW
from kilonode.report.overview import flat, overview
from kilonode.report.pool import pooled

COLUMNS = (
    "case", "data", "task", "seed", "question", "metric", "method", "role", "value", "low", "high", "unit",
    "n", "groups", "n_effective", "commit", "host", "time", "against",
)  # fmt: skip


def run(records: list[Path], output: Path) -> None:
    """Write the summary (.json), the same numbers as a table (.csv), who won, and the catalogue of networks.

    Parameters
    ----------
    records : list of Path
        ``evaluation.json`` files; ``explanation.json``, ``metrics.json``, ``weights.safetensors``, ``figures/`` and
        ``maps.h5`` stand beside each.
    output : Path
        The summary. ``overview.csv`` (one line a contest) and ``model_cards/`` are written beside it.
    """
    runs = [_run(path) for path in records]
    figures = [row for found in runs for row in found.pop("figures")]
    seeds = sorted({seed for found in runs for seed in found["conditions"]["seeds"]})
    measured = {"bench": "summary", "figures": figures, "conditions": conditions(seeds=seeds)}
    config.check(finite(measured), config.schema("bench"), output)
    means = pooled(figures)
    lines = overview(means, runs)
    several = {"pooled": means} if len(seeds) > 1 else {}
    catalogue = cards.write(runs, figures, lines, output.with_name("model_cards"))
    write_text(output.with_suffix(".csv"), _table(figures, runs))
    write_text(output.with_name("overview.csv"), table(OVERVIEW, map(flat, lines)))
    write_json(output, {**measured, "overview": lines, **several, "models": catalogue, "runs": runs})


def _run(path: Path) -> Json:
    """One run: its rows, and where the rest of it stands."""
    folder = path.parent
    record, training, explanation = (
        read_json(folder / name) for name in ("evaluation.json", "metrics.json", "explanation.json")
    )
    if not record["figures"]:
        raise UserError(f"expected measured numbers, got none ({path}); rerun evaluate")
    first = record["figures"][0]
    weights, maps = folder / "weights.safetensors", folder / "maps.h5"
    return {
        **{key: first[key] for key in ("case", "data", "task", "seed")},
        "folder": str(folder),
        "figures": record["figures"],
        "conditions": record["conditions"],
        "training": {key: training[key] for key in ("figures", "history", "conditions") if key in training},
        "explanation": {key: explanation[key] for key in ("figures", "captions", "conditions")},
        "maps": str(maps) if maps.exists() else None,
        "weights": {"file": str(weights), "bytes": weights.stat().st_size, "sha256": file_digest(weights)},
    }


def _table(figures: list[Json], runs: list[Json]) -> str:
    """One line a number, with the record it comes from."""
    made = {(r["case"], r["data"], r["task"], r["seed"]): r["conditions"] for r in runs}

    def line(row: Json) -> Json:
        low, high = row["interval"] or ("", "")
        origin = made[row["case"], row["data"], row["task"], row["seed"]]
        found: dict[str, Any] = {**row, "low": low, "high": high}
        return {**found, **{key: origin[key] for key in ("commit", "host", "time")}}

    return table(COLUMNS, map(line, figures))


def table(columns: Sequence[str], rows: Iterable[Json]) -> str:
    """Comma-separated values."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
