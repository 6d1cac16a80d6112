"""A clean read: which numbers of a page count, and where each must be found; test_records_in_docs.py has the rule."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kilonode.records import read_json

Figure = dict[str, Any]

FENCE = re.compile(r"^ *(```|~~~).*?^ *\1[^\n]*$", re.DOTALL | re.MULTILINE)
MARK = re.compile(r" *<!-- (?P<kind>record|from|cited):? ?(?P<words>[^>]*?) ?--> *")
SOURCE = re.compile(r"article:|arXiv:|doi:|https?://|github\.com/")
SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[^a-z\s])|\n(?=\s*[-*|])")

# What is no measurement: code, addresses, comments, versions, dates, numbers of figures and sections.
FREE = re.compile(
    r"`[^`]*`|\]\([^)]*\)|<!--.*?-->|https?://\S+|(?:arXiv|doi):\S+|\bv?\d+(?:\.\d+){2,}|\bv\d+\.\d+"
    r"|\b(?:Python|Slurm|GalSim|Pythia|tensorboard|Debian|CUDA)\s\d+(?:\.\d+)*"
    r"|\b(?:Figures?|Tables?|Sections?|Chapters?)\s\d+(?:\.\d+)*|\b\d{4}-\d\d(?:-\d\d)?\b",
    re.DOTALL,
)
DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+\.\d+|\d+|\.\d+)"
TIMES = r"(?:times\b|(?:x|×)(?![\w(]|\s*\d))"
UNITS = (
    rf"(?:%|per\scent\b|{TIMES}|(?:core[\s-])?(?:seconds?|minutes?|hours?|days?)\b|(?:ns|us|µs|ms|s|min|h)\b"
    r"|(?:[kKMGTP]i?B|[MGTP]?FLOP|nats?)\b|[\w-]+/s\b|[\w-]+\s(?:a|an|per)\s(?:second|minute|hour)\b)"
)
POWER = r"(?:e[-+]?\d+|\sx\s10\^-?\d+)"
NUMBER = re.compile(rf"(?<![\w^])(?<!\d[.,])(?P<digits>{DIGITS})(?P<power>{POWER})?(?:(?![\w^]|[.,]\d)|(?={UNITS}))")
INTERVAL = re.compile(rf"(?:\s?%)?\s\[[-+]?({DIGITS})({POWER})?(?:\s?%)?,\s[-+]?({DIGITS})({POWER})?(?:\s?%)?\]")
# A whole number counts if a unit follows, be it behind more numbers: `5 to 7 ms`.
MORE = rf"(?:[\s\[\],;+-]*(?:to|and|or|->)?[\s\[\],;+-]+{DIGITS}\]?)*"
GAP = r"(?:\s|&nbsp;|-)?"
UNIT, RATIO = re.compile(MORE + GAP + UNITS), re.compile(GAP + TIMES)
CELL = re.compile(r"[\d\s.,;/*+-]*\d[\d\s.,;/*+-]*")


@dataclass(frozen=True)
class Number:
    """A number as printed, and what its neighbourhood says about it."""

    text: str
    value: float
    last: float  # one unit of its last digit
    percent: bool  # a % in its line: a share of 0.12 may be printed as 12
    times: bool  # `4.0 times`: a ratio
    line: str
    sentence: str
    ends: tuple[Number, ...] = ()  # of its interval, `0.4 [0.3, 0.5]`

    def is_one_of(self, values: Iterable[float | None]) -> bool:
        """Whether a value rounds to what is printed, whatever its sign: a loss by 0.1 is a difference of -0.1."""
        known = [abs(value) for value in values if value is not None]
        known += [100 * value for value in known] if self.percent else []
        return any(abs(value - self.value) <= 0.5 * self.last * (1 + 1e-9) for value in known)

    def is_figure(self, row: Figure) -> bool:
        """Whether value and interval are those of one figure."""
        return self.is_one_of([row["value"]]) and all(end.is_one_of(row["interval"] or ()) for end in self.ends)


@dataclass(frozen=True)
class Block:
    """A paragraph, list or table, the marks above it (kind, words), and its first line."""

    text: str
    marks: tuple[tuple[str, str], ...]
    line: int


def unfounded(page: str, home: Path, name: str = "page") -> list[str]:
    """Every number of a page that nothing stands behind, and every mark that marks nothing."""
    wrong = []
    for block in blocks(page):
        place = f"{name}:{block.line}"
        numbers = list(measured(block.text))
        if block.marks and not numbers:
            wrong.append(f"{place}: nothing to find under its mark")
        for kind, words in block.marks:
            files = [word for word in words.split() if kind == "from" or word.endswith(".json")]
            wrong += [f"{place}: no such file: {word}" for word in files if not any(home.glob(word))]
        tests = [founded(kind, words, home) for kind, words in block.marks]
        where = " or ".join(f"{kind} {words}".strip() for kind, words in block.marks)
        for number in numbers:
            if not any(test(number) for test in tests):
                wrong.append(f"{place}: {number.text} " + (f"is not in {where}" if where else "has no mark"))
    return wrong


def blocks(page: str) -> Iterator[Block]:
    """What stands between blank lines, outside blocks of code."""
    page = FENCE.sub(lambda code: "\n" * code[0].count("\n"), page)
    line = 1
    for text in re.split(r"((?:^[ \t]*\n)+)", page, flags=re.MULTILINE):
        lines = text.splitlines()
        marks = list(itertools.takewhile(bool, map(MARK.fullmatch, lines)))
        if text.strip():
            named = tuple((mark["kind"], mark["words"]) for mark in marks)
            yield Block("\n".join(lines[len(marks) :]), named, line + len(marks))
        line += text.count("\n")


def measured(block: str) -> Iterator[Number]:
    """The numbers of a block that look measured: see the rule in test_records_in_docs.py."""
    text = FREE.sub(lambda free: re.sub(r"[^\n]", " ", free[0]), block)
    cells = set(alone(text))
    sentences = [0, *(match.start() for match in SENTENCE.finditer(block)), len(block)]
    done = 0
    for match in NUMBER.finditer(text):
        digits, power, start, end = match["digits"], match["power"], match.start(), match.end()
        interval = INTERVAL.match(text, end)
        whole = digits.isdigit() and not power
        if start < done or (whole and not interval and start not in cells and not UNIT.match(text, end)):
            continue
        row = slice(text.rfind("\n", 0, start) + 1, text.find("\n", start) if "\n" in text[start:] else None)
        percent = "%" in text[row] or "per cent" in text[row]
        begin, stop = next(pair for pair in itertools.pairwise(sentences) if pair[1] > start)
        around = (percent, bool(RATIO.match(text, end)), block[row], block[begin:stop])
        ends: tuple[Number, ...] = ()
        if interval:
            done = interval.end()
            low, high = (interval[1], interval[2]), (interval[3], interval[4])
            ends = tuple(Number(interval[0].strip(), *parsed(*edge), *around) for edge in (low, high))
        yield Number(match[0] + (interval[0] if interval else ""), *parsed(digits, power), *around, ends)


def parsed(digits: str, power: str | None) -> tuple[float, float]:
    """Value, and one unit of the last digit."""
    exponent = int(re.split(r"e|\^", power)[-1]) if power else 0
    return float(digits.replace(",", "")) * 10.0**exponent, 10.0 ** (exponent - len(digits.partition(".")[2]))


def alone(text: str) -> Iterator[int]:
    """Where the numbers begin that fill a cell of a table's body, behind its first column."""
    body, start = False, 0
    for line in text.splitlines(keepends=True):
        if line.lstrip().startswith("|"):
            at = start
            for column, cell in enumerate(re.split(r"(?<!\\)\|", line)):
                if body and column > 1 and CELL.fullmatch(cell):
                    yield from (at + match.start() for match in NUMBER.finditer(cell))
                at += len(cell) + 1
            body = body or set(line.strip()) <= set("|-: ")
        start += len(line)


