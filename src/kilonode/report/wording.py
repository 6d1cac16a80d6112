"""Numbers and verdicts as words: who won, by how much, and when nobody did."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kilonode.records import Json

NAMES = {
    "auc": "AUC", "pca": "PCA", "r2": "R²", "mse": "mean squared error", "lda": "LDA", "svm": "SVM", "knn": "k-NN",
    "elbo": "ELBO", "bic": "BIC", "map": "mean average precision", "ap": "average precision",
    "tsne": "t-SNE", "roc": "ROC", "snr": "S/N", "ht": "HT", "gaussian": "Gaussian", "sersic": "Sersic",
}  # fmt: skip
"""Short names of the records and what a person says."""


def number(value: float | None, digits: int = 3) -> str:
    """Three decimals, fewer for large values; ``n/a`` for what could not be measured; a true minus sign."""
    if value is None or value != value:
        return "n/a"
    size = abs(value)
    if 0 < size < 0.5 * 10**-digits:
        text = f"{value:.1e}"
    else:
        text = f"{value:.{digits}f}" if size < 10 else f"{value:.1f}" if size < 1000 else f"{value:,.0f}"
        text = text.removeprefix("-") if float(text.replace(",", "")) == 0 else text
    return text.replace("-", "\N{MINUS SIGN}", 1) if text.startswith("-") else text


def with_interval(row: Json) -> str:
    """``0.951 [0.944, 0.957]``."""
    interval = row["interval"]
    return number(row["value"]) + (f" [{number(interval[0])}, {number(interval[1])}]" if interval else "")


def verdict(contest: Json, sized: bool = True) -> str:
    """What a contest says, in one sentence without its question; an interval that holds the tie is no difference.

    ``sized`` false leaves the difference out where a record does not hold it.
    """
    many = f", the strongest of {contest['rivals']}" if contest["rivals"] > 1 else ""
    rival = spoken(contest["rival"]["method"]) + many
    if contest["outcome"] == "unmeasured":
        return f"the difference between the network and {rival} was not measurable"
    if contest["tie"]:
        return _of_shares(contest, rival)
    by = size(contest["difference"], contest["unit"], contest["outcome"] == "lost")
    by += "" if contest["difference"]["paired"] else " (unpaired)"
    if contest["outcome"] == "few":
        return f"not decided{f': {by}' if sized else ''} against {rival}{',' if many else ''} {_few(contest)}"
    if contest["outcome"] == "open":
        return f"no difference shown between the network and {rival}{f': {by}' if sized else ''}"
    side = "better" if contest["outcome"] == "won" else "worse"
    return f"the network is {side} than {rival}" + (f"{',' if many else ''} by {by}" if sized else "")


def _of_shares(contest: Json, rival: str) -> str:
    """A share of wins beside the half that a draw has."""
    low, high = contest["difference"]["cover"]
    value = contest["difference"]["value"]
    shown = f"{100 * value:.1f}\N{NO-BREAK SPACE}% [{100 * low:.1f}, {100 * high:.1f}] of test samples"
    end = {
        "won": "more than half, so the network is better",
        "lost": "less than half, so the network is worse",
        "open": "not to be told from half",
        "few": f"not decided {_few(contest)}",
    }[contest["outcome"]]
    return f"the network wins on {shown} against {rival}: {end}"


def _few(contest: Json) -> str:
    return f"from only {contest['groups']} test groups"


def size(difference: Json, unit: str = "1", turned: bool = False) -> str:
    """A difference with its interval and unit; turned around where the other side is better."""
    low, high = difference["cover"]
    value = difference["value"]
    if turned:
        value, low, high = -value, -high, -low
    return f"{number(value)} [{number(low)}, {number(high)}]" + ("" if unit == "1" else f" {unit}")


def seeds_of(seeds: Sequence[int]) -> str:
    """``seed 0``, ``seeds 0-4`` or ``seeds 0, 2``."""
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    run = list(seeds) == list(range(seeds[0], seeds[0] + len(seeds)))
    return f"seeds {seeds[0]}-{seeds[-1]}" if run else f"seeds {', '.join(map(str, seeds))}"


def spoken(name: str) -> str:
    """A name of the records as a person says it."""
    words = re.sub(r"_+", " ", name).strip()
    return " ".join(NAMES.get(word, word) for word in words.split(" "))


def listed(words: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)
