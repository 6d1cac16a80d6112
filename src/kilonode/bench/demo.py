"""The metrics of a finished pipeline, as its summary holds them."""

from __future__ import annotations

import argparse
from pathlib import Path

from kilonode.records import Json, read_json


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    summary = Path("results/summary.json")
    parser.add_argument("--summary", type=Path, default=summary, metavar="PATH", help="what gather wrote")


def run(options: argparse.Namespace) -> Json:
    """Measure nothing: read."""
    content = read_json(options.summary)
    return {"figures": content["figures"], "conditions": content["conditions"]}
