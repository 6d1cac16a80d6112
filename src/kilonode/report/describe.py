"""Verb ``describe``: one Markdown page a case, made of its docstrings, its ``case.yaml`` and its published records."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from kilonode import cases, config
from kilonode.errors import UserError
from kilonode.records import PACKAGE, Json, write_text
from kilonode.report import docstrings, findings, settings
from kilonode.report.docstrings import first_sentence, markdown
from kilonode.report.templates import template

DOCS = PACKAGE.parents[1] / "docs"
TRUTH = "truth/"
"""Fields of this name stand in a folder that the loader refuses to training and tuning."""
ENGINE = ("version", "seed", "groups_per_shard")
"""Settings of a simulation that say nothing of what is simulated."""
MACHINE = ("threads", "window_mb", "precision")
"""Settings of a training that belong to the machine more than to the method."""
COUNTED = re.compile(
    r"(?<![\w^.,])(?:\d{1,3}(?:,\d{3})+|\d*\.\d+|\d+(?:\s|-)?(?:%|per cent|times|(?:[num]?s|min|h|nats?)\b"
    r"|seconds?|minutes?|hours?|days?|[kMGTP]i?B\b|[\w-]+/s\b))"
)
"""A number that a reader takes for a measured or published one: it needs a mark (tests/test_records_in_docs.py)."""
FREE = re.compile(r"`[^`]*`|\]\([^)]*\)|arXiv:\S+|https?:\S+")
"""Where numbers are names."""


def run(case: list[str], records: Path, output: Path) -> None:
    """Write ``<case>.md`` for the cases asked for.

    Parameters
    ----------
    case : list of str
        Names; all where empty.
    records : Path
        The published records: ``docs/results``.
    output : Path
        Folder of the pages: ``docs/cases``.
    """
    if not records.is_dir():
        raise UserError(f"expected a folder of records, got none ({records}); run in the checkout, or say --records")
    pages = {name: page(name, records, output) for name in case or cases.names()}
    for name, text in pages.items():
        write_text(output / f"{name}.md", text)
        print(f"page: {output / name}.md")


def page(case: str, records: Path, output: Path) -> str:
    """The page of one case; its links hold in the folder ``output``."""
    file = config.case_file(case)
    home = file.parent
    sources = {path.stem: docstrings.source(path) for path in sorted(home.glob("*.py"))}
    about = sources.pop("__init__")
    whole = settings.tiers(case)[config.TIERS[-1]]
    notes = DOCS / "notes" / f"{case}.md"
    link = partial(os.path.relpath, start=output)
    here = partial(os.path.relpath, start=Path.cwd())
    text = template("describe.md").render(
        case=case,
        names=config.TIERS,
        whole=whole,
        truth=sources.get("truth"),
        sources=sources,
        about=about,
        published=findings.published(case, records),
        others=findings.others(case, records),
        tables=tables(whole["tables"]),
        split={name: value for name, value, _ in settings.in_tiers(case, "split")},
        simulation=[row for row in settings.in_tiers(case, "simulation") if row[0] not in ENGINE],
        comments=settings.comments(file),
        tasks=[_task(case, name, task) for name, task in whole["tasks"].items()],
        networks=[member for member in sources["models"].members if member.kind == "class" and member.summary],
        rivals=[(member.name, member.returns or member.summary) for member in sources["baseline"].members],
        physics=[sources[name] for name in sources["simulate"].uses],
        captions={name: first_sentence(text) for name, text in docstrings.captions(home / "figures.py").items()},
        notes=link(notes) if notes.exists() else "",
        link=link,
        here=here,
        marked=marked,
        path={"yaml": here(file), "home": here(home), "link": link(home), "report": DOCS / "report.md"},
    )
    return re.sub(r"\n{3,}", "\n\n", text)


def marked(text: str, *marks: str) -> str:
    """The text under its marks, if a number of it needs one."""
    if not COUNTED.search(FREE.sub("", text)):
        return text
    return "".join(f"<!-- {mark} -->\n" for mark in marks) + text


def tables(declared: Mapping[str, Json]) -> list[Json]:
    """The tables of a case; what is the same as in an earlier one is not told twice."""
    told: dict[str, Json] = {}
    found = []
    for name, fields in declared.items():
        earlier = next((other for other in told if told[other] == fields), "")
        own = {key: spec for key, spec in fields.items() if not any(spec == t.get(key) for t in told.values())}
        found.append({
            "name": name,
            "same": earlier,
            "open": [_field(key, spec) for key, spec in own.items() if not key.startswith(TRUTH)],
            "closed": [_field(key, spec) for key, spec in own.items() if key.startswith(TRUTH)],
            "shared": [key for key in fields if key not in own],
        })  # fmt: skip
        told[name] = fields
    return found


def _field(name: str, spec: Json) -> Json:
    shape = f" ({', '.join(map(str, spec['shape']))})" if spec["shape"] else ""
    labels = spec.get("labels", {})
    few = "; ".join(f"{key} {value}" for key, value in labels.items()) if len(labels) <= 10 else f"{len(labels)} values"
    unit = "" if spec["unit"] == "1" else markdown(spec["unit"])
    what = markdown(spec["long_name"] + (f": {few}" if labels else ""))
    return {"name": name, "type": f"{spec['dtype']}{shape}", "unit": unit, "what": what}


def _task(case: str, name: str, task: Json) -> Json:
    """A task as its YAML has it, with what differs from tier to tier."""
    model = [
        f"{key} `{value}`" + (f" ({markdown(said)})" if said else "")
        for key, value, said in settings.in_tiers(case, "tasks", name, "model")
    ]
    training = [
        f"{key} `{value}`" for key, value, _ in settings.in_tiers(case, "tasks", name, "training") if key not in MACHINE
    ]
    reads = task["input"]
    return {
        "target": "",
        **task,
        "name": name,
        "model": ", ".join(model),
        "training": ", ".join(training),
        "space": [f"{key} `{_range(spec)}`" for key, spec in task.get("tuning", {}).get("space", {}).items()],
        "reads": reads["field"] + (f", channels {reads['channels']}" if "channels" in reads else ""),
        "questions": [markdown(spec["about"]) for spec in task.get("read_outs", {}).values()],
        "saliency": task["explain"].get("saliency", {}).get("about", ""),
    }


def _range(spec: Json) -> str:
    """What a search may choose from."""
    if "among" in spec:
        return ", ".join(map(settings.plain, spec["among"]))
    ends = f"{settings.plain(spec['low'])} to {settings.plain(spec['high'])}"
    return ends + (", logarithmic" if spec.get("log") else "")
