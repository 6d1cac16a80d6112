"""t-SNE maps: the same again, believable as scikit-learn measures it, open to new samples."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.manifold import trustworthiness

from kilonode.explain import embed


@pytest.fixture(scope="module")
def blobs() -> np.ndarray:
    """Three far clusters of 40 samples in six dimensions."""
    rng = np.random.default_rng(0)
    return (8 * np.repeat(np.eye(3, 6), 40, axis=0) + rng.standard_normal((120, 6))).astype(np.float32)


@pytest.fixture(scope="module")
def found(blobs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return embed.tsne(blobs, perplexity=15, seeds=2)


def test_the_same_seeds_give_the_same_maps(blobs: np.ndarray, found: tuple[np.ndarray, np.ndarray]) -> None:
    maps, trust = embed.tsne(blobs, perplexity=15, seeds=2)
    np.testing.assert_array_equal(maps, found[0])
    np.testing.assert_array_equal(trust, found[1])
    assert maps.shape == (2, 120, 2)
    assert maps.dtype == np.float32


def test_another_seed_is_another_map(found: tuple[np.ndarray, np.ndarray]) -> None:
    assert np.abs(found[0][0] - found[0][1]).max() > 1


def test_clusters_stay_clusters(found: tuple[np.ndarray, np.ndarray]) -> None:
    for one in found[0]:
        centres = one.reshape(3, 40, 2).mean(axis=1)
        nearest = np.linalg.norm(one[:, None] - centres, axis=2).argmin(axis=1)
        np.testing.assert_array_equal(nearest, np.repeat(np.arange(3), 40))


def test_a_new_sample_lands_beside_its_twin(blobs: np.ndarray, found: tuple[np.ndarray, np.ndarray]) -> None:
    before = found[0][1].copy()
    placed = embed.place(blobs, found[0][1], blobs[::10] + 1e-4)
    apart = np.linalg.norm(placed[:, None] - before, axis=2)
    assert (np.argsort(apart, axis=1)[:, :3] == np.arange(0, 120, 10)[:, None]).any(axis=1).mean() > 0.9
    assert np.median(apart[np.arange(12), np.arange(0, 120, 10)]) < 0.1 * before.std()
    np.testing.assert_array_equal(before, found[0][1])  # the old map stays as it is


def test_an_old_map_may_lie_anywhere(blobs: np.ndarray, found: tuple[np.ndarray, np.ndarray]) -> None:
    here = embed.place(blobs, found[0][0], blobs[:6])
    there = embed.place(blobs, found[0][0] + np.float32(1000), blobs[:6])
    np.testing.assert_allclose(there - 1000, here, atol=0.05)


@pytest.mark.parametrize("count", [40, 11])
def test_trustworthiness_equals_that_of_scikit_learn(count: int) -> None:
    rng = np.random.default_rng(count)
    x, placed = rng.standard_normal((count, 5)), rng.standard_normal((count, 2))
    k = max(1, min(embed.NEIGHBOURS, count // 2 - 1))
    assert embed.trustworthiness(x, placed) == pytest.approx(trustworthiness(x, placed, n_neighbors=k), abs=1e-12)


def test_a_perfect_map_is_worth_one_and_a_random_one_half() -> None:
    x = np.random.default_rng(0).standard_normal((900, 2))
    assert embed.trustworthiness(x, x) == 1
    assert embed.trustworthiness(x, x[::-1]) == pytest.approx(0.5, abs=0.03)


def test_drawn_samples_judge_as_all_do(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).standard_normal((1200, 4))
    whole = embed.trustworthiness(x, x[:, :2])
    monkeypatch.setattr(embed, "JUDGED", 300)
    assert embed.trustworthiness(x, x[:, :2]) == pytest.approx(whole, abs=0.02)
    assert embed.trustworthiness(x, x[:, :2]) != whole


def test_twins_do_not_confuse_trustworthiness() -> None:
    x = np.repeat(np.random.default_rng(0).standard_normal((40, 3)), 2, axis=0)
    assert embed.trustworthiness(x, x) == pytest.approx(1, abs=1e-3)


def test_many_samples_take_the_approximate_way_to_as_good_a_map(
    blobs: np.ndarray, found: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embed, "EXACT", 100)
    monkeypatch.setattr(embed, "GRID", 100)
    monkeypatch.setattr(embed, "EXAGGERATED", 50)
    monkeypatch.setattr(embed, "ITERATIONS", 100)
    (scaled,) = embed.standardised(blobs)
    fast = embed.embedded(scaled, 15, 0, threads=1)
    assert embed.trustworthiness(scaled, fast) > found[1][0] - 0.05
    np.testing.assert_array_equal(fast, embed.embedded(scaled, 15, 0, threads=1))


def test_wide_codes_are_reduced_and_new_ones_alike() -> None:
    wide = np.random.default_rng(0).standard_normal((80, 70))
    old, new = embed.standardised(wide, wide[:5])
    assert old.shape == (80, embed.WIDTH)
    np.testing.assert_allclose(new, old[:5])
