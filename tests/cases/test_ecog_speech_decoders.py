"""Spoken syllables: networks, linear rivals, nested folds and what is measured of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from kilonode import config
from kilonode.cases.contract import Batch, Measured, Trained
from kilonode.cases.ecog_speech import baseline, figures, measures, models, nested, simulate, speech
from kilonode.config import task as configured
from kilonode.tuning import folds, space
from kilonode.tuning.outputs import write_outer

SETTINGS = {**config.resolve("ecog_speech", "toy")["simulation"], "per_block": 57, "noise": 0.1}
SHAPE = (1, 85, 250)


def batch(count: int = 8) -> Batch:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(count, *SHAPE, generator=rng)
    return Batch(x, torch.arange(count) % 57, torch.arange(count))


@pytest.mark.parametrize("network", ["tanh", "conv"])
def test_dropout_is_a_function_of_the_key_and_off_without_training(network: str) -> None:
    torch.manual_seed(0)
    model = models.build("syllables", {"network": network, "dropout": 0.5, "input_dropout": 0.2, "width": 16}, SHAPE)
    one = batch()
    other = Batch(one.x, one.y, one.key + 100)
    model.train()
    assert torch.equal(model.losses(one), model.losses(one))
    assert not torch.equal(model.losses(one), model.losses(other))
    model.eval()
    assert torch.equal(model.losses(one), model.losses(other))


def test_dropout_keeps_the_mean_and_drops_its_share() -> None:
    kept = models.dropped(torch.ones(500, 400), 0.3, torch.arange(500), 0)
    assert (kept == 0).float().mean() == pytest.approx(0.3, abs=0.01)
    assert kept.mean() == pytest.approx(1.0, abs=0.02)
    assert not torch.equal(kept, models.dropped(torch.ones(500, 400), 0.3, torch.arange(500), 1))


def test_the_articles_network_has_the_size_it_says() -> None:
    model = models.build("syllables", {"layers": 2, "width": 100, "pool": 8}, SHAPE)
    inputs = 85 * 31
    expected = (inputs + 1) * 100 + 101 * 100 + 101 * 57
    assert sum(p.numel() for p in model.parameters()) == expected
    assert isinstance(model, models.TanhNetwork)
    assert float(model.features(batch().x).abs().max()) <= 1


def test_network_and_linear_decoders_average_over_time_alike() -> None:
    x = np.random.default_rng(0).normal(size=(3, *SHAPE)).astype(np.float32)
    model = models.build("syllables", {"pool": 8, "layers": 1, "width": 4}, SHAPE)
    assert isinstance(model, models.TanhNetwork)
    seen = torch.nn.functional.avg_pool1d(torch.from_numpy(x).flatten(1, 2), model.pool).flatten(1).numpy()
    np.testing.assert_allclose(baseline.means(x, 8), seen, atol=1e-6)


def test_both_sides_may_choose_among_the_same_averages() -> None:
    for task in ("syllables", "consonants", "vowels"):
        searched = configured("ecog_speech", "article", task)["tuning"]["space"]
        assert tuple(searched["model.pool"]["among"]) == baseline.POOLS
        assert {e.inputs for e in baseline.estimators(task).values()} == {f"means_{pool}" for pool in baseline.POOLS}


def test_every_point_of_the_space_can_be_built() -> None:
    settings = configured("ecog_speech", "article", "syllables")
    for layers in (1, 2):
        for pool in baseline.POOLS:
            choice = {"model.layers": layers, "model.pool": pool, "model.width": 100, "model.dropout": 0.5}
            models.build("syllables", space.applied(settings, choice)["model"], SHAPE)
    with pytest.raises(ValueError, match="network needs one of"):
        models.build("syllables", {"network": "gru"}, SHAPE)


def test_the_article_tier_searches_200_configurations_inside_five_folds() -> None:
    tuning = configured("ecog_speech", "article", "syllables")["tuning"]
    assert tuning["trials"] * tuning["folds"] >= 200
    assert tuning["pruning"]["factor"] > 1


@pytest.fixture(scope="module")
def trained(tmp_path_factory: Any) -> Trained:
    """A linear decoder in the place of a network: what is measured does not ask what answers."""
    parts = [simulate.simulate(1, group, SETTINGS)["trials"] for group in range(8)]
    splits = {"train": parts[:5], "validation": parts[5:6], "test": parts[6:]}
    joined = {name: {k: np.concatenate([p[k] for p in found]) for k in found[0]} for name, found in splits.items()}
    x = {name: data["x"][:, None] for name, data in joined.items()}
    fitted = baseline.estimators("")["pca_lda_8"].make(components=100, shrinkage=0.1)
    fitted.fit(baseline.means(x["train"], 8), joined["train"]["syllable"])

    def outputs(raw: np.ndarray) -> np.ndarray:
        return np.asarray(fitted.predict_log_proba(baseline.means(raw[:, None], 8))).clip(-50)

    stores = {
        name: SimpleNamespace(rows=len(data["x"]), fields={}, read=data.__getitem__) for name, data in joined.items()
    }
    tuned = tmp_path_factory.mktemp("tuning")
    rng = np.random.default_rng(0)
    for method, skill in (("network", 0.3), ("baseline", 0.25)):
        (tuned / method).mkdir()
        write_outer(tuned / method / "outer.h5", [_outer(rng, fold, share, skill * share)
                                                  for fold in range(5) for share in (0.5, 0.75, 1.0)])  # fmt: skip
    settings = {"target": "syllable"}
    raw = {name: data["x"] for name, data in joined.items()}
    return Trained("syllables", settings, SimpleNamespace(outputs=outputs), stores, raw, True, tuned)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def measured(trained: Trained) -> Measured:
    return measures.measure(trained)


def _outer(rng: np.random.Generator, fold: int, share: float, skill: float) -> dict[str, Any]:
    """Answers of which the given share is right."""
    y = rng.integers(0, 57, 400)
    said = np.where(rng.uniform(size=400) < skill, y, rng.integers(0, 57, 400))
    probabilities = np.full((400, 57), 0.005)
    probabilities[np.arange(400), said] = 0.72
    return {"fold": fold, "fraction": share, "reason": "",
            "outer": {"y": y, "group": np.full(400, fold), "probabilities": probabilities}}  # fmt: skip


def value(rows: list[dict[str, Any]], question: str, metric: str, method: str | None = None) -> Any:
    found = [r for r in rows if (r["question"], r["metric"]) == (question, metric) and method in (None, r["method"])]
    assert len(found) == 1, (question, metric, found)
    return found[0]["value"]


def test_what_is_measured_makes_sense(measured: Measured) -> None:
    rows = measured.rows
    accuracy = value(rows, "decoding", "accuracy_of_trials")
    assert accuracy > 0.1
    assert value(rows, "decoding", "chance") == pytest.approx(1 / 57, abs=0.01)
    assert value(rows, "decoding", "times_chance") == pytest.approx(accuracy / value(rows, "decoding", "chance"))
    assert value(rows, "decoding", "information") > 0.05
    assert value(rows, "groups", "accuracy_vowel") > value(rows, "groups", "accuracy_consonant") > accuracy
    assert value(rows, "bound", "accuracy") > accuracy
    assert value(rows, "electrodes", "bad_found") == 1
    assert value(rows, "time", "accuracy_before_0") < value(rows, "time", "accuracy_whole")
    assert value(rows, "blocks", "accuracy_same_blocks") > 0
    for row in rows:
        assert row["n"] > 0


def test_nested_folds_test_whether_the_network_gains_more_from_data(measured: Measured) -> None:
    rows = measured.rows
    assert value(rows, "nested", "accuracy", "network") == pytest.approx(0.31, abs=0.03)
    assert value(rows, "nested", "accuracy", "baseline") == pytest.approx(0.26, abs=0.03)
    assert value(rows, "nested", "slope", "network") > 0
    assert 0.0625 <= value(rows, "nested", "slope_gain_p") <= 1


def test_the_tree_is_made_of_outer_test_blocks_of_all_folds(trained: Trained, measured: Measured) -> None:
    outer = nested.pooled(nested.answers(trained.tuned)["network"])
    assert len(outer["y"]) == 5 * 400
    arrays = measured.arrays
    assert len(arrays["confusion"]) == 57
    assert np.allclose(arrays["confusion"], measures.scores.soft_confusion(outer["y"], outer["probabilities"])[1])


def test_no_fold_tests_a_block_that_another_tests(tmp_path: Path) -> None:
    parts = {"train": list(range(5)), "validation": [5], "test": [6, 7]}

    class Known:
        def __init__(self, index: Path, split: str) -> None:
            self._groups = np.repeat(parts[split], 3)

        def read(self, name: str) -> np.ndarray:
            return self._groups

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folds, "Store", Known)
        found = folds.groups_of(tmp_path, 4)
    tested = [group for fold in found for group in fold["test"]]
    assert sorted(tested) == list(range(8))


def test_figures_are_drawn_of_what_was_measured(measured: Measured) -> None:
    from kilonode.cases.contract import Explanation

    arrays = measured.arrays
    explanation = Explanation(
        case="ecog_speech", task="syllables", inputs=np.zeros((2, *SHAPE)), corrupted=None, outputs=np.zeros((2, 57)),
        embedding=np.random.default_rng(0).normal(size=(1, 30, 2)), trustworthiness=np.array([0.9]),
        columns={"consonant": np.arange(30) % 19, "gain": np.linspace(0, 1, 30)},
        labels={"consonant": dict(enumerate(speech.CONSONANTS))}, saliency=np.ones((57, *SHAPE)), curves={},
        arrays=arrays,
    )  # fmt: skip
    drawn = figures.draw(explanation)
    assert set(drawn) == set(figures.CAPTIONS)
