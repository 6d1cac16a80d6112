"""The page in a real browser: alone on the disk, narrow and wide, light and dark, by pointer and by keys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import browser
import pytest
import small_report

from kilonode.report import compare, gather, page

CHROMIUM = browser.find()
AXE = find_spec("axe_core_python")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH; as root on Debian: envs/chromium.sh")
needs_axe = pytest.mark.skipif(AXE is None, reason="axe-core-python is not installed; `make env` does")
pytestmark = needs_chromium
WIDTHS = (390, 1440)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report and a comparison of small made-up records."""
    folder = tmp_path_factory.mktemp("page")
    records = [small_report.run(folder, task, seed) for task in ("classifier", "autoencoder") for seed in (0, 1)]
    gather.run(records, folder / "summary.json")
    page.run(folder / "summary.json", folder / "report.html", [small_report.scaling(folder)])
    (folder / "other").mkdir()
    gather.run([small_report.run(folder / "other", "classifier", 0, shift=0.2)], folder / "other/summary.json")
    compare.run([folder / "summary.json", folder / "other"], output=folder / "compare.html")
    return folder


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Browser]:
    one = browser.Browser(str(CHROMIUM), tmp_path_factory.mktemp("profile"))
    yield one
    one.close()


@pytest.fixture(autouse=True)
def forgets(chromium: browser.Browser) -> None:
    chromium.problems.clear()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["report.html", "compare.html"])
def test_a_page_loads_from_disk_alone_and_fits(folder: Path, chromium: browser.Browser, name: str, width: int) -> None:
    chromium.open(folder / name, width)
    assert chromium.run("document.documentElement.scrollWidth") <= width
    assert chromium.run("[...document.images].every((image) => image.src.startsWith('data:'))")
    assert chromium.problems == []


def test_a_page_that_asks_the_network_or_fails_is_noticed(tmp_path: Path, chromium: browser.Browser) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text("<img src='https://localhost:1/x.png'><script>console.error('no'); missing()</script>")
    chromium.open(bad, 390)
    found = " ".join(chromium.problems)
    assert "request: https://localhost:1/x.png" in found
    assert "console: ['no']" in found
    assert "exception: ReferenceError" in found


def test_pointing_at_a_sample_shows_its_thumbnail_and_values(folder: Path, chromium: browser.Browser) -> None:
    chromium.open(folder / "report.html", 1440)
    chromium.run("document.querySelector('.plane').scrollIntoView({block: 'center', behavior: 'instant'})")
    box = chromium.run("(({x, y, width}) => [x, y, width])(document.querySelector('.plane').getBoundingClientRect())")
    assert chromium.run("document.querySelector('.thumb').hidden")
    x, y = small_report.PLACE  # of sample 1003, as shares of the map
    chromium.point(box[0] + (0.02 + 0.96 * x) * box[2], box[1] + (0.98 - 0.96 * y) * box[2])
    assert shown(chromium)["sample"] == "1003"
    assert shown(chromium)["kind"] == "gluino"
    assert shown(chromium)["total charge"] == "3.5 p.e."
    drawn = """new Promise((done) => setTimeout(() => { const thumb = document.querySelector('.thumb');
      done([thumb.hidden, ...thumb.getContext('2d').getImageData(0, 0, 1, 1).data]) }, 100))"""
    hidden, red, *_ = chromium.run(drawn)
    assert not hidden
    assert abs(red - small_report.SHADE[3]) <= 12  # WebP loses a little


def test_arrow_keys_walk_over_the_map(folder: Path, chromium: browser.Browser) -> None:
    chromium.open(folder / "report.html", 390)
    chromium.run("document.querySelector('.plane').focus()")
    chromium.press("ArrowRight")
    first = shown(chromium)["sample"]
    for key in ("ArrowRight", "ArrowUp"):
        chromium.press(key)
    assert shown(chromium)["sample"] not in (first, None)
    assert chromium.problems == []


def test_colour_and_seed_of_a_map_can_be_chosen(folder: Path, chromium: browser.Browser) -> None:
    chromium.open(folder / "report.html", 1440)
    picture = "document.querySelector('.plane canvas').toDataURL()"
    seen = [chromium.run(picture)]
    for choice in (".by", ".seed"):
        chromium.run(
            f"(() => {{ const s = document.querySelector('{choice}'); s.selectedIndex = 1; "
            "s.dispatchEvent(new Event('change')) })()"
        )
        seen.append(chromium.run(picture))
    assert len(set(seen)) == 3
    assert "p.e." in chromium.run("document.querySelector('.legend').textContent")


def test_a_header_sorts_and_says_so(folder: Path, chromium: browser.Browser) -> None:
    chromium.open(folder / "report.html", 1440)
    column = (
        "[...document.querySelectorAll('#overview-table tbody tr')].map((row) => Number(row.cells[4].dataset.value))"
    )
    button = "document.querySelectorAll('#overview-table th button')[3]"
    for direction in ("descending", "ascending"):
        chromium.run(f"{button}.click()")
        assert chromium.run(f"{button}.closest('th').getAttribute('aria-sort')") == direction
        values = chromium.run(column)
        assert len(values) == 2
        assert values == sorted(values, reverse=direction == "descending")


def test_the_theme_follows_the_reader_and_the_switch_is_remembered(folder: Path, chromium: browser.Browser) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    button = "document.getElementById('theme')"
    chromium.open(folder / "report.html", 1440, "dark")
    dark = chromium.run(paper)
    chromium.open(folder / "report.html", 1440, "light")
    light = chromium.run(paper)
    assert dark != light
    assert chromium.run(f"{button}.getAttribute('aria-pressed')") == "false"
    chromium.run(f"{button}.click()")
    assert chromium.run(paper) == dark
    chromium.open(folder / "report.html", 1440, "light")
    assert chromium.run(paper) == dark
    assert chromium.run(f"{button}.getAttribute('aria-pressed')") == "true"
    chromium.run("sessionStorage.clear()")


@needs_axe
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["report.html", "compare.html"])
def test_an_audit_finds_nothing_serious(folder: Path, chromium: browser.Browser, name: str, scheme: str) -> None:
    assert AXE is not None
    assert AXE.origin is not None
    chromium.open(folder / name, 1440, scheme)
    chromium.run("document.querySelectorAll('details').forEach((details) => { details.open = true })")
    assert audit(chromium, Path(AXE.origin).with_name("axe.min.js")) == []


def test_the_page_prints(folder: Path, chromium: browser.Browser) -> None:
    chromium.open(folder / "report.html", 1440, "dark")
    assert len(chromium.call("Page.printToPDF", printBackground=True)["data"]) > 10_000


def audit(chromium: browser.Browser, script: Path) -> list[str]:
    """Violations that axe calls serious or critical, with the places."""
    chromium.run(script.read_text() + "; 0")
    found: dict[str, Any] = json.loads(chromium.run("axe.run().then((said) => JSON.stringify(said))"))
    assert found["passes"], "the audit looked at nothing"
    return [
        f"{broken['id']}: {node['html'][:120]} {node.get('failureSummary', '')[:200]}"
        for broken in found["violations"]
        if broken["impact"] in ("serious", "critical")
        for node in broken["nodes"]
    ]


def shown(chromium: browser.Browser) -> dict[str, str]:
    """The values beside the first map."""
    pairs = "[...document.querySelector('.sample dl').children].map((item) => item.textContent)"
    words = chromium.run(pairs)
    return dict(zip(words[::2], words[1::2], strict=True))
