"""A clean read: every measured-looking number of README, docs, examples, slurm and envs stands where it came from.

What counts, outside code: decimals and powers (``0.95``, ``3e-3``), numbers with a thousands separator (``1,024``),
whole numbers with ``%``, ``times`` or a unit of time, memory or rate (also the first of ``5 to 7 ms``), and whole
numbers that fill a cell of a table behind its first column. Free: other whole numbers, code, links, versions, dates.

Marks stand right above a paragraph, list or table and hold up to the next blank line; there may be several:

``<!-- record: docs/results/a.json classifier accuracy -->``
    value, end of an interval, target, number of samples or number in the name of a figure whose name holds all these
    words, at the printed precision; in a line with ``%`` also a hundred times it; with ``times`` the ratio of two
    methods on one question and metric. What was measured once and written down by hand: ``docs/results/notebook/``.
``<!-- from: src/kilonode/cases/a/case.yaml -->``
    a setting or a published fact: the same number stands in that file of the tree (patterns as ``slurm/sites/*.env``).
``<!-- cited -->``
    somebody else's number: its sentence names the source (``article:``, ``arXiv:``, ``doi:`` or an address).
"""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
from clean_read import blocks, measured, unfounded

from kilonode.records import read_json, write_json

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDERS = ("docs", "examples", "slurm", "envs")
PAGES = sorted(
    [REPOSITORY / "README.md", *(page for folder in FOLDERS for page in (REPOSITORY / folder).rglob("*.md"))]
)
NOTEBOOKS = sorted((REPOSITORY / "docs/results/notebook").glob("*.json"))
SCHEMA = read_json(REPOSITORY / "src/kilonode/schemas/bench.json")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_number_of_a_page_stands_where_its_mark_says(page: Path) -> None:
    assert unfounded(page.read_text(), REPOSITORY, page.name) == []


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_says_what_was_done_and_that_a_hand_wrote_it_down(notebook: Path) -> None:
    for entry in read_json(notebook):
        jsonschema.validate(entry, SCHEMA)
        assert entry["conditions"]["recorded"] == "by hand, from what the command printed"
        assert entry["conditions"]["done"]
        names = [figure["name"] for figure in entry["figures"]]
        assert all(len(name) > 8 for name in names), names
        assert len(set(names)) == len(names), sorted(name for name in names if names.count(name) > 1)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_holds_nothing_that_no_page_prints(notebook: Path) -> None:
    name = str(notebook.relative_to(REPOSITORY))
    marked = [block for page in PAGES for block in blocks(page.read_text()) if name in str(block.marks)]
    printed = [number for block in marked for number in measured(block.text)]
    kept = [figure for entry in read_json(notebook) for figure in entry["figures"]]
    assert [row["name"] for row in kept if not any(number.is_figure(row) for number in printed)] == []


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
        {"name": "throughput", "value": 12345.6, "interval": None, "n": 4350},
        {"name": "gain over plain", "value": 4.48, "unit": "1", "interval": None},
        {"name": "gain", "value": -0.0371, "interval": [-0.052, -1.5e-05]},
    ]
    write_json(tmp_path / "docs/results/c.demo.json", {"bench": "summary", "figures": rows})
    (tmp_path / "case.yaml").write_text("steps: 1_500\nrate: 2.5e-3  # of 43,450\nkept: 0.15\n")
    return tmp_path


MARK = "<!-- record: docs/results/c.demo.json -->\n"


@pytest.mark.parametrize(
    "said",
    [
        "accuracy 0.955 [0.950, 0.962]",
        "| network | 95.5 % [94.96, 96.2] |",
        "4.0 times the trees",
        "12,345.6 samples/s, lost by 0.037, end 1.5e-05",
        "4,350 samples, 4.48 times as fast",
    ],
)
def test_numbers_of_the_record_pass(home: Path, said: str) -> None:
    assert unfounded(MARK + said + "\n", home) == []


