"""LHC events: networks, scores in the tail, figures, real collisions, and the traps that concern them."""

import io

import numpy as np
import pytest
import torch

pytest.importorskip("pythia8mc", reason="the LHC case needs pythia8mc")
pytest.importorskip("fastjet", reason="the LHC case needs fastjet")

from small_ingest import field, ingested, real

from kilonode import config, intervals
from kilonode.cases.contract import Batch, Explanation, Trained
from kilonode.cases.lhc_events import baseline, detector, export, figures, measures, models, rates, search, simulate
from kilonode.data.stats import measure
from kilonode.data.transform import TRANSFORMS, Scaler
from kilonode.evaluation.network import Network

SHAPE = (3, 32, 32)
SETTINGS = {
    "pixels": 32,
    "per_block": {"qcd_400_800": 60, "qcd_800_1300": 60, "qcd_1300": 40, "gluino": 20},
    "unseen": {"gluino_1200_650": 5, "zprime": 8},
}
TASKS = ("classifier", "anomaly")


class Table:
    """One split as the measures see it."""

    def __init__(self, arrays, fields):
        self.arrays, self.fields, self.rows = arrays, fields, len(arrays["group"])

    def read(self, name):
        return self.arrays[name]

    def take(self, name, rows):
        return self.arrays[name][rows]


@pytest.fixture(scope="module")
def blocks():
    return [simulate.simulate(2, group, SETTINGS) for group in range(6)]


def stores(blocks, table):
    """Splits of whole blocks."""
    fields = config.resolve("lhc_events", "toy")["tables"][table]
    parts = {"train": blocks[:2], "validation": blocks[2:4], "test": blocks[4:]}
    return {
        split: Table({name: np.concatenate([b[table][name] for b in some]) for name in fields}, fields)
        for split, some in parts.items()
    }


class Answers:
    """A network that was never trained, with the scaler of the training split."""

    def __init__(self, task, train):
        raw = train.read("image")
        stats = {"image": {name: measure(function(raw)).to_json() for name, function in TRANSFORMS.items()}}
        self.scaler = Scaler({"field": "image", "transform": "log1p"}, stats)
        torch.manual_seed(0)
        small = {"classifier": {"filters": 4, "features": 8}, "anomaly": {"filters": [4, 4], "code": 3}}
        self.model = models.build(task, small[task], SHAPE).eval()

    features = Network.features
    outputs = Network.outputs
    _batched = Network._batched


def trained(blocks, task):
    table = config.task("lhc_events", "toy", task)["table"]
    splits = stores(blocks, table)
    settings = config.task("lhc_events", "toy", task)
    raw = {split: rows.read("image") for split, rows in splits.items()}
    return Trained(task, settings, Answers(task, splits["train"]), splits, raw, True)


@pytest.fixture(scope="module")
def measured(blocks):
    return {task: measures.measure(trained(blocks, task)) for task in TASKS}


# networks


@pytest.mark.parametrize(
    ("settings", "shape", "parameters"),
    [
        ({"filters": 128, "features": 512, "weights": [1, 1]}, (3, 64, 64), 4_494_594),
        ({"variant": "pooled", "filters": 128, "weights": [1, 1]}, (3, 224, 224), 594_178),
    ],
)
def test_the_published_networks_have_their_published_size(settings, shape, parameters):
    """4.49 million and 594 thousand parameters."""
    model = models.build("classifier", settings, shape)
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("columns", [1, 5, 16, 31])
def test_turning_an_event_about_the_beam_changes_no_score(blocks, task, columns):
    model = models.build(task, {"filters": 4 if task == "classifier" else [4, 4]}, SHAPE).eval()
    x = torch.from_numpy(np.log1p(blocks[0]["events"]["image"][:8]))
    with torch.no_grad():
        rolled = model(x.roll(columns, -1))
        expected = model(x) if task == "classifier" else model(x).roll(columns, -1)
    torch.testing.assert_close(rolled, expected, rtol=0, atol=1e-4)


def test_without_periodic_padding_the_seam_is_seen(blocks):
    model = models.build("classifier", {"filters": 4, "periodic": False}, SHAPE).eval()
    x = torch.from_numpy(np.log1p(blocks[0]["events"]["image"][:8]))
    with torch.no_grad():
        assert (model(x.roll(13, -1)) - model(x)).abs().max() > 1e-3


@pytest.mark.parametrize("shape", [(3, 64, 64), (3, 128, 128), (3, 227, 227), (1, 33, 47)])
def test_networks_take_images_of_any_size(shape):
    x = torch.rand(2, *shape)
    for variant in models.STAGES:
        model = models.build("classifier", {"variant": variant, "filters": 2, "features": 5}, shape)
        assert model(x).shape == (2, 4)
    model = models.build("anomaly", {"filters": [2, 2, 2], "code": 3}, shape)
    assert model(x).shape == x.shape
    assert model.features(x).shape == (2, 3)


