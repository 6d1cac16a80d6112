"""From the records of measured trainings to tables, curves, figures and the history."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kilonode.bench._measure import median
from kilonode.records import Json, figure, read_json, write_text
from kilonode.scaling import history
from kilonode.scaling.efficiency import KINDS, Ratio, Run, efficiencies, reached, run_of

TARGET = 0.95
"""Weak efficiency of the step on two cores of one node."""
QUIET = 0.15
"""Cores that other programs may use during a run that is judged or remembered; the system itself takes some."""
SHOWN = (
    *("step_p50", "step_p95", "step_p99", "step_p100", "input_wait", "communication_wait", "memory"),
    *("cores used by others", "samples_per_s"),
)
MEANT = ("host", "cpu", "ranks", "threads", "batch", "precision", "nodes", "repeat", "functional", "commit", "time")


@dataclass(frozen=True)
class Series:
    """Records that differ in their count alone.

    Attributes
    ----------
    name : str
        Of its files.
    over : str
        What is counted: nodes, or ranks of one machine.
    strong : bool
        Whether all counts share one batch.
    records : tuple of dict
        Of runs on cores of their own.
    functional : tuple of dict
        Of runs that show that it works, and no speed.
    """

    name: str
    over: str
    strong: bool
    records: tuple[Json, ...]
    functional: tuple[Json, ...]

    @property
    def runs(self) -> list[Run]:
        """What counts of each."""
        return [run_of(record) for record in self.records]

    @property
    def counts(self) -> list[int]:
        """Rising."""
        return sorted({run.count for run in self.runs})

    def values(self, name: str, count: int) -> list[float]:
        """A figure of all repeats at one count."""
        chosen = [record for record in self.records if run_of(record).count == count]
        return [row["value"] for record in chosen for row in record["figures"] if row["name"] == name]

    def others(self, counts: Sequence[int]) -> float:
        """Cores that other programs used at most during the runs at these counts."""
        return max(value for count in counts for value in self.values("cores used by others", count))


def series(records: Sequence[Json]) -> list[Series]:
    """Records sorted into series.

    Runs of one series have mode, input, threads, precision, epochs, ranks of a node and batch (of a rank, or of all) in
    common, and the processor. The name says the first two, and the rest where two series would share it.
    """
    groups: dict[tuple[object, ...], list[Json]] = {}
    for record in records:
        groups.setdefault(_kind(record["conditions"]), []).append(record)
    short = [f"{kind[0]}-{kind[1]}" for kind in groups]
    found = []
    for kind, group in groups.items():
        mode, given, over, per_node, size, threads, precision, epochs, _ = kind
        name = f"{mode}-{given}"
        if short.count(name) > 1:
            place = f"-{per_node}pn" if over == "nodes" else ""
            name += f"{place}-b{size}-t{threads}-{precision}-e{epochs}"
        real = tuple(record for record in group if record["conditions"]["functional"] is None)
        other = tuple(record for record in group if record["conditions"]["functional"] is not None)
        found.append(Series(name, str(over), mode == "strong", real, other))
    return found


def _kind(under: Json) -> tuple[object, ...]:
    over, ranks = under["over"], under["ranks"]
    per_node = ranks // under["nodes"] if over == "nodes" else None
    size = under["batch"] if under["mode"] == "strong" else under["batch"] // ranks
    rest = (size, under["threads"], under["asked"], under["epochs"], under.get("cpu"))
    return (under["mode"], under["input"], over, per_node, *rest)


def gather(folder: Path, quality: float | None = None) -> list[Json]:
    """Write ``runs.csv``, and of each series ``NAME.csv`` and ``NAME.png``.

    Parameters
    ----------
    folder : Path
        Of a task; records stand in its ``runs/``.
    quality : float, optional
        Validation loss of the third efficiency; default: the lowest that all runs of a series came to.

    Returns
    -------
    list of dict
        Rows of the table.
    """
    paths = sorted(path for mode in ("weak", "strong") for path in (folder / "runs").glob(f"{mode}-*.json"))
    records = [read_json(path) for path in paths]
    write_text(folder / "runs.csv", _csv([_line(record) for record in records]))
    rows = []
    for one in series(records):
        rows += _rows(one, quality)
        if one.records:
            write_text(folder / f"{one.name}.csv", _curve(one))
        if len(one.counts) > 1:
            from kilonode.scaling import layout, pictures  # matplotlib takes a second

            layout.save(pictures.series(one, _quality(one, quality)), folder / f"{one.name}.png")
    return rows


def _quality(one: Series, asked: float | None) -> float | None:
    """A time to quality needs real data."""
    if not one.records or one.records[0]["conditions"]["input"] == "dummy":
        return None
    return reached(one.runs) if asked is None else asked


def _rows(one: Series, asked: float | None) -> list[Json]:
    """A series in words: rates and steps at each count, efficiencies; and what was functional only."""
    rows = []
    unit = one.over
    for count in one.counts:
        where = f"{one.name}, {count} {unit}"
        for name, unit_of in (("samples_per_s", "samples/s"), ("step_p50", "ms"), ("memory", "MB")):
            value, interval = median(one.values(name, count))
            repeats = len(one.values(name, count))
            rows.append(figure(f"{where}: {name}", value, unit_of, interval if repeats > 1 else None, repeats=repeats))
        for name in ("input_wait", "communication_wait"):
            rows.append(figure(f"{where}: {name}", *median(one.values(name, count))[:1]))
    quality = _quality(one, asked)
    if len(one.counts) > 1:
        for count, found in efficiencies(one.runs, one.strong, quality).items():
            if count > one.counts[0]:
                rows += [_efficiency(one, count, kind, found[kind]) for kind in KINDS if kind in found]
    if quality is not None and len(one.counts) > 1:
        rows.append(figure(f"{one.name}: quality", quality, note="validation loss of the third efficiency"))
    for count in sorted({run_of(record).count for record in one.functional}):
        reason = next(r["conditions"]["functional"] for r in one.functional if run_of(r).count == count)
        rates = [run_of(record).rate for record in one.functional if run_of(record).count == count]
        note = f"functional only, no scaling: {reason}"
        name = f"{one.name}, {count} {unit}: samples_per_s"
        rows.append(figure(name, float(np.median(rates)), "samples/s", note=note, functional=True))
    return rows


def _efficiency(one: Series, count: int, kind: str, found: Ratio) -> Json:
    """Judged only if nobody else used the machine."""
    others = one.others([one.counts[0], count])
    repeats = min(len(one.values("samples_per_s", at)) for at in (one.counts[0], count))
    judged = kind == "step" and one.over == "ranks" and count == 2 and one.counts[0] == 1 and not one.strong
    value, interval = found
    target, met = (TARGET, value >= TARGET if others <= QUIET else None) if judged else (None, None)
    note: Json = {"note": f"others used up to {others:.2g} cores: not judged"} if others > QUIET else {}
    name = f"{one.name}, {count} {one.over}: efficiency, {kind}"
    return figure(name, value, "1", interval if repeats > 1 else None, target, met, **note)


def _line(record: Json) -> Json:
    """A run as a line of a table."""
    under = record["conditions"]
    values = {row["name"]: row["value"] for row in record["figures"]}
    said = {name: under.get(name) for name in ("mode", "input", *MEANT)}
    nodes = {"node_list": " ".join(under["node_list"])}
    return {**said, **nodes, **{name: values.get(name) for name in SHOWN}, "step_s": run_of(record).step_s}


def _curve(one: Series) -> str:
    """A series as ``kilonode scaling predict`` reads it; ``nodes`` is what was counted."""
    head = {"title": one.name, "statistic": "median step with its share of input", "counted": one.over}
    lines = []
    for record in one.records:
        run, under = run_of(record), record["conditions"]
        own = {"nodes": run.count, "step_s": run.step_s, "batch_per_node": under["batch"] / run.count}
        lines.append(
            {
                **own,
                "mean_samples_per_s": run.rate,
                **{k: v for k, v in _line(record).items() if k not in own and k != "samples_per_s"},
            }
        )
    lines.sort(key=lambda line: (line["nodes"], line["repeat"]))
    return "".join(f"# {key}: {value}\n" for key, value in head.items()) + _csv(lines)


def _csv(lines: list[Json]) -> str:
    if not lines:
        return ""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return stream.getvalue()


def remember(paths: Sequence[Path], file: Path) -> list[Json]:
    """Add new records to the history; a row for each that is slower than chance allows, and one that counts."""
    judged = [(path, history.remember(path, file)) for path in paths if _is_measure(path)]
    slower = [(path, found) for path, found in judged if found is not None and found.is_regression]
    rows = [
        figure(f"slower than before: {path.stem}", found.value, "1", found.interval, 0.0, False)
        for path, found in slower
    ]
    return [*rows, figure("added to the history", len(judged), "runs", note=str(file))] if judged else []


def _is_measure(path: Path) -> bool:
    """Whether a run had cores of its own, and nobody else used them."""
    record = read_json(path)
    others = next(row["value"] for row in record["figures"] if row["name"] == "cores used by others")
    return record["conditions"]["functional"] is None and others <= QUIET
