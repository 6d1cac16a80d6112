"""Stage ``tune``: search the hyperparameters of a task, or those of its classical methods, with the same budget.

Rank 0, or this process, owns the studies and hands out trials; ranks beyond it, or processes, run them. Only
training and validation groups are open to a trial. The same command continues a search that was stopped or killed.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from kilonode import comm, config, launch
from kilonode.data.store import Store
from kilonode.errors import UserError, near
from kilonode.records import Json
from kilonode.tuning import folds, space
from kilonode.tuning.manager import Manager
from kilonode.tuning.pool import Processes, Ranks, serve
from kilonode.tuning.trial import BASELINE, NETWORK, Runner

PRUNING: Json = {"first": 2, "factor": 3}


def run(
    case: str,
    task: str,
    data: str,
    method: str,
    trials: int | None,
    workers: int,
    ranks_per_trial: int,
    sampler: str | None,
    seed: int,
    store: Path | None,
    folder: Path | None,
    time_left: str = "",
) -> int:
    """Search, and write ``best.json``, ``trials.csv``, ``trials.json``, ``outer.h5`` and figures to ``folder``.

    Parameters
    ----------
    case, task, data : str
        What is tuned.
    method : {"network", "baseline"}
        The task's network, or all its classical methods in one search.
    trials : int, optional
        Trials a fold; None: as ``case.yaml`` says.
    workers : int
        Processes that run trials where there is no launcher; with one, all ranks but the first do.
    ranks_per_trial : int
        MPI ranks that train one network together.
    sampler : str, optional
        tpe, gp or random; None: as ``case.yaml`` says.
    seed : int
        Of the sampler and of every training.
    store, folder : Path, optional
        Where the data are and where results go; None: where the workflow has them.
    time_left : str
        What the scheduler grants; empty: no limit.

    Returns
    -------
    int
        0; 75 if it was stopped and the same command continues it.

    Raises
    ------
    UserError
        Nothing to tune, no such method, no store, ranks that do not make whole groups.
    """
    plan = planned(case, task, data, method, trials, sampler, seed, store, folder)
    plan |= {"time_left": time_left, "since": time.monotonic()}
    os.environ["OMP_NUM_THREADS"] = str(plan["settings"]["training"]["threads"])
    if not launch.launched():
        return Manager(plan, Processes(plan, workers)).run()
    world = comm.start()
    if world.size < 2 or (world.size - 1) % ranks_per_trial:
        raise UserError(
            f"expected 1 + a multiple of {ranks_per_trial} ranks, got {world.size} (--ranks-per-trial); "
            "the first hands out trials, the others run them"
        )
    if not world.is_root:
        log = Path(plan["folder"]) / "logs" / f"rank-{world.rank}.log"
        serve(world, ranks_per_trial, lambda group: Runner(plan, group), log)
        return 0
    world.divide(world.size)
    return Manager(plan, Ranks(world, ranks_per_trial)).run()


def planned(
    case: str,
    task: str,
    data: str,
    method: str,
    trials: int | None,
    sampler: str | None,
    seed: int,
    store: Path | None,
    folder: Path | None,
) -> Json:
    """All that trials share, checked."""
    settings = config.task(case, data, task)
    tuning = settings.get("tuning", {})
    where = f"{case}/{task}"
    home = Path("results") / case / config.data_name(data)
    store = store or home / "store" / settings["table"] / "index.json"
    folder = folder or home / task / "tuning" / method
    if method not in (NETWORK, BASELINE):
        raise UserError(f"expected a method, got {method!r} (--method); {near(method, (NETWORK, BASELINE))}")
    if method == NETWORK and not tuning.get("space"):
        raise UserError(f"expected tuning.space in case.yaml, got none ({where}); say there what may vary")
    if method == BASELINE and "target" not in settings:
        raise UserError(f"expected a task with a target, got {where}; only such have classical methods to tune")
    if not store.exists():
        raise UserError(f"expected a store, got nothing ({store}); kilonode run --case {case} --until preprocess")
    space.check(tuning.get("space", {}), where)
    Store(store, "train")  # its promises are checked before anything starts
    count = int(tuning.get("trials", 0)) if trials is None else trials
    if count < 1:
        raise UserError(f"expected --trials N, got none for {where} (tuning.trials in case.yaml); say how many")
    found = int(tuning.get("folds", 1))
    return {
        "case": case,
        "task": task,
        "data": config.data_name(data),
        "settings": settings,
        "method": method,
        "trials": count,
        "sampler": sampler or tuning.get("sampler", "tpe"),
        "pruning": tuning.get("pruning", PRUNING) if method == NETWORK else None,
        "fractions": tuning.get("fractions", [1.0]) if found > 1 else [],
        "seed": seed,
        "store": str(store),
        "folder": str(folder),
        "folds": folds.groups_of(store, found),
    }
