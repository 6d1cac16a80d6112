"""Boxes: average precision against labels and against truth, of network, thresholds, and what bounds them.

Shape legend: F labelled frames, C = 16 channels, T frames of a day, H rows, W columns, N boxes; h, w cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from kilonode import intervals
from kilonode.cases.contract import Trained
from kilonode.cases.extreme_weather import cells, detector, earth, few_labels, rivals, rules, scores, trainings, unet
from kilonode.cases.extreme_weather.reports import Report
from kilonode.cases.extreme_weather.rules import CLASSES, Found
from kilonode.cases.extreme_weather.world import INDEX

TUNED_ON = 48
"""Training frames the thresholds are searched on, at most."""
WINDS = (10.0, 17.0, 25.0, 33.0, 200.0)
"""Bins of the largest wind, m/s."""
LAYERS = ("input", "encoder", "box", "object", "kind", "decoder")
POINTS = 200
"""Points of a stored curve."""


@dataclass(frozen=True)
class Frames:
    """Labelled frames of one split: ``fields`` (F, C, H, W), ``labels`` and ``truth`` (F, N, 5), ``groups`` (F,)."""

    fields: np.ndarray
    labels: np.ndarray
    truth: np.ndarray | None
    groups: np.ndarray


def frames(trained: Trained, split: str) -> Frames:
    """The frames that somebody looked at; of days every second one."""
    store, images = trained.stores[split], trained.raw[split]
    labels, groups = store.read(trained.settings["target"]), store.read("group")
    truth = store.read("truth/boxes") if trained.simulated else None
    if images.ndim == 5:
        every = images.shape[2] // labels.shape[1]
        images = images[:, :, ::every].swapaxes(1, 2).reshape(-1, images.shape[1], *images.shape[3:])
        groups = np.repeat(groups, labels.shape[1])
        labels, truth = (None if part is None else part.reshape(-1, *part.shape[2:]) for part in (labels, truth))
    here = rivals.looked_at(labels)
    return Frames(images[here], labels[here], None if truth is None else truth[here], groups[here])


def measure(trained: Trained, report: Report) -> None:
    """Fill the report with everything that boxes tell."""
    test, train = frames(trained, "test"), frames(trained, "train")
    grid = earth.globe(*test.fields.shape[-2:])
    report = report.of(test.groups)
    model, scaler = trained.network.model, trained.network.scaler
    here = rivals.looked_at(trained.stores["test"].read(trained.settings["target"]).reshape(-1, *test.labels.shape[1:]))
    said = {"network": model.found(rivals.outputs(model, scaler, trained.raw["test"])[here])}
    rows = np.linspace(0, len(train.fields) - 1, min(TUNED_ON, len(train.fields))).astype(int)
    limits, tried = rivals.tuned(train.fields[rows], train.labels[rows], grid)
    said["thresholds"] = [rules.detect(frame, grid, limits) for frame in test.fields]
    report.arrays["map_sure"] = np.array(_sure(trained, grid.shape))
    report.plain("thresholds", "trials", "thresholds", float(len(tried)), f"best on training frames: {max(tried):.3f}")
    _precision(report, "boxes_labels", said, test.labels, grid.shape, True)
    if test.truth is not None:
        _precision(report, "boxes_truth", said, test.truth, grid.shape, False)
        _bounds(report, test, model, grid.shape)
        _strength(trained, report, said, here, float(report.arrays["map_sure"]))
        _lengths(report, said, test.truth, grid.shape)
    _map(report, test, said, grid)
    reference = test.labels if test.truth is None else test.truth
    if isinstance(model, detector.Detector):
        _reconstruction(trained, report)
        report.arrays["network"] = layers(model, scaler(trained.raw["test"][:1]))
        if model.in_time:
            _time(trained, report, train, test, said["network"], reference)
            return
        few_labels.measure(trained, report, test, reference)
    cells.measure(trained, report)


def _sure(trained: Trained, shape: tuple[int, int]) -> float:
    """Confidence with the best F1 against the labels of validation frames: from there on the network means it."""
    labels = trained.stores["validation"].read(trained.settings["target"])
    labels = labels.reshape(-1, *labels.shape[-2:])
    here = rivals.looked_at(labels)
    model = trained.network.model
    outputs = rivals.outputs(model, trained.network.scaler, trained.raw["validation"])[here]
    return scores.best_confidence(model.found(outputs), labels[here], 0.1, shape, True)


def _precision(
    report: Report,
    question: str,
    said: Mapping[str, list[Found]],
    reference: np.ndarray,
    shape: tuple[int, int],
    sector: bool,
) -> None:
    """Average precision of each class, and their mean, at every overlap."""
    where = "rivers in the labelled sector alone" if sector else "rivers at all longitudes"
    counts = np.bincount(reference[..., 4][reference[..., 4] >= 0], minlength=len(CLASSES))
    for overlap in scores.OVERLAPS:
        means = {}
        for method, found in said.items():
            matched = [scores.match(found, reference, kind, overlap, shape, sector) for kind in range(len(CLASSES))]
            metrics = [scores.average_precision(one) for one in matched]
            for name, metric, count in zip(CLASSES, metrics, counts, strict=True):
                report.add(
                    question, f"ap_{overlap}_{name}", method, metric, f"{where}; {count} boxes", boxes=int(count)
                )
            about = f"mean over the classes that occur; {where}"
            means[method] = report.add(question, f"map_{overlap}", method, scores.mean_of(metrics), about)
            for name, one in zip(CLASSES, matched, strict=True):
                report.arrays[f"pr:{question}:{overlap}:{method}:{name}"] = _thinned(*scores.curve(one))
        if len(means) > 1:
            gain = intervals.difference(means["network"], means["thresholds"])
            report.put(question, f"map_{overlap}_gain_on_thresholds", "network", gain, against="thresholds")


def _thinned(recall: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """At most ``POINTS`` points of a curve, (K, 2)."""
    rows = np.unique(np.linspace(0, max(len(recall) - 1, 0), min(POINTS, len(recall))).astype(int))
    return np.stack([recall[rows], precision[rows]], axis=1)


def _bounds(report: Report, test: Frames, model: Any, shape: tuple[int, int]) -> None:
    """What labels and the network's way to say boxes allow: labels scored against the truth, true boxes said so."""
    assert test.truth is not None
    if isinstance(model, unet.UNet):
        way, (through, lost) = "masks", rivals.through_masks(test.truth, test.fields)
    else:
        way, (through, lost) = "one box a cell", rivals.through_cells(test.truth, model.cell, shape)
    _precision(report, "bounds", {"labels": rivals.as_found(test.labels)}, test.truth, shape, False)
    _precision(report, "bounds", {way: through}, test.truth, shape, False)
    about = f"true boxes that are lost because others stand in their way, of {int((test.truth[..., 4] >= 0).sum())}"
    report.plain("bounds", "lost_boxes", way, float(lost), about)