@pytest.mark.parametrize("task", TASKS)
def test_an_empty_image_has_a_finite_answer(task):
    x = torch.zeros(2, *SHAPE)
    model = models.build(task, {}, SHAPE)
    losses = model.losses(Batch(x, torch.zeros(2, dtype=torch.int64), torch.arange(2)))
    assert torch.isfinite(losses).all()
    assert np.isfinite(baseline.features(task, x.numpy())["summary"]).all()


def test_the_weight_of_a_class_multiplies_its_loss():
    x, key = torch.rand(4, *SHAPE), torch.arange(4)
    y = torch.tensor([0, 1, 2, 3])
    found = []
    for weights in ([1.0, 1.0, 1.0, 1.0], [1.0, 2.0, 0.5, 3.0]):
        torch.manual_seed(0)
        found.append(models.build("classifier", {"weights": weights}, SHAPE).losses(Batch(x, y, key)))
    torch.testing.assert_close(found[1], found[0] * torch.tensor([1.0, 2.0, 0.5, 3.0]))


def test_dropout_keeps_the_mean_and_is_off_at_inference():
    model = models.build("classifier", {"dropout": 0.5}, SHAPE)
    x = torch.rand(400, *SHAPE)
    keep = model._keep(x, torch.arange(400))
    assert all(abs(part.mean() - 1) < 0.1 for part in keep)
    assert set(torch.unique(keep[0]).tolist()) == {0.0, 2.0}
    assert model.eval()._keep(x, torch.arange(400)) is None


@pytest.mark.parametrize(
    ("task", "settings", "shape", "said"),
    [
        ("classifier", {"variant": "wide"}, SHAPE, "variant needs one of"),
        ("classifier", {"filter": 3}, SHAPE, "need keys among"),
        ("classifier", {"variant": "pooled"}, (3, 16, 16), "pooled needs 32 rows and columns"),
        ("detector", {}, SHAPE, "task needs one of"),
    ],
)
def test_impossible_networks_are_refused(task, settings, shape, said):
    with pytest.raises(ValueError, match=said):
        models.build(task, settings, shape)


def test_one_event_ten_times_hotter_leaves_the_input_of_others_almost_alone(blocks):
    raw = blocks[0]["events"]["image"]

    def scaler(images):
        stats = {"image": {name: measure(function(images)).to_json() for name, function in TRANSFORMS.items()}}
        return Scaler({"field": "image", "transform": "log1p"}, stats)

    hot = np.concatenate([raw, 10 * raw[:1]])
    np.testing.assert_allclose(scaler(hot)(raw[1:]), scaler(raw)(raw[1:]), rtol=0.04)  # dividing by the maximum: 90 %


