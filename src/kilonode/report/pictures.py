"""Pictures inside the page: figures small enough to travel, curves drawn as SVG in the reader's own colours."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from kilonode.records import Json
from kilonode.report.wording import number

WIDE = 1600
"""Pixels across that a figure of the page has at most; the PNG beside the record keeps them all."""
FEW = 3000
"""Colours of a line drawing at most: such pictures are smaller without loss, and their edges stay sharp."""
BOX = (620.0, 250.0)
MARGIN = (12.0, 14.0, 34.0, 58.0)
"""Top, right, bottom, left."""
Curve = tuple[str, list[tuple[float, float]]]


def inlined(path: Path) -> Json:
    """A PNG as WebP in a data address, with its size: line drawings without loss, pictures with a little."""
    with Image.open(path) as opened:
        picture = opened.convert("RGBA" if opened.has_transparency_data else "RGB")
    if picture.width > WIDE:
        picture = picture.resize((WIDE, round(picture.height * WIDE / picture.width)), Image.Resampling.LANCZOS)
    drawing = picture.getcolors(FEW) is not None
    text = io.BytesIO()
    picture.save(text, "WEBP", lossless=drawing, quality=60 if drawing else 86, method=4)
    source = "data:image/webp;base64," + base64.b64encode(text.getvalue()).decode()
    return {"source": source, "width": picture.width, "height": picture.height}


def learning(history: Sequence[Json], best: float) -> Json | None:
    """Loss an epoch, training and validation, with the epoch whose weights were kept."""
    curves = [
        (name, [(row["epoch"], row[key]) for row in history if row.get(key) is not None])
        for name, key in (("training", "train_loss"), ("validation", "validation_loss"))
    ]
    curves = [(name, points) for name, points in curves if len(points) > 1]
    if not curves:
        return None
    last = {name: points[-1][1] for name, points in curves}
    text = "; ".join(f"{name} loss {number(points[0][1])} to {number(last[name])}" for name, points in curves)
    return {
        **chart(curves, "epoch", "loss", mark=best),
        "text": f"Loss over {len(history)} epochs: {text}. Kept: epoch {best:.0f}.",
    }


SERIES = re.compile(r"^(?P<series>.+), (?P<count>\d+) (?P<unit>ranks|nodes): (?P<what>.+)$")


def scaling(record: Json) -> list[Json]:
    """Rates and efficiencies over ranks or nodes, from what ``kilonode scaling run --json`` prints."""
    found: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = {}
    for row in record["figures"]:
        match = None if row.get("functional") else SERIES.match(row["name"])
        if match and row["value"] is not None and (match["what"] == "samples_per_s" or "efficiency" in match["what"]):
            kind = "samples/s" if match["what"] == "samples_per_s" else "efficiency"
            name = match["series"] + ("" if kind == "samples/s" else f", {match['what'].removeprefix('efficiency, ')}")
            points = found.setdefault((kind, match["unit"]), {}).setdefault(name, [])
            points.append((float(match["count"]), row["value"]))
    drawn = []
    for (kind, unit), series in found.items():
        curves = [(name, sorted(points)) for name, points in series.items()]
        said = "; ".join(
            f"{name}: {', '.join(f'{y:.3g} at {x:.0f} {unit}' for x, y in points)}" for name, points in curves
        )
        drawn.append({**chart(curves, unit, kind, marks=True), "text": said + ".", "kind": kind})
    return drawn


def chart(curves: Sequence[Curve], across: str, up: str, mark: float | None = None, marks: bool = False) -> Json:
    """What the template draws: paths in pixels, ticks, and the place of the mark on the last curve."""
    xs = [x for _, points in curves for x, _ in points]
    ys = [y for _, points in curves for _, y in points]
    logarithmic = min(ys) > 0 and max(ys) > 20 * min(ys)
    top, right, bottom, left = MARGIN
    x_ticks, y_ticks = ticks(min(xs), max(xs), 7), decades(ys) if logarithmic else ticks(min(ys), max(ys), 5)
    low, high = (min([*ys, *y_ticks]), max([*ys, *y_ticks]))

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - min(xs)) / ((max(xs) - min(xs)) or 1)
        height = math.log(y / low) / math.log(high / low) if logarithmic else (y - low) / ((high - low) or 1)
        return left + across * (BOX[0] - left - right), BOX[1] - bottom - height * (BOX[1] - top - bottom)

    lines = []
    for name, points in curves:
        places = [place(x, y) for x, y in points]
        lines.append(
            {"name": name, "d": "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places), "dots": places if marks else []}
        )
    kept = [place(x, y) for x, y in curves[-1][1] if x == mark]
    return {
        "lines": lines,
        "mark": kept[0] if kept else None,
        "x_ticks": [(place(x, low)[0], f"{x:g}") for x in x_ticks if min(xs) <= x <= max(xs)],
        "y_ticks": [(place(min(xs), y)[1], f"{y:g}") for y in y_ticks],
        "across": across,
        "up": up + (" (logarithmic)" if logarithmic else ""),
        "box": BOX,
        "margin": MARGIN,
    }


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers from below ``low`` to above ``high``, about ``count`` of them."""
    step = 10 ** math.floor(math.log10(((high - low) or abs(high) or 1) / count))
    step *= next(times for times in (1, 2, 5, 10) if (high - low) / (step * times) <= count)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(k * step, 12) for k in range(first, last + 1)]


def decades(values: Sequence[float]) -> list[float]:
    """Powers of ten, or 1, 2 and 5 times them where few fit."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    steps = (1, 2, 5) if high - low < 4 else (1,)
    found = [times * 10.0**k for k in range(low, high + 1) for times in steps]
    below, above = [x for x in found if x <= min(values)], [x for x in found if x >= max(values)]
    return [x for x in found if below[-1] <= x <= above[0]]
