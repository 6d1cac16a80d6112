"""Mass maps: networks, baselines, measures and figures, and the traps that concern them."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from kilonode.cases.contract import Batch, Explanation, Trained
from kilonode.cases.mass_maps import baseline, figures, importance, measures, models, simulate, sweep
from kilonode.data.stats import measure as stats_of
from kilonode.data.transform import Scaler
from kilonode.errors import DataError
from kilonode.evaluation.classes import choices

pytest.importorskip("camb", reason="the package camb is missing: mass_maps has no power spectrum without it")

TABLES = {name: {"pair": pair, "maps": 8} for name, pair in [("sky", "sigma8"), ("sigma8", "sigma8")]}
SETTINGS = {"engine": "lognormal", "arcmin": 2.0, "galaxies": 30, "smoothing": 0.0, "tables": TABLES}
PARTS = {"train": range(12), "validation": range(12, 14), "test": range(14, 20)}
MODEL = {
    "autoencoder": {"filters": 2, "code": 6, "corruption": 0.3},
    "classifier_sigma8": {"filters": 2, "features": 8},
}


@dataclass
class Rows:
    """A split in memory; counts what is read of it."""

    columns: dict[str, np.ndarray]
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def rows(self):
        return len(self.columns["group"])

    def read(self, name):
        return self.columns[name]

    def take(self, name, rows):
        return self.columns[name][rows]


class Asked:
    """A network of the case as evaluation knows it."""

    def __init__(self, task, scaler):
        torch.manual_seed(0)
        self.model = models.build(task, MODEL[task], (1, 128, 128)).eval()
        self.scaler = scaler

    def features(self, raw):
        with torch.no_grad():
            return self.model.features(torch.from_numpy(self.scaler(raw))).numpy()

    def outputs(self, raw):
        with torch.no_grad():
            return self.model(torch.from_numpy(self.scaler(raw))).numpy()


@pytest.fixture(scope="module")
def splits():
    made = [simulate.simulate(1, group, SETTINGS) for group in range(20)]
    return {
        table: {
            split: Rows({name: np.concatenate([made[k][table][name] for k in part]) for name in made[0][table]})
            for split, part in PARTS.items()
        }
        for table in TABLES
    }


def trained(task, splits):
    stores = splits["sky" if task == "autoencoder" else "sigma8"]
    raw = {split: rows.read("kappa") for split, rows in stores.items()}
    scaler = Scaler({"field": "kappa", "transform": "none"}, {"kappa": {"none": stats_of(raw["train"]).to_json()}})
    settings = {"model": MODEL[task], **({} if task == "autoencoder" else {"target": "cosmology"})}
    return Trained(task, settings, Asked(task, scaler), stores, raw, simulated=True)


@pytest.fixture(scope="module")
def of_autoencoder(splits):
    return measures.measure(trained("autoencoder", splits))


@pytest.fixture(scope="module")
def of_classifier(splits):
    return measures.measure(trained("classifier_sigma8", splits))


def explanation(task, measured, **more):
    inputs = np.random.default_rng(0).normal(size=(4, 1, 128, 128)).astype(np.float32)
    settings = {
        "case": "mass_maps",
        "task": task,
        "inputs": inputs,
        "corrupted": inputs * (inputs > -0.5) if task == "autoencoder" else None,
        "outputs": inputs if task == "autoencoder" else np.full((4, 2), 0.5, np.float32),
        "embedding": np.random.default_rng(1).normal(size=(2, 30, 2)),
        "trustworthiness": np.array([0.9, 0.8]),
        "columns": {"cosmology": np.arange(30) % 2, "log variance": np.linspace(0, 1, 30)},
        "labels": {"cosmology": {0: "first", 1: "second"}},
        "saliency": np.zeros((2, 1, 128, 128), np.float32),
        "curves": {},
        "arrays": measured.arrays,
    }
    return Explanation(**{**settings, **more})


def rows_of(measured, question, metric, method="network"):
    return next(
        row for row in measured.rows if (row["question"], row["metric"], row["method"]) == (question, metric, method)
    )


# networks


def test_layers_are_those_of_the_original():
    autoencoder = models.build("autoencoder", {}, (1, 128, 128))
    theirs = {name: p for name, p in autoencoder.named_parameters() if not name.startswith("coarse")}
    sizes = [tuple(p.shape) for name, p in theirs.items() if name.endswith("weight")]
    assert sizes[:4] == [(32, 1, 5, 5), (32, 32, 5, 5), (64, 32, 5, 5), (64, 64, 5, 5)]
    assert sizes[4:6] == [(2048, 4096), (4096, 2048)]
    assert sizes[6:] == [(64, 64, 4, 4), (64, 32, 4, 4), (32, 32, 4, 4), (32, 1, 4, 4)]
    assert sum(p.numel() for p in theirs.values()) == pytest.approx(17.1e6, rel=0.01)
    classifier = models.build("classifier_sigma8", {}, (1, 128, 128))
    assert sum(p.numel() for p in classifier.parameters()) == pytest.approx(8.6e6, rel=0.01)


def test_shapes_and_settings_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="multiples of 16"):
        models.build("autoencoder", {}, (1, 100, 128))
    with pytest.raises(ValueError, match=r"keys among .* got \['width'\]"):
        models.build("classifier_sigma8", {"width": 3}, (1, 128, 128))
    with pytest.raises(ValueError, match="task needs one of"):
        models.build("regressor", {}, (1, 128, 128))


def test_a_coarse_map_passes_the_code_without_bending():
    """Twice the code, twice the coarse share of the output: what PCA can do, the network can."""
    network = models.build("autoencoder", {"filters": 2, "code": 6}, (1, 32, 32)).eval()
    torch.nn.init.normal_(network.coarse_from_code.weight)
    torch.nn.init.zeros_(network.from_code.weight)
    code = torch.randn(3, 6)
    with torch.no_grad():
        network.features = lambda x: x
        nothing, once, twice = (network(times * code) for times in (0, 1, 2))
    torch.testing.assert_close(twice - nothing, 2 * (once - nothing))
    assert (once - nothing).abs().max() > 0.1


def test_a_pooled_classifier_does_not_care_where_things_are():
    """Shifts by whole cells of a map with empty borders change nothing; of one that is not pooled they do."""
    x = torch.zeros(1, 1, 128, 128)
    x[..., 40:60, 40:60] = torch.randn(20, 20)
    for pooled in (True, False):
        torch.manual_seed(0)
        network = models.build("classifier", {"filters": 2, "features": 8, "pooled": pooled}, (1, 128, 128)).eval()
        same = torch.allclose(network(x), network(x.roll((16, 32), (2, 3))), atol=1e-5)
        assert same is pooled


def test_turns_are_the_eight_symmetries_and_a_function_of_the_key():
    image = torch.arange(16.0).view(1, 1, 4, 4)
    keys = torch.arange(200)
    seen = models.turned(image.expand(200, 1, 4, 4), keys)
    assert len({tuple(one.flatten().tolist()) for one in seen}) == 8
    assert torch.equal(seen, models.turned(image.expand(200, 1, 4, 4), keys))
    assert torch.equal(seen.flatten(1).sort(1).values, image.flatten(1).expand(200, 16))


def test_nothing_random_happens_at_inference():
    """Trap 4: two evaluations are bit-identical, and the first layer sees the raw mean."""
    x, keys = torch.randn(6, 1, 32, 32), torch.arange(6)
    for task, settings in MODEL.items():
        network = models.build(task, settings, (1, 32, 32)).eval()
        y = torch.zeros(6, dtype=torch.int64)
        with torch.no_grad():
            assert torch.equal(network(x), network(x))
            assert torch.equal(network.losses(Batch(x, y, keys)), network.losses(Batch(x, y, keys + 1)))
        met = []
        network.encoder[0].register_forward_pre_hook(lambda _, given, met=met: met.append(given[0].mean().item()))
        network.losses(Batch(x, y, keys))
        assert met == [x.mean().item()]
        network.train()
        network.losses(Batch(x, y, keys))
        assert (met[1] == pytest.approx(met[0], abs=1e-6)) == (task != "autoencoder")


def test_the_share_of_hidden_pixels_is_the_setting_and_the_target_is_whole():
    network = models.build("autoencoder", {"filters": 2, "code": 6, "corruption": 0.3}, (1, 128, 128))
    x = torch.ones(4, 1, 128, 128)
    seen = network.corruption(x, torch.arange(4))
    assert (seen == 0).float().mean().item() == pytest.approx(0.3, abs=3 * np.sqrt(0.21 / x.numel()))
    assert set(seen.unique().tolist()) == {0.0, 1.0}
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    assert torch.equal(network.losses(Batch(x, None, torch.arange(4))), torch.ones(4))


def test_the_scaler_is_one_number(splits):
    """Trap 6: a scale for each pixel memorises small sets."""
    scaler = trained("autoencoder", splits).network.scaler
    assert isinstance(scaler.scale, float)
    assert not [value for value in vars(scaler).values() if isinstance(value, np.ndarray)]


# baselines


def test_both_classical_methods_have_the_same_budget():
    tried = {name: len(choices(one.space)) for name, one in baseline.estimators("classifier_sigma8").items()}
    assert len(tried) == 8
    assert set(tried.values()) == {8}
    assert baseline.estimators("autoencoder") == {}


def test_all_statistics_tell_two_amplitudes_apart(splits):
    parts = splits["sigma8"]
    x = {split: baseline.features("classifier_sigma8", rows.read("kappa")[:, None]) for split, rows in parts.items()}
    y = {split: rows.read("cosmology").astype(int) for split, rows in parts.items()}
    for block in ("power_spectrum", "all_statistics"):
        answer = sweep.fitted({split: x[split][block] for split in x}, y)
        assert (answer == y["test"]).mean() > 0.6, block


def test_the_oracle_is_given_where_it_is_known():
    ratio = np.array([1.0, -2.0], np.float32)
    np.testing.assert_allclose(baseline.oracle("autoencoder", {"truth/log_ratio": ratio})["oracle"], ratio[:, None])
    assert baseline.oracle("autoencoder", {"truth/log_ratio": 0 * ratio}) == {}
    assert baseline.oracle("classifier_sigma8", {"truth/log_ratio": ratio}) == {}


# measures


def test_a_test_map_of_a_training_realisation_is_refused(splits):
    """Trap 3."""
    with pytest.raises(DataError, match=r"expected test realisations that trained nothing, got \[3\]"):
        sweep.apart(np.array([1, 2, 3]), np.array([3, 4]))
    good = trained("classifier_sigma8", splits)
    leaking = Trained(
        good.task, good.settings, good.network, {**good.stores, "test": good.stores["train"]}, good.raw, simulated=True
    )
    with pytest.raises(DataError, match="split along realisations"):
        sweep.noise(leaking)


def test_a_split_across_realisations_feigns_accuracy():
    """Trap 5: features that know the realisation and nothing else."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(40), 10)
    x = rng.normal(size=(40, 8))[group] + 0.1 * rng.normal(size=(400, 8))
    y = (np.arange(40) % 2)[group]
    rows = {"train": group < 24, "validation": (group >= 24) & (group < 28), "test": group >= 28}
    along = sweep.fitted({s: x[r] for s, r in rows.items()}, {s: y[r] for s, r in rows.items()}) == y[rows["test"]]
    across = sweep.random_split(x, y, {split: int(r.sum()) for split, r in rows.items()})
    assert across.mean() > along.mean() + 0.1


