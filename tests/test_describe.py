"""One page a case, made of docstrings, case.yaml and records: what is committed is up to date."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import clean_read
import pytest

from kilonode import cases, config
from kilonode.errors import UserError
from kilonode.records import read_json, write_json
from kilonode.report import describe, docstrings, findings, publish, settings
from kilonode.report.wording import number

REPOSITORY = Path(__file__).resolve().parents[1]
RECORDS, PAGES = Path("docs/results"), Path("docs/cases")


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)


def published(case: str) -> Path:
    """The first record of a case that is a summary of runs."""
    return Path(findings.published(case, RECORDS)[0]["path"])


@pytest.mark.parametrize("case", cases.names())
def test_the_committed_page_is_what_docstrings_and_records_give(case: str) -> None:
    page = PAGES / f"{case}.md"
    up_to_date = page.exists() and page.read_text() == describe.page(case, RECORDS, PAGES)
    assert up_to_date, f"{page} is older than what it is made of; run: kilonode describe --case {case}"


def test_there_is_no_page_without_a_case() -> None:
    assert {page.stem for page in PAGES.glob("*.md")} == set(cases.names())


@pytest.mark.parametrize("case", cases.names())
def test_every_number_of_a_page_has_its_source_and_every_link_its_file(case: str) -> None:
    text = (PAGES / f"{case}.md").read_text()
    assert clean_read.unfounded(text, REPOSITORY, case) == []
    links = [link for link in re.findall(r"\]\(([^)#]+?)\)", text) if not link.startswith("http")]
    assert len(links) > 10
    assert [link for link in links if not (PAGES / link).exists()] == []


@pytest.mark.parametrize("case", cases.names())
def test_a_page_asks_shows_and_says_what_is_simulated(case: str) -> None:
    text = (PAGES / f"{case}.md").read_text()
    whole = config.resolve(case, "article")
    assert text.startswith(f"# {whole['title']}\n")
    assert f"**{whole['question']}**" in text
    assert "imulated data, test groups" in text or "No record is published" in text
    for task, content in whole["tasks"].items():
        assert f"**`{task}`**: {content['about']}" in text
    for table in whole["tables"].values():
        for field in table:
            assert f"`{field}`" in text, field
    for tier in config.TIERS:
        assert f"kilonode run --case {case} --tier {tier}" in text


def test_a_changed_record_changes_the_page(tmp_path: Path) -> None:
    case = cases.SMALL
    record = read_json(published(case))
    own = next(row for row in record["figures"] if row["task"] == "classifier" and row["metric"] == "accuracy")
    before, own["value"] = number(own["value"]), 0.4321
    write_json(tmp_path / published(case).name, record)
    changed = describe.page(case, tmp_path, PAGES)
    assert f"| **{own['method']}** | network | 0.432 [" in changed
    assert f"| **{own['method']}** | network | {before} [" in describe.page(case, RECORDS, PAGES)


def test_a_record_of_an_older_simulation_or_of_other_settings_is_said_to_be_one(tmp_path: Path) -> None:
    case = cases.SMALL
    record = read_json(published(case))
    for run in record["runs"]:
        run["conditions"]["source"] = f"{case}-0"
        run["conditions"]["model"]["filters"] = 77
    write_json(tmp_path / published(case).name, record)
    text = describe.page(case, tmp_path, PAGES)
    assert f"It is of simulation {case}-0; the simulation has changed since." in text
    assert "The case has other settings of `autoencoder` now: `model.filters`." in text


def test_without_a_record_a_page_claims_nothing(tmp_path: Path) -> None:
    text = describe.page(cases.SMALL, tmp_path, PAGES)
    assert "No record is published yet." in text
    assert "record:" not in text


def test_a_difference_that_the_record_does_not_hold_is_not_printed(tmp_path: Path) -> None:
    case = cases.SMALL
    record = read_json(published(case))
    assert "unpaired" in describe.page(case, RECORDS, PAGES)
    record.pop("overview")
    record["figures"] = [row for row in record["figures"] if not row["metric"].endswith("_gain")]
    write_json(tmp_path / published(case).name, record)
    text = describe.page(case, tmp_path, PAGES)
    assert ", unpaired" not in text
    assert "by 0.007" not in text


def test_a_record_published_again_says_who_won_and_is_otherwise_the_same() -> None:
    record = read_json(published(cases.SMALL))
    again = publish.record({key: value for key, value in record.items() if key != "overview"})
    assert {**again, "overview": record["overview"]} == record
    assert [line["outcome"] for line in again["overview"]] == [line["outcome"] for line in record["overview"]]


def test_measured_data_are_not_called_simulated(tmp_path: Path) -> None:
    case = cases.SMALL
    record = read_json(published(case))
    write_json(tmp_path / published(case).name, record)
    for run in record["runs"]:
        run["data"] = "mine"
        run["conditions"] |= {"simulated": False, "title": "Recorded elsewhere"}
    for row in record["figures"]:
        row["data"] = "mine"
    write_json(tmp_path / f"{case}.mine.json", record)
    text = describe.page(case, tmp_path, PAGES)
    section = text.partition("### Recorded elsewhere\n")[2].partition("\n## ")[0]
    assert "Measured data, test groups" in section
    assert "imulated" not in section


def test_the_command_writes_the_pages_it_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    describe.run([cases.SMALL], RECORDS, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"{cases.SMALL}.md"]
    assert capsys.readouterr().out == f"page: {tmp_path / cases.SMALL}.md\n"


def test_an_unknown_case_or_folder_is_a_user_error_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a case, got 'reactor'"):
        describe.run([cases.SMALL, "reactor"], RECORDS, tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="expected a folder of records, got none"):
        describe.run([], tmp_path / "nowhere", tmp_path)


def test_no_network_is_imported_to_describe_one() -> None:
    code = (
        "import sys, json; from pathlib import Path; from kilonode.report import describe;"
        f"describe.page({cases.SMALL!r}, Path('docs/results'), Path('docs/cases'));"
        "print(json.dumps([name for name in sys.modules if '.' not in name or name.startswith('kilonode.cases.')]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    loaded = set(json.loads(done.stdout))
    assert loaded.isdisjoint({"torch", "h5py", "matplotlib", "sklearn"})
    assert not [name for name in loaded if name.startswith(f"kilonode.cases.{cases.SMALL}")]


MODULE = '''"""First line of it.

