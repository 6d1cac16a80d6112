"""Stage ``report``: one self-contained page of what was measured, under which conditions, and who won."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kilonode.errors import UserError
from kilonode.records import Json, read_json, write_text
from kilonode.report import maps, pictures
from kilonode.report.cards import settings_digest
from kilonode.report.caveats import caveats, saliency
from kilonode.report.pool import pooled
from kilonode.report.templates import asset, template

FIRST = ("auc", "accuracy", "r2", "mse")
"""Metrics that end so get a table of methods; the others stand in the full table."""
MB = 1e6


def run(summary: Path, output: Path, scaling: list[Path] | None = None) -> None:
    """Write the page.

    Parameters
    ----------
    summary : Path
        What ``gather`` wrote; figures and maps stand in the folders it names.
    output : Path
        The page (.html): no network request, figures inside.
    scaling : list of Path, optional
        Records of ``kilonode scaling run --json`` whose curves the page shows.
    """
    content = read_json(summary)
    if "models" not in content:
        raise UserError(f"expected what this version's gather writes, got another record ({summary}); run gather again")
    shown = cases(content)
    page = template("page.html").render(
        cases=shown,
        overview=[{**task["lead"], "title": case["title"]} for case in shown for task in case["tasks"] if task["lead"]],
        conditions=content["conditions"],
        scaling=[_scaling(path) for path in scaling or []],
        summary=summary.name,
        csv=summary.with_suffix(".csv").name,
        style=asset("page.css"),
        script=asset("page.js"),
    )
    write_text(output, page)
    print(f"report: {output.resolve()} ({len(page.encode()) / MB:.1f} MB; {_largest(shown)})", flush=True)


def cases(content: Json) -> list[Json]:
    """What the page says, case by case: data sets and tasks below, seeds within a task."""
    found: dict[tuple[str, str], list[Json]] = {}
    for one in content["runs"]:
        found.setdefault((one["case"], one["data"]), []).append(one)
    return [_case(*key, runs, content) for key, runs in found.items()]


def _case(case: str, data: str, runs: list[Json], content: Json) -> Json:
    by_task: dict[str, list[Json]] = {}
    for one in runs:
        by_task.setdefault(one["task"], []).append(one)
    tasks = [_task(name, found, content) for name, found in by_task.items()]
    conditions = runs[0]["conditions"]
    return {
        "case": case,
        "data": data,
        "id": f"{case}-{data}",
        "title": conditions["title"],
        "question": conditions["question"],
        "made": "simulated" if conditions["simulated"] else "measured",
        "source": conditions["source"].removeprefix("simulation "),
        "tasks": tasks,
    }


def _task(name: str, runs: list[Json], content: Json) -> Json:
    """One task, whatever the number of its seeds."""
    key = (runs[0]["case"], runs[0]["data"], name)
    lines = [line for line in content["overview"] if (line["case"], line["data"], line["task"]) == key]
    rows = pooled([row for row in content["figures"] if (row["case"], row["data"], row["task"]) == key])
    return {
        "name": name,
        "id": "-".join(key),
        "runs": [_run(one, full=one is runs[0]) for one in runs],
        "seeds": [one["seed"] for one in runs],
        "conditions": runs[0]["conditions"],
        "lead": next((line for line in lines if line["leads"]), None),
        "lines": lines,
        "counts": {word: sum(line["outcome"] == word for line in lines) for word in ("won", "lost", "open", "few")},
        "caveats": caveats(runs, lines),
        "saliency": saliency(runs),
        "tables": _tables(rows),
        "rows": rows,
    }


def _run(found: Json, full: bool) -> Json:
    """What belongs to one training; figures and map only of the first seed, or five would fill the page."""
    trained = {row["name"]: row["value"] for row in found["training"]["figures"]}
    packed = maps.packed(Path(found["maps"])) if full and found.get("maps") else None
    curve = pictures.learning(found["training"].get("history", []), trained["best_epoch"])
    instead = {"learning_curve": curve, "tsne": packed}  # the page draws these itself
    explanation = found["explanation"]["figures"]
    return {
        **found,
        "id": "-".join(str(found[key]) for key in ("case", "data", "task", "seed")),
        "trained": trained,
        "settings": settings_digest(found["conditions"]),
        "curve": curve,
        "map": packed,
        "trust": [row["value"] for row in explanation if row.get("metric") == "trustworthiness"],
        "saliency": [row for row in explanation if row.get("question") == "saliency" or "saliency" in row["name"]],
        "images": [
            {"name": name, "caption": text, **pictures.inlined(Path(found["folder"]) / "figures" / f"{name}.png")}
            for name, text in found["explanation"]["captions"].items()
            if full and not instead.get(name)
        ],
        "drawn": {name: found["explanation"]["captions"].get(name, "") for name in instead},
    }


def _tables(rows: Sequence[Json]) -> list[Json]:
    """One table a main metric: questions down, methods across, the network first and the oracle last."""
    tables = []
    plain = [row for row in rows if "against" not in row and row["value"] is not None]
    for metric in dict.fromkeys(row["metric"] for row in plain if row["metric"].endswith(FIRST)):
        chosen = [row for row in plain if row["metric"] == metric]
        order = {"network": 0, "baseline": 1, "oracle": 2}
        methods = sorted(dict.fromkeys((row["method"], row["role"]) for row in chosen), key=lambda m: order[m[1]])
        cell: dict[Any, Json] = {(row["question"], row["method"], row["role"]): row for row in chosen}
        lines = [
            {
                "question": question,
                "about": next(row.get("about", "") for row in chosen if row["question"] == question),
                "cells": [cell.get((question, *method)) for method in methods],
            }
            for question in dict.fromkeys(row["question"] for row in chosen)
        ]
        tables.append({"metric": metric, "methods": methods, "lines": lines})
    return tables


def _scaling(path: Path) -> Json:
    record = read_json(path)
    made = record["conditions"]
    name = ", ".join(made[key] for key in ("case", "task", "data") if key in made) or path.stem
    return {"name": name, "charts": pictures.scaling(record), "conditions": record["conditions"]}


def _largest(shown: Sequence[Json]) -> str:
    """What takes the room: figures and maps of all cases, in megabytes of the page."""
    runs = [one for case in shown for task in case["tasks"] for one in task["runs"]]
    images = sum(len(image["source"]) for one in runs for image in one["images"])
    drawn = sum(
        len(one["map"]["maps"])
        + sum(len(column["values"]) for column in one["map"]["columns"])
        + len((one["map"]["sheet"] or {"source": ""})["source"])
        for one in runs
        if one["map"]
    )
    return f"figures {images / MB:.1f} MB, maps {drawn / MB:.1f} MB"
