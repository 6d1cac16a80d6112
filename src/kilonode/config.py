"""Configuration: read YAML, check all of it at once, resolve a case for one data set.

A case is resolved for a *data set*: a tier of its simulation (toy, demo, article) or somebody's own files,
described by a mapping file. Either is an overlay on ``case.yaml``; nothing else changes on the way through.
"""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from referencing import Registry, Resource

from kilonode import cases
from kilonode.errors import UserError, near
from kilonode.records import PACKAGE, Json, digest, read_json

TIERS = ("toy", "demo", "article")


def read_yaml(path: Path) -> Json:
    """Read a YAML mapping; ``UserError`` if it is missing, broken, or not a mapping."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"expected a YAML file, got {error.strerror} ({path}); check the path") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no UTF-8, a thirteenth month
        reason = " ".join(str(error).split())
        raise UserError(f"expected YAML, got {reason} ({path}); mend the file") from None
    if not isinstance(content, dict):
        raise UserError(f"expected a YAML mapping, got {type(content).__name__} ({path}); mend the file")
    return content


def check(content: Json, schema: Json, where: str | Path) -> None:
    """Hold a configuration against a JSON schema.

    Raises
    ------
    UserError
        One line for every mistake, with the nearest allowed key for an unknown one.
    """
    validator = jsonschema.Draft202012Validator(schema, registry=_registry())
    problems = [line for error in validator.iter_errors(content) for line in _explain(error, where)]
    if problems:
        raise UserError(*sorted(problems))


def _explain(error: Any, where: str | Path) -> list[str]:
    """One line a mistake: jsonschema reports all unknown keys of a mapping together."""
    place = ".".join(str(key) for key in error.absolute_path) or "top level"
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        unknown = [key for key in error.instance if key not in known]
        return [f"expected a known key in {place}, got {key!r} ({where}); {near(str(key), known)}" for key in unknown]
    if error.validator in ("oneOf", "anyOf") and error.context:
        reasons = " or ".join(sorted({sub.message for sub in error.context}))
        return [f"expected one of the forms of {place}, got {error.instance!r} ({where}); {reasons}"]
    return [f"expected {place} to be valid, got {error.message} ({where}); see its comment in the file"]


@cache
def schema(name: str) -> Json:
    """A JSON schema of the package (``schemas/<name>.json``)."""
    content: Json = read_json(PACKAGE / "schemas" / f"{name}.json")
    return content


@cache
def _registry() -> Any:
    """What a schema may refer to: a mapping holds tasks of the same form as a case's."""
    return Registry().with_resource("case.json", Resource.from_contents(schema("case")))


def merged(base: Json, overlay: Json) -> Json:
    """``base`` with ``overlay`` on top: mappings are merged key by key, anything else is replaced."""
    result = copy.deepcopy(base)
    for key, value in overlay.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else copy.deepcopy(value)
    return result


def case_file(name: str) -> Path:
    """Path of a case's ``case.yaml``; ``UserError`` with the near matches if there is no such case."""
    if name not in cases.names():
        raise UserError(f"expected a case, got {name!r} (--case); {near(name, cases.names())}")
    return cases.HOME / name / "case.yaml"


def data_name(data: str) -> str:
    """Name of a data set: the tier, or the ``name`` in a mapping file."""
    return data if data in TIERS else str(_mapping(data)["name"])


def _mapping(data: str) -> Json:
    """A checked mapping file."""
    path = Path(data)
    if path.suffix not in (".yaml", ".yml"):
        raise UserError(
            f"expected one of {', '.join(TIERS)} or a mapping file ending in .yaml, got {data!r} (--data); "
            "see 'bring your own data' in the README"
        )
    content = read_yaml(path)
    check(content, _mapping_schema(), path)
    return content


def formats() -> list[str]:
    """The formats that can be ingested: a module there is an adapter, unless its name begins with an underscore."""
    return sorted(path.stem for path in (PACKAGE / "data/ingest").glob("[a-z]*.py"))


@cache
def _mapping_schema() -> Json:
    """The schema of a mapping with the formats that there are."""
    content = copy.deepcopy(schema("mapping"))
    content["properties"]["format"] = {"enum": formats()}
    return content


