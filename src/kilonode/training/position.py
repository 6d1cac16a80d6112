"""Where a training is: with the tensors, all that a checkpoint holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from kilonode.comm import Comm
from kilonode.records import Json
from kilonode.training.noise import NoiseSums
from kilonode.training.timing import Spent


@dataclass
class Progress:
    """Steps and epochs done, the best so far, and sums of the epoch that is not over.

    ``loss_sum``, ``loss_count`` and ``noise`` are this rank's own, ``spent`` is looked at on rank 0; all else is the
    same on every rank.
    """

    epoch: int = 0
    step_in_epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    best: float = math.inf
    best_epoch: int = -1
    records_bytes: int = 0
    done: bool = False
    noise: NoiseSums = field(default_factory=NoiseSums)
    spent: Spent = field(default_factory=Spent)

    def sums(self) -> list[float]:
        """What this rank has of the epoch so far, to be added over ranks."""
        return [self.loss_sum, self.loss_count, *self.noise.values()]

    def take(self, everybodys: Sequence[Sequence[float]], comm: Comm) -> None:
        """Put back what each rank's ``sums`` gave; of another number of ranks rank 0 takes over all."""
        mine = [0.0] * len(everybodys[0])
        if len(everybodys) == comm.size:
            mine = list(everybodys[comm.rank])
        elif comm.is_root:
            mine = [sum(part) for part in zip(*everybodys, strict=True)]
        self.loss_sum, self.loss_count, self.noise = mine[0], int(mine[1]), NoiseSums(*mine[2:])

    def forget(self) -> None:
        """A new epoch begins: its sums are zero."""
        self.loss_sum, self.loss_count, self.noise = 0.0, 0, NoiseSums()

    def to_json(self) -> Json:
        """For a checkpoint."""
        return {**asdict(self), "best": None if math.isinf(self.best) else self.best}

    @classmethod
    def from_json(cls, state: Json) -> Progress:
        """What ``to_json`` gave, with anything else beside it."""
        named = {name: state[name] for name in vars(cls())}
        named["best"] = math.inf if state["best"] is None else state["best"]
        return cls(**{**named, "noise": NoiseSums(**state["noise"]), "spent": Spent(**state["spent"])})
