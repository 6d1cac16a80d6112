"""What this machine can do at best: operations a second of a matrix product, bytes a second of a stream; and models."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kilonode.records import Json, figure

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

    from kilonode.cases.contract import Batch

GEMM, STREAM = 2048, 1 << 26
"""Side of the square matrices (16 MB each in fp32); numbers in each array of the stream (256 MB, beyond any cache)."""
ROUNDS = 7


@dataclass(frozen=True)
class Ceilings:
    """Of all cores: operations/s by precision, and bytes/s; medians of rounds that took turns, with their extremes."""

    flop: dict[str, float]
    byte: float
    rows: list[Json]


@dataclass(frozen=True)
class Dot:
    """A model: operations for each byte that its operators read and write, and operations/s reached in training."""

    name: str
    intensity: float
    flop_s: float


def ceilings(cores: int, precisions: list[str]) -> Ceilings:
    """Measure them on ``cores`` threads."""
    import torch

    torch.set_num_threads(cores)
    sides = {name: torch.ones(GEMM, GEMM, dtype=_dtype(name)) for name in precisions}
    a, b = torch.ones(STREAM), torch.ones(STREAM)
    out = torch.empty_like(a)
    spent: dict[str, list[float]] = {name: [] for name in [*precisions, "stream"]}
    for number in range(1 + ROUNDS):
        for name, matrix in sides.items():
            spent[name].append(_seconds(lambda matrix=matrix: matrix @ matrix))
        spent["stream"].append(_seconds(lambda: torch.add(a, b, alpha=3.0, out=out)))
        if number == 0:
            spent = {name: [] for name in spent}
    work = {**dict.fromkeys(precisions, 2.0 * GEMM**3), "stream": 3.0 * 4 * STREAM}
    rate = {name: work[name] / np.array(times) for name, times in spent.items()}
    rows = [
        figure(f"matrix product, {name}", *_giga(rate[name], "GFLOP/s"), note=f"{GEMM} x {GEMM}, {cores} threads")
        for name in precisions
    ]
    rows.append(figure("memory", *_giga(rate["stream"], "GB/s"), note="a + 3 b of 256 MB each; 3 moves counted"))
    return Ceilings({name: float(np.median(rate[name])) for name in precisions}, float(np.median(rate["stream"])), rows)


def _dtype(name: str) -> torch.dtype:
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16}[name]


def _seconds(action: Any) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def _giga(rates: np.ndarray, unit: str) -> tuple[float, str, tuple[float, float]]:
    return float(np.median(rates)) / 1e9, unit, (float(rates.min()) / 1e9, float(rates.max()) / 1e9)


def counted(model: Any, batch: Batch) -> tuple[float, float]:
    """Operations of a forward and backward pass, and bytes that its operators read and write.

    Operations are those of products and convolutions. Bytes are counted operator by operator, every tensor that goes in
    or comes out once, views not: what stays in a cache between two operators counts as well, so that a model may lie
    above the memory's slope.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves
    from torch.utils.flop_counter import FlopCounterMode

    class Moved(TorchDispatchMode):  # type: ignore[no-untyped-call]
        total = 0

        def __torch_dispatch__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            found = call(*args, **(kwargs or {}))
            if not (call.is_view or "detach" in str(call)):
                tensors = [one for one in tree_leaves((args, kwargs, found)) if isinstance(one, torch.Tensor)]
                self.total += sum(one.numel() * one.element_size() for one in tensors)
            return found

    model.train()
    moved = Moved()  # type: ignore[no-untyped-call]
    with FlopCounterMode(display=False) as flop, moved:
        torch.autograd.backward(model.losses(batch).mean())
    return float(flop.get_total_flops()), float(moved.total)


def dot(name: str, record: Json, rate: float) -> Dot:
    """A model from a record of one rank, which counted, and the rate of the layout, samples/s."""
    values = {row["name"]: row["value"] for row in record["figures"]}
    return Dot(name, values["flop_per_sample"] / values["bytes_per_sample"], values["flop_per_sample"] * rate)


def rows(found: Ceilings, dots: list[Dot], precision: str) -> list[Json]:
    """What each model reaches, of the ceiling that it has."""
    made = []
    for one in dots:
        ceiling = min(found.flop[precision], found.byte * one.intensity)
        bound = "memory" if ceiling < found.flop[precision] else "matrix product"
        made.append(figure(f"{one.name}: operations", one.flop_s / 1e9, "GFLOP/s", intensity=one.intensity))
        note = f"{one.intensity:.3g} operations a byte: under the {bound}"
        made.append(figure(f"{one.name}: share of its ceiling", one.flop_s / ceiling, note=note))
    return made


def drawn(found: Ceilings, dots: list[Dot], cores: int) -> Figure:
    """Ceilings as lines, models as dots, both axes logarithmic."""
    from matplotlib.figure import Figure

    from kilonode.scaling.figures import BLUE, GREY, ORANGE

    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    ridge = max(found.flop.values()) / found.byte
    x = np.geomspace(
        min(0.5, *(one.intensity / 2 for one in dots)), max(8 * ridge, *(4 * one.intensity for one in dots))
    )
    for (name, flop), color in zip(sorted(found.flop.items(), reverse=True), (BLUE, GREY), strict=False):
        axes.plot(x, np.minimum(flop, found.byte * x) / 1e9, color=color)
        axes.annotate(f"matrix product {name}, {flop / 1e9:.0f} GFLOP/s", (x[-1], flop / 1e9), (-4, 4), va="bottom",
                      textcoords="offset points", ha="right", color=color, fontsize=9)  # fmt: skip
    start = (x[0] * 1.3, found.byte * x[0] * 1.3 / 1e9)
    axes.annotate(f"memory, {found.byte / 1e9:.0f} GB/s", start, (10, -8), color=GREY, va="top", fontsize=9,
                  textcoords="offset points")  # fmt: skip
    for one in dots:
        axes.plot(one.intensity, one.flop_s / 1e9, "o", color=ORANGE)
        axes.annotate(one.name, (one.intensity, one.flop_s / 1e9), (7, -3), textcoords="offset points", fontsize=9)
    axes.set(xscale="log", yscale="log", xlabel="operations per byte read or written by an operator", ylabel="GFLOP/s")
    axes.set_title(f"training on {cores} cores", fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    return figure
