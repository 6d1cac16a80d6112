"""Where a training is survives JSON, and any number of ranks may go on from it."""

from __future__ import annotations

import json
import math

import pytest

from kilonode.comm import Comm
from kilonode.training.noise import NoiseSums
from kilonode.training.position import Progress
from kilonode.training.timing import Spent


def some() -> Progress:
    found = Progress(epoch=2, step_in_epoch=7, step=39, loss_sum=1.25, loss_count=70, best=0.5, best_epoch=1)
    found.noise.part(2.0, 16)
    found.noise.whole(1.0, 64)
    found.spent.step(0.1, 0.02)
    return found


@pytest.mark.parametrize("progress", [Progress(), some()])
def test_it_comes_back_as_it_was(progress: Progress) -> None:
    text = json.dumps({**progress.to_json(), "identity": "something beside it"}, allow_nan=False)
    assert Progress.from_json(json.loads(text)) == progress
    assert (progress.to_json()["best"] is None) == math.isinf(progress.best)


def test_equally_many_ranks_get_their_own_and_of_others_rank_0_gets_all() -> None:
    parts = [[float(10 * rank + k) for k in range(8)] for rank in range(3)]
    for rank in range(3):
        comm, mine = Comm(), Progress()
        comm.rank, comm.size = rank, 3
        mine.take(parts, comm)
        assert mine.sums() == parts[rank]
    for size in (1, 2, 4):
        taken = []
        for rank in range(size):
            comm, mine = Comm(), Progress()
            comm.rank, comm.size = rank, size
            mine.take(parts, comm)
            taken.append(mine.sums())
        assert taken[0] == [sum(part) for part in zip(*parts, strict=True)]
        assert not any(value for sums in taken[1:] for value in sums)


def test_a_new_epoch_forgets_its_sums_and_nothing_else() -> None:
    progress, before = some(), some()
    progress.forget()
    assert progress.sums() == [0.0] * 8
    assert (progress.noise, progress.spent, progress.step) == (NoiseSums(), before.spent, before.step)
    assert progress.spent != Spent()
