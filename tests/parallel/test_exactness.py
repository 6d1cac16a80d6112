"""N ranks compute what one computes: gradients of one global batch, weights after ten steps, validation.

For every case and task that globbing finds; for each case's first task also with each rank's share in three pieces,
with a network that normalises over the batch, and with the optimisers of large batches.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from kilonode import cases, config
from kilonode.comm import BACKENDS

pytestmark = [pytest.mark.mpi, pytest.mark.slow]
Results = dict[str, np.ndarray]
Compute = Callable[..., Results]
TASKS = [(case, task, "plain") for case in cases.names() for task in config.resolve(case, "toy")["tasks"]]
FIRST = list({case: (case, task) for case, task, _ in reversed(TASKS)}.values())
WHAT = [" ".join(what) for what in TASKS]
VARIANTS = ("in pieces", "normalised", "lars", "lamb")
PIECES, NORMALISED, LARS, LAMB = ([f"{case} {task} {variant}" for case, task in FIRST] for variant in VARIANTS)
ASKED = [*TASKS, *((*what, variant) for what in FIRST for variant in VARIANTS)]
TOLERANCE = 1e-5
NAMES = ("whole", "last", "weights")
LOSS = 1e-6


@pytest.fixture(scope="module")
def computed(good: Callable[..., object], stores: Path, tmp_path_factory: pytest.TempPathFactory) -> Compute:
    """What ``exact`` of ranks.py found; started once for each setting, ``again`` once more."""

    @cache
    def compute(size: int, backend: str = "horovod", nodes: tuple[int, ...] = (), again: bool = False) -> Results:
        folder = tmp_path_factory.mktemp("exact")
        if size == 1:
            script = Path(__file__).with_name("ranks.py")
            words = [sys.executable, script, "exact", folder, stores, backend, json.dumps(ASKED)]
            subprocess.run([str(word) for word in words], check=True)
        else:
            good(size, "exact", folder, stores, backend, json.dumps(ASKED), nodes=nodes)
        with np.load(folder / "out.npz") as content:
            return dict(content)

    return compute


def deviation(found: np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference, in units of the largest value."""
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize("size", [2, 3, 4])
def test_the_shares_are_uneven_and_some_are_empty(size: int, computed: Compute) -> None:
    """Of batches of 13 and one of 1."""
    shares = computed(size)[f"{WHAT[0]} parts"]
    assert shares.sum(0).tolist() == [13] * 9 + [1]
    assert np.ptp(shares[:, 0]) == 1
    assert sorted(shares[:, -1]) == [0] * (size - 1) + [1]


@pytest.mark.parametrize("task", [*WHAT, *PIECES, *NORMALISED, *LARS, *LAMB])
@pytest.mark.parametrize("size", [2, 3, 4])
def test_ranks_give_the_numbers_of_one(size: int, task: str, computed: Compute) -> None:
    alone, many = computed(1), computed(size)
    for name in NAMES:
        assert np.isfinite(alone[f"{task} {name}"]).all()
        assert deviation(many[f"{task} {name}"], alone[f"{task} {name}"]) < TOLERANCE, name
    assert many[f"{task} validation"] == pytest.approx(alone[f"{task} validation"], rel=LOSS)
    assert many[f"{task} agree"] == 1  # all ranks have the same bits of both


@pytest.mark.parametrize("task", WHAT)
def test_dividing_by_ranks_instead_of_samples_would_be_seen(task: str, computed: Compute) -> None:
    wrong = computed(3)[f"{task} wrong"]
    assert deviation(wrong, computed(1)[f"{task} whole"]) > 100 * TOLERANCE


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("task", PIECES)
def test_pieces_give_the_numbers_of_the_whole(task: str, size: int, computed: Compute) -> None:
    """Four ranks have shares of three and four samples, and at the end of one and none: fewer than pieces."""
    whole, pieces = task.replace("in pieces", "plain"), computed(size)
    for name in NAMES:
        assert deviation(pieces[f"{task} {name}"], computed(1)[f"{whole} {name}"]) < TOLERANCE, name


@pytest.mark.parametrize("task", NORMALISED)
def test_normalising_over_one_ranks_samples_would_be_seen(task: str, computed: Compute) -> None:
    apart = computed(3)[f"{task} apart"]
    assert deviation(apart, computed(1)[f"{task} whole"]) > 100 * TOLERANCE


@pytest.mark.parametrize("task", [*WHAT, *PIECES, *NORMALISED])
def test_back_ends_agree(task: str, computed: Compute) -> None:
    horovod, mpi4py = (computed(2, backend) for backend in BACKENDS)
    for name in NAMES:
        assert deviation(mpi4py[f"{task} {name}"], horovod[f"{task} {name}"]) < TOLERANCE, name
    assert mpi4py[f"{task} validation"] == horovod[f"{task} validation"]


@pytest.mark.parametrize("nodes", [(1, 1, 1), (1, 2)])
def test_training_has_the_same_bits_wherever_the_ranks_are(nodes: tuple[int, ...], computed: Compute) -> None:
    here, there = computed(3), computed(3, nodes=nodes)
    assert {name for name in here if here[name].tobytes() != there[name].tobytes()} == set()


def test_training_has_the_same_bits_when_it_is_repeated(computed: Compute) -> None:
    once, again = computed(4), computed(4, again=True)
    assert {name for name in once if once[name].tobytes() != again[name].tobytes()} == set()
