"""Verb ``check``: print what a data file holds, or why it is not to be trusted."""

from __future__ import annotations

import json
from pathlib import Path

from kilonode.data.store import inspect
from kilonode.records import finite


def run(file: list[Path], json_output: bool) -> None:
    """Print fields, shapes, units and hash of each file; the first bad one ends it with its reason."""
    for path in file:
        found = finite(inspect(path))
        if json_output:
            print(json.dumps(found, sort_keys=True))
            continue
        attributes = found["attributes"]
        made = "simulated" if attributes.get("simulated") else "measured"
        print(f"{path}: {attributes.get('case', '?')}, {made}, {attributes.get('source', '?')}")
        for name, spec in found["fields"].items():
            shape = " x ".join(str(k) for k in spec["shape"])
            span = f"{spec['minimum']:.6g} to {spec['maximum']:.6g}" if spec["minimum"] is not None else "empty"
            print(f"  {name:<14} {shape:<20} {spec['dtype']:<8} {spec['unit']:<10} {span:<26} {spec['long_name']}")
        print(f"  sha256 {found['sha256']} ({found['index']})")
