"""The table at the top: one line a task with network, strongest rival, oracle and article beside each other."""

from __future__ import annotations

from collections.abc import Sequence

from kilonode import config
from kilonode.records import Json
from kilonode.report.contests import contests, leading
from kilonode.report.wording import number, seeds_of, spoken, verdict

COLUMNS = (
    "case", "data", "task", "question", "metric", "unit", "outcome", "seeds", "network", "network_value", "network_low",
    "network_high", "rival", "rival_value", "rival_low", "rival_high", "rivals", "oracle", "oracle_value",
    "difference", "difference_low", "difference_high", "paired", "groups", "leads", "article", "simulated", "words",
)  # fmt: skip


def overview(rows: Sequence[Json], runs: Sequence[Json]) -> list[Json]:
    """Every contest of every task; the one its task is known by has ``leads``.

    Parameters
    ----------
    rows : sequence of dict
        ``pool.pooled`` of all figures.
    runs : sequence of dict
        With ``case``, ``data``, ``task`` and the ``conditions`` of their evaluation.
    """
    lines = []
    for key in dict.fromkeys((run["case"], run["data"], run["task"]) for run in runs):
        conditions = next(run["conditions"] for run in runs if (run["case"], run["data"], run["task"]) == key)
        found = contests([row for row in rows if (row["case"], row["data"], row["task"]) == key])
        lead = leading(found, _headline(*key))
        for contest in found:
            lines.append(_line(key, contest, conditions, contest is lead))
    return lines


def _headline(case: str, data: str, task: str) -> str:
    """What the case says its task is known by; somebody's own data take the question of the same task."""
    tier = data if data in config.TIERS else "demo"
    return str(config.resolve(case, tier)["tasks"].get(task, {}).get("headline", ""))


def _line(key: tuple[str, str, str], contest: Json, conditions: Json, leads: bool) -> Json:
    case, data, task = key
    return {
        "case": case,
        "data": data,
        "task": task,
        **contest,
        "leads": leads,
        "article": conditions.get("article", ""),
        "simulated": conditions.get("simulated", True),
        "source": conditions.get("source", ""),
        "words": verdict(contest),
    }


def flat(line: Json) -> Json:
    """A line of the table as CSV has it."""
    row: Json = {key: line.get(key) for key in COLUMNS}
    for name in ("network", "rival", "oracle"):
        part = line[name] or {"method": None, "value": None, "interval": None}
        low, high = part.get("interval") or (None, None)
        row |= {name: part["method"], f"{name}_value": part["value"], f"{name}_low": low, f"{name}_high": high}
    low, high = line["difference"]["cover"] or (None, None)
    row |= {"difference": line["difference"]["value"], "difference_low": low, "difference_high": high}
    row |= {"paired": line["difference"]["paired"], "seeds": " ".join(str(seed) for seed in line["seeds"])}
    return {key: row[key] for key in COLUMNS}


def house_line(line: Json) -> str:
    """``article: 97.2 % on its data; ours: 0.951 [0.945, 0.957] on simulation NAME-1, seeds 0-4``."""
    article = f"article: {line['article']}; " if line["article"] else ""
    where = f"{'simulation' if line['simulated'] else 'measured data'} {line['source'].removeprefix('simulation ')}"
    network = line["network"] if line["network"]["value"] is not None else line["difference"]
    parts = [f"ours ({spoken(line['metric'])}): {_shown(network)}"]
    if line["rival"]["value"] is not None:
        parts.append(f"{spoken(line['rival']['method'])}: {_shown(line['rival'])}")
    if line["oracle"]:
        parts.append(f"oracle ({spoken(line['oracle']['method'])}): {_shown(line['oracle'])}")
    return f"{article}{'; '.join(parts)}, on {where}, {seeds_of(line['seeds'])}"


def _shown(row: Json) -> str:
    low, high = row.get("interval") or (None, None)
    return number(row["value"]) + (f" [{number(low)}, {number(high)}]" if low is not None else "")
