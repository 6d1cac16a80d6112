"""Boxes: overlaps on the sphere, suppression, average precision by hand; few labels and tuned thresholds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kilonode import config, intervals
from kilonode.cases.extreme_weather import areas, earth, few_labels, labels, rivals, rules, scores, simulate
from kilonode.cases.extreme_weather.reports import Report
from kilonode.cases.extreme_weather.rules import Found

GLOBE = (96, 144)


def said(boxes: list[list[float]], score: list[float], kind: int = 1) -> Found:
    table = np.array(boxes, float).reshape(-1, 4)
    return Found(table, np.full(len(table), kind), np.array(score, float), table[:, :2])


def reference(*frames: list[list[int]]) -> np.ndarray:
    return np.stack([labels.padded(np.array(boxes, np.int32).reshape(-1, 5)) for boxes in frames])


# ---- overlaps, suppression, precision


def test_overlap_goes_around_the_globe() -> None:
    a, b = np.array([[40.0, 140, 50, 150]]), np.array([[40.0, 0, 50, 6]])
    assert areas.iou(a, b, *GLOBE)[0, 0] == pytest.approx(6 / 10)
    assert areas.iou(b, a, *GLOBE)[0, 0] == pytest.approx(6 / 10)
    assert areas.iou(np.array([[40.0, 284, 50, 294]]), b, *GLOBE)[0, 0] == pytest.approx(6 / 10)


def test_overlap_counts_area_on_the_sphere() -> None:
    a, b = np.array([[48.0, 0, 96, 10]]), np.array([[48.0, 0, 80, 10]])  # equator to pole, equator to 60 degrees
    assert areas.iou(a, b, *GLOBE)[0, 0] == pytest.approx(np.sin(np.deg2rad(60)))
    assert areas.iou(a, a, *GLOBE)[0, 0] == pytest.approx(1.0)


def test_of_boxes_on_each_other_the_best_stays() -> None:
    boxes = np.array([[40.0, 140, 50, 150], [40, 141, 50, 151], [40, 60, 50, 70], [41, -3, 50, 7]])
    kept = areas.suppressed(boxes, np.array([0.5, 0.9, 0.3, 0.4]), *GLOBE)
    assert kept.tolist() == [1, 2] or kept.tolist() == [1, 3, 2]


def test_average_precision_is_the_one_computed_by_hand() -> None:
    """Three boxes; said in order: hit, miss, hit. Precision 1, 1/2, 2/3 at recall 1/3, 1/3, 2/3: AP 1/3 + 2/9."""
    truth = reference([[40, 10, 50, 20, 1], [40, 60, 50, 70, 1]], [[20, 0, 30, 10, 1]])
    found = [said([[40, 10, 50, 20], [60, 100, 70, 110]], [0.9, 0.8]), said([[20, 1, 30, 11]], [0.7])]
    matched = scores.match(found, truth, 1, 0.5, GLOBE, False)
    assert matched.hit.tolist() == [True, False, True]
    assert scores.average_precision(matched)(np.ones(2)) == pytest.approx(1 / 3 + 2 / 9)
    assert scores.average_precision(matched)(np.array([1.0, 0.0])) == pytest.approx(1 / 2)
    assert matched.found[:, 2].tolist() == [1, 0, 1]


def test_a_box_is_found_once() -> None:
    truth = reference([[40, 10, 50, 20, 1]])
    found = [said([[40, 10, 50, 20], [40, 11, 50, 21]], [0.5, 0.9])]
    matched = scores.match(found, truth, 1, 0.3, GLOBE, False)
    assert matched.hit.tolist() == [True, False]


def test_a_class_without_a_box_has_no_precision_and_does_not_count() -> None:
    truth = reference([[40, 10, 50, 20, 1]])
    found = [said([[40, 10, 50, 20]], [0.9])]
    each = [scores.average_precision(scores.match(found, truth, kind, 0.1, GLOBE, False)) for kind in range(4)]
    assert np.isnan(each[0](np.ones(1)))
    assert scores.mean_of(each)(np.ones(1)) == 1.0
    assert np.isnan(scores.mean_of(each)(np.zeros(1)))


def test_all_three_overlaps_are_reported() -> None:
    assert scores.OVERLAPS == (0.1, 0.3, 0.5)


def test_the_confidence_to_show_is_the_one_with_the_best_f1() -> None:
    truth = reference([[40, 10, 50, 20, 1], [40, 60, 50, 70, 1]])
    found = [said([[40, 10, 50, 20], [40, 60, 50, 70], [0, 0, 5, 5], [80, 0, 90, 5]], [0.9, 0.6, 0.7, 0.2])]
    assert scores.best_confidence(found, truth, 0.5, GLOBE, False) == 0.6
    assert scores.best_confidence([said([], [])], truth, 0.5, GLOBE, False) == 1.0


def test_rivers_outside_the_sector_are_ignored_against_labels_and_count_against_truth() -> None:
    truth = reference([[60, 80, 70, 100, 3]])
    found = [said([[60, 80, 70, 100], [60, 10, 70, 30]], [0.5, 0.9], kind=3)]
    ignored, counted = (scores.match(found, truth, 3, 0.5, GLOBE, sector) for sector in (True, False))
    assert ignored.hit.tolist() == [True]
    assert counted.hit.tolist() == [False, True]


def test_through_cells_a_lonely_box_is_perfect() -> None:
    truth = reference([[40, 140, 50, 150, 0], [60, 20, 70, 50, 3]])
    found, lost = rivals.through_cells(truth, 8, GLOBE)
    assert lost == 0
    assert scores.mean_average_precision(found, truth, 0.5, GLOBE, False) == pytest.approx(1.0)


def test_labels_said_as_boxes_score_one_against_themselves() -> None:
    truth = reference([[40, 140, 50, 150, 0], [60, 20, 70, 50, 3]], [])
    assert scores.mean_average_precision(rivals.as_found(truth), truth, 0.5, GLOBE, False) == 1.0


# ---- few labels, tuning


def test_a_share_of_labels_is_hidden_whole_frames_at_a_time() -> None:
    all_labels = np.full((20, 15, 5), labels.UNLABELLED)
    all_labels[::2] = labels.UNUSED
    y, kept = few_labels.hidden(all_labels, 0.3, 0)
    assert len(kept) == 3
    assert (kept % 2 == 0).all()
    assert rivals.looked_at(y).sum() == 3
    assert len(few_labels.hidden(all_labels, 0.01, 0)[1]) == 1


def test_labels_can_be_hidden_by_whole_sequences() -> None:
    groups = np.repeat([4, 7, 9, 11], 5)
    y, kept = few_labels.hidden(np.full((20, 15, 5), labels.UNUSED), 0.5, 0, groups)
    assert len(kept) == 10
    assert len(np.unique(groups[kept])) == 2
    assert (rivals.looked_at(y) == np.isin(groups, groups[kept])).all()


def test_the_worth_of_unlabelled_frames_is_read_from_the_other_curve() -> None:
    shares = np.array([0.01, 0.1, 1.0])
    curves = np.array([np.stack([shares, [0.2, 0.4, 0.6]], 1), np.stack([shares, [0.1, 0.2, 0.6]], 1)])
    assert few_labels.worth_of(curves) == pytest.approx(10**0.5)
    assert np.isnan(few_labels.worth_of(curves[:, :1]))


def test_thresholds_are_tuned_on_the_frames_they_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"rows": 48, "frames": 8, "stored": 8, "spin_up": 1, "labelled": 1.0, "cyclones": 0, "rivers": 0}
    frames = simulate.simulate(0, 0, small)["frames"]
    monkeypatch.setattr(rivals, "TRIALS", 4)
    grid = earth.globe(48, 72)
    best, values = rivals.tuned(frames["images"][::2], frames["boxes"][::2], grid)
    assert len(values) == 4
    found = [rules.detect(frame, grid, best) for frame in frames["images"][::2]]
    again = scores.mean_average_precision(found, frames["boxes"][::2], 0.1, grid.shape, True)
    assert again == pytest.approx(max(values))
    assert (
        rules.detect(frames["images"][0], grid, replace(best, depth=1e9, vorticity=1.0, transport=1e9)).score.size == 0
    )


def test_the_article_asks_for_five_shares_and_three_seeds() -> None:
    asked = config.task("extreme_weather", "article", "boxes")["measures"]
    assert asked["fractions"] == [0.01, 0.03, 0.1, 0.3, 1.0]
    assert asked["seeds"] >= 3


def test_resamples_that_are_the_same_are_measured_once() -> None:
    asked = []

    def metric(weights: np.ndarray) -> float:
        asked.append(weights)
        return float(weights[0])

    groups = np.array([3, 3, 8])
    found = Report(groups).add("class", "accuracy", "network", metric)
    assert len(asked) == 3  # both groups once, or one of them twice
    np.testing.assert_allclose(found.resampled, intervals.bootstrap(metric, Report(groups).resampled).resampled)
