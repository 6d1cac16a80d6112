"""What a training leaves behind while it runs: ``metrics.jsonl``, TensorBoard events, a line on the screen."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

from kilonode.errors import UserError
from kilonode.progress import clock
from kilonode.records import Json, finite
from kilonode.training import events

NAME = "metrics.jsonl"
PATTERN = "events.out.tfevents.*"


class Records:
    """Writes the records of a run on rank 0; the events are made from them, so that both always say the same.

    Parameters
    ----------
    state : Path
        The run's state folder.
    """

    def __init__(self, state: Path) -> None:
        self._path, self._events = state / NAME, state / f"events.out.tfevents.{int(time.time())}.kilonode"

    def start(self, size: int) -> None:
        """Cut the records back to the ``size`` bytes that a checkpoint knows of, and write the events anew."""
        for other in self._path.parent.glob(PATTERN):
            other.unlink()
        lines: list[str] = []
        if self._path.exists():
            with self._path.open("r+") as stream:
                stream.truncate(size)
            lines = self._path.read_text().splitlines()
        parts = [events.header(time.time()), *(_event(json.loads(line)) for line in lines)]
        events.write(self._events, b"".join(map(events.record, parts)), append=False)

    def add(self, record: Json) -> int:
        """Add an epoch.

        Returns
        -------
        int
            Bytes of all records so far, safely on disk: the next checkpoint counts on them.

        Raises
        ------
        UserError
            The disk is full.
        """
        record = {**finite(record), "time": time.time()}
        try:
            with self._path.open("a") as stream:
                stream.write(json.dumps(record) + "\n")
                stream.flush()
                os.fsync(stream.fileno())
                size = stream.tell()
            events.write(self._events, events.record(_event(record)), append=True)
        except OSError as error:
            raise UserError(
                f"expected to write, got {error.strerror or error} ({error.filename or self._path}); check permissions "
                "and free space there, then run the same command to continue from the last checkpoint"
            ) from error
        return size


def line(record: Json, epochs: int, best: bool, left_s: float | None) -> str:
    """An epoch for the screen."""
    mark = " (best)" if best else ""
    left = "" if left_s is None else f", at most {clock(left_s)} left"
    return (
        f"train: epoch {record['epoch']} of {epochs}, loss {record['train_loss']:.5g}, "
        f"validation {record['validation_loss']:.5g}{mark}, {record['samples_per_s']:.0f} samples/s{left}"
    )


def _event(record: Mapping[str, object]) -> bytes:
    """The numbers of a record as one event at its optimiser step; nested ones as ``name/part``."""
    scalars: dict[str, float] = {}
    for name, value in record.items():
        parts = value.items() if isinstance(value, dict) else [("", value)]
        for part, number in parts:
            if isinstance(number, int | float):
                scalars[f"{name}/{part}" if part else name] = float(number)
    step, wall_time = (scalars.pop(name) for name in ("step", "time"))
    return events.event(wall_time, int(step), scalars)