def resolve(case: str, data: str) -> Json:
    """The whole configuration of a case for one data set.

    Parameters
    ----------
    case : str
        A name in ``cases.names()``.
    data : str
        A tier (toy, demo, article), or the path of a mapping file.

    Returns
    -------
    dict
        ``case.yaml`` with the overlay on top and without ``tiers``; ``data`` holds the data set's name.
        For a mapping also ``ingest``: which dataset of the source becomes which field.

    Raises
    ------
    UserError
        All mistakes at once.
    """
    path = case_file(case)
    content = read_yaml(path)
    check(content, schema("case"), path)
    tiers = content.pop("tiers")
    if data in TIERS:
        resolved, where = merged(content, tiers[data]), f"{path}, tier {data}"
        check({**resolved, "tiers": tiers}, schema("case"), where)
        _refuse_unknown_fields(resolved["tasks"], resolved["tables"], where)
    else:
        mapping = _mapping(data)
        if mapping["case"] != case:
            raise UserError(f"expected a mapping for case {case!r}, got one for {mapping['case']!r} ({data})")
        tasks = _known_tasks(content["tasks"], mapping["tasks"], data)
        content.pop("simulation")
        overlay: Json = {key: mapping[key] for key in ("title", "group", "split", "storage") if key in mapping}
        resolved = merged(content, overlay)
        resolved["tasks"] = tasks
        _refuse_unknown_fields(tasks, mapping["tables"], data)
        resolved["tables"] = {}  # shapes and types come from the files
        resolved["ingest"] = {key: mapping[key] for key in ("format", "source", "simulated", "tables")}
    resolved["data"] = data_name(data)
    return resolved


def _known_tasks(known: Json, asked: Json, where: str) -> Json:
    """The mapping's tasks on top of the case's tasks of the same name; read-outs and known truth are its own."""
    unknown = [name for name in asked if name not in known]
    if unknown:
        raise UserError(*(f"expected a task, got {name!r} ({where}); {near(name, known)}" for name in unknown))
    tasks = {}
    for name, overlay in asked.items():
        base = {key: value for key, value in known[name].items() if key not in ("read_outs", "columns")}
        base["explain"] = {key: value for key, value in base["explain"].items() if key != "saliency"}
        tasks[name] = merged(base, overlay)
    return tasks


def _refuse_unknown_fields(tasks: Json, tables: Json, where: str) -> None:
    """Every table and field that tasks name must exist: better now than after hours of training."""
    problems = []
    for name, content in tasks.items():
        if content["table"] not in tables:
            place, table = f"tasks.{name}.table", content["table"]
            problems.append(f"expected a table in {place}, got {table!r} ({where}); {near(table, tables)}")
            continue
        parts = {"input": content["input"]}
        for kind in ("columns", "read_outs"):
            parts |= {f"{kind}.{key}": spec for key, spec in content.get(kind, {}).items()}
        asked = [(f"{place}.field", spec["field"]) for place, spec in parts.items() if "field" in spec]
        for side in ("positive", "negative", "where"):
            asked += [(f"{place}.{side}", field) for place, spec in parts.items() for field in spec.get(side, {})]
        asked += [("target", content["target"])] if "target" in content else []
        asked += [("explain.saliency", field) for field in content["explain"].get("saliency", {}).get("fields", [])]
        fields = {"sample_id", *tables[content["table"]]}
        problems += [
            f"expected a field in tasks.{name}.{place}, got {field!r} ({where}); {near(field, fields)}"
            for place, field in asked
            if field not in fields
        ]
    if problems:
        raise UserError(*problems)


def task(case: str, data: str, name: str, tuned: Path | None = None) -> Json:
    """The configuration of one task, or ``UserError`` with the near matches.

    ``tuned`` is the folder of its searches: the best configuration of ``network/best.json`` is put on top.
    """
    tasks: Json = resolve(case, data)["tasks"]
    if name not in tasks:
        raise UserError(f"expected a task of {case} on {data_name(data)}, got {name!r} (--task); {near(name, tasks)}")
    found: Json = tasks[name]
    if tuned is not None and (best := tuned / "network" / "best.json").exists():
        found = merged(found, read_json(best)["configuration"])
    return found


def part(case: str, data: str, *path: str) -> str:
    """Digest of one part of a resolved case: what a rule's ``params`` holds, so that it reruns when that changes."""
    value: Any = resolve(case, data)
    for key in path:
        value = value.get(key, {})
    return digest(value)[:16]
