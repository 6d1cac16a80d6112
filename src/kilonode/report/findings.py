"""What published records say of a case: per task the table of its main question, who won, what is left open."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from kilonode import config
from kilonode.records import Json, read_json
from kilonode.report.caveats import caveats
from kilonode.report.contests import LOWER, SHARES, judged_by
from kilonode.report.overview import overview
from kilonode.report.pool import pooled
from kilonode.report.wording import listed, number, seeds_of, size, spoken, verdict, with_interval

ROLES = {"network": "network", "baseline": "classical", "oracle": "knows the truth"}


def published(case: str, folder: Path) -> list[Json]:
    """The published summaries of a case: its tiers, the largest first, then other data.

    Parameters
    ----------
    case : str
        Its name.
    folder : Path
        ``docs/results``: records ``<case>.<tier>.json`` as ``publish`` writes them.
    """
    found = [_summary(case, path, content) for path, content in _records(case, folder) if "runs" in content]
    order = [*reversed(config.TIERS)]
    return sorted(found, key=lambda one: order.index(one["data"]) if one["data"] in order else len(order))


def others(case: str, folder: Path) -> list[Json]:
    """Records of a case that are no summary of runs; whether they are of simulated data, if they say so."""
    return [
        {"path": path, "name": path.suffixes[-2][1:], "simulated": content["conditions"].get("simulated")}
        for path, content in _records(case, folder)
        if "runs" not in content
    ]


def _records(case: str, folder: Path) -> list[tuple[Path, Json]]:
    return [(path, read_json(path)) for path in sorted(folder.glob(f"{case}.*.json"))]


def _summary(case: str, path: Path, content: Json) -> Json:
    """One record: its tasks in the order of the case, and what of it no longer holds."""
    rows = pooled(content["figures"])
    lines = overview(rows, content["runs"])
    first = content["runs"][0]
    tier = first["data"] in config.TIERS
    now = config.resolve(case, first["data"] if tier else "demo")
    asked = {name: [run for run in content["runs"] if run["task"] == name] for name in now["tasks"]}
    tasks = [
        _task(
            now["tasks"][name],
            of_task,
            [row for row in rows if row["task"] == name],
            [line for line in lines if line["task"] == name],
            held="overview" in content,
        )
        for name, of_task in asked.items()
        if of_task
    ]
    common = [said for said in tasks[0]["caveats"] if all(said in task["caveats"] for task in tasks)] if tasks else []
    for task in tasks:
        task["caveats"] = [said for said in task["caveats"] if said not in common]
    source = f"{case}-{now['simulation']['version']}"
    return {
        "data": first["data"],
        "title": f"{first['data']} tier" if tier else first["conditions"]["title"],
        "simulated": first["conditions"]["simulated"],
        "path": path,
        "tasks": tasks,
        "common": common,
        "missing": [name for name, of_task in asked.items() if not of_task] if tier else [],
        "older": sorted({task["source"] for task in tasks} - {source}) if tier else [],
        "changed": {task["name"]: task["changed"] for task in tasks if task["changed"]} if tier else {},
    }


def _task(now: Json, runs: list[Json], rows: list[Json], lines: list[Json], held: bool) -> Json:
    """What is known of one task; ``held``: the record has differences that are not paired, too."""
    lead = next((line for line in lines if line["leads"]), None)
    conditions = runs[0]["conditions"]
    return {
        "name": runs[0]["task"],
        "about": conditions["task"],
        "article": now.get("article", ""),
        "changed": _changed(now, conditions),
        "source": conditions["source"].removeprefix("simulation "),
        "lead": lead,
        "words": lead and verdict(lead, sized=held or lead["difference"]["paired"]) + _peers(lead, lines),
        "table": lead and table(lead, rows),
        "rest": [_line(line, held) for line in lines if line is not lead],
        "counts": counts(lines),
        "caveats": caveats(runs, lines),
        "conditions": _conditions(runs),
    }


def _changed(now: Json, then: Json) -> list[str]:
    """Settings of network and training that the case has otherwise today; what a search chooses is not compared."""
    searched = now.get("tuning", {}).get("space", {})
    return [
        f"{part}.{key}"
        for part in ("model", "training")
        for key, value in then[part].items()
        if f"{part}.{key}" not in searched and key in now[part] and now[part][key] != value
    ]


def _peers(lead: Json, lines: Sequence[Json]) -> str:
    """How the same question ended against other rivals, where each of them has a contest of its own."""
    asked = [line for line in lines if all(line[key] == lead[key] for key in ("question", "metric"))]
    sides = {"won": "better than", "lost": "worse than", "open": "not to be told from", "few": "not decided against"}
    rivals = {
        outcome: [spoken(one["rival"]["method"]) for one in asked if one["outcome"] == outcome and one is not lead]
        for outcome in sides
    }
    found = [f"{sides[outcome]} {listed(names)}" for outcome, names in rivals.items() if names]
    return f"; besides {', '.join(found)}" if found else ""


def winner(line: Json) -> str:
    """Who won, in a few words."""
    return {
        "won": "the network",
        "lost": spoken(line["rival"]["method"]),
        "open": "no difference shown",
        "few": f"not decided, {line['groups']} test groups",
        "unmeasured": "not measurable",
    }[str(line["outcome"])]


def table(lead: Json, rows: Sequence[Json]) -> list[Json]:
    """Every method that was asked a task's main question, the best first, each with the network's distance to it.

    Parameters
    ----------
    lead : dict
        The contest that the task is known by.
    rows : sequence of dict
        Of the task, as ``pool.pooled`` gives them.
    """
    asked = [row for row in rows if row["question"] == lead["question"] and row["value"] is not None]
    plain = [row for row in asked if row["metric"] == lead["metric"] and "against" not in row]
    paired = [row for row in asked if "against" in row and judged_by(row) == lead["metric"]]
    best = -1 if not lead["metric"].endswith(LOWER) else 1
    if not plain:  # only differences were recorded, as of win rates
        return [_row(row, f"{_label(row)} over {spoken(row['against'])}", None) for row in paired]
    gains = {row["against"]: row for row in paired if row["method"] == lead["network"]["method"]}
    return [
        _row(row, _label(row), gains.get(row["method"])) for row in sorted(plain, key=lambda row: best * row["value"])
    ]


def _label(row: Json) -> str:
    name = spoken(row["method"])
    return f"**{name}**" if row["role"] == "network" else name


def _row(row: Json, label: str, gain: Json | None) -> Json:
    share = row["metric"].startswith(SHARES)
    return {
        "label": label,
        "role": ROLES[row["role"]],
        "value": percent(row) if share else with_interval(row),
        "gain": with_interval(gain) if gain else "",
        "n": row.get("n"),
        "groups": row.get("groups"),
    }


def percent(row: Json) -> str:
    """A share with its interval in hundredths."""
    low, high = row["interval"] or (None, None)
    interval = f" [{number(100 * low, 1)}, {number(100 * high, 1)}]" if low is not None and high is not None else ""
    return f"{number(100 * row['value'], 1)} %{interval}"


def _line(line: Json, held: bool) -> Json:
    """Another contest of the task."""
    difference = line["difference"]
    gain = size(difference, line["unit"]) if difference["cover"] and (difference["paired"] or held) else ""
    share = line["metric"].startswith(SHARES)
    show = percent if share else with_interval
    known = line["rival"]["value"] is not None
    return {
        "question": spoken(line["question"]),
        "metric": spoken(line["metric"]),
        "network": show(line["network"]) if line["network"]["value"] is not None else "",
        "rival": spoken(line["rival"]["method"]),
        "value": show(line["rival"]) if known else "",
        "gain": "" if share else gain + ("" if difference["paired"] or not gain else ", unpaired"),
        "winner": winner(line),
    }


def counts(lines: Iterable[Json]) -> str:
    """``3 won by the network, 5 won by a rival and 7 open``."""
    words = {"won": "won by the network", "lost": "won by a rival", "open": "open", "few": "of too few groups"}
    found = [line["outcome"] for line in lines]
    return listed([f"{found.count(key)} {text}" for key, text in words.items() if found.count(key)])


def _conditions(runs: Sequence[Json]) -> Json:
    """How the task's numbers were made."""
    first = runs[0]
    trained, measured = first["training"]["conditions"], first["conditions"]
    figures = {row["name"]: row["value"] for row in first["training"]["figures"]}
    return {
        "rows": measured["rows"],
        "parameters": measured["parameters"],
        "epochs": figures.get("epochs"),
        "seeds": seeds_of([run["seed"] for run in runs]),
        "ranks": trained["ranks"],
        "backend": trained["backend"],
        "precision": trained.get("precision"),
        "trained": {"commit": trained["commit"], "date": trained["time"][:10]},
        "measured": {"commit": measured["commit"], "date": measured["time"][:10]},
        "cpu": measured["cpu"],
    }
