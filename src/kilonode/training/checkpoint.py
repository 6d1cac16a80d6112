"""Checkpoints: written by rank 0, complete or not at all, verified before they are used.

A checkpoint is two files: tensors (``.safetensors``: loading it can run no code) and, renamed into place after
it, a ``.json`` with the loop's state and the hashes of both. Without a matching pair there is no checkpoint.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from kilonode.comm import Comm
from kilonode.errors import UserError
from kilonode.records import Json, complete, digest, finite, read_json, write_json

Tensors = dict[str, torch.Tensor]


def save(folder: Path, step: int, tensors: Tensors, state: Json, keep: int = 2) -> None:
    """Write a checkpoint and remove all but it and the ``keep`` - 1 before it. Called on rank 0.

    The best weights so far are part of every checkpoint, so they are kept whichever remain.

    Parameters
    ----------
    folder : Path
        The run's state folder.
    step : int
        Optimiser steps done; names the files.
    tensors : dict
        Everything that is a tensor.
    state : dict
        Everything else, as JSON.
    keep : int
        How many to keep. With one, a broken newest checkpoint leaves none.
    """
    path = folder / f"checkpoint-{step:09d}.safetensors"
    content = pack(tensors)
    with complete(path) as temporary:
        temporary.write_bytes(content)
    described = finite({**state, "sha256": hashlib.sha256(content).hexdigest()})
    write_json(path.with_suffix(".json"), {**described, "digest": digest(described)})
    # Whatever is newer was passed over when this run continued: broken, or another run's. A killed run leaves
    # temporary files and tensors without a description.
    kept = sorted(other.stem for other in folder.glob("checkpoint-*.json") if other.stem <= path.stem)[-keep:]
    for other in folder.glob("*checkpoint-*"):
        if other.stem not in kept:
            other.unlink()


def pack(tensors: Tensors, metadata: dict[str, str] | None = None) -> bytes:
    """The content of a ``.safetensors`` file. Its own writer hides a full disk behind an error of its own kind."""
    return safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata)


def clear(folder: Path) -> None:
    """Remove every checkpoint and the records of the run: a new run starts."""
    for pattern in ("*checkpoint-*", "metrics.jsonl", "events.out.tfevents.*", "status.json"):
        for path in folder.glob(pattern):
            path.unlink()


def newest(folder: Path, identity: str) -> tuple[Tensors, Json] | None:
    """The newest checkpoint whose hashes hold and which belongs to this run; a broken one is named and passed over."""
    for path in sorted(folder.glob("checkpoint-*.json"), reverse=True):
        try:
            state = _state(path)
            if state["identity"] == identity:
                return _tensors(path.with_suffix(".safetensors"), state["sha256"]), state
        except UserError as error:
            print(f"warning: {error}; trying the one before", file=sys.stderr)
    return None


def _state(path: Path) -> Json:
    content = read_json(path)
    if not isinstance(content, dict) or content.pop("digest", None) != digest(content):
        raise UserError(f"expected the checkpoint as it was written, got another content ({path})")
    return content


def _tensors(path: Path, sha256: str) -> Tensors:
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise UserError(f"expected the checkpoint as it was written, got another content ({path})")
        return safetensors.torch.load(content)
    except FileNotFoundError:
        raise UserError(f"expected the tensors of a checkpoint, got no file ({path})") from None
    except safetensors.SafetensorError as error:
        raise UserError(f"expected the tensors of a checkpoint, got {error} ({path})") from None


def restore(folder: Path, identity: str, comm: Comm) -> tuple[Tensors, Json] | None:
    """``newest`` on every rank; only rank 0 reads."""
    found = newest(folder, identity) if comm.is_root else None
    described = None
    if found is not None:
        described = ({name: (tensor.shape, tensor.dtype) for name, tensor in found[0].items()}, found[1])
    described = comm.broadcast(described)
    if described is None:
        return None
    shapes, state = described
    tensors = (
        found[0] if found is not None else {name: torch.empty(spec[0], dtype=spec[1]) for name, spec in shapes.items()}
    )
    comm.share(tensors)
    return tensors, state


def flat(optimizer: torch.optim.Optimizer) -> Tensors:
    """An optimiser's state as named tensors, ``optimizer.<parameter>.<name>``."""
    state = optimizer.state_dict()["state"]
    return {
        f"optimizer.{index}.{name}": (value if torch.is_tensor(value) else torch.tensor(value)).cpu()
        for index, values in state.items()
        for name, value in values.items()
        if value is not None
    }


def unflatten(optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    """Put back what ``flat`` gave."""
    content = optimizer.state_dict()
    content["state"] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            content["state"].setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict(content)


def random_state(device: torch.device) -> Tensors:
    """States of torch's generators on this rank, for networks that draw from them (dropout)."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_random_state(states: Tensors, device: torch.device) -> None:
    """Put back what ``random_state`` gave; a run that moves to another kind of device keeps that one's own state."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def with_prefix(prefix: str, tensors: Tensors) -> Tensors:
    """Names prefixed."""
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def under_prefix(prefix: str, tensors: Tensors) -> Tensors:
    """The tensors of this prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
