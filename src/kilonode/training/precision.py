"""How a step is computed: number format, memory layout, compiled or not. Stated in ``training``, or measured once.

``precision: fp32 | bf16 | auto`` and ``layout: default | channels_last | auto``. ``auto`` is a measured choice: rank 0
times the real network on a real batch, all ranks take its answer, and it is written into the state folder before the
first step, so that whoever continues or repeats the run there computes the same bits. In another folder or on another
machine it may choose differently; whoever needs equal bits there states the choice.

Weights, gradients and optimiser stay fp32 and in torch's default layout whatever is chosen (Horovod reduces nothing
else, fused optimisers believe that all they are given lies alike, and checkpoints mean the same everywhere): bf16 is
autocast, and a convolution sees a copy of its weights in the other layout, which its output then has.
"""

from __future__ import annotations

import copy
import ctypes
import dataclasses
import statistics
import time
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kilonode.cases.contract import Batch
from kilonode.cases.layers import Corruption
from kilonode.comm import Comm
from kilonode.data.loader import Loader
from kilonode.data.transform import Scaler
from kilonode.records import Json, read_json, write_json

AUTO = "auto"
FILE = "precision.json"
FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""What /proc/cpuinfo says where bf16 products are an instruction (x86, x86, Arm)."""
FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}
M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD = -3, -1, -2
"""Of <malloc.h>."""
ROUNDS = 5
BUDGET_S = 10.0
"""Seconds after which the probe decides with the rounds it has; slow networks are told apart by few."""
MARGIN = 1.03
"""How much faster another choice must be to replace plain fp32 in the default layout."""


@dataclass(frozen=True)
class Choice:
    """How a step is computed.

    Attributes
    ----------
    precision : str
        fp32 or bf16.
    layout : str
        default or channels_last.
    compiled : bool
        Whether ``torch.compile`` makes the loss.
    probe_ms : dict
        What was measured to decide, milliseconds of a forward and backward pass; empty if nothing was.
    """

    precision: str = "fp32"
    layout: str = "default"
    compiled: bool = False
    probe_ms: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """As the probe lists it."""
        return f"{self.precision} {self.layout}"


def keep_memory() -> None:
    """Let freed memory stay with the process (glibc): by default activations go back to the kernel every step.

    One thread, CPU time of a step of a 16-filter autoencoder: 11.8 ms instead of 16.1.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for name, value in ((M_MMAP_THRESHOLD, 32 << 20), (M_TRIM_THRESHOLD, 1 << 30), (M_TOP_PAD, 64 << 20)):
            mallopt(name, value)


def native_bf16(device: str = "cpu") -> bool:
    """Whether the device multiplies bf16 in hardware."""
    if device != "cpu":
        return torch.cuda.is_bf16_supported()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return not FLAGS.isdisjoint(flags.split())


def candidates(rules: Json, model: torch.nn.Module, x: Any, device: str = "cpu") -> list[Choice]:
    """What ``rules`` allow, plain fp32 first if it is among them; one where nothing is left to measure."""
    convolves = any(isinstance(layer, torch.nn.modules.conv._ConvNd) for layer in model.modules())
    lasts = ["default", "channels_last"] if convolves and getattr(x, "ndim", 0) in FORMATS else ["default"]
    layouts = lasts if rules["layout"] == AUTO else [rules["layout"]]
    halves = ["fp32", "bf16"] if native_bf16(device) else ["fp32"]
    precisions = halves if rules["precision"] == AUTO else [rules["precision"]]
    return [Choice(precision, layout, rules["compile"]) for precision in precisions for layout in layouts]


