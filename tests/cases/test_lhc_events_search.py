"""LHC events: rates in the tail, what is measured, what is drawn, and the traps that concern them."""

import io

import numpy as np
import pytest

pytest.importorskip("pythia8mc", reason="the LHC case needs pythia8mc")
pytest.importorskip("fastjet", reason="the LHC case needs fastjet")

from small_lhc import SHAPE, TASKS, measured, trained

from kilonode import intervals
from kilonode.cases.contract import Explanation
from kilonode.cases.lhc_events import figures, measures, rates, search


def test_equal_scores_share_one_point_of_the_curve():
    label = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    score = np.array([0.0, 0.0, 0.5, 1.0, 0.0, 0.5, 1.0, 1.0])
    found = rates.curve(label, score, np.ones(8))
    assert found.threshold.tolist() == [1.0, 0.5, 0.0]
    assert found.false.tolist() == [0.25, 0.5, 1.0]
    assert found.true.tolist() == [0.5, 0.75, 1.0]


def test_a_threshold_lets_no_more_background_through_than_allowed():
    rng = np.random.default_rng(0)
    score, weight = rng.normal(size=5000), rng.exponential(size=5000) ** 3
    for rate in (0.3, 0.01, 0.001):
        cut = rates.threshold(score, weight, rate)
        share = weight[score >= cut].sum() / weight.sum()
        assert share <= rate * (1 + 1e-6)
        below = np.max(score[score < cut])
        assert weight[score >= below].sum() / weight.sum() > rate
    assert rates.threshold(np.ones(5), np.ones(5), 0.5) == np.inf


def test_clopper_and_pearsons_intervals_are_those_of_the_tables():
    assert rates.clopper_pearson(100, 500_000) == pytest.approx((1.63e-4, 2.43e-4), rel=0.01)
    assert rates.clopper_pearson(20, 100_000) == pytest.approx((1.22e-4, 3.09e-4), rel=0.01)
    assert rates.clopper_pearson(0, 10)[0] == 0
    assert rates.clopper_pearson(10, 10)[1] == 1


def test_a_rate_carried_by_few_heavy_events_is_not_measurable():
    weight, passed, groups = np.ones(1000), np.zeros(1000, bool), np.arange(1000) // 10
    passed[:200] = True
    assert rates.passing(passed, weight, groups).value == pytest.approx(0.2)
    weight[0] = 1e6
    found = rates.passing(passed, weight, groups)
    assert found.value is None
    assert found.effective < 2


def test_the_interval_of_a_rate_covers_the_truth():
    rng, inside = np.random.default_rng(1), 0
    for _ in range(60):
        score, groups = rng.random(2000), np.arange(2000) // 20
        low, high = rates.passing(score < 0.1, rng.uniform(0.5, 2, 2000), groups).interval
        inside += low <= 0.1 <= high
    assert inside >= 52


def test_significance_is_that_of_a_count_and_grows_with_signal():
    assert rates.significance(10, 990) == pytest.approx(10 / np.sqrt(1000), rel=0.01)
    assert rates.significance(0, 5) == 0
    assert rates.significance(50, 100) > rates.significance(50, 200)


def test_a_score_that_is_the_energy_has_nothing_left_within_bins_of_it():
    rng = np.random.default_rng(2)
    label = np.repeat([0, 1], 4000)
    energy = rng.normal(label * 1.0, 1.0)
    plain = intervals.auc(label, energy)(np.ones(8000))
    assert plain == pytest.approx(0.76, abs=0.02)
    flat = rates.auc_in_bins(label, energy, np.ones(8000), energy, bins=20)
    assert flat == pytest.approx(0.5, abs=0.06)


