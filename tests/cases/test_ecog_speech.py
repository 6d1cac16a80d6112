"""Spoken syllables: articulators, cortex, the way from volts to amplitude, and the traps that concern the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kilonode import config
from kilonode.cases.ecog_speech import baseline, cortex, recording, scores, signals, simulate, speech

SETTINGS = {**config.resolve("ecog_speech", "toy")["simulation"], "per_block": 40}


def made(*groups: int, **more: Any) -> dict[str, np.ndarray]:
    settings = {**SETTINGS, **more}
    parts = [simulate.simulate(1, group, settings)["trials"] for group in groups]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


# sounds and cortex


def test_there_are_57_syllables_of_19_consonants_and_3_vowels() -> None:
    assert len(set(speech.SYLLABLES)) == 57
    numbers = np.arange(57)
    assert (3 * speech.consonant_of(numbers) + speech.vowel_of(numbers) == numbers).all()
    assert np.bincount(speech.place_of(numbers)).tolist() == [18, 27, 12]


def test_a_consonant_is_shaped_by_the_vowel_that_follows() -> None:
    baa, boo = (speech.targets(np.array([speech.SYLLABLES.index(name)]))[0] for name in ("saa", "soo"))
    lips = speech.ARTICULATORS.index("lips")
    assert boo[0, lips] - baa[0, lips] == pytest.approx(speech.COARTICULATION)
    tip = speech.ARTICULATORS.index("tongue tip")
    assert boo[0, tip] == baa[0, tip]


def test_pairs_of_articulators_are_what_makes_cortex_nonlinear() -> None:
    rng = np.random.default_rng(0)
    a = rng.uniform(size=(5, 2, 6))
    for interaction, is_linear in ((0.0, True), (0.6, False)):
        brain = cortex.subject(np.random.default_rng(1), {**SETTINGS, "interaction": interaction})
        doubled = cortex.drive(brain, 2 * a)
        assert np.allclose(doubled, 2 * cortex.drive(brain, a)) == is_linear


def test_each_articulator_has_its_place_along_the_grid() -> None:
    brain = cortex.subject(np.random.default_rng(1), {**SETTINGS, "interaction": 0.0})
    along = cortex.positions()[:, 0]
    weight = brain.linear[0]
    middle = (weight * along[:, None]).sum(axis=0) / weight.sum(axis=0)
    order = [speech.ARTICULATORS[k] for k in np.argsort(middle)]
    assert order == list(cortex.SOMATOTOPY)


def test_consonant_and_vowel_come_when_they_should() -> None:
    quiet = {**SETTINGS, "jitter_ms": 0, "gain": 0, "interaction": 0.0}
    trials = simulate.block(1, 0, quiet)
    time = np.arange(cortex.SAMPLES) / cortex.RATE_HZ - cortex.BEFORE_S
    power = (trials["signal"] ** 2).mean(axis=(0, 1))
    assert abs(time[power.argmax()] - 0.0) < 0.2
    assert power[time < -0.4].max() < 0.02 * power.max()
    assert power[time > 0.6].max() < 0.02 * power.max()


# blocks


def test_every_block_is_z_scored_by_itself() -> None:
    x = made(0)["x"]
    assert np.abs(x.mean(axis=(0, 2))).max() < 1e-4
    assert np.abs(x.std(axis=(0, 2)) - 1).max() < 1e-4


def test_blocks_of_a_subject_share_cortex_and_those_of_others_do_not() -> None:
    bad = [made(group)["truth/bad"][0] for group in (0, 7, 8)]
    assert (bad[0] == bad[1]).all()
    assert (bad[0] != bad[2]).any()
    assert made(7)["subject"][0] == 0
    assert made(8)["subject"][0] == 1


def test_classes_are_as_uneven_and_as_missing_as_asked() -> None:
    even = np.bincount(simulate.syllables(1, 0, {**SETTINGS, "per_block": 57}), minlength=57)
    assert set(even) == {8}
    uneven = {**SETTINGS, "per_block": 250, "uneven": 4.0, "missing": 3}
    counts = np.bincount(simulate.syllables(1, 0, uneven), minlength=57)
    assert counts.sum() == 2000
    assert (counts == 0).sum() == 3
    assert 15 <= counts[counts > 0].min() < counts.max() <= 80


def test_more_noise_leaves_physics_as_it_was() -> None:
    few, many = made(0), made(0, noise=2.0)
    for name in few:
        assert (few[name].tobytes() == many[name].tobytes()) == (name != "x")


def test_hearing_oneself_comes_after_150_ms_and_helps() -> None:
    deaf, hearing = made(*range(6)), made(*range(6), feedback=2.0)
    late = round((cortex.BEFORE_S + 0.16) * cortex.RATE_HZ)
    signal = [simulate.block(1, 0, {**SETTINGS, "feedback": amount, "per_block": 40})["signal"] for amount in (0, 2.0)]
    assert np.array_equal(signal[0][..., : late - 2], signal[1][..., : late - 2])
    scored = [_decoded(data, slice(late, None)) for data in (deaf, hearing)]
    assert scored[1] > scored[0] + 0.1


def _decoded(data: dict[str, np.ndarray], part: slice) -> float:
    """Accuracy of vowels on the last of the blocks from a part of the window."""
    block = baseline.means(data["x"][:, None, :, part], 16)
    train = data["group"] < data["group"].max()
    fitted = (
        baseline.estimators("")["pca_lda_16"]
        .make(components=60, shrinkage=0.3)
        .fit(block[train], data["consonant"][train])
    )
    return float((fitted.predict(block[~train]) == data["consonant"][~train]).mean())


def test_no_block_is_in_two_splits(tmp_path: Path) -> None:
    from kilonode.data.split import split

    found = split(made(*range(8))["group"], [0.625, 0.125, 0.25], 0)
    parts = [set(groups) for groups in found.values()]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 8


# from volts to amplitude


def test_the_common_average_leaves_bad_electrodes_out() -> None:
    volts = np.ones((4, 10))
    volts[2] = 1000
    assert np.allclose(signals.common_average(volts, np.array([2]))[[0, 1, 3]], 0)


def test_the_notch_removes_the_mains_and_little_else() -> None:
    time = np.arange(4000) / 400
    for hz, kept in ((60.0, 0.0), (120.0, 0.0), (90.0, 1.0)):
        tone = np.sin(2 * np.pi * hz * time)[None]
        assert signals.notched(tone, 400.0).std() == pytest.approx(kept * tone.std(), abs=0.01)


def test_the_amplitude_follows_the_envelope_of_its_band_alone() -> None:
    time = np.arange(4000) / 400
    envelope = 1 + 0.8 * np.sin(2 * np.pi * 1.0 * time)
    found = signals.amplitude((envelope * np.sin(2 * np.pi * 100 * time))[None], 400.0)[0]
    assert np.corrcoef(found, envelope)[0, 1] > 0.99
    outside = signals.amplitude(np.sin(2 * np.pi * 20 * time)[None], 400.0)[0]
    assert outside.mean() < 0.01 * found.mean()


def test_resampling_keeps_what_is_slow() -> None:
    at = {hz: np.sin(2 * np.pi * 3 * np.arange(10 * hz) / hz)[None] for hz in (400, 200)}
    assert np.allclose(signals.resampled(at[400], 400, 200), at[200], atol=1e-6)


def test_windows_lie_where_the_moments_are() -> None:
    x = np.arange(100.0)[None]
    assert signals.windows(x, np.array([10, 50]), 3, 5)[:, 0].tolist() == [[7, 8, 9, 10, 11], [47, 48, 49, 50, 51]]
    with pytest.raises(ValueError, match="windows need 5 moments inside"):
        signals.windows(x, np.array([99]), 3, 5)


def test_volts_give_back_the_response_they_were_made_from() -> None:
    settings = {**SETTINGS, "per_block": 20}
    signal = simulate.block(1, 0, settings)
    x = made(0, signal="voltage", per_block=20)["x"]
    good = np.flatnonzero(~signal["bad"])
    strong = good[np.argsort(signal["signal"][:, good].std(axis=(0, 2)))[-10:]]
    pairs = [np.corrcoef(signal["signal"][:, e].ravel(), x[:, e].ravel())[0, 1] for e in strong]
    assert np.mean(pairs) > 0.5
    assert np.isfinite(x).all()


def test_nwb_keeps_all_that_the_chain_needs(tmp_path: Path) -> None:
    pytest.importorskip("pynwb")
    from pynwb import NWBHDF5IO

    settings = {**SETTINGS, "per_block": 4}
    trials = simulate.block(1, 2, settings)
    volts, rate = recording.volts(trials["signal"], trials["bad"], simulate.stream(1, 1, 0, 2), settings)
    recording.write_nwb(tmp_path / "block.nwb", trials, volts, 2)
    x, y, bad = recording.read_nwb(tmp_path / "block.nwb")
    direct = recording.processed(volts, 4, np.flatnonzero(trials["bad"]))
    assert np.allclose(x, direct, atol=1e-3)
    assert (y == trials["y"]).all()
    assert (bad == np.flatnonzero(trials["bad"])).all()
    with NWBHDF5IO(str(tmp_path / "block.nwb"), "r") as io:
        file = io.read()
        assert "SIMULATED" in file.session_description
        assert file.acquisition["ecog"].rate == rate
        assert file.acquisition["ecog"].unit == "volts"


def test_ingest_reads_what_the_simulator_wrote(tmp_path: Path) -> None:
    pytest.importorskip("pynwb")
    from kilonode.data.ingest import nwb

    settings = {**SETTINGS, "per_block": 4}
    trials = simulate.block(1, 0, settings)
    volts, _ = recording.volts(trials["signal"], trials["bad"], simulate.stream(1, 1, 0, 0), settings)
    recording.write_nwb(tmp_path / "block.nwb", trials, volts, 0)
    with nwb.opened(tmp_path / "block.nwb") as columns:
        assert columns["intervals/trials/syllable"]().read(0, 4, 0).tolist() == trials["y"].tolist()
        band = columns["processing/ecephys/high_gamma"]()
        assert band.shape == (volts.shape[1] // 2, 85)


def test_bad_electrodes_are_found_on_training_blocks_alone() -> None:
    data = made(*range(4))
    train = data["group"] < 3
    found = signals.bad_electrodes(data["x"][train])
    assert found.tolist() == np.flatnonzero(data["truth/bad"][0]).tolist()
    spoiled = data["x"].copy()
    spoiled[~train] = np.random.default_rng(0).normal(size=spoiled[~train].shape)
    assert signals.bad_electrodes(spoiled[train]).tolist() == found.tolist()


# scores


def test_chance_comes_from_the_classes_there_are_and_not_from_their_number() -> None:
    train = np.repeat([0, 1, 2], [80, 10, 10])
    expected = 0.8**2 + 2 * 0.1**2
    found = scores.chance(train, np.tile(train, 20), np.random.default_rng(0))
    assert found == pytest.approx(expected, abs=0.01)
    assert abs(found - 1 / 57) > 0.5


def test_answers_by_accident_hold_no_information_and_right_ones_all() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 57, 200)
    assert abs(scores.information(truth, rng.integers(0, 57, 200), rng)) < 0.25
    truth = np.repeat(np.arange(4), 500)
    assert scores.information(truth, truth, rng) == pytest.approx(2.0, abs=0.02)


def test_39_percent_of_200_trials_have_the_interval_of_the_books() -> None:
    low, high = scores.clopper_pearson(78, 200)
    assert (low, high) == pytest.approx((0.322, 0.461), abs=1e-3)
    assert scores.clopper_pearson(0, 10)[0] == 0
    assert scores.clopper_pearson(10, 10)[1] == 1


def test_the_tree_joins_what_is_close_in_euclidean_distance() -> None:
    rows = np.array([[0, 0], [0, 0.1], [5, 0], [5, 0.1], [0, 9], [0.1, 9]], float)
    joined = scores.tree(rows)
    assert sorted(tuple(sorted(map(int, pair))) for pair in joined[:3, :2]) == [(0, 1), (2, 3), (4, 5)]
    assert joined[0, 2] == pytest.approx(0.1)
    centres = np.array([[0, 0.05], [5, 0.05]])
    assert joined[3, 2] == pytest.approx(np.sqrt(2 * 2 * 2 / 4) * np.linalg.norm(centres[0] - centres[1]))


def test_confusions_that_follow_articulators_agree_with_their_tree_and_others_do_not() -> None:
    rng = np.random.default_rng(0)
    true = speech.CONSONANT_TARGETS
    distance = np.linalg.norm(true[:, None] - true[None], axis=2)
    follows = np.exp(-3 * distance)
    correlation, p = scores.agreement(follows / follows.sum(axis=1, keepdims=True), true, rng)
    assert correlation > 0.7
    assert p < 0.01
    _, p = scores.agreement(rng.uniform(size=(19, 19)), true, rng)
    assert p > 0.01


def test_classes_that_never_occur_are_in_no_table() -> None:
    classes, rows = scores.soft_confusion(np.array([0, 0, 5]), np.full((3, 57), 1 / 57))
    assert classes.tolist() == [0, 5]
    assert rows.shape == (2, 2)


def test_who_knows_the_articulators_bounds_every_decoder() -> None:
    data = made(*range(4))
    y = data["syllable"].astype(int)
    said = baseline.bound(data["truth/articulators"], lambda s: s, y)
    assert 0.75 < (said == y).mean() < 0.97
    clean = speech.targets(np.arange(57))
    assert (baseline.bound(clean, lambda s: s, np.arange(57)) == np.arange(57)).mean() > 0.99
