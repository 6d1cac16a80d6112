"""The templates of this folder, with the words that pages, cards and descriptions share."""

from __future__ import annotations

import jinja2

from kilonode.records import PACKAGE, Json
from kilonode.report import wording
from kilonode.report.docstrings import markdown
from kilonode.report.overview import house_line
from kilonode.report.settings import plain

FOLDER = PACKAGE / "report"


def template(name: str) -> jinja2.Template:
    """A template by its file name: of HTML what is filled in is escaped, of Markdown it is not."""
    page = name.endswith(".html")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=page,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=not page,
    )
    named = (wording.number, wording.spoken, wording.with_interval, wording.seeds_of, wording.listed)
    environment.filters |= {function.__name__: function for function in named}
    environment.filters |= {
        "asked": _asked,
        "house_line": house_line,
        "markdown": markdown,
        "plain": plain,
        "upper_first": lambda text: text[:1].upper() + text[1:],
        "difference_text": lambda line: wording.size(line["difference"], line["unit"]),
    }
    return environment.get_template(name)


def _asked(line: Json) -> str:
    """Question and metric of a contest; once where both have one name."""
    question = wording.spoken(line["question"]) + (f" ({line['about']})" if line["about"] else "")
    metric = wording.spoken(line["metric"])
    return question if question == metric else f"{question}, {metric}"


def asset(name: str) -> str:
    """A style sheet or script of this folder, to stand inside a page."""
    return (FOLDER / name).read_text(encoding="utf-8")