def test_beating_the_exact_likelihood_ratio_is_refused():
    """Trap 12."""
    oracle = np.arange(100) < 80
    measures.refuse_leak(oracle, oracle)
    measures.refuse_leak(np.arange(100) < 75, oracle)
    measures.refuse_leak(np.arange(100) < 84, oracle)
    with pytest.raises(DataError, match=r"exact likelihood ratio, 0.800, got 0.990; something leaks"):
        measures.refuse_leak(np.arange(100) < 99, oracle)


def test_every_number_has_its_count_and_interval(of_autoencoder, of_classifier):
    """Trap 7."""
    for row in of_autoencoder.rows + of_classifier.rows:
        assert row["n"] == 48
        assert row["groups"] in (6, 48)
        low, high = row["interval"]
        assert low <= high
        if row["metric"] != "expected_error":  # a resample's calibration error is larger on average
            assert low - 1e-12 <= row["value"] <= high + 1e-12, row


def test_noise_is_swept(of_classifier):
    """Trap 10: at four levels, for the network and for what it is compared with."""
    found = {(row["metric"], row["method"]) for row in of_classifier.rows if row["question"] == "noise"}
    levels = ("no_noise", "100_galaxies", "030_galaxies", "010_galaxies")
    methods = ("network", "network_features", "power_spectrum")
    assert found == {(f"accuracy_{level}", method) for level in levels for method in methods}
    clear = rows_of(of_classifier, "noise", "accuracy_no_noise", "power_spectrum")["value"]
    assert clear >= rows_of(of_classifier, "noise", "accuracy_010_galaxies", "power_spectrum")["value"]
    assert clear > 0.6


