"""A case's YAML as a person reads it: its comments, and each setting with its value in every tier."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from kilonode import config
from kilonode.records import Json

Place = tuple[str, ...]
"""Keys from the top of a file to a value."""


@cache
def comments(path: Path) -> dict[Place, str]:
    """What stands behind ``#`` on the line of a key, for every key of a file that has such a comment."""
    text = path.read_text(encoding="utf-8")
    return dict(_comments(yaml.compose(text), text.splitlines(), ()))


def _comments(node: Any, lines: list[str], place: Place) -> Iterator[tuple[Place, str]]:
    for key, value in node.value:
        here = (*place, str(key.value))
        block = isinstance(value, yaml.MappingNode) and not value.flow_style
        end = key.end_mark if block else value.end_mark
        _, found, text = lines[end.line][end.column :].partition("#") if end.line < len(lines) else ("", "", "")
        if found:
            yield here, text.strip()
        if block:
            yield from _comments(value, lines, here)


@cache
def tiers(case: str) -> dict[str, Json]:
    """The whole configuration of a case in every tier that it has, small to large."""
    return {tier: config.resolve(case, tier) for tier in config.TIERS}


def in_tiers(case: str, *place: str) -> list[tuple[str, str, str]]:
    """Settings below a place of a case: name, value, comment.

    Returns
    -------
    list of tuple
        The value is ``16`` where all tiers have the same, else ``20 / 24 / 100`` in the order of ``config.TIERS``.
    """
    said = comments(config.case_file(case))
    found = [_at(whole, place) for whole in tiers(case).values()]
    names = list(dict.fromkeys(name for one in found for name in one))
    return [(name, shown([one.get(name) for one in found]), said.get((*place, name), "")) for name in names]


def _at(value: Mapping[str, Any], place: Place) -> Mapping[str, Any]:
    for key in place:
        value = value.get(key, {})
    return value


def shown(values: list[Any]) -> str:
    """One value of all tiers, or all of them; of mappings and lists of them each entry by itself."""
    if all(isinstance(value, dict) for value in values):
        names = dict.fromkeys(name for value in values for name in value)
        return ", ".join(f"{name} {shown([value.get(name) for value in values])}" for name in names)
    texts = [plain(value) for value in values]
    return texts[0] if len(set(texts)) == 1 else " / ".join(texts)


def plain(value: Any) -> str:
    """A value of YAML as a person writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items())
    if isinstance(value, list):
        return "[" + ", ".join(map(plain, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)
