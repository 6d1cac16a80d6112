"""Reactor antineutrinos: the detector, the physics, and the traps that concern the data."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import yaml
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from kilonode.cases.contract import load
from kilonode.cases.reactor_neutrinos import baseline, detector, events, simulate

COUNTS = {"antineutrino": 50, "physical": 50, "shuffled": 50, "lithium9": 50, "single": 20}
SETTINGS = {"detectors": 8, "dark_pe": 0.01, "neutron_m": 0.4, "per_run": COUNTS}
RUNS = range(24)


def joined(runs, table):
    return {name: np.concatenate([run[table][name] for run in runs]) for name in runs[0][table]}


def same(a, b):
    return all(a[t][f].tobytes() == b[t][f].tobytes() for t in a for f in a[t])


def point(*xyz, energy=1.0):
    return detector.light(np.array([[xyz]], float), np.array([[energy]]))[0]


@pytest.fixture(scope="module")
def runs():
    return [simulate.simulate(1, group, SETTINGS) for group in RUNS]


@pytest.fixture(scope="module")
def pairs(runs):
    return joined(runs, "pairs")


@pytest.fixture(scope="module")
def singles(runs):
    return joined(runs, "singles")


# the contract


def test_tables_are_those_of_the_case_file(runs):
    declared = yaml.safe_load(Path(simulate.__file__).with_name("case.yaml").read_text())["tables"]
    sizes = {"pairs": 200, "singles": 100}
    assert set(runs[0]) == set(declared)
    for table, fields in declared.items():
        assert set(runs[0][table]) == set(fields)
        for name, spec in fields.items():
            array = runs[0][table][name]
            assert array.dtype == spec["dtype"], name
            assert array.shape == (sizes[table], *spec["shape"]), name
            assert np.isfinite(array).all(), name
            assert set(np.unique(array)) <= set(spec["labels"]) if "labels" in spec else True


def test_counts_and_labels_agree(pairs, singles):
    n = len(RUNS)
    kinds = {(0, 0): 50, (1, 1): 50, (1, 2): 50, (2, 0): 50}
    for (kind, how), count in kinds.items():
        assert ((pairs["y_pair"] == kind) & (pairs["accidental"] == how)).sum() == count * n
    assert np.bincount(singles["y_single"]).tolist() == [20 * n] * 5
    assert (pairs["detector"] == pairs["group"] % 8).all()


def test_the_case_loads_by_name():
    assert load("reactor_neutrinos").simulate is simulate
    case_id = yaml.safe_load(Path(simulate.__file__).with_name("case.yaml").read_text())["case_id"]
    assert case_id == simulate.CASE_ID


def test_a_run_is_a_function_of_seed_and_number():
    run = simulate.simulate(1, 3, SETTINGS)
    assert same(run, simulate.simulate(1, 3, SETTINGS))
    for other in (simulate.simulate(1, 4, SETTINGS), simulate.simulate(2, 3, SETTINGS)):
        assert not np.array_equal(run["pairs"]["pairs"], other["pairs"]["pairs"])
        assert not np.array_equal(run["pairs"]["truth/event"], other["pairs"]["truth/event"])
        assert not np.array_equal(run["singles"]["singles"], other["singles"]["singles"])


def test_a_run_does_not_change_when_there_are_more():
    few, many = ({**SETTINGS, "runs": n, "groups": n} for n in (4, 400))
    assert same(simulate.simulate(1, 3, few), simulate.simulate(1, 3, many))


def test_sample_numbers_are_unique_and_count_through_the_runs(runs, pairs):
    assert np.array_equal(pairs["sample_id"], np.arange(200 * len(RUNS)))
    assert runs[5]["singles"]["sample_id"].tolist() == list(range(500, 600))


def test_other_noise_leaves_the_physics_alone():
    quiet, noisy = (simulate.simulate(1, 3, {**SETTINGS, "dark_pe": dark}) for dark in (0.01, 0.5))
    for table, image in (("pairs", "pairs"), ("singles", "singles")):
        for name in quiet[table]:
            assert np.array_equal(quiet[table][name], noisy[table][name]) == (name != image), name
    assert noisy["pairs"]["pairs"][:, 0].sum() > quiet["pairs"]["pairs"][:, 0].sum()


def test_samples_of_a_run_are_in_random_order(runs):
    kinds = runs[0]["pairs"]["y_pair"]
    assert (np.diff(kinds.astype(int)) != 0).sum() > 50  # sorted kinds would change twice


# the detector


def test_a_flash_in_the_centre_gives_160_pe_per_mev():
    assert point(0, 0, 0).sum() == pytest.approx(160, rel=1e-6)
    mean = detector.light(np.zeros((2000, 1, 3)), np.ones((2000, 1)))
    perfect = detector.Tubes(np.ones((8, 24)), np.zeros((8, 24), bool))
    charge, _ = detector.respond(mean, np.zeros((2000, 3)), perfect, np.random.default_rng(0), dark=0)
    assert charge.sum((1, 2)).mean() == pytest.approx(160, rel=0.02)
    # Poisson counts, each measured to 30 %.
    assert charge.sum((1, 2)).var() == pytest.approx(160 * (1 + 0.3**2), rel=0.1)


def test_total_light_varies_over_the_volume_as_published_shapes_do():
    grid = [(r, 0, z) for r, z in product(np.linspace(0, 1.95, 14), np.linspace(-1.95, 1.95, 15))]
    total = detector.light(np.array(grid, float)[:, None], np.ones((len(grid), 1))).sum((1, 2)) / 160
    # Calibration on the science page: 0.97 to 1.17 over the volume.
    assert total.min() == pytest.approx(0.96, abs=0.02)
    assert total.max() == pytest.approx(1.17, abs=0.03)
    target = [total[k] for k, (r, _, z) in enumerate(grid) if r <= 1.55 and abs(z) <= 1.55]
    assert max(target) == pytest.approx(1.07, abs=0.02)


def test_light_has_the_symmetries_of_the_detector():
    turn = 2 * np.pi * 5 / 24
    np.testing.assert_allclose(
        point(np.cos(turn), np.sin(turn), 0.7), np.roll(point(1, 0, 0.7), 5, axis=1), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(point(0.5, 0.2, -0.7), point(0.5, 0.2, 0.7)[::-1], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(point(0.5, 0.2, 0.7, energy=3.0), 3 * point(0.5, 0.2, 0.7), rtol=1e-5)


def test_light_of_a_flash_is_the_sum_of_its_points():
    position, energy = np.random.default_rng(0).uniform(-1, 1, (4, 5, 3)), np.ones((4, 5))
    energy[1, 2:] = 0
    parts = sum(detector.light(position[:, [k]], energy[:, [k]]) for k in range(5))
    np.testing.assert_allclose(detector.light(position, energy), parts, rtol=1e-5)


def test_direct_light_follows_the_formula():
    # One tube, one point, direct light and four images, written out in double precision.
    vertex, tube = np.array([0.4, -0.3, 0.6]), detector.TUBES_M
    expected = np.zeros((8, 24))
    for sign, shift, mirrors in [(1, 0, 0), (-1, 4.2, 1), (-1, -4.2, 1), (1, 8.4, 2), (1, -8.4, 2)]:
        away = tube - np.array([vertex[0], vertex[1], sign * vertex[2] + shift])
        distance = np.linalg.norm(away, axis=-1)
        inward = tube * [1, 1, 0] / 2.3
        cosine = np.maximum((away * inward).sum(-1) / distance, 0)
        expected += 0.9**mirrors * cosine * np.exp(-distance / 10) / (4 * np.pi * distance**2)
    expected += 0.03 * expected.mean()
    found = point(*vertex)
    np.testing.assert_allclose(found / found.sum(), expected / expected.sum(), rtol=1e-4)


def test_dead_tubes_are_listed_and_belong_to_the_detector(singles):
    numbers = []
    for number in range(8):
        of_detector = singles["detector"] == number
        muons = singles["singles"][of_detector & (singles["y_single"] == simulate.MUON)]
        listed = detector.tubes(1, simulate.CASE_ID, number, group=number).dead
        assert np.array_equal((muons == 0).all(0), listed)  # muons light every living tube
        assert not singles["singles"][of_detector][:, listed].any()
        numbers.append(int(listed.sum()))
    assert set(numbers) <= {0, 1, 2, 3}
    assert len(set(numbers)) > 1


def test_gains_spread_by_3_percent_and_drift_slowly():
    gain = np.array([detector.tubes(1, simulate.CASE_ID, 2, group).gain for group in (0, 8, 200)])
    assert gain[0].std() == pytest.approx(0.03, abs=0.006)
    assert 0 < np.abs(gain[1] - gain[0]).max() < 0.006  # 8 runs of a period of at least 100
    assert 0.003 < (gain[2] - gain[0]).std() < 0.02
    assert np.abs(gain[0] - detector.tubes(1, simulate.CASE_ID, 3, 0).gain).std() > 0.02


def test_times_are_in_the_window_and_zero_where_nothing_was_seen(pairs):
    charge, time = pairs["pairs"][:, [0, 2]], pairs["pairs"][:, [1, 3]]
    assert not time[charge == 0].any()
    seen = time[charge > 0]
    assert seen.min() >= -1650
    assert seen.max() <= -1250
    assert (seen < 0).mean() > 0.999
    # Emission, 2.3 m of travel at 5 ns/m, some ns of scintillation.
    assert np.median(seen) == pytest.approx(-1600 + 2.3 * 5.0 + 3, abs=4)


def test_near_tubes_are_hit_first():
    mean, centre = np.full((400, 8, 24), 5.0), np.tile([1.5, 0.0, 0.0], (400, 1))
    perfect = detector.Tubes(np.ones((8, 24)), np.zeros((8, 24), bool))
    _, time = detector.respond(mean, centre, perfect, np.random.default_rng(0), dark=0)
    late = np.ma.masked_equal(time, 0).mean((0, 1))
    assert late.argmin() == 0
    assert late.max() - late.min() == pytest.approx(5.0 * (3.8 - 0.8), rel=0.25)


def test_dark_noise_is_seen_without_light():
    perfect = detector.Tubes(np.ones((8, 24)), np.zeros((8, 24), bool))
    charge, _ = detector.respond(
        np.zeros((500, 8, 24)), np.zeros((500, 3)), perfect, np.random.default_rng(0), dark=0.01
    )
    assert charge.mean() == pytest.approx(0.01, rel=0.15)


def test_cross_talk_moves_light_to_the_neighbours_on_the_ring():
    mean = np.zeros((4000, 8, 24))
    mean[:, 3, 0] = 500
    perfect = detector.Tubes(np.ones((8, 24)), np.zeros((8, 24), bool))
    charge, _ = detector.respond(mean, np.zeros((4000, 3)), perfect, np.random.default_rng(0), dark=0)
    share = charge.mean(0) / 500
    assert share[3, 0] == pytest.approx(0.99, rel=0.01)
    assert share[3, 1] == pytest.approx(0.005, rel=0.1)
    assert share[3, 23] == pytest.approx(0.005, rel=0.1)
    assert share.sum() == pytest.approx(1, rel=0.01)


# the physics


def test_energies_and_times_have_the_stated_means(pairs):
    truth, kind = pairs["truth/event"], pairs["y_pair"]
    signal, lithium = kind == simulate.ANTINEUTRINO, kind == simulate.LITHIUM9

    def agrees(values, mean):
        assert abs(values.mean() - mean) < 4 * values.std() / np.sqrt(len(values))

    grid = np.linspace(1e-4, 8, 20001)
    density = grid**3.2 * np.exp(-grid / 0.75)
    agrees(truth[signal, 0, 0], (grid * density).sum() / density.sum() + 2 * 0.511)
    agrees(truth[signal, 1, 0], 0.85 * 8 + 0.15 * 6.25)
    grid = np.linspace(1e-4, 11.5, 20001)
    density = np.sqrt((grid + 0.511) ** 2 - 0.511**2) * (grid + 0.511) * (11.5 - grid) ** 2
    agrees(truth[lithium, 0, 0], (grid * density).sum() / density.sum())
    agrees(pairs["dt"][signal | lithium], 28.0)
    agrees(pairs["dt"][kind == simulate.ACCIDENTAL], 100.0)
    agrees(pairs["dt_muon"][lithium], 257.0)
    assert np.median(pairs["dt_muon"][lithium]) == pytest.approx(178, rel=0.12)  # the half-life
    away = np.linalg.norm(truth[:, 0, 1:4] - truth[:, 1, 1:4], axis=1)
    agrees(away[signal], 0.4)
    assert (pairs["truth/event"][:, 1, 4] == pairs["dt"]).all()


def test_processes_agree_with_labels(pairs, singles):
    process = {0: {0, 1}, 1: {2, 3, 0, 1}, 2: {4, 1}}
    for kind, expected in process.items():
        assert set(np.unique(pairs["truth/event"][pairs["y_pair"] == kind, :, 5])) == expected
    single = {0: 0, 1: 1, 2: 5, 3: 6, 4: 7}
    for kind, expected in single.items():
        assert set(np.unique(singles["truth/event"][singles["y_single"] == kind, 5])) == {expected}


def test_radioactive_singles_are_weak_and_near_the_wall(pairs):
    truth = pairs["truth/event"][pairs["accidental"] == simulate.PHYSICAL, 0]
    radius, height = np.hypot(truth[:, 1], truth[:, 2]), np.abs(truth[:, 3])
    assert np.median(1.95 - np.maximum(radius, height)) < 0.25
    assert truth[:, 0].min() >= 0.69
    assert truth[:, 0].mean() == pytest.approx(0.75 * 1.3 + 0.15 * 1.46 + 0.10 * 2.61, abs=0.06)
    for line, share in ((1.46, 0.15), (2.61, 0.10)):
        assert np.isclose(truth[:, 0], line).mean() == pytest.approx(share, abs=0.03)


def test_muons_pass_3000_pe_and_flashers_are_one_hot_tube(singles):
    charge, kind = singles["singles"], singles["y_single"]
    assert charge[kind == simulate.MUON].sum((1, 2)).min() > 3000
    assert charge.max() <= detector.SATURATION_PE
    most = charge.max((1, 2)) / charge.sum((1, 2))
    assert (most[kind == simulate.FLASHER] > 0.2).mean() > 0.95  # but where a dead tube flashes
    assert most[kind == simulate.PROMPT].max() < 0.2


def test_muon_tracks_cross_the_whole_detector():
    begin, end = events.tracks(np.random.default_rng(0), 2000, detector.SCINTILLATOR_M)
    for place in (begin, end):
        outside = np.maximum(np.hypot(place[:, 0], place[:, 1]), np.abs(place[:, 2]))
        np.testing.assert_allclose(outside, detector.SCINTILLATOR_M, rtol=1e-6)
    assert (begin[:, 2] > end[:, 2]).all()


# shuffled pairs


def test_shuffled_pairs_mix_antineutrinos_of_their_own_run_without_fixed_points(runs):
    for run in runs[:6]:
        pairs = run["pairs"]
        signal = np.flatnonzero(pairs["y_pair"] == simulate.ANTINEUTRINO)
        shuffled = np.flatnonzero(pairs["accidental"] == simulate.SHUFFLED)
        owner = {}
        for half, channels in (("prompt", (0, 1)), ("delayed", (2, 3))):
            of_signal = {pairs["pairs"][row, channels].tobytes(): row for row in signal}
            owner[half] = [
                of_signal[pairs["pairs"][row, channels].tobytes()] for row in shuffled
            ]  # KeyError: not there
            assert len(set(owner[half])) == len(shuffled)
        assert all(p != d for p, d in zip(owner["prompt"], owner["delayed"], strict=True))
        # Truth moves with the image, and both halves have the dead tubes of the run.
        np.testing.assert_array_equal(pairs["truth/event"][shuffled, 0], pairs["truth/event"][owner["prompt"], 0])
        np.testing.assert_array_equal(
            pairs["truth/event"][shuffled, 1, :4], pairs["truth/event"][owner["delayed"], 1, :4]
        )
        dead = detector.tubes(1, simulate.CASE_ID, int(pairs["detector"][0]), int(pairs["group"][0])).dead
        assert not pairs["pairs"][shuffled][..., dead].any()


@pytest.mark.parametrize("counts", [{"antineutrino": 5, "shuffled": 6}, {"antineutrino": 1, "shuffled": 1}])
def test_shuffling_needs_enough_pairs(counts):
    with pytest.raises(ValueError, match="shuffled pairs need at least as many"):
        simulate.simulate(1, 0, {**SETTINGS, "per_run": {**COUNTS, **counts}})


def separation(pairs, block, positive, negative):
    """AUC of a linear probe, fitted on two thirds of the runs."""
    chosen = positive | negative
    x, y, fit = block[chosen], positive[chosen], pairs["group"][chosen] < 16
    probe = LogisticRegression(max_iter=1000).fit(x[fit], y[fit])
    return roc_auc_score(y[~fit], probe.decision_function(x[~fit]))


def test_separations_are_those_of_the_calibration(pairs):
    blocks = baseline.features("autoencoder", pairs["pairs"][:, [0, 2]])
    truth = baseline.oracle("autoencoder", {"truth/event": pairs["truth/event"]})["oracle"]
    signal, lithium = pairs["y_pair"] == simulate.ANTINEUTRINO, pairs["y_pair"] == simulate.LITHIUM9
    physical, shuffled = (pairs["accidental"] == how for how in (simulate.PHYSICAL, simulate.SHUFFLED))
    # Shuffled pairs have the same charges by construction; physical ones differ.
    assert separation(pairs, blocks["total_charge"], signal, shuffled) == pytest.approx(0.5, abs=0.03)
    for flash in (0, 1):
        charges = blocks["total_charge"][:, flash]
        np.testing.assert_array_equal(np.sort(charges[signal]), np.sort(charges[shuffled]))
    assert separation(pairs, blocks["total_charge"], signal, physical) == pytest.approx(0.97, abs=0.02)
    # Light pattern: science page 0.98 shuffled, true distance 0.986; physical 0.996.
    assert separation(pairs, blocks["centroid_distance"], signal, shuffled) == pytest.approx(0.98, abs=0.01)
    assert separation(pairs, truth[:, :1], signal, shuffled) == pytest.approx(0.986, abs=0.008)
    assert separation(pairs, blocks["centroid_distance"], signal, physical) == pytest.approx(0.99, abs=0.01)
    # Science page 0.74; here the two spectra overlap a little more.
    assert separation(pairs, blocks["total_charge"], signal, lithium) == pytest.approx(0.72, abs=0.04)
    assert separation(pairs, blocks["centroid_distance"], signal, lithium) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize(("step_m", "expected"), [(0.2, 0.995), (0.6, 0.955)])
def test_farther_neutrons_are_harder_to_pair(step_m, expected):
    counts = {**COUNTS, "physical": 0, "lithium9": 0, "single": 0}
    settings = {**SETTINGS, "per_run": counts, "neutron_m": step_m}
    pairs = joined([simulate.simulate(1, group, settings) for group in range(12)], "pairs")
    distance = baseline.features("autoencoder", pairs["pairs"][:, [0, 2]])["centroid_distance"][:, 0]
    assert roc_auc_score(pairs["y_pair"] == 1, distance) == pytest.approx(expected, abs=0.012)
