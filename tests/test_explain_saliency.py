"""What a network looks at, where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kilonode.explain import attribute, saliency
from kilonode.records import Json

RNG = np.random.default_rng(0)
WEIGHTS = RNG.standard_normal((2, 16, 16)).astype(np.float32)


def linear(x: torch.Tensor) -> torch.Tensor:
    return (x * torch.from_numpy(WEIGHTS)).sum(dim=(1, 2, 3))[:, None]


@pytest.fixture(scope="module")
def inputs() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((3, 2, 16, 16)).astype(np.float32)


def test_integrated_gradients_of_a_linear_model_are_weight_times_input(inputs: np.ndarray) -> None:
    found = attribute.maps(linear, inputs)["integrated_gradients"]
    np.testing.assert_allclose(found, np.abs(WEIGHTS * inputs), rtol=1e-4, atol=1e-5)


def test_gradients_of_a_linear_model_are_its_weights(inputs: np.ndarray) -> None:
    found = attribute.maps(linear, inputs)["gradients"]
    np.testing.assert_allclose(found, np.broadcast_to(np.abs(WEIGHTS), found.shape), rtol=1e-5)


def test_occlusion_of_a_linear_model_is_what_a_patch_gives(inputs: np.ndarray) -> None:
    found = attribute.maps(linear, inputs, patch=(4, 8))["occlusion"]
    given = np.abs((WEIGHTS * inputs).reshape(3, 2, 4, 4, 2, 8).sum(axis=(3, 5)))
    np.testing.assert_allclose(found[:, :, ::4, ::8], given, rtol=1e-3, atol=1e-4)


def test_occlusion_finds_a_planted_block() -> None:
    def block(x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x[:, :1, 4:8, 8:12].mean(dim=(2, 3)))

    x = np.random.default_rng(2).uniform(0.5, 1, (2, 1, 32, 32)).astype(np.float32)
    found = attribute.maps(block, x)["occlusion"]
    truth = np.zeros((2, 1, 32, 32), bool)
    truth[..., 4:8, 8:12] = True
    assert (found[~truth] == 0).all()
    assert (found[truth] > 0).all()
    assert saliency.truth_auc(found, truth) == pytest.approx(1.0)


def test_the_class_with_the_largest_answer_is_explained() -> None:
    def halves(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x[..., :4].sum(dim=(1, 2, 3)), x[..., 4:].sum(dim=(1, 2, 3))], dim=1)

    x = np.ones((2, 1, 8, 8), np.float32)
    x[0, ..., :4] = 2
    x[1, ..., 4:] = 2
    found = attribute.maps(halves, x)["gradients"]
    assert (found[0, ..., :4] == 1).all()
    assert (found[0, ..., 4:] == 0).all()
    assert (found[1, ..., 4:] == 1).all()


def test_log_odds_do_not_see_what_moves_all_classes_alike() -> None:
    class Model(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            own = torch.stack([x[:, 0, 0, 0], x[:, 0, 0, 1], x[:, 0, 1, 0]], dim=1)
            return own + 5 * x[:, :, 1, 1]

    x = torch.tensor([[[[0.3, -0.2], [0.1, 1.0]]]], requires_grad=True)
    odds = attribute.answer(Model(), of_code=False)(x)
    p = torch.softmax(Model()(x), dim=1)
    torch.testing.assert_close(odds, torch.log(p / (1 - p)))
    (gradient,) = torch.autograd.grad(odds[0, 0], x)
    assert gradient[0, 0, 1, 1].item() == pytest.approx(0, abs=1e-6)


def test_truth_auc_is_one_for_a_perfect_map_and_half_for_noise() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((20, 1, 40, 40)) < 0.1
    assert saliency.truth_auc(truth.astype(float), truth) == pytest.approx(np.ones(20))
    assert saliency.truth_auc(-truth.astype(float), truth) == pytest.approx(np.zeros(20))
    assert saliency.truth_auc(np.ones(truth.shape), truth) == pytest.approx(np.full(20, 0.5))
    assert saliency.truth_auc(rng.random(truth.shape), truth).mean() == pytest.approx(0.5, abs=0.02)


def rows(scores: dict[str, float]) -> list[Json]:
    """What is made of 40 samples of 10 groups that scatter around these scores."""
    rng = np.random.default_rng(0)
    sizes = {name: (4, 40) if name.endswith("random_weights") else (40,) for name in scores}
    values = {name: mean + 0.01 * rng.standard_normal(sizes[name]) for name, mean in scores.items()}
    return saliency.compared(values, np.repeat(np.arange(10), 4), "it")


def test_a_network_is_compared_with_chance_random_weights_and_brightness() -> None:
    made = rows({"gradients": 0.7, "gradients_random_weights": 0.6, "input_brightness": 0.8})
    by = {(row["metric"], row["method"]): row for row in made}
    assert [(row["method"], row["role"]) for row in made if row["metric"] == "truth_auc"] == [
        ("gradients", "network"),
        ("gradients_random_weights", "control"),
        ("input_brightness", "baseline"),
    ]
    over = by["truth_auc_over_random_weights", "gradients"]
    assert over["against"] == "gradients_random_weights"
    assert over["value"] == pytest.approx(0.1, abs=0.01)
    assert over["interval"][0] < over["value"] < over["interval"][1]
    assert by["truth_auc_over_input_brightness", "gradients"]["interval"][1] < 0
    assert made[0]["n"] == 40
    assert made[0]["groups"] == 10


def test_the_words_say_what_does_not_win() -> None:
    made = rows({"gradients": 0.7, "gradients_random_weights": 0.6, "input_brightness": 0.8})
    assert saliency.said(made) == (
        "gradients above chance; gradients above random weights; no method above the brightness of the input"
    )
    worse = rows({"gradients": 0.4, "gradients_random_weights": 0.6, "input_brightness": 0.8})
    assert saliency.said(worse).startswith("no method above chance; no method above random weights")


def test_a_network_that_has_learned_nothing_seldom_beats_random_weights() -> None:
    rng, groups, beaten = np.random.default_rng(0), np.repeat(np.arange(8), 4), 0
    for _ in range(100):
        shared = 0.5 + 0.05 * rng.standard_normal(32)  # hard and easy samples are so for all networks
        score = shared + 0.03 * rng.standard_normal((5, 1))  # all five networks are of one kind
        resampled = saliency.intervals.resamples(groups, count=300)
        mine = saliency.intervals.bootstrap(saliency.intervals.mean(score[0]), resampled)
        gain = saliency.intervals.difference(mine, saliency.untrained(score[1:], resampled))
        beaten += gain.interval[0] > 0
    assert beaten <= 6