def test_slices_are_weighted_exactly_in_the_score():
    """Five Gaussian slices and a signal: the score from class probabilities is the true likelihood ratio."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=500) * 2
    density = np.stack([np.exp(-((x - m) ** 2) / 2) for m in (-2.0, -1.0, 0.0, 0.5, 1.0, 2.0)], axis=1)
    counts, weights = np.array([70, 50, 300, 40, 20, 100]), np.array([4000.0, 1000.0, 30.0, 7.0, 1.0, 5.0])
    probability = density * counts
    probability /= probability.sum(axis=1, keepdims=True)
    expected = np.log(density[:, 5] / (density[:, :5] @ (weights[:5] / weights[:5].sum())))
    np.testing.assert_allclose(search.mixed(np.log(probability), counts, weights), expected, rtol=1e-9)


# what is measured


def found(task, **wanted):
    return [row for row in measured(task).rows if all(row.get(key) == value for key, value in wanted.items())]


def test_every_method_of_the_search_is_measured_at_every_rate_with_its_effective_number():
    methods = {row["method"] for row in found("classifier", question="search")}
    assert {"network", "cuts", "boosted_trees", "shallow_network", "HT", "tracks", "truth_level"} <= methods
    for method in methods - {"cuts"}:
        for rate in search.RATES:
            (row,) = found("classifier", method=method, metric=f"background_kept_at_{rate:g}")
            assert row["n_effective"] >= rates.MEASURABLE or row["value"] is None
    # With 20 background events in a hundred blocks nothing is known at one in five thousand.
    assert found("classifier", method="network", metric="signal_kept_at_0.0002")[0]["value"] is None


def test_rivals_on_the_same_features_have_equal_budgets():
    rows = found("classifier", question="search", metric="weighted_auc")
    trials = {row["method"]: row["trials"] for row in rows if "trials" in row}
    assert trials == {"boosted_trees": 8, "shallow_network": 8, "truth_level": 8}


def test_thresholds_are_those_of_validation():
    whole = trained("classifier")
    before = measured("classifier").rows
    # Other test scores, same validation: the threshold stays, so the share of unchanged events stays too.
    splits = {name: search.sample(rows) for name, rows in whole.stores.items()}
    score = {name: part.features[:, 3] for name, part in splits.items()}
    rows = search._rows("HT", score, splits, {})
    moved = search._rows("HT", {**score, "test": score["test"] + 1e6}, splits, {})
    kept = {row["metric"]: row["value"] for row in moved if row["metric"].startswith("signal_kept_at")}
    assert all(value in (None, 1.0) for value in kept.values())  # every test event passes a threshold it did not choose
    assert [r["metric"] for r in rows] == [
        r["metric"] for r in before if r["method"] == "HT" and r["question"] == "search"
    ]


def test_unseen_processes_are_asked_about_by_name():
    questions = {row["question"] for row in measured("classifier").rows}
    assert "unseen gluinos 1200, 650 GeV" in questions
    questions = {row["question"] for row in measured("anomaly").rows}
    assert {"gluinos 1400, 850 GeV", "gluinos 1200, 650 GeV"} <= questions


def test_the_anomaly_score_stands_beside_energy():
    for question in {row["question"] for row in measured("anomaly").rows} - {"background"}:
        methods = {row["method"] for row in found("anomaly", question=question, metric="weighted_auc")}
        assert {"reconstruction_error", "code_distance", "HT", "total_energy", "isolation_forest"} <= methods
        assert found("anomaly", question=question, metric="weighted_auc_in_bins_of_HT")
    (energy,) = found("anomaly", method="HT", metric="rank_correlation_with_HT")
    assert energy["value"] == pytest.approx(1)


def test_no_detector_of_outliers_depends_on_the_signal():
    """Another signal in truth changes no score of background."""
    other = trained("anomaly")
    for rows in other.stores.values():
        rows.arrays = {**rows.arrays, "truth/unseen_image": rows.arrays["truth/unseen_image"] * 3}
    found = [one.curves["gluinos 1400, 850 GeV"] for one in (measured("anomaly"), measures.measure(other))]
    label = found[0]["reconstruction_error"][0]
    for method in ("reconstruction_error", "code_distance", "total_energy"):
        a, b = (curves[method][1] for curves in found)
        np.testing.assert_array_equal(a[label == 0], b[label == 0])
        assert not np.array_equal(a[label == 1], b[label == 1])


def test_data_without_weights_are_not_searched():
    whole = trained("classifier")
    for rows in whole.stores.values():
        rows.fields = {"image": {}, "group": {}}
    assert measures.measure(whole).rows == []


# figures


@pytest.mark.parametrize("task", TASKS)
def test_every_figure_is_drawn_and_has_a_caption(task):
    whole = trained(task)
    test = whole.stores["test"]
    count = test.rows
    raw = whole.raw["test"]
    outputs = whole.network.outputs(raw[:6])
    explanation = Explanation(
        case="lhc_events",
        task=task,
        inputs=whole.network.scaler(raw[:6]),
        corrupted=None,
        outputs=outputs,
        embedding=np.random.default_rng(0).normal(size=(2, count, 2)),
        trustworthiness=np.array([0.9, 0.8]),
        columns={"process": test.read("process"), "HT": test.read("features")[:, 3]},
        labels={"process": dict(enumerate("abcdef"))},
        saliency=np.random.default_rng(1).random((6, *SHAPE)),
        curves=measured(task).curves,
        units={"HT": "GeV"},
        arrays=measured(task).arrays,
    )
    drawn = figures.draw(explanation)
    expected = {
        "classifier": {"display", "images", "network", "roc", "score", "score_by_jets", "tsne", "saliency"},
        "anomaly": {"reconstructions", "improvement", "score_by_HT", "tsne", "saliency"},
    }
    assert set(drawn) == expected[task]
    assert set(drawn) <= set(figures.CAPTIONS)
    for figure in drawn.values():
        figure.savefig(io.BytesIO(), format="png", dpi=40)
