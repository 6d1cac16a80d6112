"""The benchmark of t-SNE, at its smallest: both sides do the same work, and its words are true."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kilonode import bench, config
from kilonode.bench import tsne
from kilonode.errors import UserError
from kilonode.explain import embed
from kilonode.records import Json, finite


@pytest.fixture(scope="module")
def measured() -> Json:
    """Both sides on 300 samples with the fewest steps that scikit-learn does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embed, "ITERATIONS", embed.EXAGGERATED + 50)
        found: Json = tsne.run(bench.parser("tsne").parse_args(["--points", "300", "--threads", "1"]))
    return found


def test_the_benchmark_has_its_options() -> None:
    names = [action.option_strings[-1] for action in bench.parser("tsne")._actions]
    assert names == ["--help", "--json", "--strict", "--points", "--codes", "--perplexity", "--threads", "--seed"]
    assert bench.parser("tsne").parse_args([]).points == 100_000


def test_both_sides_are_timed_and_judged_in_one_run(measured: Json) -> None:
    config.check(finite({"bench": "tsne", **measured}), config.schema("bench"), "bench tsne")
    by = {row["name"]: row for row in measured["figures"]}
    for side in ("openTSNE", "scikit-learn"):
        assert by[f"{side}: processor time"]["value"] > 0
        assert 0.9 < by[f"{side}: trustworthiness"]["value"] <= 1
        assert by[f"{side}: trustworthiness"]["judged"] == 300
    faster = by["openTSNE is faster, times"]
    assert faster["value"] == pytest.approx(by["scikit-learn: time"]["value"] / by["openTSNE: time"]["value"])
    assert measured["conditions"]["points"] == 300
    assert measured["conditions"]["threads"] == 1


def test_targets_are_met_or_missed_as_the_numbers_say() -> None:
    chance = np.random.default_rng(0)
    trusted = chance.uniform(0.8, 1.0, 200)
    slow = tsne.Side(wall_s=50.0, processor_s=40.0, trusted=trusted)
    noise = chance.normal(0, 0.01, 200)
    for shift, wall, met in ((0.01, 9.0, (True, True)), (-0.0001, 11.0, (False, False)), (0.0, 10.0, (True, True))):
        moved = trusted + noise - noise.mean() + shift if shift else trusted
        rows = tsne.rows({"ours": tsne.Side(wall, wall, moved), "theirs": slow})
        by = {row["name"]: row for row in rows}
        gain = by["trustworthiness, ours minus theirs, paired"]
        assert (by["ours is faster, times"]["met"], by["ours: trustworthiness"]["met"]) == met
        assert by["ours: trustworthiness"]["target"] == trusted.mean()
        assert gain["value"] == pytest.approx(shift)
        assert gain["interval"][0] <= gain["value"] <= gain["interval"][1]


def test_the_samples_are_clusters_on_a_curved_surface_and_always_the_same() -> None:
    x = tsne.clusters(2000, seed=0)
    assert x.shape == (2000, 16)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, tsne.clusters(2000, seed=0))
    assert (x != tsne.clusters(2000, seed=1)).any()
    variance = np.linalg.svd(x - x.mean(axis=0), compute_uv=False) ** 2
    assert variance[3:].sum() / variance.sum() > 0.2  # bent: three directions do not hold it
    near = np.sort(((x[:50, None] - x) ** 2).sum(axis=2), axis=1)[:, 1]
    assert np.median(near) < 0.1 * variance.sum() / len(x)  # clustered: neighbours are close


def test_codes_of_a_file_are_measured_instead(tmp_path: Path) -> None:
    np.save(tmp_path / "codes.npy", np.arange(12.0).reshape(4, 3))
    np.testing.assert_array_equal(tsne._codes(tmp_path / "codes.npy"), np.arange(12, dtype=np.float32).reshape(4, 3))


@pytest.mark.parametrize("content", [np.zeros(3), np.full((4, 2), np.nan), np.array([["a", "b"]])])
def test_a_file_without_numbers_is_refused(content: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "codes.npy", content)
    with pytest.raises(UserError, match="expected finite numbers"):
        tsne._codes(tmp_path / "codes.npy")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected numbers"):
        tsne._codes(tmp_path / "codes.npy")


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(UserError, match="at least 100 samples, got 20"):
        tsne.run(bench.parser("tsne").parse_args(["--points", "20"]))