def _strength(
    trained: Trained, report: Report, said: Mapping[str, list[Found]], here: np.ndarray, least: float
) -> None:
    """Share of true tropical storms found (boxes of this confidence, of either tropical class), by their wind."""
    listed = trained.stores["test"].read("truth/storms")
    listed = listed.reshape(-1, *listed.shape[-2:])[here]
    for low, high in pairwise(WINDS):
        name = f"recall_{low:.0f}_m_s" if high > 100 else f"recall_{low:.0f}_to_{high:.0f}_m_s"
        for method, found in said.items():
            hits, counts = np.zeros(len(listed)), np.zeros(len(listed))
            for frame, (storms, one) in enumerate(zip(listed, found, strict=True)):
                tropical = np.isin(storms[:, 1], (rules.TD, rules.TC)) & (storms[:, 4] >= low) & (storms[:, 4] < high)
                sure = np.isin(one.kinds, (rules.TD, rules.TC))
                sure &= one.score >= (least if method == "network" else 0.0)
                hits[frame] = _near(storms[tropical, 2:4], one.places[sure])
                counts[frame] = tropical.sum()
            if counts.sum():
                about = f"true tropical storms with a box whose middle is within 5 degrees; {counts.sum():.0f} storms"
                report.add("strength", name, method, _ratio(hits, counts), about)


def _lengths(
    report: Report, said: Mapping[str, list[Found]], truth: np.ndarray, shape: tuple[int, int], overlap: float = 0.3
) -> None:
    """Share of true rivers found, short and long ones apart: the size of a box is told in cells."""
    widths = (truth[..., 3] - truth[..., 1])[truth[..., 4] == rules.AR]
    half = float(np.median(widths)) if len(widths) else 0.0
    for method, found in said.items():
        frame, number, hit = scores.match(found, truth, rules.AR, overlap, shape, False).found.T
        wide = truth[frame, number, 3] - truth[frame, number, 1]
        for name, here in (("short", wide <= half), ("long", wide > half)):
            if here.any():
                hits, counts = (np.bincount(frame[here], by, len(truth)) for by in (hit[here], None))
                about = (
                    f"true rivers with a box of overlap {overlap}; short: at most {half:.0f} pixels; {counts.sum():.0f}"
                )
                report.add("lengths", f"recall_{name}_rivers", method, _ratio(hits, counts), about)


