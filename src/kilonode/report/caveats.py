"""What the data do not show, in words: said beside every result, not left to the reader."""

from __future__ import annotations

from collections.abc import Sequence

from kilonode.records import Json
from kilonode.report.wording import listed, number, spoken


def caveats(runs: Sequence[Json], lines: Sequence[Json]) -> list[str]:
    """Sentences on what a task's records leave open.

    Parameters
    ----------
    runs : sequence of dict
        The runs of one task, one a seed.
    lines : sequence of dict
        Its contests (``overview.overview``).
    """
    conditions = runs[0]["conditions"]
    said = [_data(conditions), _article(conditions), _training(runs)]
    said += [_few(lines), _rivals(lines), _unpaired(lines), _open(lines), _oracle(lines)]
    said += [_maps(runs), _saliency(runs)]
    return [sentence for sentence in said if sentence]


def _data(conditions: Json) -> str:
    if not conditions["simulated"]:
        return "The data were brought by the user; their simulation or measurement was not checked here."
    return "All data are simulated: nothing here was measured on an instrument."


def _article(conditions: Json) -> str:
    if not conditions["simulated"] or not conditions.get("article"):
        return ""
    return "The article's number was measured on other data: the two are not to be compared as if on the same."


def _training(runs: Sequence[Json]) -> str:
    if len(runs) > 1:
        return ""
    return (
        "One training: how much the result varies from seed to seed is not known, the interval is of the test sample "
        "alone."
    )


def _few(lines: Sequence[Json]) -> str:
    counts = [line["groups"] for line in lines if line["outcome"] == "few"]
    if not counts:
        return ""
    return (
        f"Comparisons that rest on only {min(counts)} test groups: {len(counts)} of {len(lines)}. An interval of so "
        "few is too short; widened as Student's t asks, it holds no difference too, and nothing is decided."
    )


def _rivals(lines: Sequence[Json]) -> str:
    if all(line["rivals"] < 2 for line in lines):
        return ""
    return "The strongest rival is the one with the best value on the test groups, which favours the rivals a little."


def _unpaired(lines: Sequence[Json]) -> str:
    count = sum(not line["difference"]["paired"] for line in lines)
    if not count:
        return ""
    return (
        f"For {count} of {len(lines)} comparisons no paired difference was recorded: their interval adds both errors "
        "as if independent, which is wider where both methods fail on the same samples."
    )


def _open(lines: Sequence[Json]) -> str:
    names = list(dict.fromkeys(spoken(line["question"]) for line in lines if line["outcome"] == "open"))
    if not names:
        return ""
    shown = names if len(names) <= 6 else [*names[:5], f"{len(names) - 5} more"]
    return f"Not decided by these data: {listed(shown)}. No difference shown is not the same as none."


def _oracle(lines: Sequence[Json]) -> str:
    if not lines or any(line["oracle"] for line in lines):
        return ""
    return "No oracle was measured beside these questions: how far the best possible answer is remains open."


def _maps(runs: Sequence[Json]) -> str:
    rows = [row for run in runs for row in run["explanation"]["figures"] if row.get("metric") == "trustworthiness"]
    if not rows:
        return ""
    worst = min(row["value"] for row in rows)
    return (
        "A t-SNE map proves nothing: sizes and distances of its groups carry no meaning "
        f"(trustworthiness {number(worst)} or more; 1 is perfect). Claims rest on the read-outs."
    )


def _saliency(runs: Sequence[Json]) -> str:
    """Which saliency maps do not rank the true pixels better than chance, a network without training, or the input."""
    found = [(method, rival) for method, _, sides in saliency(runs) for rival, side in sides.items() if side != "above"]
    if not found:
        return ""
    lost = [
        f"{spoken(method)} not above {listed([rival for one, rival in found if one == method])}"
        for method in dict.fromkeys(method for method, _ in found)
    ]
    return f"Where the network looks is not shown by every saliency map: {listed(lost)}."


def saliency(runs: Sequence[Json]) -> list[tuple[str, Json, dict[str, str]]]:
    """Of each saliency method: its score against the true pixels, and on which side of its rivals the interval lies.

    Returns
    -------
    list of tuple
        Method; its row ``truth_auc`` (0.5 is chance); rival -> ``above``, ``below`` or ``not told from``.
    """
    rows = [row for row in runs[0]["explanation"]["figures"] if row.get("question") == "saliency"]
    found = []
    for own in (row for row in rows if row["metric"] == "truth_auc" and row["role"] == "network"):
        sides = {"chance": _side(own, 0.5)}
        for gain in rows:
            if gain["method"] == own["method"] and gain["metric"].startswith("truth_auc_over_"):
                sides[spoken(gain["metric"].removeprefix("truth_auc_over_"))] = _side(gain, 0.0)
        found.append((own["method"], own, sides))
    return found


def _side(row: Json, least: float) -> str:
    low, high = row["interval"] or (None, None)
    if low is None or high is None:
        return "not told from"
    return "above" if low > least else "below" if high < least else "not told from"
