"""Training speed of every convolutional task: the plain PyTorch loop, Lightning and ours, on input from the store.

Each loop runs in a process of its own on all cores, and they take turns. The machine's own matrix product is timed
in the same turns. Two figures are judged on a CPU that multiplies bf16 only: ours against the plain loop.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kilonode import cases, config
from kilonode.bench import _launch
from kilonode.bench._measure import geometric_mean, median, ratio, seconds, turns
from kilonode.records import Json, conditions, cpu_name, figure

MEAN, LEAST, WAIT = 4.0, 1.5, 0.01
TIERS = ("demo", "article")
GEMM = 2048
SEEDS = 3
LABELS = {"plain": "plain loop", "lightning": "Lightning", "ours": "ours"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--case", action="append", metavar="NAME", help="may be repeated (default: all)")
    parser.add_argument("--data", default="toy", metavar="TIER", help="tier of the input (default toy)")
    parser.add_argument("--rounds", type=int, default=11, metavar="N", help="turns of each loop (default 11)")
    parser.add_argument("--seconds", type=float, default=1.0, metavar="S", help="about this long a turn (default 1)")
    parser.add_argument(
        "--epochs", type=int, default=6, metavar="N", help="of the short trainings; 0: none (default 6)"
    )
    parser.add_argument("--precision", default="auto", metavar="NAME", help="of ours: auto, bf16, fp32 (default auto)")
    parser.add_argument("--compile", action="store_true", help="torch.compile ours")


def run(options: argparse.Namespace) -> Json:
    """Measure every model, then the trainings that show what bf16 costs."""
    import torch

    from kilonode.training.precision import native_bf16

    cores = torch.get_num_threads()
    ours = {"threads": cores, "precision": options.precision, "layout": "auto", "compile": options.compile}
    rows: list[Json] = []
    gains: list[float] = []
    with tempfile.TemporaryDirectory(prefix="kilonode-step-") as folder:
        plans = _plans(options, Path(folder), ours)
        for plan in plans:
            found, gain = _measure(plan, options)
            rows += found
            gains.append(gain)
        for plan in {(plan["case"], plan["task"]): plan for plan in plans}.values() if options.epochs else ():
            rows += _validation(plan, options.epochs)
    judged = native_bf16() and bool(gains)
    if gains:
        mean, least = geometric_mean(gains), min(gains)
        rows.append(
            figure(
                "geometric mean of ours over the plain loop", mean, target=MEAN, met=mean >= MEAN if judged else None
            )
        )
        rows.append(figure("least of them", least, target=LEAST, met=least >= LEAST if judged else None))
    return {"figures": rows, "conditions": conditions(seeds=list(range(SEEDS)), threads=cores, cpu=cpu_name())}


def _plans(options: argparse.Namespace, folder: Path, ours: Json) -> list[Json]:
    """Every convolutional task of every case at every width that a tier has."""
    found = []
    for case in options.case or cases.names():
        seen: list[Json] = []
        for task, settings in config.resolve(case, options.data)["tasks"].items():
            store = _launch.store(case, options.data, settings["table"], folder / case)
            for tier in TIERS:
                model = config.task(case, tier, task)["model"]
                plan = {"case": case, "data": options.data, "task": task, "model": model, "store": str(store)}
                if plan not in seen and _convolves(plan):
                    seen.append(plan)
                    found.append({**plan, "tier": tier, "training": ours})
    return found


def _convolves(plan: Json) -> bool:
    import numpy as np
    import torch

    from kilonode.data.store import Store
    from kilonode.data.transform import Scaler
    from kilonode.training.build import build

    store = Store(Path(plan["store"]), "train")
    scaler = Scaler(config.task(plan["case"], plan["data"], plan["task"])["input"], store.stats)
    shape = scaler(store.take(scaler.field, np.array([0]))).shape[1:]
    model = build(plan["case"], plan["task"], plan["model"], shape)
    return any(isinstance(layer, torch.nn.modules.conv._ConvNd) for layer in model.modules())


class Side:
    """A loop in a process of its own."""

    def __init__(self, what: str, plan: Json) -> None:
        words = [sys.executable, "-m", "kilonode.bench._sides", what, json.dumps(plan)]
        self._process = subprocess.Popen(
            words, env=_launch.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            stderr=subprocess.DEVNULL if what == "lightning" else None,
        )  # fmt: skip
        self.known = self._answer()
        self.steps = 1
        self.waits: list[float] = []

    def _answer(self) -> Json:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"expected an answer, got the end: {' '.join(map(str, self._process.args))}")  # type: ignore[arg-type]
        found: Json = json.loads(line)
        return found

    def turn(self, steps: int | None = None) -> float:
        """Samples/s of one turn."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{steps or self.steps}\n")
        self._process.stdin.flush()
        found = self._answer()
        self.waits.append(found["waited"] / found["seconds"])
        self.last = found
        return float(found["samples"] / found["seconds"])

    def settle(self, spent_s: float) -> None:
        """Warm up, and choose how many steps take about this long."""
        self.turn(5)
        self.turn(5)
        self.steps = max(3, round(5 * spent_s / self.last["seconds"]))

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