def founded(kind: str, words: str, home: Path) -> Callable[[Number], bool]:
    """Whether a mark stands behind a number."""
    if kind == "cited":
        return lambda number: bool(SOURCE.search(number.sentence))
    paths = [path for word in words.split() for path in sorted(home.glob(word)) if path.is_file()]
    if kind == "from":
        known = {value for path in paths for value in literals(path.read_text())}
        return lambda number: all(
            part.value in known or (part.percent and round(part.value / 100, 9) in known)
            for part in (number, *number.ends)
        )
    narrow = [word for word in words.split() if not word.endswith(".json")]
    records = {
        path: [row for row in figures(read_json(path)) if all(word in row["name"] for word in narrow)] for path in paths
    }
    return lambda number: recorded(number, [row for path in meant(number.line, paths) for row in records[path]])


def meant(line: str, paths: list[Path]) -> list[Path]:
    """Of several records those of the case that a line names, if it names one: a row of a table of cases."""
    return [path for path in paths if re.search(rf"\b{path.name.partition('.')[0]}\b", line)] or paths


def recorded(number: Number, rows: list[Figure]) -> bool:
    """Whether figures of a record hold a number; value and interval must be those of one figure."""
    if number.ends:
        return any(number.is_figure(row) for row in rows)
    if number.times:
        plain = [row for row in rows if row.get("unit") in ("1", "times") and "question" not in row]
        return number.is_one_of([*ratios(rows), *ends(plain)])
    told = (row.get(part) for row in rows for part in ("n", "target"))
    return number.is_one_of(itertools.chain(ends(rows), told, (x for row in rows for x in literals(row["name"]))))


def literals(text: str) -> Iterator[float]:
    """Every number in a file, however it is written: 1_000, 1,000, 1e3."""
    for match in re.finditer(r"(?<![^\W_])(?<!\.)(?:\d[\d_]*(?:,\d{3})*(?:\.\d*)?|\.\d+)(?:e[-+]?\d+)?", text):
        yield float(re.sub("[_,]", "", match[0]))


def figures(value: Any, bench: str = "") -> Iterator[Figure]:
    """Every figure anywhere in a record; what a contest says has the name of its question and sides."""
    if isinstance(value, dict):
        bench = str(value.get("bench", bench))
        if "value" in value and "interval" in value:
            labels = (value.get(key) for key in ("case", "data", "task", "question", "metric", "method", "against"))
            name = value.get("name") or "/".join(str(label) for label in labels if label)
            yield {**value, "name": f"{bench}/{name}"}
        if "difference" in value and "question" in value:
            labels = (value[key] for key in ("case", "data", "task", "question", "metric"))
            yield {**value["difference"], "name": "/".join(labels), "interval": value["difference"]["cover"]}
        value = [part for key, part in value.items() if key != "difference"]
    if isinstance(value, list):
        for part in value:
            yield from figures(part, bench)


def ends(rows: Iterable[Figure]) -> Iterator[float | None]:
    """Values and ends of intervals."""
    for row in rows:
        yield from (row["value"], *(row["interval"] or ()))


def ratios(rows: list[Figure]) -> Iterator[float]:
    """Of every two values that answer the same question by the same metric."""
    groups: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        if row.get("question") and row["value"]:
            key = tuple(row.get(part) for part in ("case", "data", "task", "question", "metric"))
            groups.setdefault(key, []).append(row["value"])
    for values in groups.values():
        yield from (a / b for a, b in itertools.permutations(values, 2))