def test_value_and_interval_are_those_of_one_figure(home: Path) -> None:
    assert unfounded(MARK + "lost by 0.037 [-0.052, -1.5e-05]\n", home) == []
    assert len(unfounded(MARK + "0.955 [-0.052, -1.5e-05]\n", home)) == 1
    assert len(unfounded(MARK + "0.955 [0.950, 0.963]\n", home)) == 1


def test_a_row_that_names_a_case_is_held_to_its_record(home: Path) -> None:
    write_json(home / "docs/results/galaxies.json", {"figures": [{"name": "x", "value": 0.5, "interval": None}]})
    mark = MARK.replace(" -->", " docs/results/galaxies.json -->") + "| case | accuracy |\n|---|---|\n"
    assert unfounded(mark + "| [`galaxies`](docs/x.md) | 0.50 |\n| `c` | 0.955 |\n", home) == []
    assert len(unfounded(mark + "| [`galaxies`](docs/x.md) | 0.955 |\n| `c` | 0.50 |\n", home)) == 2


@pytest.mark.parametrize("said", ["0.956", "0.9553", "95.6 %", "3.9 times", "12,345.7", "0.95, then\nagain 0.111"])
def test_a_number_that_is_not_in_the_record_is_found(home: Path, said: str) -> None:
    assert len(unfounded(MARK + said + "\n", home)) == 1


def test_a_mark_may_narrow_what_counts(home: Path) -> None:
    narrowed = "<!-- record: docs/results/c.demo.json accuracy trees -->\n"
    assert unfounded(narrowed + "0.2388\n", home) == []
    assert len(unfounded(narrowed + "0.9552\n", home)) == 1


@pytest.mark.parametrize(
    "said",
    [
        "it took 0.123 of it",
        "9 % of all",
        "in 20 minutes",
        "between 5 and\n7 ms",
        "12 MB of 64 x 64",
        "3 times as fast",
        "3x faster",
        "after 5ms",
        "60 samples a second",
        "1,024 nodes",
        "3e-3, and 2 x 10^-4",
        "| what | ms |\n|---|---|\n| step | 186 |",
    ],
)
def test_a_measured_number_needs_a_mark(home: Path, said: str) -> None:
    assert unfounded(said, home)


@pytest.mark.parametrize(
    "said",
    [
        "64 x 64 pixels, 12 ranks on 2 nodes, 3-D, GeV 1400, 10^4",
        "`0.123`, [links](docs/0.77.md), Python 3.11, Slurm 22.05, v0.7, 1.0.4",
        "2026-11-22, Figure 1.2, arXiv:1802.05799, https://host/0.5",
        "```bash\nsleep 0.5  # 20 minutes\n```",
        "| filters | ms |\n|---|---|\n| 128 | `7` |",
    ],
)
def test_counts_names_and_code_are_free(home: Path, said: str) -> None:
    assert unfounded(said, home) == []


def test_a_mark_holds_up_to_the_next_blank_line(home: Path) -> None:
    assert len(unfounded(MARK + "0.955\nand 0.239\n\n0.955\n", home)) == 1


@pytest.mark.parametrize("under", ["words alone\n", "\n", "```\n0.955\n```\n"])
def test_a_mark_that_marks_no_number_is_found(home: Path, under: str) -> None:
    assert len(unfounded(MARK + under, home)) == 1


def test_a_setting_stands_in_its_file(home: Path) -> None:
    mark = "<!-- from: *.yaml -->\n"
    assert unfounded(mark + "1,500 steps at 0.0025 of 43,450, 15 %\n", home) == []
    assert len(unfounded(mark + "1,501 steps at 2.6e-3, 16 %\n", home)) == 3


def test_a_cited_number_has_its_source_in_the_sentence(home: Path) -> None:
    mark = "<!-- cited -->\n"
    assert unfounded(mark + "article: 97.2 % on its data. Ours is better.\n", home) == []
    assert len(unfounded(mark + "article: 97.2 % on its data. Ours has 98.1 %.\n", home)) == 1


def test_several_marks_stand_above_one_paragraph(home: Path) -> None:
    assert unfounded(MARK + "<!-- from: case.yaml -->\n0.955 after 1,500 steps\n", home) == []
