"""Figures of a search: which dimension mattered, what good configurations have in common, how the best value grew."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from matplotlib.figure import Figure

from kilonode import intervals
from kilonode.explain.save import save
from kilonode.records import Json
from kilonode.tuning.study import Study


def draw(folder: Path, study: Study, rows: list[Json]) -> None:
    """All figures of fold 0, complete or not at all."""
    done = [row for row in rows if row["fold"] == 0 and row["value"] is not None]
    drawn = {"history": _history(done, study.higher)}
    if len(done) > 1:
        drawn["parallel"] = _parallel(done, study.higher)
    shares = importance(study)
    if shares:
        drawn["importance"] = _importance(shares)
    save(drawn, folder)


def importance(study: Study) -> dict[str, float]:
    """Share of the spread among complete trials that each dimension explains; empty where too few say anything.

    Source
    ------
    Watanabe et al. 2023, "PED-ANOVA: efficiently quantifying hyperparameter importance in arbitrary subspaces".
    """
    complete = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
    if len({trial.value for trial in complete}) < 2 or len(complete) < 4:
        return {}
    everywhere = set.intersection(*(set(trial.params) for trial in complete))  # not what one method alone has
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of values that occur once
        found = optuna.importance.get_param_importances(study.known, evaluator=evaluator, params=sorted(everywhere))
    return dict(found)


def _importance(shares: dict[str, float]) -> Figure:
    names = sorted(shares, key=lambda name: shares[name])
    figure = Figure(figsize=(6, 1 + 0.35 * len(names)), layout="constrained")
    axes = figure.subplots()
    axes.barh(names, [shares[name] for name in names], color="#4477aa")
    axes.set_xlabel("importance (share of the spread of complete trials)")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _history(done: list[Json], higher: bool) -> Figure:
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    for state, colour in (("complete", "#4477aa"), ("pruned", "#bbbbbb")):
        chosen = [row for row in done if row["state"] == state]
        axes.plot([row["number"] for row in chosen], [row["value"] for row in chosen], "o", ms=4, color=colour,
                  label=f"{state} trials")  # fmt: skip
    finished = [row for row in done if row["state"] == "complete"]
    best = (np.maximum if higher else np.minimum).accumulate([row["value"] for row in finished])
    axes.step([row["number"] for row in finished], best, where="post", color="#cc3311", label="best so far")
    axes.set_xlabel("trial")
    axes.set_ylabel("validation accuracy" if higher else "validation loss")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _parallel(done: list[Json], higher: bool) -> Figure:
    """One line a trial through its choice; the better, the darker and the further in front."""
    names = sorted({name for row in done for name in row["choice"]})
    columns = {name: _positions([row["choice"].get(name) for row in done]) for name in names}
    values = np.array([row["value"] for row in done])
    rank = np.argsort(np.argsort(values if higher else -values)) / max(1, len(values) - 1)
    figure = Figure(figsize=(1.5 + 1.6 * len(names), 4), layout="constrained")
    axes = figure.subplots()
    mapped = _colours()
    for row in np.argsort(rank):
        track = [columns[name][0][row] for name in names]
        axes.plot(range(len(names)), track, color=mapped(0.1 + 0.9 * rank[row]), lw=1, alpha=0.3 + 0.7 * rank[row])
    for place, name in enumerate(names):
        axes.axvline(place, color="black", lw=0.6)
        for height, text in columns[name][1]:
            axes.text(place + 0.03, height, text, fontsize=7, va="center",
                      bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 1})  # fmt: skip
    axes.set_xticks(range(len(names)), names, rotation=20, ha="right", fontsize=8)
    axes.set_yticks([])
    axes.set_xlim(-0.2, len(names) - 0.5)
    axes.set_title("each line is a trial; dark is " + ("accurate" if higher else "low loss"), fontsize=9)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def curves(best: dict[str, np.ndarray], what: str) -> Figure:
    """Best value after n trials, (S, N) of each sampler: thin lines are seeds, thick ones means with intervals."""
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    for colour, (name, seeds) in zip(("#cc3311", "#4477aa"), best.items(), strict=True):
        count = 1 + np.arange(seeds.shape[1])
        axes.step(count, seeds.T, where="post", color=colour, lw=0.6, alpha=0.5)
        axes.step(count, seeds.mean(axis=0), where="post", color=colour, lw=2, label=f"{name}, {len(seeds)} seeds")
        low, high = np.transpose([intervals.student(column) or (np.nan, np.nan) for column in seeds.T])
        axes.fill_between(count, low, high, step="post", color=colour, alpha=0.15, lw=0)
    axes.set_xlabel("trials")
    axes.set_ylabel("best so far")
    axes.set_title(what, fontsize=9)
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _colours() -> Any:
    from matplotlib import colormaps

    return colormaps["Blues"]


def _positions(values: list[Any]) -> tuple[np.ndarray, list[tuple[float, str]]]:
    """Heights in [0, 1] of one dimension's values (NaN where a trial has none), and ticks; logarithmic over decades."""
    known = [value for value in values if value is not None]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in known):
        numbers = np.array([np.nan if value is None else float(value) for value in values])
        low, high = np.nanmin(numbers), np.nanmax(numbers)
        logarithmic = low > 0 and high / low > 20
        scaled = np.log(numbers) if logarithmic else numbers
        bottom, spread = np.nanmin(scaled), np.ptp(scaled[np.isfinite(scaled)]) or 1.0
        return (scaled - bottom) / spread, [(0.0, f"{low:.3g}"), (1.0, f"{high:.3g}")]
    kinds = sorted({str(value) for value in known})
    height = {kind: k / max(1, len(kinds) - 1) for k, kind in enumerate(kinds)}
    places = np.array([np.nan if value is None else height[str(value)] for value in values])
    return places, [(place, kind) for kind, place in height.items()]
