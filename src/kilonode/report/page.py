"""Stage ``report``: one self-contained page of what was measured, under which conditions, and who won."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import jinja2

from kilonode.records import PACKAGE, Json, read_json, write_text
from kilonode.report.wording import number, spoken, verdict, with_interval

FIRST = ("linear_auc", "linear_r2", "linear_balanced_accuracy", "accuracy", "mse")
"""The metric a question is judged by; the others stand in the full table."""


def run(summary: Path, output: Path) -> None:
    """Write the page.

    Parameters
    ----------
    summary : Path
        What ``gather`` wrote; the figures stand in the folders it names.
    output : Path
        The page (.html): no network request, figures inside.
    """
    content = read_json(summary)
    runs = [_run(found, content["figures"]) for found in content["runs"]]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PACKAGE / "report"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["number"] = number
    page = environment.get_template("page.html").render(
        runs=runs, conditions=content["conditions"], csv=summary.with_suffix(".csv").name
    )
    write_text(output, page)
    print(f"report: {output.resolve()}", flush=True)


def _run(found: Json, figures: list[Json]) -> Json:
    """What the page says of one run."""
    key = {name: found[name] for name in ("case", "data", "task", "seed")}
    rows = [row for row in figures if all(row[name] == value for name, value in key.items())]
    return {
        **found,
        "made": "simulation" if found["conditions"]["simulated"] else "measured data",
        "verdicts": _verdicts(rows),
        "tables": _tables(rows),
        "rows": [{**row, "shown": with_interval(row)} for row in rows],
        "trained": {row["name"]: row["value"] for row in found["training"]["figures"]},
        "trust": [row["value"] for row in found["explanation"]["figures"] if row.get("metric") == "trustworthiness"],
        "saliency": {
            row["method"]: row["value"]
            for row in found["explanation"]["figures"]
            if row.get("metric") == "follows_input"
        },
        "images": [
            {"name": name, "caption": caption, "source": _inline(Path(found["folder"]) / "figures" / f"{name}.png")}
            for name, caption in found["explanation"]["captions"].items()
        ],
    }


def _verdicts(rows: list[Json]) -> list[Json]:
    """One sentence a question, from the paired difference; a baseline that won stands first."""
    said = [
        {
            "question": spoken(row["question"]),
            "metric": spoken(row["metric"]),
            "text": verdict(row),
            "lost": _lost(row),
        }
        for row in rows
        if "against" in row and row["metric"].startswith(("linear_", "tree_", "accuracy_"))
    ]
    return sorted(said, key=lambda line: not line["lost"])


def _lost(row: Json) -> bool:
    return row["interval"][1] is not None and row["interval"][1] < 0


def _tables(rows: list[Json]) -> list[Json]:
    """One table a main metric: questions down, methods across."""
    tables = []
    for metric in FIRST:
        chosen = [row for row in rows if row["metric"] == metric]
        if not chosen:
            continue
        methods = list(dict.fromkeys(row["method"] for row in chosen))
        questions = list(dict.fromkeys(row["question"] for row in chosen))
        cell: dict[tuple[str, str], Any] = {(row["question"], row["method"]): with_interval(row) for row in chosen}
        lines = [
            {
                "question": spoken(question),
                "about": next(row["about"] for row in chosen if row["question"] == question),
                "cells": [cell.get((question, method), "") for method in methods],
            }
            for question in questions
        ]
        tables.append({"metric": spoken(metric), "methods": [spoken(m) for m in methods], "lines": lines})
    return tables


def _inline(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
