"""Verb ``publish``: a summary as a record for the repository, without names of machines and folders."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from kilonode.errors import UserError
from kilonode.records import Json, read_json, write_json
from kilonode.report.overview import overview
from kilonode.report.pool import pooled

PRIVATE = ("host", "node", "job", "folder", "file", "maps")
ABSOLUTE = re.compile(r"(?<![\w.~:/-])/(?:[^\s/:;,'\"]+/)+([^\s/:;,'\"]*)")
"""A path from the root; what it ends with is kept."""


def run(summary: Path, output: Path) -> None:
    """Write the numbers of a summary, the commands that made them and their conditions.

    Parameters
    ----------
    summary : Path
        What ``gather`` wrote.
    output : Path
        ``docs/results/CASE.TIER.json``.
    """
    content = read_json(summary)
    if "runs" not in content:
        raise UserError(f"expected what gather wrote, got another record ({summary}); name its summary.json")
    write_json(output, record(content))


def record(content: Json) -> Json:
    """Figures, contests, conditions and commands of a summary; epochs stay behind, they are long.

    Who won is judged anew, so that an older record that is published again says it as today's does.
    """
    runs = [_run(found) for found in content["runs"]]
    kept: Json = {key: content[key] for key in ("bench", "figures", "pooled", "conditions") if key in content}
    kept["overview"] = overview(pooled(content["figures"]), content["runs"])
    commands = [
        part["command"]
        for found in content["runs"]
        for part in (found["training"]["conditions"], found["conditions"], found["explanation"]["conditions"])
    ]
    return scrubbed({**kept, "commands": list(dict.fromkeys(commands)), "runs": runs})


def _run(found: Json) -> Json:
    named = {key: found[key] for key in ("case", "data", "task", "seed", "conditions")}
    parts = {key: {part: found[key][part] for part in ("figures", "conditions")} for key in ("training", "explanation")}
    return {**named, **parts, "weights": {key: found["weights"][key] for key in ("bytes", "sha256")}}


def scrubbed(value: Any) -> Any:
    """The value without entries that name a machine or folder; absolute paths in texts shrink to their last part."""
    if isinstance(value, dict):
        return {key: scrubbed(item) for key, item in value.items() if key not in PRIVATE}
    if isinstance(value, list):
        return [scrubbed(item) for item in value]
    return ABSOLUTE.sub(r"\1", value) if isinstance(value, str) else value
