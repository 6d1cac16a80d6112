"""The tutorial is true: a newcomer who types it gets what it shows; the blocks marked `slurm` are in tests/slurm."""

from __future__ import annotations

import re
import zipfile
from collections import Counter
from pathlib import Path

import pages
import pytest
import small_report

BLOCKS = [block for block in pages.blocks(pages.REPOSITORY / "docs/tutorial.md") if "slurm" not in block.marks]
SECTIONS = list(dict.fromkeys(block.section for block in BLOCKS))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all sections: later ones read what earlier ones made."""
    return pages.linked(tmp_path_factory.mktemp("tutorial"))


@pytest.mark.slow
@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_does_and_shows_what_it_says(section: str, checkout: Path) -> None:
    for block in BLOCKS:
        if block.section == section:
            pages.follow(block, checkout)


@pytest.mark.slow
def test_snakemakes_own_report_holds_every_figure_and_table(checkout: Path) -> None:
    with zipfile.ZipFile(checkout / "mine/report.zip") as file:
        held = Counter(Path(name).name for name in file.namelist())
    drawn = Counter(path.name for path in (checkout / "results/reactor_neutrinos/toy").glob("*/seed-0/figures/*.png"))
    assert len(drawn) > 5
    assert drawn <= held
    assert {"summary.csv", "overview.csv", "report.html"} <= set(held)


@pytest.mark.slow
def test_scaling_that_was_measured_appears_on_the_page(checkout: Path) -> None:
    page = checkout / "results/reactor_neutrinos/toy/report.html"
    assert 'id="scaling"' not in page.read_text()
    folder = checkout / "results/scaling/reactor_neutrinos/toy/classifier"  # where `kilonode scaling run` writes
    folder.mkdir(parents=True)
    small_report.scaling(folder)
    said = pages.run("kilonode run --case reactor_neutrinos --tier toy", checkout).stdout
    assert re.findall(r"^localrule (\w+):", said, re.MULTILINE) == ["report", "all"], said
    assert 'id="scaling"' in page.read_text()


@pytest.mark.parametrize(
    ("expected", "said", "same"),
    [
        ("a ... c\n", "a b c\n", True),
        ("a ... c\n", "a b\nc\n", False),
        ("...\nend\n", "one\ntwo\nend\n", True),
        ("...\nend\n", "end\n", True),
        ("end\n", "one\nend\n", False),
        ("f(x) [1]\n", "f(x) [1]\n", True),
        ("f(x) [1]\n", "f(x) 1\n", False),
    ],
)
def test_what_a_page_shows_is_held_against_what_came(expected: str, said: str, same: bool) -> None:
    assert pages.shows(expected, said) is same


def test_blocks_are_what_can_be_typed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    typed, shown, other = "```bash slurm\nls # files\n```\n", "```text\na\n```\n", "```yaml\na: 1\n```\n"
    page.write_text(f"## One\n{typed}{shown}## Two\n{other}```python\n## b\n```\n")
    first, second = pages.blocks(page)
    assert (first.section, first.language, first.marks, first.shown) == ("One", "bash", {"slurm"}, "a\n")
    assert first.commands == ["ls"]
    assert (second.section, second.language, second.shown) == ("Two", "python", None)