def _near(storms: np.ndarray, places: np.ndarray) -> int:
    """How many storms (S, 2) have a place (P, 2) within 5 degrees."""
    if not len(places):
        return 0
    east = (storms[:, None, 1] - places[None, :, 1] + 180) % 360 - 180
    north = storms[:, None, 0] - places[None, :, 0]
    return int((np.hypot(east * np.cos(np.deg2rad(storms[:, None, 0])), north).min(axis=1) < 5).sum())


def _ratio(hits: np.ndarray, counts: np.ndarray) -> intervals.Metric:
    """Ratio of weighted sums; NaN without one."""

    def metric(weights: np.ndarray) -> float:
        total = (weights * counts).sum()
        return float((weights * hits).sum() / total) if total > 0 else float("nan")

    return metric


def _reconstruction(trained: Trained, report: Report) -> None:
    """Mean squared error of the decoder, in variances of each channel: 1 is the climatological mean."""
    raw, scaler, model = trained.raw["test"], trained.network.scaler, trained.network.model
    errors = []
    with torch.no_grad():
        for start in range(0, len(raw), rivals.CHUNK):
            x = torch.from_numpy(scaler(raw[start : start + rivals.CHUNK]))
            back = model.decoded(model.code(x))
            errors.append(((back - x) ** 2).flatten(1).mean(1).numpy())
    first = (x[-1, :, 0], back[-1, :, 0]) if x.ndim == 5 else (x[-1], back[-1])
    report.arrays["reconstruction"] = np.stack([part.numpy() for part in first])
    whole = report.of(trained.stores["test"].read("group"))
    about = "of the decoder, in variances of each channel; the mean field of each channel has 1"
    whole.add("reconstruction", "mse", "network", intervals.mean(np.concatenate(errors)), about)


def _map(report: Report, test: Frames, said: Mapping[str, list[Found]], grid: earth.Grid) -> None:
    """The frame with most boxes, for the world map: moisture, true or labelled boxes, boxes of the network."""
    reference = test.labels if test.truth is None else test.truth
    frame = int((reference[..., 4] >= 0).sum(axis=1).argmax())
    report.arrays["map"] = test.fields[frame, INDEX["TMQ"]]
    report.arrays["map_truth"] = reference[frame][reference[frame][:, 4] >= 0]
    for method, found in said.items():
        one = found[frame]
        report.arrays[f"map_{method}"] = np.concatenate([one.boxes, one.kinds[:, None], one.score[:, None]], axis=1)


def layers(model: detector.Detector, x: np.ndarray) -> np.ndarray:
    """What the network is made of, for its drawing: kind (``LAYERS``), channels, frames, rows, columns; (L, 5)."""
    found = []

    def note(kind: str, out: torch.Tensor) -> torch.Tensor:
        size = out.shape[1:] if out.ndim == 5 else (out.shape[1], 1, *out.shape[2:])
        found.append((LAYERS.index(kind), *size))
        return out

    with torch.no_grad():
        out = note("input", torch.from_numpy(x))
        for layer in model.halvings:
            out = note("encoder", layer(out))
        for kind in ("box", "object", "kind"):
            note(kind, getattr(model, kind)(out))
        for layer in reversed(model.halvings):
            out = note("decoder", layer.up(out))  # type: ignore[operator]
    return np.array(found, np.int64)


def _time(
    trained: Trained, report: Report, train: Frames, test: Frames, said: list[Found], reference: np.ndarray
) -> None:
    """What the hours before and after are worth: the 2-D network on the same labelled frames, for as many epochs."""
    rules_, scaler = trained.settings["training"], trained.network.scaler

    torch.manual_seed(0)
    model = detector.build({**detector.DEFAULTS, **trained.settings["model"]}, train.fields.shape[1:])
    batch = rules_["batch"] * reference.shape[0] // max(len(trained.raw["test"]), 1)
    steps = max(1, rules_["epochs"] * len(train.fields) // batch)
    rules_ = {**rules_, "batch": batch}
    trainings.fit(model, scaler(train.fields), train.labels, steps, rules_, 0, what="snapshots, step")
    alone = model.found(rivals.outputs(model, scaler, test.fields))
    shape = (test.fields.shape[-2], test.fields.shape[-1])
    about = "mean average precision over the classes; same labelled frames, epochs and filters"
    for overlap in scores.OVERLAPS:
        found = []
        for method, boxes in (("network", said), ("snapshots", alone)):
            metrics = [
                scores.average_precision(scores.match(boxes, reference, kind, overlap, shape, test.truth is None))
                for kind in range(len(CLASSES))
            ]
            found.append(report.add("time", f"map_{overlap}", method, scores.mean_of(metrics), about))
        gain = intervals.difference(*found)
        report.put("time", f"map_{overlap}_gain_on_snapshots", "network", gain, against="snapshots")