# rates in the tail


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
    """Three Gaussian slices and a signal: the score from class probabilities is the true likelihood ratio."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=500) * 2
    density = np.stack([np.exp(-((x - m) ** 2) / 2) for m in (-1.0, 0.0, 1.0, 2.0)], axis=1)
    counts, weights = np.array([50, 300, 20, 100]), np.array([1000.0, 30.0, 1.0, 5.0])
    probability = density * counts
    probability /= probability.sum(axis=1, keepdims=True)
    expected = np.log(density[:, 3] / (density[:, :3] @ (weights[:3] / weights[:3].sum())))
    np.testing.assert_allclose(search.mixed(np.log(probability), counts, weights), expected, rtol=1e-9)


# what is measured


def found(measured, task, **wanted):
    return [row for row in measured[task].rows if all(row.get(key) == value for key, value in wanted.items())]


def test_every_method_of_the_search_is_measured_at_every_rate_with_its_effective_number(measured):
    methods = {row["method"] for row in found(measured, "classifier", question="search")}
    assert {"network", "cuts", "boosted_trees", "shallow_network", "HT", "tracks", "truth_level"} <= methods
    for method in methods - {"cuts"}:
        for rate in search.RATES:
            (row,) = found(measured, "classifier", method=method, metric=f"background_kept_at_{rate:g}")
            assert row["n_effective"] >= rates.MEASURABLE or row["value"] is None
    # With 20 background events in a hundred blocks nothing is known at one in five thousand.
    assert found(measured, "classifier", method="network", metric="signal_kept_at_0.0002")[0]["value"] is None


def test_rivals_on_the_same_features_have_equal_budgets(measured):
    rows = found(measured, "classifier", question="search", metric="weighted_auc")
    trials = {row["method"]: row["trials"] for row in rows if "trials" in row}
    assert trials == {"boosted_trees": 8, "shallow_network": 8, "truth_level": 8}


def test_thresholds_are_those_of_validation(blocks, measured):
    whole = trained(blocks, "classifier")
    before = measured["classifier"].rows
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


def test_unseen_processes_are_asked_about_by_name(measured):
    questions = {row["question"] for row in measured["classifier"].rows}
    assert "unseen gluinos 1200, 650 GeV" in questions
    questions = {row["question"] for row in measured["anomaly"].rows}
    assert {"gluinos 1400, 850 GeV", "gluinos 1200, 650 GeV"} <= questions


def test_the_anomaly_score_stands_beside_energy(measured):
    for question in {row["question"] for row in measured["anomaly"].rows} - {"background"}:
        methods = {row["method"] for row in found(measured, "anomaly", question=question, metric="weighted_auc")}
        assert {"reconstruction_error", "code_distance", "HT", "total_energy", "isolation_forest"} <= methods
        assert found(measured, "anomaly", question=question, metric="weighted_auc_in_bins_of_HT")
    (energy,) = found(measured, "anomaly", method="HT", metric="rank_correlation_with_HT")
    assert energy["value"] == pytest.approx(1)


def test_no_detector_of_outliers_depends_on_the_signal(blocks, measured):
    """Another signal in truth changes no score of background."""
    other = trained(blocks, "anomaly")
    for rows in other.stores.values():
        rows.arrays = {**rows.arrays, "truth/unseen_image": rows.arrays["truth/unseen_image"] * 3}
    found = [one.curves["gluinos 1400, 850 GeV"] for one in (measured["anomaly"], measures.measure(other))]
    label = found[0]["reconstruction_error"][0]
    for method in ("reconstruction_error", "code_distance", "total_energy"):
        a, b = (curves[method][1] for curves in found)
        np.testing.assert_array_equal(a[label == 0], b[label == 0])
        assert not np.array_equal(a[label == 1], b[label == 1])


def test_data_without_weights_are_not_searched(blocks):
    whole = trained(blocks, "classifier")
    for rows in whole.stores.values():
        rows.fields = {"image": {}, "group": {}}
    assert measures.measure(whole).rows == []


# figures


@pytest.mark.parametrize("task", TASKS)
def test_every_figure_is_drawn_and_has_a_caption(blocks, measured, task):
    whole = trained(blocks, task)
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
        labels={"process": {0: "a", 1: "b", 2: "c", 3: "d"}},
        saliency=np.random.default_rng(1).random((4, *SHAPE)),
        curves=measured[task].curves,
        units={"HT": "GeV"},
        arrays=measured[task].arrays,
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


# ROOT, and real collisions


def test_events_come_back_from_a_root_file_through_ingest(blocks, tmp_path):
    events = blocks[0]["events"]
    export.to_root(tmp_path / "events.root", {"events": events})
    names = {"image": "GeV", "weight": "1", "process": "1", "truth_generated": "1"}
    columns = {name: field(f"events/{name}", unit=unit) for name, unit in names.items()}
    arrays = ingested(tmp_path, "root", tmp_path / "events.root", columns)["arrays"]
    for name in ("image", "weight", "process"):
        np.testing.assert_array_equal(arrays[name], events[name])
    np.testing.assert_array_equal(arrays["truth_generated"], events["truth/generated"])


def test_real_particles_become_images_whose_sum_is_their_momentum(tmp_path):
    source = real("collider/pfnano.root")
    units = {"pt": "GeV", "eta": "1", "phi": "rad", "charge": "1"}
    columns = {name: field(f"Events/PFCands_{name}", unit=unit) for name, unit in units.items()}
    arrays = ingested(tmp_path, "root", source, columns)["arrays"]
    assert len(arrays["pt"].offsets) - 1 == 10
    event = np.repeat(np.arange(10), np.diff(arrays["pt"].offsets))
    pt, eta, phi = (arrays[name].values.astype(np.float64) for name in ("pt", "eta", "phi"))
    image = detector.histogram(event, eta, phi, pt, np.arange(10), 64)
    inside = np.abs(eta) < detector.ETA
    np.testing.assert_allclose(image.sum((1, 2)), np.bincount(event[inside], pt[inside], 10), rtol=1e-5)
    model = models.build("classifier", {"filters": 4}, (3, 64, 64)).eval()
    tracks = detector.histogram(event, eta, phi, (arrays["charge"].values != 0).astype(float), np.arange(10), 64)
    x = torch.from_numpy(np.log1p(np.stack([image, 0 * image, tracks], axis=1)))
    with torch.no_grad():
        assert torch.isfinite(model(x)).all()