What it does, with ``code`` and a | bar.

Shape legend: N samples.

Source
------
Somebody 2020, arXiv:2001.00001.
"""

from kilonode.cases.made_up import detector

CAPTIONS = {"map": "A map. " "More."}


class Network:
    """Layers."""


def features(x):
    """Compute.

    Returns
    -------
    Arrays
        ``a`` (N, 2), m.
    """


def _hidden():
    """Not shown."""
'''


def test_a_module_is_read_without_being_run(tmp_path: Path) -> None:
    path = tmp_path / "made_up/simulate.py"
    path.parent.mkdir()
    path.write_text(MODULE)
    found = docstrings.source(path)
    assert found.summary == "First line of it"
    assert found.paragraphs == ("What it does, with `code` and a \\| bar.",)
    assert found.sources == "Somebody 2020, arXiv:2001.00001."
    assert found.uses == ("detector",)
    assert [(member.name, member.kind, member.returns) for member in found.members] == [
        ("Network", "class", ""),
        ("features", "function", "`a` (N, 2), m."),
    ]
    assert docstrings.captions(path) == {"map": "A map. More."}
    assert docstrings.first_sentence("A map of 0.5 m. More.") == "A map of 0.5 m."


def test_a_comment_of_yaml_belongs_to_its_key(tmp_path: Path) -> None:
    path = tmp_path / "case.yaml"
    path.write_text('title: "a # b"  # said\ntiers:\n  toy:   # small\n    a: {b: 1}   # inner\n  demo: {c: 2}\n')
    assert settings.comments(path) == {("title",): "said", ("tiers", "toy"): "small", ("tiers", "toy", "a"): "inner"}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([1.0, 1, 1], "1"),
        ([20, 24, 100], "20 / 24 / 100"),
        ([None, None, True], "none / none / yes"),
        ([{"a": 1, "b": 2}, {"a": 1, "b": 3}], "a 1, b 2 / 3"),
        ([[1, 2], [0.5]], "[1, 2] / [0.5]"),
    ],
)
def test_a_setting_is_shown_for_all_tiers_at_once(values: list[Any], said: str) -> None:
    assert settings.shown(values) == said
