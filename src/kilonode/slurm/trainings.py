"""How far each training is: from the records and the log that it writes anyway."""

from __future__ import annotations

import json
import re
from pathlib import Path

from kilonode.errors import UserError
from kilonode.records import Json, read_json

SILENT_S = 300.0
"""A training without an end that writes nothing for so long is ``silent``, not ``running``: it speaks every 30 s."""
TAIL = 64 << 10
"""Bytes at the end of a log that are read."""
_STEP = re.compile(r"^train: step: (\d+) of (\d+), (\d+) samples/s, (.+) left$", re.MULTILINE)
_EPOCH = re.compile(r"^train: epoch (\d+) of (\d+), .*? (\d+) samples/s(?:, at most (.+) left)?$", re.MULTILINE)
_END = re.compile(r"^train: (complete|stopped|diverged) after epoch", re.MULTILINE)
_CLOCK = re.compile(r"(?:(\d+) h )?(?:(\d+) min ?)?(?:(\d+) s)?")


def found(folder: Path, now: float) -> list[Json]:
    """Every training under ``results/``, newest word last.

    Parameters
    ----------
    folder : Path
        Where the workflow runs.
    now : float
        Seconds since the epoch.
    """
    states = (
        path for name in ("status.json", "metrics.jsonl") for path in folder.glob(f"results/*/*/*/seed-*/state/{name}")
    )
    runs = {path.parents[1].relative_to(folder / "results") for path in states}
    runs |= {run for log in folder.glob("logs/train/*.log") if (run := _run(log)) is not None}  # in their first epoch
    return sorted((_training(folder, run, now) for run in runs), key=lambda row: (-row["age_s"], row["run"]))


def _log(run: Path) -> str:
    """Name of the log of ``case/data/task/seed-n``."""
    return ".".join(run.parts) + ".log"


def _run(log: Path) -> Path | None:
    parts = log.name.removesuffix(".log").split(".")
    return Path(*parts) if len(parts) == 4 else None


def _training(folder: Path, run: Path, now: float) -> Json:
    state, log = folder / "results" / run / "state", folder / "logs/train" / _log(run)
    row: Json = dict.fromkeys(("epoch", "epochs", "step", "steps", "samples_per_s", "validation_loss", "left_s"))
    row |= {"run": str(run), "reason": "", **_recorded(state), **_said(log)}
    times = [path.stat().st_mtime for path in (log, state / "metrics.jsonl", state / "status.json") if path.is_file()]
    row["age_s"] = max(0.0, now - max(times, default=now))
    ended = _ended(state, log)
    row["state"] = str(ended.get("status", "running" if row["age_s"] < SILENT_S else "silent"))
    row["reason"] = str(ended.get("reason", ""))
    return row


def _recorded(state: Path) -> Json:
    """The last epoch in the records; a line that is being written is left out."""
    path = state / "metrics.jsonl"
    if not path.is_file():
        return {}
    for line in reversed(path.read_text().splitlines()):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        return {key: record.get(key) for key in ("epoch", "step", "samples_per_s", "validation_loss")}
    return {}


def _said(log: Path) -> Json:
    """The last progress in the log: steps are said within an epoch, so they may be ahead of the records."""
    text = _tail(log)
    steps, epochs = list(_STEP.finditer(text)), list(_EPOCH.finditer(text))
    said: Json = {}
    if epochs:
        said = {"epoch": int(epochs[-1][1]), "epochs": int(epochs[-1][2]), "left_s": seconds(epochs[-1][4])}
    if steps:
        said["steps"] = int(steps[-1][2])
    if steps and (not epochs or steps[-1].start() > epochs[-1].start()):
        _, _, rate, left = steps[-1].groups()
        said |= {"step": int(steps[-1][1]), "samples_per_s": float(rate), "left_s": seconds(left)}
    return said


def _ended(state: Path, log: Path) -> Json:
    """The status that the training ended with; nothing if it was started again since, or has not ended."""
    path = state / "status.json"
    text = _tail(log)
    if not path.is_file() or (text and _END.search(text) is None):
        return {}
    records = state / "metrics.jsonl"
    if not text and records.is_file() and records.stat().st_mtime > path.stat().st_mtime:
        return {}
    try:
        status: Json = read_json(path)
    except UserError:  # half of a file that is not ours
        return {}
    return status


def _tail(log: Path) -> str:
    if not log.is_file():
        return ""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - TAIL))
        return stream.read().decode(errors="replace")


def seconds(said: str | None) -> float | None:
    """What ``progress.clock`` said, in seconds."""
    match = _CLOCK.fullmatch(said or "")
    if match is None or not any(match.groups()):
        return None
    hours, minutes, rest = (int(part or 0) for part in match.groups())
    return float((hours * 60 + minutes) * 60 + rest)
