"""The catalogue of trained networks: a hash and a model card each.

What a card says follows Mitchell et al. 2019, "Model cards for model reporting" (arXiv:1810.03993), cut to what the
records know.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from kilonode.records import Json, digest, write_json, write_text
from kilonode.report.caveats import caveats
from kilonode.report.templates import template
from kilonode.report.wording import seeds_of

COLUMNS = (
    "case",
    "data",
    "task",
    "seed",
    "file",
    "bytes",
    "sha256",
    "parameters",
    "settings",
    "commit",
    "time",
    "card",
)
LICENCE = "MIT, as the code that made it; the data behind it have their own terms where they are not simulated"


def write(runs: Sequence[Json], figures: Sequence[Json], lines: Sequence[Json], folder: Path) -> list[Json]:
    """Write ``catalogue.json``, ``catalogue.csv`` and one Markdown card a network.

    Parameters
    ----------
    runs, figures, lines
        What ``gather`` found: runs, all their figures, and the table of contests.
    folder : Path
        Made anew, complete or not at all.

    Returns
    -------
    list of dict
        The catalogue.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    catalogue = []
    for run in runs:
        entry = _entry(run)
        of_run = [row for row in figures if all(row[key] == run[key] for key in ("case", "data", "task", "seed"))]
        of_task = [line for line in lines if all(line[key] == run[key] for key in ("case", "data", "task"))]
        write_text(temporary / entry["card"], card(run, entry, of_run, of_task))
        catalogue.append(entry)
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(catalogue)
    write_text(temporary / "catalogue.csv", text.getvalue())
    write_json(temporary / "catalogue.json", catalogue)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
    return catalogue


def settings_digest(conditions: Json) -> str:
    """Twelve digits that tell one set of hyperparameters from another."""
    return digest({key: conditions.get(key) for key in ("model", "training")})[:12]


def _entry(run: Json) -> Json:
    named = {key: run[key] for key in ("case", "data", "task", "seed")}
    conditions = run["conditions"]
    return {
        **named,
        **run["weights"],
        "parameters": conditions["parameters"],
        "settings": settings_digest(conditions),
        "commit": run["training"]["conditions"]["commit"],
        "time": run["training"]["conditions"]["time"],
        "card": f"{run['case']}.{run['data']}.{run['task']}.seed-{run['seed']}.md",
    }


def card(run: Json, entry: Json, rows: Sequence[Json], lines: Sequence[Json]) -> str:
    """The card of one network as Markdown; ``rows`` are its figures, ``lines`` the contests of its task."""
    shown = [row for row in rows if row["role"] == "network" and "against" not in row]
    return template("card.md").render(
        run=run,
        entry=entry,
        conditions=run["conditions"],
        training=run["training"]["conditions"],
        trained={row["name"]: row["value"] for row in run["training"]["figures"]},
        rows=shown,
        lines=lines,
        limits=caveats([run], lines),
        licence=LICENCE,
        seeds=seeds_of([run["seed"]]),
    )
