"""A clean read: numbers in README and docs stand in a record.

A paragraph or table under ``<!-- record: docs/results/NAME.json -->`` is held to that record up to the next blank line:
each decimal number outside code must be a value or an end of an interval in it, at the printed precision; in a line
with ``%`` also a hundred times one; with ``times`` behind it the ratio of two methods on one question and metric.
Several records may be named, and words behind them narrow what counts:
``<!-- record: docs/results/a.json classifier accuracy -->`` means the figures whose name holds both.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kilonode.records import read_json, write_json

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md"), *(REPOSITORY / "examples").rglob("*.md")]
)
MARKED = re.compile(r"<!-- record: (?P<named>[^>]+?) -->\n(?P<text>.*?)(?=\n\s*\n|\Z)", re.DOTALL)
CODE = re.compile(r"`[^`]*`|\]\([^)]*\)|<!--.*?-->", re.DOTALL)
NUMBER = re.compile(
    r"(?<![\w.,])(?P<digits>\d{1,3}(?:,\d{3})+\.\d+|\d+\.\d+)(?P<power>e[-+]?\d+)?"
    r"(?![\d\w]|\.\d)(?P<unit>(?:\s|&nbsp;)*(?:times\b|x\b|×))?"
)
Figure = dict[str, Any]


def test_every_marked_number_stands_in_its_record() -> None:
    assert [wrong for page in PAGES for wrong in unfounded(page.read_text(), REPOSITORY, page.name)] == []


def unfounded(text: str, home: Path, page: str = "page") -> list[str]:
    """Every number of marked text that its record does not hold."""
    return [
        f"{page}: {match[0].strip()} is not in {block['named']}"
        for block in MARKED.finditer(text)
        for figures in [list(named(block["named"], home))]
        for line in CODE.sub(" ", block["text"]).splitlines()
        for match in NUMBER.finditer(line)
        if not founded(match, figures, percent="%" in line)
    ]


def named(text: str, home: Path) -> Iterator[Figure]:
    """The figures of the records that a mark names, narrowed by its further words."""
    words = text.split()
    paths = [word for word in words if word.endswith(".json")]
    narrow = [word for word in words if not word.endswith(".json")]
    for path in paths:
        for figure in figures(read_json(home / path)):
            if all(word in figure["name"] for word in narrow):
                yield figure


def figures(value: Any) -> Iterator[Figure]:
    """Every figure anywhere in a record; what a contest says has the name of its question and sides."""
    if isinstance(value, dict):
        if "value" in value and "interval" in value:
            labels = (value.get(key) for key in ("case", "data", "task", "question", "metric", "method", "against"))
            yield {"name": "/".join(str(label) for label in labels if label), **value}
        if "difference" in value and "question" in value:
            labels = (value[key] for key in ("case", "data", "task", "question", "metric"))
            yield {**value["difference"], "name": "/".join(labels), "interval": value["difference"]["cover"]}
        value = [part for key, part in value.items() if key != "difference"]
    if isinstance(value, list):
        for part in value:
            yield from figures(part)


def founded(match: re.Match[str], found: list[Figure], percent: bool) -> bool:
    """Whether one of the values rounds to what is printed, whatever its sign: a loss by 0.1 is a difference of -0.1."""
    printed = float(match["digits"].replace(",", "") + (match["power"] or ""))
    last = 10.0 ** (int((match["power"] or "e0")[1:]) - len(match["digits"].partition(".")[2]))
    unit = (match["unit"] or "").replace("&nbsp;", " ").strip()
    if unit in ("times", "x", "×"):
        values = [value for pair in ratios(found) for value in pair]
    else:
        values = [end for figure in found for end in (figure["value"], *(figure["interval"] or ())) if end is not None]
        values += [100 * value for value in values] if percent else []
    return any(abs(abs(value) - printed) <= 0.5 * last * (1 + 1e-9) for value in values)


def ratios(found: list[Figure]) -> Iterator[tuple[float, float]]:
    """Of every two values that answer the same question by the same metric."""
    groups: dict[tuple[Any, ...], list[float]] = {}
    for figure in found:
        if figure.get("question") and figure["value"]:
            key = tuple(figure.get(part) for part in ("case", "data", "task", "question", "metric"))
            groups.setdefault(key, []).append(figure["value"])
    for values in groups.values():
        for a, b in itertools.permutations(values, 2):
            yield a / b, b / a


@pytest.fixture
def home(tmp_path: Path) -> Path:
    labels = {"case": "c", "data": "demo", "task": "classifier", "question": "class", "metric": "accuracy"}
    rows = [
        {
            **labels,
            "name": "classifier/accuracy/network",
            "method": "network",
            "value": 0.9552,
            "interval": [0.9496, 0.962],
        },
        {**labels, "name": "classifier/accuracy/trees", "method": "trees", "value": 0.2388, "interval": None},
        {"name": "throughput", "value": 12345.6, "interval": None},
        {"name": "gain", "value": -0.0371, "interval": [-0.052, -1.5e-05]},
    ]
    write_json(tmp_path / "docs/results/c.demo.json", {"figures": rows})
    return tmp_path


MARK = "<!-- record: docs/results/c.demo.json -->\n"


@pytest.mark.parametrize(
    "said",
    [
        "accuracy 0.955 [0.950, 0.962]",
        "| network | 95.5 % [94.96, 96.2] |",
        "4.0 times the trees",
        "12,345.6 samples/s, lost by 0.037, end 1.5e-05",
        "plain integers (12) and code `0.123` and [links](docs/0.77.md) are free",
    ],
)
def test_numbers_of_the_record_pass(home: Path, said: str) -> None:
    assert unfounded(MARK + said + "\n\nfree again: 0.777\n", home) == []


@pytest.mark.parametrize("said", ["0.956", "0.9553", "95.6 %", "3.9 times", "12,345.7", "0.95, then\nagain 0.111"])
def test_a_number_that_is_not_in_the_record_is_found(home: Path, said: str) -> None:
    assert len(unfounded(MARK + said + "\n", home)) == 1


def test_a_mark_may_narrow_what_counts(home: Path) -> None:
    narrowed = "<!-- record: docs/results/c.demo.json accuracy trees -->\n"
    assert unfounded(narrowed + "0.2388\n", home) == []
    assert len(unfounded(narrowed + "0.9552\n", home)) == 1