def prepare(model: Any, choice: Choice) -> Any:
    """The same model, whose ``losses`` are computed as chosen; always fp32 (B,)."""
    if choice.layout == "channels_last":
        for layer in model.modules():
            if isinstance(layer, torch.nn.Conv2d | torch.nn.Conv3d):
                layer._conv_forward = _with_channels_last(layer)  # type: ignore[method-assign]
            elif isinstance(layer, torch.nn.ConvTranspose2d | torch.nn.ConvTranspose3d):
                layer.register_forward_hook(_to_channels_last)
    if choice.compiled:
        for layer in model.modules():
            if isinstance(layer, Corruption):  # the compiler folds the constants of its generator beyond 64 bits
                layer.forward = torch.compiler.disable(layer.forward)  # type: ignore
    losses = torch.compile(model.losses, dynamic=False) if choice.compiled else model.losses

    def chosen(batch: Batch) -> torch.Tensor:
        with torch.autocast(batch.key.device.type, torch.bfloat16, enabled=choice.precision == "bf16"):
            found: torch.Tensor = losses(batch)
        return found.float()

    if choice.compiled or choice.precision != "fp32":
        model.losses = chosen
    return model


def _to_channels_last(layer: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
    """What a transposed convolution gives; its weights need the other layout for nothing else."""
    return output.contiguous(memory_format=FORMATS[output.ndim])


def _with_channels_last(layer: Any) -> Any:
    """The convolution of a layer with its weights as channels_last; a clone, because with one channel all looks so."""
    plain = layer._conv_forward

    def forward(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> Any:
        return plain(x, weight.clone(memory_format=FORMATS[weight.ndim]), bias)

    return forward


def probe(model: Any, batch: Batch, choices: list[Choice]) -> Choice:
    """The fastest on this model and batch: median of a few forward and backward passes, taking turns.

    The model and torch's generator are left as they were.
    """
    if len(choices) == 1:
        return choices[0]
    state = torch.get_rng_state()
    copies = [prepare(copy.deepcopy(model), choice) for choice in choices]  # of a model not yet prepared
    times: list[list[float]] = [[] for _ in choices]
    began = time.monotonic()
    for number in range(1 + ROUNDS):  # the first warms up
        for spent, made in zip(times, copies, strict=True):
            start = time.perf_counter()
            made.zero_grad()
            made.losses(batch).mean().backward()
            if batch.key.device.type == "cuda":
                torch.cuda.synchronize()
            spent.append(time.perf_counter() - start)
        if number and time.monotonic() - began > BUDGET_S:
            break
    torch.set_rng_state(state)
    found = {choice.name: statistics.median(spent[1:]) * 1e3 for choice, spent in zip(choices, times, strict=True)}
    best = min(choices, key=lambda choice: found[choice.name] * (1.0 if choice is choices[0] else MARGIN))
    return dataclasses.replace(best, probe_ms=found)


def choose(
    rules: Json,
    model: Any,
    source: tuple[Loader, Scaler, str | None],
    comm: Comm,
    state: Path,
    identity: str,
    device: str,
) -> Choice:
    """The choice of this run: stated, remembered from its first start, or measured now; the same on every rank.

    Parameters
    ----------
    rules : dict
        A complete ``training`` section.
    model : contract.Model
        The network.
    source : tuple of Loader, Scaler, str or None
        Where rank 0 finds a share of its usual size, how it becomes inputs, and the field with the labels.
    comm : Comm
        The ranks.
    state : Path
        Where the choice is remembered.
    identity : str
        Of the run; a choice made for another one is not taken.
    device : str
        What torch computes on.
    """
    if AUTO not in (rules["precision"], rules["layout"]):
        return Choice(rules["precision"], rules["layout"], rules["compile"])
    chosen: Choice | None = None
    if comm.is_root:
        path = state / FILE
        known = read_json(path) if path.exists() else {}
        if known.get("identity") == identity:
            chosen = Choice(**known["choice"])
        else:
            batch = _batch(*source, device)
            chosen = probe(copy.deepcopy(model).to(device).train(), batch, candidates(rules, model, batch.x, device))
            write_json(path, {"identity": identity, "choice": asdict(chosen)})
    found: Choice = comm.broadcast(chosen)
    return found


def _batch(loader: Loader, scaler: Scaler, target: str | None, device: str) -> Batch:
    with closing(loader.epoch(0)) as shares:
        share = next(shares)
    x = torch.from_numpy(scaler(share.fields[scaler.field])).to(device)
    y = torch.from_numpy(share.fields[target].astype(np.int64)).to(device) if target else None
    return Batch(x, y, torch.from_numpy(share.rows.astype(np.int64)).to(device))