def _measure(plan: Json, options: argparse.Namespace) -> tuple[list[Json], float]:
    """All rows of one model, and how much faster ours is than the plain loop."""
    name = f"{plan['case']}/{plan['task']}, width of {plan['tier']}"
    names = ["plain", *(["lightning"] if find_spec("lightning") else []), "ours"]
    sides: dict[str, Side] = {}
    try:
        for what in names:
            sides[what] = Side(what, plan)
            sides[what].settle(options.seconds)
        actions: dict[str, Any] = {what: side.turn for what, side in sides.items()}
        times = turns({**actions, "fp32": lambda: _gemm("float32"), "bf16": lambda: _gemm("bfloat16")},
                      options.rounds, f"step: {name}")  # fmt: skip
    finally:
        for side in sides.values():
            side.close()
    flop, ours = sides["plain"].known["flop"], sides["ours"]
    rows = []
    for what in names:
        value, interval = median(times[what])
        rows.append(figure(f"{name}, {LABELS[what]}", value, "samples/s", interval))
        rows.append(figure(f"{name}, {LABELS[what]}: rate", value * flop / 1e9, "GFLOP/s"))
    if "lightning" not in names:
        rows.append(figure(f"{name}, Lightning", None, "samples/s", note="not installed: pip install lightning"))
    for kind in ("fp32", "bf16"):
        peak, _ = median(times[kind])
        rows.append(figure(f"{name}, ours: share of the {kind} matrix product", median(times["ours"])[0] * flop / peak))
        rows.append(figure(f"{name}, matrix product in {kind}", peak / 1e9, "GFLOP/s"))
    wait, interval = median(ours.waits[-options.rounds :])
    rows.append(figure(f"{name}, ours: input wait", wait, "1", interval, WAIT, met=wait <= WAIT))
    gain, interval = ratio(times["ours"], times["plain"])
    rows.append(figure(f"{name}, ours over the plain loop", gain, "1", interval, choice=ours.known))
    if "lightning" in names:
        rows.append(figure(f"{name}, ours over Lightning", *_plain(ratio(times["ours"], times["lightning"]))))
    return rows, gain


def _plain(found: tuple[float, tuple[float, float]]) -> tuple[float, str, tuple[float, float]]:
    return found[0], "1", found[1]


def _gemm(dtype: str) -> float:
    """Operations a second of a matrix product on all cores, best of three."""
    import torch

    a = torch.ones(GEMM, GEMM, dtype=getattr(torch, dtype))
    return 2 * GEMM**3 / min(seconds(lambda: a @ a) for _ in range(3))


def _validation(plan: Json, epochs: int) -> list[Json]:
    """Short trainings at the data's own width: the mean loss of ours must lie within fp32's seeds."""
    from kilonode.training.precision import native_bf16

    losses, asked = {}, plan["training"]["precision"]
    half = "bf16" if asked == "auto" and native_bf16() else asked  # auto may choose fp32, which proves nothing
    for what in ("fp32", half):
        rules = {**plan["training"], "precision": what, "epochs": epochs, "patience": epochs}
        model = config.task(plan["case"], plan["data"], plan["task"])["model"]
        print(f"step: {SEEDS} trainings of {plan['case']}/{plan['task']}, {what}", file=sys.stderr, flush=True)
        side = Side("validation", {**plan, "model": model, "training": rules, "seeds": SEEDS})
        losses[what] = side.known["losses"]
        side.close()
    base, other = losses["fp32"], losses[half]
    name = f"{plan['case']}/{plan['task']}, validation loss after {epochs} epochs"
    mean, low, high = sum(other) / len(other), min(base), max(base)
    return [
        figure(f"{name}, fp32", sum(base) / len(base), "1", (low, high), note="interval: lowest and highest seed"),
        figure(
            f"{name}, {plan['training']['precision']}", mean, "1", (min(other), max(other)), met=low <= mean <= high
        ),
    ]
