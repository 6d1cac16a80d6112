"""All samples of one run: kinds of events through the detector, labelled, shuffled, counted.

The run is the split group. Everything depends on (seed, run, settings) and nothing else, so runs may be made in
any order by any number of ranks. Physics and detector noise have streams of their own: other noise, same physics.

Shape legend: N pairs, M singles, F flashes, H 8 rings, W 24 columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kilonode.cases.contract import Arrays, Tables
from kilonode.cases.reactor_neutrinos import detector, events
from kilonode.cases.reactor_neutrinos.events import Flashes, Process

CASE_ID = 5
PHYSICS, NOISE = 0, detector.DETECTOR_STREAM
"""Streams; 2 (label errors) and 3 (augmentation) are kept for others."""

ANTINEUTRINO, ACCIDENTAL, LITHIUM9 = 0, 1, 2
NOT_ACCIDENTAL, PHYSICAL, SHUFFLED = 0, 1, 2
PROMPT, DELAYED, MUON, FLASHER, OTHER = range(5)


def simulate(seed: int, group: int, settings: Mapping[str, Any]) -> Tables:
    """Make one run.

    Parameters
    ----------
    seed : int
        Seed of the data set.
    group : int
        Run number; the detector is ``group % settings["detectors"]``.
    settings : Mapping
        ``detectors`` and ``per_run`` (counts: ``antineutrino``, ``physical``, ``shuffled``, ``lithium9``, and
        ``single`` of each of five classes); ``dark_pe`` (mean dark counts of a tube, pe) and
        ``neutron_m`` (mean distance from positron to capture, m).

    Returns
    -------
    Tables
        ``pairs`` and ``singles`` with the fields, shapes and dtypes of case.yaml.

    Raises
    ------
    ValueError
        More shuffled pairs than antineutrino pairs, or fewer than two to shuffle.
    """
    physics = detector.stream(seed, CASE_ID, PHYSICS, 0, group)
    noise = detector.stream(seed, CASE_ID, NOISE, 0, group)
    number = group % int(settings["detectors"])
    state = detector.tubes(seed, CASE_ID, number, group)
    tables = {"pairs": _pairs(physics, noise, state, settings), "singles": _singles(physics, noise, state, settings)}
    for arrays in tables.values():
        count = len(arrays["truth/event"])
        order = physics.permutation(count)
        for field, array in arrays.items():
            arrays[field] = array[order]
        arrays["group"] = np.full(count, group, np.int64)
        arrays["detector"] = np.full(count, number, np.int64)
        arrays["sample_id"] = group * count + np.arange(count, dtype=np.int64)
    return tables


def _pairs(
    physics: np.random.Generator, noise: np.random.Generator, state: detector.Tubes, settings: Mapping[str, Any]
) -> Arrays:
    """Pairs in the order antineutrino, physical, shuffled, lithium-9, with their labels and times."""
    count = settings["per_run"]
    signal, physical, shuffled, lithium = (int(count[k]) for k in ("antineutrino", "physical", "shuffled", "lithium9"))
    step = float(settings["neutron_m"])
    dark = float(settings["dark_pe"])
    made = [signal, physical, lithium]

    born, decayed = events.in_target(physics, signal), events.on_track(physics, lithium)
    prompts = [events.positron(physics, born), events.radioactive(physics, physical), events.electron(physics, decayed)]
    delayeds = [
        events.capture(physics, events.captured(physics, born, step)),
        events.capture(physics, events.in_target(physics, physical), Process.NEUTRON_LIKE),
        events.capture(physics, events.captured(physics, decayed, step)),
    ]
    prompt_x, prompt_truth = _record(prompts, state, noise, dark)
    delayed_x, delayed_truth = _record(delayeds, state, noise, dark)

    # Row of the prompt and of the delayed flash of every pair; shuffled pairs use those of antineutrinos again.
    delayed_of, prompt_of = _shuffle(physics, signal, shuffled)
    rows = np.arange(sum(made))
    before, after = rows[: signal + physical], rows[signal + physical :]
    prompt_row = np.concatenate([before, prompt_of, after])
    delayed_row = np.concatenate([before, delayed_of, after])
    sizes = [signal, physical, shuffled, lithium]
    dt = _times(physics, sizes)
    truth = np.stack([prompt_truth[prompt_row], delayed_truth[delayed_row]], axis=1)
    truth[:, 1, 4] = dt
    gap = [events.MUON_GAP_MS] * 3 + [events.LITHIUM_MS]
    return {
        "pairs": np.concatenate([prompt_x[prompt_row], delayed_x[delayed_row]], axis=1),
        "y_pair": np.repeat(np.array([ANTINEUTRINO, ACCIDENTAL, ACCIDENTAL, LITHIUM9], np.uint8), sizes),
        "accidental": np.repeat(np.array([NOT_ACCIDENTAL, PHYSICAL, SHUFFLED, NOT_ACCIDENTAL], np.uint8), sizes),
        "dt": dt,
        "dt_muon": physics.exponential(np.repeat(gap, sizes)).astype(np.float32),
        "truth/event": truth,
    }


def _singles(
    physics: np.random.Generator, noise: np.random.Generator, state: detector.Tubes, settings: Mapping[str, Any]
) -> Arrays:
    """Equal numbers of the five kinds of single flashes."""
    n = int(settings["per_run"]["single"])
    dark = float(settings["dark_pe"])
    born = events.in_target(physics, n)
    flashes = [
        events.positron(physics, born),
        events.capture(physics, events.in_target(physics, n)),
        events.muon(physics, n),
        events.low_energy(physics, n),
    ]
    spots, spots_truth = events.flasher(physics, n)
    seen, truth = _record(flashes, state, noise, dark)
    flashed, _ = detector.respond(spots, spots_truth[:, 1:4], state, noise, dark)
    kinds = [PROMPT, DELAYED, MUON, OTHER, FLASHER]
    return {
        "singles": np.concatenate([seen[:, 0], flashed]),
        "y_single": np.repeat(np.array(kinds, np.uint8), n),
        "truth/event": np.concatenate([truth, spots_truth]),
    }


def _record(
    flashes: list[Flashes], state: detector.Tubes, noise: np.random.Generator, dark: float
) -> tuple[np.ndarray, np.ndarray]:
    """Charge and time (F, 2, 8, 24) and truth (F, 6) of all flashes, in the order given."""
    mean = np.concatenate([detector.light(f.position, f.energy) for f in flashes])
    centre = np.concatenate([f.centre for f in flashes])
    return (
        np.stack(detector.respond(mean, centre, state, noise, dark), axis=1),
        np.concatenate([f.truth for f in flashes]),
    )


def _shuffle(physics: np.random.Generator, pairs: int, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of delayed and of prompt flashes that do not belong together, each used once.

    One random cycle through all pairs: the prompt of each goes to the next, so none keeps its own.
    """
    if wanted > pairs or (wanted and pairs < 2):
        raise ValueError(
            f"shuffled pairs need at least as many antineutrino pairs, and two, got {wanted} and {pairs} "
            "(simulation.per_run); raise antineutrino or lower shuffled"
        )
    cycle = physics.permutation(pairs)
    return cycle[:wanted], np.roll(cycle, 1)[:wanted]


def _times(physics: np.random.Generator, sizes: list[int]) -> np.ndarray:
    """Prompt-delayed times, float32 us: capture time for correlated pairs, uniform for chance ones."""
    signal, physical, shuffled, lithium = sizes
    chance = physics.uniform(0, events.PAIR_WINDOW_US, physical + shuffled)
    true = physics.exponential(events.CAPTURE_US, signal + lithium)
    return np.concatenate([true[:signal], chance, true[signal:]]).astype(np.float32)
