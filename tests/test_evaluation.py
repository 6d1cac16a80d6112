"""Metrics against hand-computed and library values; intervals that cover; fair questions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, r2_score, roc_auc_score

from kilonode import intervals
from kilonode.cases.contract import Estimator
from kilonode.evaluation import classes, evaluate, probes, read_outs


@given(st.integers(0, 2**32 - 1), st.integers(5, 60))
@settings(max_examples=30, deadline=None)
def test_auc_equals_scikit_learn_with_ties_and_weights(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([[0, 1], rng.integers(0, 2, count)])
    scores, weights = rng.integers(0, 6, count + 2) / 6, rng.uniform(0.1, 2, count + 2)
    expected = roc_auc_score(labels, scores, sample_weight=weights)
    assert intervals.auc(labels, scores)(weights) == pytest.approx(expected, abs=1e-12)


def test_auc_without_one_class_is_not_a_number() -> None:
    assert np.isnan(intervals.auc(np.zeros(4), np.arange(4.0))(np.ones(4)))


def test_r2_f1_and_balanced_accuracy_equal_their_definitions() -> None:
    rng = np.random.default_rng(0)
    truth, said = rng.normal(size=50), rng.normal(size=50)
    assert intervals.r2(truth, said)(np.ones(50)) == pytest.approx(r2_score(truth, said))
    y, p = rng.integers(0, 3, 60), rng.integers(0, 3, 60)
    assert intervals.f1(y, p, 1)(np.ones(60)) == pytest.approx(f1_score(y == 1, p == 1))
    recall = [np.mean(p[y == k] == k) for k in range(3)]
    assert intervals.balanced_accuracy(y, p, [0, 1, 2])(np.ones(60)) == pytest.approx(np.mean(recall))


def test_a_bootstrap_over_groups_is_wider_than_one_over_samples() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 50)
    values = rng.normal(size=20)[groups] + 0.1 * rng.normal(size=1000)  # samples of a group are alike
    metric = intervals.mean(values)
    by_group = intervals.bootstrap(metric, intervals.resamples(groups)).interval
    by_sample = intervals.bootstrap(metric, intervals.resamples(np.arange(1000))).interval
    assert by_group[1] - by_group[0] > 4 * (by_sample[1] - by_sample[0])


def test_a_95_percent_interval_covers_the_truth_about_95_times_in_100() -> None:
    hits = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        groups = np.repeat(np.arange(40), 5)
        values = rng.normal(size=40)[groups] + rng.normal(size=200)
        low, high = intervals.bootstrap(intervals.mean(values), intervals.resamples(groups, seed, 300)).interval
        hits += low <= 0 <= high
    assert 87 <= hits <= 100


def test_a_paired_difference_is_narrower_than_its_parts() -> None:
    rng = np.random.default_rng(0)
    groups, shared = np.repeat(np.arange(30), 10), rng.normal(size=300)
    weights = intervals.resamples(groups)
    a = intervals.bootstrap(intervals.mean(shared + 0.1), weights)
    b = intervals.bootstrap(intervals.mean(shared), weights)
    gain = intervals.difference(a, b)
    assert gain.value == pytest.approx(0.1)
    assert gain.interval == pytest.approx((0.1, 0.1))


def test_matched_weights_make_a_nuisance_useless() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 6000)
    charge = rng.normal(size=6000) + y  # alone an AUC of about 0.76
    assert roc_auc_score(y, charge) > 0.72
    weight = read_outs.balanced(y, charge[:, None])
    assert roc_auc_score(y, charge, sample_weight=weight) == pytest.approx(0.5, abs=0.02)
    assert weight[y == 0].sum() == pytest.approx(weight[y == 1].sum())
    assert intervals.effective(weight) < len(y)


def split_of(x: np.ndarray, y: np.ndarray) -> probes.Data:
    parts = {"train": slice(0, 600), "validation": slice(600, 800), "test": slice(800, 1000)}
    ones = {name: np.ones(len(y[part])) for name, part in parts.items()}
    return probes.Data({n: x[p] for n, p in parts.items()}, {n: y[p] for n, p in parts.items()}, ones)


@pytest.mark.parametrize("kind", ["linear_classifier", "tree_classifier"])
def test_probes_find_what_is_there_and_nothing_else(kind: str) -> None:
    rng = np.random.default_rng(0)
    x, noise = rng.normal(size=(1000, 4)), rng.normal(size=(1000, 4))
    y = (x[:, 0] + 0.3 * rng.normal(size=1000) > 0).astype(np.int64)
    found = probes.metric_of(kind, y[800:], probes.best(kind, split_of(x, y)))(np.ones(200))
    blind = probes.metric_of(kind, y[800:], probes.best(kind, split_of(noise, y)))(np.ones(200))
    assert found > 0.95
    assert blind == pytest.approx(0.5, abs=0.12)


def test_probes_never_see_the_answers_of_the_test_groups() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(1000, 3)), rng.integers(0, 2, 1000)
    data = split_of(x, y)
    flipped = probes.Data(data.x, {**data.y, "test": 1 - data.y["test"]}, data.weight)
    assert np.array_equal(probes.best("tree_classifier", data), probes.best("tree_classifier", flipped))


def test_knn_purity_of_separate_clusters_is_one() -> None:
    labels = np.repeat([0, 1], 50)
    x = np.random.default_rng(0).normal(size=(100, 2)) * 0.01 + labels[:, None]
    assert probes.knn_purity(x, labels).mean() == 1
    silhouette, information = probes.clusters(x, labels)
    assert silhouette > 0.9
    assert information == pytest.approx(1)


def test_every_classical_method_gets_the_same_budget() -> None:
    small, large = Estimator(dict, {"a": [1, 2]}), Estimator(dict, {"a": list(range(10)), "b": list(range(10))})
    assert [len(classes.choices(found.space)) for found in (small, large)] == [2, classes.BUDGET]
    assert classes.choices({}) == [{}]


def test_what_a_case_keeps_for_its_figures_comes_back_whole(tmp_path: Path) -> None:
    curves = {"who": {"network": (np.array([0, 1]), np.array([0.1, 0.9]), np.ones(2))}}
    arrays = {"mean": np.arange(6.0).reshape(2, 3), "count": np.array(7)}
    evaluate.write_curves(tmp_path / "curves.h5", curves, arrays)
    scored, kept = evaluate.read_curves(tmp_path / "curves.h5")
    np.testing.assert_equal(scored, curves)
    np.testing.assert_equal(kept, arrays)
    evaluate.write_curves(tmp_path / "none.h5", {}, {})
    assert evaluate.read_curves(tmp_path / "none.h5") == ({}, {})