def test_the_exact_bound_stands_beside_the_network(of_classifier):
    oracle = rows_of(of_classifier, "class", "accuracy", "oracle")
    assert oracle["role"] == "oracle"
    assert oracle["value"] > 0.95
    assert rows_of(of_classifier, "class", "accuracy_gain_on_oracle")["interval"][1] <= 0.05


def test_test_maps_alone_are_measured_and_drawn(splits):
    """Trap 8: other splits give nothing to importance, spectra or peaks."""
    task = trained("autoencoder", splits)
    measured = measures.measure(task)
    shown = measured.arrays["importance_input"]
    assert shown.tobytes() == splits["sky"]["test"].read("kappa")[: len(shown)].tobytes()


def test_calibration_is_zero_for_honest_probabilities():
    rng = np.random.default_rng(0)
    sure = rng.uniform(0.5, 1, 40000)
    honest = measures.expected_error(sure, (rng.random(40000) < sure).astype(float))(np.ones(40000))
    bold = measures.expected_error(np.full(40000, 0.99), (rng.random(40000) < 0.7).astype(float))(np.ones(40000))
    assert honest < 0.02
    assert bold == pytest.approx(0.29, abs=0.02)


def test_smoothing_of_equal_error_has_that_error():
    maps = np.random.default_rng(0).normal(size=(10, 64, 64))
    width = measures.equal_error(maps, 0.5)
    assert ((measures.smoothed(maps, width) - maps) ** 2).mean() == pytest.approx(0.5, abs=0.03)
    assert measures.equal_error(maps, 5.0) == 30.0


