"""Who won: on every question the network stands against the strongest of its rivals."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy import stats

from kilonode.records import Json

JUDGED = ("auc", "accuracy", "r2", "mse")
"""A metric that ends so is a contest wherever network and baseline both have it; others where a difference says so."""
LOWER = ("mse",)
"""A smaller value is better."""
SHARES = "win_rate"
"""A share of wins: a half is a draw, where every other difference is measured from 0."""
BOUND = "bound"
"""A question of this name says what is possible for every question of the same metric."""
PROBES = ("linear_", "tree_")
"""Read-outs of a code: those without a paired difference ask for a nuisance, and nobody wins by knowing one."""
PARTS = ("quantile", "median")
"""Differences that describe a distribution and decide nothing."""


def contests(rows: Sequence[Json]) -> list[Json]:
    """One contest a question and metric of one task, in the order of the records.

    Parameters
    ----------
    rows : sequence of dict
        Of one case, data set and task, as ``pool.pooled`` gives them.

    Returns
    -------
    list of dict
        ``question``, ``metric``, ``network``, ``rival`` (the strongest of ``rivals``), ``oracle``, ``difference``
        (with ``paired``), ``tie`` and ``outcome``: won, lost, open, few (groups) or unmeasured.
    """
    plain: dict[tuple[str, str], list[Json]] = {}
    gains: dict[tuple[str, str], list[Json]] = {}
    for row in rows:
        if "against" not in row:
            plain.setdefault((row["question"], row["metric"]), []).append(row)
        elif row["role"] == "network" and row["interval"] and not row["metric"].startswith(PARTS):
            gains.setdefault((row["question"], judged_by(row)), []).append(row)
    found = [
        _contest(key, sides, differences, _oracles(key, differences, rows))
        for key in {**plain, **gains}
        if key in gains or (key[1].endswith(JUDGED) and not key[1].startswith(PROBES))
        for sides, differences in _sides(plain.get(key, []), gains.get(key, []))
    ]
    return [contest for contest in found if contest is not None]


def _sides(rows: list[Json], gains: list[Json]) -> list[tuple[list[Json], list[Json]]]:
    """All rivals at once where each has a value; one after the other where only differences were recorded."""
    if any(row["role"] == "baseline" for row in rows):
        return [(rows, gains)]
    return [(rows, [gain]) for gain in gains if gain["method"] == gains[0]["method"]]


def _oracles(key: tuple[str, str], gains: list[Json], rows: Sequence[Json]) -> list[Json]:
    """What is possible: the oracle's own answer, its difference to the same rival, or a bound of the metric."""
    oracles = [row for row in rows if row["role"] == "oracle"]
    asked = {key, *((key[0], gain["metric"]) for gain in gains)}
    own = [row for row in oracles if (row["question"], row["metric"]) in asked]
    return own + [row for row in oracles if row["question"].startswith(BOUND) and row["metric"] == key[1]]


def judged_by(row: Json) -> str:
    """The metric whose difference a row is: ``accuracy`` of ``accuracy_gain_on_forest`` and of ``accuracy_gain``."""
    against = str(row["against"]).replace(" ", "_")
    metric = str(row["metric"])
    for ending in (f"_gain_on_{against}", f"_over_{against}", "_gain"):
        metric = metric.removesuffix(ending)
    return metric


def _contest(key: tuple[str, str], rows: list[Json], gains: list[Json], oracles: list[Json]) -> Json | None:
    """The network that is named first against the rival that is strongest, both on the same test samples."""
    question, metric = key
    sign = -1 if metric.endswith(LOWER) else 1
    method = next((row["method"] for row in [*rows, *gains] if row["role"] == "network"), None)
    network = next((row for row in rows if row["method"] == method), None)
    gains = [row for row in gains if row["method"] == method]
    rivals = [row for row in rows if row["role"] == "baseline" and row["value"] is not None]
    if method is None or not (gains or (network and network["value"] is not None and rivals)):
        return None
    if network and network["value"] is not None and rivals:
        rival = max(rivals, key=lambda row: sign * row["value"])
        paired = next((row for row in gains if row["against"] == rival["method"]), None)
        difference = {**paired, "paired": True} if paired else _unpaired(network, rival, sign)
    else:  # only the difference was recorded, as of win rates
        paired = gains[0]
        rival, difference = {"method": paired["against"], "value": None, "interval": None}, {**paired, "paired": True}
    about = next((row["about"] for row in [*rows, *gains] if row.get("about")), "")
    groups = [row["groups"] for row in [*rows, *gains] if row.get("groups")]
    tie = 0.5 if metric.startswith(SHARES) else 0.0
    contest = {
        "question": question,
        "metric": metric,
        "about": about,
        "unit": difference.get("unit", "1"),
        "seeds": difference["seeds"],
        "network": network or _alone(method, difference, tie),
        "rival": rival,
        "rivals": max(len(rivals), len({row["against"] for row in gains})),
        "oracle": next(iter(oracles), None),
        "difference": difference,
        "groups": min(groups) if groups else None,
        "tie": tie,
    }
    return {**contest, "outcome": outcome(difference, tie, contest["groups"])}


def _alone(method: str, difference: Json, tie: float) -> Json:
    """A share of wins is the network's own number; of another difference alone its value is not known."""
    found = (difference["value"], difference["interval"]) if tie else (None, None)
    return {"method": method, "value": found[0], "interval": found[1]}


def _unpaired(network: Json, rival: Json, sign: int) -> Json:
    """Difference of two values whose errors are taken as independent: their distances to the ends add in squares."""
    value = sign * (network["value"] - rival["value"])
    cover = None
    if network["cover"] and rival["cover"]:
        (low, high), (under, over) = (
            sorted(sign * (end - row["value"]) for end in row["cover"]) for row in (network, rival)
        )
        cover = [value - math.hypot(low, over), value + math.hypot(high, under)]
    return {"value": value, "interval": cover, "cover": cover, "paired": False, "unit": network["unit"],
            "seeds": network["seeds"]}  # fmt: skip


def outcome(difference: Json, tie: float, groups: int | None) -> str:
    """What an interval allows to say; nobody wins by noise, and nobody by the narrow interval of a few groups."""
    cover = difference["cover"]
    if not cover or difference["value"] is None:
        return "unmeasured"
    side = "won" if cover[0] > tie else "lost" if cover[1] < tie else "open"
    if side == "open" or groups is None:
        return side
    end = cover[0] if side == "won" else cover[1]
    reach = abs(difference["value"] - end) * widening(groups)
    return side if 0 < reach < abs(difference["value"] - tie) else "few"


def widening(groups: int) -> float:
    """How much too short a bootstrap interval of so few groups is.

    Its spread lacks the factor sqrt(G / (G - 1)), and its ends are those of a normal distribution where Student's t
    with G - 1 degrees of freedom belongs: 9.2 for 2 groups, 1.9 for 4, 1.1 for 20 (Efron & Tibshirani 1993,
    "An introduction to the bootstrap", section 12.5, for the second; the first is the bias of a plug-in variance).
    """
    if groups < 2:
        return math.inf
    return float(stats.t.ppf(0.975, groups - 1) / stats.norm.ppf(0.975)) * math.sqrt(groups / (groups - 1))


def leading(found: Sequence[Json], named: str = "") -> Json | None:
    """The contest a task is known by: ``question/metric`` as its case names it, else the first score."""
    question, _, metric = named.partition("/")
    chosen = [one for one in found if (one["question"], one["metric"]) == (question, metric)]
    scores = [one for one in found if not one["metric"].endswith(LOWER)]
    return next(iter([*chosen, *scores, *found]), None)
