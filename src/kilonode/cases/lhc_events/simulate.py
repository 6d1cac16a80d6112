"""All events of one generator block: collisions, detector, jets, preselection, images.

The block is the split group. Everything depends on (seed, block, settings) and nothing else, so blocks may be made in
any order by any number of ranks. Physics and detector noise have streams of their own.

Shape legend: N events that are kept, A all events of a block, n pixels an axis.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kilonode.cases.contract import Arrays, Tables
from kilonode.cases.lhc_events import detector, generator, jets
from kilonode.cases.lhc_events.generator import PROCESSES, Particles

CASE_ID = 6
PHYSICS, NOISE = 0, 1
"""Streams; 2 (label errors) and 3 (augmentation) are kept for others."""
SIGNAL = "gluino"
NONE = 255
"""``truth/unseen_process`` where a row has no unseen event beside it."""
MOST_ROWS = 1_000_000


def simulate(seed: int, group: int, settings: Mapping[str, Any]) -> Tables:
    """Make one block.

    Parameters
    ----------
    seed : int
        Seed of the data set.
    group : int
        Number of the block.
    settings : Mapping
        ``per_block``: events to generate of each process of the ``events`` table (slices of QCD, gluino);
        ``unseen``: the same of processes that no training may see; ``pixels``: of an image, n;
        ``multiparton``: bool; ``pileup``: mean number of soft collisions in the same crossing; ``trimmed``: bool, jets.

    Returns
    -------
    Tables
        ``events``, and ``backgrounds`` without the signal, with the fields and dtypes of case.yaml. Only
        preselected events are kept. Beside them, in truth, stand events that training cannot open: in both tables
        the ``unseen`` processes, in ``backgrounds`` the signal too. What they stand beside means nothing.
    """
    wanted = {**settings["per_block"], **settings["unseen"]}
    blocks = {name: _generated(name, int(count), seed, group, settings) for name, count in wanted.items()}
    counts = np.array([block.events for block in blocks.values()])
    noise = _stream(seed, NOISE, group)
    kept = _kept(_overlaid(generator.together(blocks), seed, group, settings), noise, settings)
    name = np.repeat(np.array(list(blocks)), counts)[kept.pop("row")]
    kept |= {
        "process": np.array([PROCESSES[one].number for one in name], np.uint8),
        "weight": np.array([_weight(one, int(wanted[one])) for one in name]),
        "truth/generated": np.array([int(wanted[one]) for one in name], np.int32),
    }
    order = np.random.default_rng([seed, group]).permutation(len(name))
    kept, name = {field: array[order] for field, array in kept.items()}, name[order]
    unseen = np.isin(name, list(settings["unseen"]))
    signal = name == SIGNAL
    return {
        "events": _table(kept, ~unseen, unseen, group),
        "backgrounds": _table(kept, ~unseen & ~signal, unseen | signal, group),
    }


def _generated(name: str, count: int, seed: int, group: int, settings: Mapping[str, Any]) -> Particles:
    """Events of one process; its seed is its own, so another process more or less changes nothing."""
    rng = _stream(seed, PHYSICS, group, PROCESSES[name].number)
    return generator.generate(
        name, count, int(rng.integers(1, generator.MOST_SEED)), bool(settings.get("multiparton", False))
    )


def _overlaid(particles: Particles, seed: int, group: int, settings: Mapping[str, Any]) -> Particles:
    """Add soft collisions of the same bunch crossing to each event; none by default."""
    mean = float(settings.get("pileup", 0))
    if mean <= 0:
        return particles
    rng = _stream(seed, PHYSICS, group, PROCESSES["minimum_bias"].number)
    owner = np.repeat(np.arange(particles.events), rng.poisson(mean, particles.events))
    soft = generator.generate("minimum_bias", len(owner), int(rng.integers(1, generator.MOST_SEED)))
    event = np.concatenate([particles.event, owner[soft.event]])
    order = np.argsort(event, kind="stable")
    code = np.concatenate([particles.code, soft.code])[order]
    return Particles(event[order], code, np.concatenate([particles.momentum, soft.momentum])[order], particles.hard)


def _kept(particles: Particles, noise: np.random.Generator, settings: Mapping[str, Any]) -> Arrays:
    """Images, features and truth of the events that pass the preselection, and which of A they are (``row``)."""
    towers, tracks = detector.calorimeter(particles, noise), detector.tracks(particles, noise)
    found = jets.fat_jets(towers, particles.events, bool(settings.get("trimmed", False)))
    table = jets.features(found, particles.events)
    row = np.flatnonzero(jets.preselected(table))
    return {
        "row": row,
        "image": detector.images(towers, tracks, row, int(settings["pixels"])),
        "features": table[row],
        "pass_cuts": jets.signal_region(table[row]).astype(np.uint8),
        "truth/event": particles.hard[row].astype(np.float32),
    }


def _weight(name: str, count: int) -> float:
    """Events expected at 36 fb-1 for each event generated, if this block were all there is."""
    cross_section = PROCESSES[name].cross_section_mb
    return 0.0 if cross_section is None else cross_section * generator.MB_TO_FB * generator.LUMINOSITY_FB / count


def _table(kept: Arrays, chosen: np.ndarray, unseen: np.ndarray, group: int) -> Arrays:
    """Rows that may be trained on, each with an event beside it in truth that may not, as long as there are some."""
    columns = {name: array[chosen] for name, array in kept.items()}
    count = int(chosen.sum())
    beside = np.flatnonzero(unseen)[:count]
    for name, empty in (("image", 0), ("features", 0), ("process", NONE)):
        field = np.full((count, *kept[name].shape[1:]), empty, kept[name].dtype)
        field[: len(beside)] = kept[name][beside]
        columns[f"truth/unseen_{name}"] = field
    columns["label"] = (columns["process"] == PROCESSES[SIGNAL].number).astype(np.uint8)
    columns["group"] = np.full(count, group, np.int64)
    columns["sample_id"] = group * MOST_ROWS + np.arange(count, dtype=np.int64)
    return columns


def _stream(seed: int, stream: int, group: int, *process: int) -> np.random.Generator:
    """Random numbers of a block."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(CASE_ID, stream, 0, group, *process)))