def test_a_perfect_reconstruction_recalls_all_peaks():
    rng = np.random.default_rng(0)
    maps = measures.smoothed(rng.normal(size=(5, 128, 128)), 2.0)
    place, _ = measures.brightest(maps, 20)
    assert measures.recall(maps, place).min() == 1
    other = measures.smoothed(rng.normal(size=(5, 128, 128)), 2.0)
    assert measures.recall(other, place).mean() < 0.3


def test_importance_finds_what_a_network_looks_at():
    """A network that reads one pixel alone; the overlap with peaks is 1 there and chance elsewhere."""

    class Spot(torch.nn.Module):
        def features(self, x):
            return x[:, 0, 40:43, 70:73].flatten(1)

    x = np.random.default_rng(0).normal(size=(4, 1, 128, 128)).astype(np.float32)
    found = importance.gradients(Spot(), x)
    assert found.shape == (4, 128, 128)
    assert set(np.argwhere(found > 0.3 * found.max(axis=(1, 2), keepdims=True))[:, 1]) <= set(range(38, 46))
    on = importance.near_peaks(np.tile([[[71, 41]]], (4, 1, 1)), (128, 128))
    off = importance.near_peaks(np.tile([[[20, 100]]], (4, 1, 1)), (128, 128))
    assert on.sum() == 4 * 29
    assert importance.on_peaks(np.where(on, 1.0, 0.0), on).mean() > 0.17
    assert importance.on_peaks(found, off).mean() < 0.02


def test_importance_stands_beside_its_controls(of_autoencoder, of_classifier):
    for measured in (of_autoencoder, of_classifier):
        found = {row["method"]: row for row in measured.rows if row["metric"] == "on_peaks"}
        assert set(found) == {"network", "gradient_times_input", "convergence", "random_weights", "chance"}
        assert found["convergence"]["value"] > 2 * found["chance"]["value"]


# figures


def test_figures_of_the_article_are_drawn(of_autoencoder, of_classifier):
    drawn = figures.draw(explanation("autoencoder", of_autoencoder))
    assert set(drawn) == {"reconstructions", "spectrum", "importance", "tsne"}
    drawn = figures.draw(explanation("classifier_sigma8", of_classifier))
    assert set(drawn) == {"noise", "calibration", "importance", "tsne"}
    assert set(drawn) <= set(figures.CAPTIONS)


def test_every_title_says_pair_noise_pixel_and_area(of_autoencoder, of_classifier):
    """Trap 9."""
    for task, measured in (("autoencoder", of_autoencoder), ("classifier_sigma8", of_classifier)):
        for name, figure in figures.draw(explanation(task, measured)).items():
            title = figure.get_suptitle()
            for part in ("(0.26, 0.798) | (0.26, 0.850)", "30 galaxies", "2.0' pixels", "4.3° x 4.3°"):
                assert part in title, (name, part)


def test_user_data_without_truth_get_their_figures(splits):
    own = trained("autoencoder", splits)
    bare = {split: Rows({"kappa": r.read("kappa"), "group": r.read("group")}) for split, r in own.stores.items()}
    measured = measures.measure(Trained(own.task, own.settings, own.network, bare, own.raw, simulated=False))
    assert {row["question"] for row in measured.rows} == {"spectrum", "histogram"}
    drawn = figures.draw(explanation("autoencoder", measured, columns={}, labels={}))
    assert set(drawn) == {"reconstructions", "spectrum", "tsne"}
