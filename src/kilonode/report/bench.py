"""Verb ``bench``: measured numbers in one shape (schemas/bench.json)."""

from __future__ import annotations

import json
from pathlib import Path

from kilonode import config
from kilonode.records import Json, read_json
from kilonode.report.wording import number


def run(what: str, json_output: bool, summary: Path) -> None:
    """Print the metrics of a finished pipeline; ``what`` is ``demo``."""
    content = read_json(summary)
    found: Json = {"bench": what, "figures": content["figures"], "conditions": content["conditions"]}
    config.check(found, config.schema("bench"), summary)
    if json_output:
        print(json.dumps(found, sort_keys=True))
        return
    for row in found["figures"]:
        low_high = f"  [{number(row['interval'][0])}, {number(row['interval'][1])}]" if row["interval"] else ""
        print(f"{row['name']:<90} {number(row['value'])} {row['unit'] if row['unit'] != '1' else ''}{low_high}")
