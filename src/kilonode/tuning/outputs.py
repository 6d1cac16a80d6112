"""What a search leaves behind: a table of all trials, the best configuration, its cost, outer predictions, figures."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import h5py
import numpy as np
from optuna.trial import FrozenTrial

from kilonode.errors import UserError
from kilonode.records import Json, complete, conditions, figure, write_json, write_text
from kilonode.tuning import pictures, space
from kilonode.tuning.study import Study
from kilonode.tuning.trial import NETWORK

COLUMNS = ("fold", "number", "state", "value", "epochs", "best_epoch", "seconds", "cpu_s", "ranks", "worker", "reason")


def rows_of(studies: list[Study]) -> list[Json]:
    """One row a trial."""
    return [
        {"fold": number, "number": trial.number, **_row(trial)}
        for number, study in enumerate(studies)
        for trial in study.trials
    ]


def _row(trial: FrozenTrial) -> Json:
    result = dict(trial.user_attrs["result"])
    values = result.pop("values")
    return {**result, "epochs": len(values), "values": values, "choice": trial.user_attrs["choice"]}


def write(plan: Json, studies: list[Study], outer: list[Json], busy: float | None, workers: int) -> None:
    """Everything; ``best.json`` last, because the workflow waits for it."""
    folder, rows = Path(plan["folder"]), rows_of(studies)
    write_text(folder / "trials.csv", table(rows))
    write_json(folder / "trials.json", rows)
    write_outer(folder / "outer.h5", outer)
    if studies[0].best() is None:
        reason = rows[0]["reason"] or rows[0]["state"]
        raise UserError(
            f"expected a complete trial, got none of {len(rows)} ({folder / 'trials.csv'}); the first said: {reason}"
        )
    pictures.draw(folder / "figures", studies[0], rows)
    hours = sum(row["seconds"] * row["ranks"] for row in rows) / 3600
    states = {state: sum(row["state"] == state for row in rows) for state in ("complete", "pruned", "failed")}
    best = [study.best() for study in studies]
    figures = [
        figure("trials", len(rows)),
        *(figure(f"trials_{state}", count) for state, count in states.items()),
        figure("cost", hours + sum(job["seconds"] * job["ranks"] for job in outer) / 3600, "core h"),
        figure("busy", busy),
        *(figure(f"best_fold_{number}", trial.value if trial else None) for number, trial in enumerate(best)),
        *_optimism(best, outer),
    ]
    choice = best[0].user_attrs["choice"] if best[0] else {}
    is_network = plan["method"] == NETWORK
    content: Json = {
        "bench": "tune",
        "figures": figures,
        "conditions": conditions(
            seeds=[plan["seed"]], workers=workers, sampler=plan["sampler"], ahead=studies[0].ahead,
            **{key: plan[key] for key in ("case", "task", "data", "method", "trials", "pruning")},
        ),
        "choice": choice,
        "configuration": space.sections(choice) if is_network else {},
        "methods": {} if is_network else _methods(rows),
        "folds": [trial.user_attrs["choice"] if trial else None for trial in best],
    }  # fmt: skip
    write_json(folder / "best.json", content)


def table(rows: list[Json]) -> str:
    """Comma-separated values; every dimension of the space is a column."""
    names = sorted({name for row in rows for name in row["choice"]})
    text = io.StringIO()
    writer = csv.DictWriter(text, [*COLUMNS, *names], extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        reason = " ".join(str(row["reason"]).split())[-200:]
        writer.writerow({**row, **row["choice"], "reason": reason})
    return text.getvalue()


def _methods(rows: list[Json]) -> Json:
    """Best choice of each classical method in fold 0, with its value and the trials it had."""
    found: Json = {}
    for row in rows:
        if row["fold"] or row["state"] != "complete":
            continue
        choice = dict(row["choice"])
        name = choice.pop(space.METHOD)
        known = found.setdefault(name, {"trials": 0, "value": -np.inf, "choice": {}})
        known["trials"] += 1
        if row["value"] > known["value"]:
            known |= {"value": row["value"], "choice": choice}
    return found


def _optimism(best: list[FrozenTrial | None], outer: list[Json]) -> list[Json]:
    """How much better the winners look on the groups that chose them than on groups nobody had seen."""
    gaps, scores = [], []
    for job in outer:
        winner = best[job["fold"]]
        if job["fraction"] < 1 or "outer" not in job or winner is None or winner.value is None:
            continue
        found = job["outer"]
        scores.append(float((found["probabilities"].argmax(1) == found["y"]).mean()))
        gaps.append(winner.value - scores[-1])
    if not scores:
        return []
    return [figure("outer_accuracy", float(np.mean(scores))), figure("optimism", float(np.mean(gaps)))]


def write_outer(path: Path, outer: list[Json]) -> None:
    """Answers of every fold's winner on its outer test groups: ``fold-0/fraction-1.00/{y,group,probabilities}``."""
    with complete(path) as temporary, h5py.File(temporary, "w") as file:
        for job in sorted(outer, key=lambda job: (job["fold"], job["fraction"])):
            if "outer" not in job:
                file.attrs[f"fold-{job['fold']}/fraction-{job['fraction']:.2f}"] = str(job["reason"])[-500:]
            for name, array in job.get("outer", {}).items():
                file[f"fold-{job['fold']}/fraction-{job['fraction']:.2f}/{name}"] = array
