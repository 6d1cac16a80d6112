"""Numbers and verdicts as words: who won, by how much, and when nobody did."""

from __future__ import annotations

from kilonode.records import Json


def number(value: float | None, digits: int = 3) -> str:
    """Three significant decimals; ``n/a`` for what could not be measured."""
    if value is None or value != value:
        return "n/a"
    text = f"{value:.{digits}f}" if abs(value) < 100 else f"{value:,.0f}"
    return text.removeprefix("-") if float(text.replace(",", "")) == 0 else text


def with_interval(row: Json) -> str:
    """``0.951 [0.944, 0.957]``."""
    interval = row["interval"]
    return number(row["value"]) + (f" [{number(interval[0])}, {number(interval[1])}]" if interval else "")


def verdict(gain: Json) -> str:
    """What a paired difference says; an interval that holds 0 is no difference."""
    against = spoken(gain["against"])
    low, high = gain["interval"]
    shown = with_interval(gain)
    if low is None or high is None:
        return f"not measurable against {against}"
    if low > 0:
        return f"the network is better than {against} by {shown}"
    if high < 0:
        return f"{against} is better than the network by {with_interval(_negated(gain))}"
    return f"no difference between the network and {against}: {shown}"


def spoken(name: str) -> str:
    """A name of the records as a person says it."""
    words = name.replace("_", " ")
    for short, long in (("auc", "AUC"), ("pca", "PCA"), (" r2", " R2"), ("mse", "mean squared error")):
        words = words.replace(short, long)
    return words


def _negated(row: Json) -> Json:
    return {**row, "value": -row["value"], "interval": [-row["interval"][1], -row["interval"][0]]}
