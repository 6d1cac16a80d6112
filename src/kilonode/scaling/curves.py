"""Weak-scaling curves: the public ones that are shipped, and a user's own, from CSV or JSON.

Shape legend: K measured counts of one curve; a count may occur more than once.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kilonode import config
from kilonode.errors import UserError
from kilonode.records import Json

SHIPPED = Path(__file__).parent / "curves"
KEYS = ("step_s", "samples_per_s", "step_error_s", "batch_per_node")
SAME_BATCH = 1.3
"""Largest over smallest samples per node of one weak-scaling curve; from a median step they are only about right."""


@dataclass(frozen=True)
class Curve:
    """Step times at several node counts, the samples per node always the same.

    Parameters
    ----------
    name : str
        Of its file.
    nodes : ndarray
        Node counts (K,), float64, rising.
    step_s : ndarray
        Seconds of an optimiser step (K,), stalls and input included.
    batch_per_node : float
        Samples of a node in a step; with ``step_s`` gives the rate.
    about : mapping of str to str
        Title, family (curves of one experiment), statistic, setup, source, date.
    own_error : float
        Standard error of a step time over itself, where the records say it, else 0.
    """

    name: str
    nodes: np.ndarray
    step_s: np.ndarray
    batch_per_node: float
    about: Mapping[str, str]
    own_error: float = 0.0

    @property
    def title(self) -> str:
        """What a figure calls it."""
        return self.about.get("title", self.name)

    @property
    def family(self) -> str:
        """Curves of one code on one machine: what is learnt from one is not unknown to the other."""
        return self.about.get("family", self.name)

    def part(self, chosen: np.ndarray) -> Curve:
        """The counts where ``chosen`` (K,) is true."""
        return replace(self, nodes=self.nodes[chosen], step_s=self.step_s[chosen])


def shipped() -> list[Curve]:
    """The public curves, by name."""
    return [read([path]) for path in sorted(SHIPPED.glob("*.csv"))]


def read(paths: Sequence[Path], batch_per_node: float | None = None) -> Curve:
    """One curve from one or several files.

    A CSV has columns ``nodes`` and ``samples_per_s`` or ``step_s``, and may have ``batch_per_node`` and
    ``step_error_s``; lines ``# key: value`` above say more. A JSON file has a list of objects with these keys, one such
    object, or is the record of a training (metrics.json).

    Parameters
    ----------
    paths : sequence of Path
        Files whose rows are put together.
    batch_per_node : float, optional
        Samples of a node in a step, where the files do not say it.

    Raises
    ------
    UserError
        A file or a row is not so, or the samples per node change along the curve: all problems at once.
    """
    about: dict[str, str] = {}
    rows: list[tuple[Json, str]] = []
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise UserError(f"expected a file of records, got nothing ({path}); check the path") from None
        except UnicodeDecodeError as error:
            raise UserError(f"expected CSV or JSON, got {error} ({path}); give a text file") from None
        if text.lstrip()[:1] in ("{", "["):
            rows += [(row, f"{path}, record {i}") for i, row in enumerate(_json(text, path), 1)]
        else:
            rows += _csv(text, path, about)
    said: list[str] = []
    if batch_per_node is None and "batch_per_node" in about:
        batch_per_node = _positive(about, "batch_per_node", f"{paths[0]}, above the columns", said)
    if said:
        raise UserError(*said)
    return _curve(paths[0].stem, rows, about, batch_per_node)


def _csv(text: str, path: Path, about: dict[str, str]) -> list[tuple[Json, str]]:
    """Rows and where they stand; comments go to ``about``."""
    lines = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("#"):
            key, _, value = line[1:].partition(":")
            about[key.strip()] = value.strip()
        elif line.strip():
            lines.append((number, line))
    reader = csv.DictReader(line for _, line in lines)
    return [
        ({str(key).strip(): value for key, value in row.items()}, f"{path}, line {number}")
        for row, (number, _) in zip(reader, lines[1:], strict=False)
    ]


def _json(text: str, path: Path) -> list[Json]:
    """Objects with nodes and a rate, whatever of the three forms it is."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"expected JSON, got {error} ({path}); mend the file") from None
    content = content if isinstance(content, list) else [content]
    if not all(isinstance(row, dict) for row in content):
        raise UserError(f"expected a list of objects, got another list ({path}); give nodes and samples_per_s of each")
    for row in content:
        if "figures" in row:
            config.check(row, config.schema("bench"), str(path))
    return [of_training(row) if "figures" in row else row for row in content]


def of_training(record: Json) -> Json:
    """Nodes and seconds of a step, input included, of a training's record.

    ``step = median / (1 - input share)``: what the record calls a step leaves the wait for data out. A record that does
    not know its nodes counts its ranks, as if each had a node.
    """
    values = {row.get("name"): row.get("value") for row in record["figures"]}
    where = record.get("conditions", {})
    median, wait = values.get("step_p50", values.get("step_median")), values.get("input_wait") or 0.0
    step = None if median is None or wait >= 1 else median / 1e3 / (1 - wait)
    return {
        "nodes": where.get("nodes", where.get("ranks")),
        "step_s": step,
        "samples_per_s": values.get("samples_per_s"),
    }


def _curve(name: str, rows: list[tuple[Json, str]], about: Mapping[str, str], given: float | None) -> Curve:
    problems: list[str] = []
    points = [point for row, where in rows if (point := _point(row, where, given, problems)) is not None]
    batches = [batch for *_, batch, _ in points]
    if not problems and not points:
        problems.append(
            f"expected rows of nodes and samples_per_s, got none ({name}); see kilonode scaling predict --help"
        )
    elif not problems and max(batches) > SAME_BATCH * min(batches):
        problems.append(
            f"expected the same samples per node at every count, got {min(batches):g} to {max(batches):g} ({name}); "
            "give a weak-scaling curve: the model does not know how a smaller batch changes the compute time"
        )
    if problems:
        raise UserError(*problems)
    nodes, steps, _, errors = np.array(sorted(points)).T
    own = float(np.sqrt(np.mean(errors[errors > 0] ** 2))) if (errors > 0).any() else 0.0
    return Curve(name, nodes, steps, float(np.mean(batches)), about, own)


def _point(row: Json, where: str, given: float | None, problems: list[str]) -> tuple[float, float, float, float] | None:
    """Nodes, seconds of a step, samples per node and relative error of one row, or None with a problem more."""
    before = len(problems)
    nodes = _positive(row, "nodes", where, problems)
    said = [key for key in KEYS if row.get(key) not in (None, "")]
    values = {key: _positive(row, key, where, problems) for key in said}
    step, rate = values.get("step_s"), values.get("samples_per_s")
    batch = step * rate / nodes if step and rate else values.get("batch_per_node", given)
    if step is None and rate is None:
        problems.append(f"expected samples_per_s or step_s, got neither ({where}); measure one of them")
    elif batch is None:
        problems.append(
            f"expected the samples of a node in a step, got none ({where}); add batch_per_node or say --batch-per-node"
        )
    if len(problems) > before or batch is None:
        return None
    step = step or batch * nodes / float(rate or 1)
    return nodes, step, batch, values.get("step_error_s", 0.0) / step


def _positive(row: Mapping[str, Any], key: str, where: str, problems: list[str]) -> float:
    try:
        value = float(row.get(key) or "nothing")
    except (TypeError, ValueError):
        value = math.nan
    if not 0 < value < math.inf:
        problems.append(f"expected a positive number of {key}, got {row.get(key)!r} ({where}); correct it")
    return value
