"""LHC events: collisions, detector, jets, selection, and the traps that concern the data."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("pythia8mc", reason="the LHC case needs pythia8mc")
pytest.importorskip("fastjet", reason="the LHC case needs fastjet")

from kilonode import config
from kilonode.cases.lhc_events import detector, generator, jets, simulate
from kilonode.cases.lhc_events.detector import Towers, Tracks
from kilonode.cases.lhc_events.generator import PROCESSES, Particles
from kilonode.cases.lhc_events.spectrum import GLUINO, slha

FEW = {"qcd_400_600": 40, "qcd_800_1300": 60, "qcd_1300": 50, "gluino": 25}
SETTINGS: dict[str, Any] = {"pixels": 32, "per_block": FEW, "unseen": {"gluino_1200_650": 4, "zprime": 6}}
BLOCKS = range(4)


def same(a, b):
    return all(a[t][f].tobytes() == b[t][f].tobytes() for t in a for f in a[t])


def alike(a, b):
    return all(getattr(a, f).tobytes() == getattr(b, f).tobytes() for f in Particles.__dataclass_fields__)


@pytest.fixture(scope="module")
def blocks():
    return [simulate.simulate(1, group, SETTINGS) for group in BLOCKS]


@pytest.fixture(scope="module")
def events(blocks):
    return {name: np.concatenate([block["events"][name] for block in blocks]) for name in blocks[0]["events"]}


@pytest.fixture(scope="module")
def collisions():
    """Some events of each process, with their towers."""
    made = {name: generator.generate(name, count, 7) for name, count in (("qcd_800_1300", 60), ("gluino", 120))}
    return {name: (found, detector.calorimeter(found, np.random.default_rng(0))) for name, found in made.items()}


def particles(code, pt, eta, phi):
    """Single particles, one an event."""
    code, pt, eta, phi = np.broadcast_arrays(code, pt, eta, phi)
    momentum = np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta)], axis=1)
    return Particles(np.arange(len(pt)), code.astype(np.int64), momentum, np.zeros((len(pt), 5)))


# the generator


@pytest.mark.parametrize("process", ["qcd_400_600", "gluino"])
def test_events_of_a_block_depend_on_its_seed_alone_whatever_was_made_before(process):
    first = generator.generate(process, 12, 11)
    for other in (21, 22, 23):
        generator.generate(process, 17, other)
    again = generator.generate(process, 12, 11)
    generator._instance.cache_clear()
    fresh = generator.generate(process, 12, 11)
    assert alike(first, again)
    assert alike(first, fresh)
    assert not alike(first, generator.generate(process, 12, 12))


def test_the_order_of_blocks_does_not_matter(blocks):
    backwards = {group: simulate.simulate(1, group, SETTINGS) for group in (3, 1)}
    assert all(same(blocks[group], block) for group, block in backwards.items())


def test_another_unseen_process_leaves_the_events_of_a_block_alone(blocks):
    without = simulate.simulate(1, 0, {**SETTINGS, "unseen": {}})["events"]
    # The detector's noise is drawn for all events of a block together; what was generated is the same.
    truth = [np.sort(block["truth/event"][:, 0]) for block in (without, blocks[0]["events"])]
    assert len(np.intersect1d(*truth)) > 0.8 * min(map(len, truth))


def test_energy_and_momentum_are_conserved(collisions):
    for found, _ in collisions.values():
        total = np.stack([np.bincount(found.event, column) for column in found.momentum.T], axis=1)
        np.testing.assert_allclose(total[:, 3], generator.ENERGY_GEV, rtol=1e-4)
        np.testing.assert_allclose(total[:, :3], 0, atol=1.0)


@pytest.mark.parametrize("process", ["qcd_300_400", "qcd_400_600", "qcd_600_800"])
def test_cross_sections_of_the_slices_are_those_of_pythia(process):
    generator.generate(process, 150, 5)
    found = generator._instance(process, False).infoPython().sigmaGen()
    assert found == pytest.approx(PROCESSES[process].cross_section_mb, rel=0.1)


def test_cross_sections_add_up_to_the_published_ones():
    """eracah/atlas_dl, config/DelphesXSec: 400-800 GeV, and the sum of all above 1300 GeV."""
    mb = {name: PROCESSES[name].cross_section_mb for name in ("qcd_400_600", "qcd_600_800", "qcd_1300")}
    assert mb["qcd_400_600"] + mb["qcd_600_800"] == pytest.approx(1.997e-6, rel=0.01)
    assert mb["qcd_1300"] == pytest.approx(1.565e-9 + 1.173e-10 + 4.269e-12 + 1.602e-13, rel=0.01)


def test_the_hard_process_is_within_its_slice():
    hard = generator.generate("qcd_800_1300", 60, 3).hard
    assert hard[:, 0].min() > 700  # recoil of later radiation blurs the edges
    assert np.median(hard[:, 0]) < 1100
    assert generator.generate("gluino", 10, 3).hard[0, 1:3].tolist() == [1400, 850]


def test_the_spectrum_has_one_light_gluino_whose_decays_add_up():
    text = slha(1400, 850)
    assert f"{GLUINO} 1.400000E+03" in text
    shares = [float(line.split()[0]) for line in text.partition(f"DECAY {GLUINO}")[2].splitlines()[1:6]]
    assert sum(shares) == pytest.approx(1)
    with pytest.raises(ValueError, match="gluino needs a mass above"):
        slha(800, 850)


def test_gluino_events_have_many_partons_and_no_neutralino_is_left(collisions):
    found, _ = collisions["gluino"]
    assert not (np.abs(found.code) == 1000022).any()
    assert found.hard[:, 4].mean() > collisions["qcd_800_1300"][0].hard[:, 4].mean() + 4


# the detector


def test_a_photon_is_electromagnetic_and_a_neutron_hadronic():
    rng = np.random.default_rng(0)
    for code, em in ((22, True), (2112, False)):
        towers = detector.calorimeter(particles(code, np.full(200, 50.0), 0.3, 1.0), rng)
        assert (towers.em == em).all()
        assert towers.et.mean() == pytest.approx(50, rel=0.05)
    assert not len(detector.calorimeter(particles(np.array([12, 13, -14]), 50.0, 0.3, 1.0), rng).et)


@pytest.mark.parametrize(("code", "energy", "expected"), [(22, 100.0, 0.0102), (2112, 100.0, 0.063)])
def test_energy_resolution_is_that_of_the_card(code, energy, expected):
    towers = detector.calorimeter(particles(code, np.full(4000, energy), 0.02, 1.0), np.random.default_rng(1))
    assert towers.et.std() / energy == pytest.approx(expected, rel=0.08)


def test_the_field_bends_charges_to_opposite_sides_and_keeps_slow_ones_inside():
    pt, zero = np.array([0.2, 1.0, 10.0]), np.zeros(3)
    right, reaches = detector.bent(pt, zero, zero, np.ones(3))
    left, _ = detector.bent(pt, zero, zero, -np.ones(3))
    assert reaches.tolist() == [False, True, True]
    np.testing.assert_allclose(right, -left)
    assert right[2] == pytest.approx(-np.arcsin(0.3 * 2 * 1.15 / 20))
    assert detector.bent(pt, zero, zero, zero)[0].tolist() == [0, 0, 0]


def test_tracks_are_found_as_often_as_the_card_says():
    rng = np.random.default_rng(0)
    for pt, eta, expected in ((5.0, 0.5, 0.95), (0.5, 0.5, 0.70), (5.0, 2.0, 0.85), (0.5, 2.0, 0.60), (5.0, 2.7, 0)):
        found = detector.tracks(particles(-211, np.full(4000, pt), eta, 0.0), rng)
        assert len(found.eta) / 4000 == pytest.approx(expected, abs=0.025)
    assert not len(detector.tracks(particles(22, np.full(10, 5.0), 0.0, 0.0), rng).eta)


def test_the_sum_of_an_image_is_the_sum_of_its_towers(collisions):
    for found, towers in collisions.values():
        tracks = detector.tracks(found, np.random.default_rng(0))
        image = detector.images(towers, tracks, np.arange(found.events), 64)
        summed = np.bincount(towers.event, towers.et, found.events)
        np.testing.assert_allclose(image[:, 0].sum((1, 2)), summed, rtol=1e-5)
        np.testing.assert_allclose(image[:, 2].sum((1, 2)), np.bincount(tracks.event, minlength=found.events))
        assert (image[:, 1] <= image[:, 0] * (1 + 1e-6)).all()


def test_most_of_the_transverse_energy_is_seen(collisions):
    for found, towers in collisions.values():
        _, eta, _ = detector.polar(*found.momentum[:, :3].T)
        visible = (np.abs(eta) < 2.5) & ~np.isin(np.abs(found.code), (12, 13, 14, 16))
        true = (found.momentum[:, 3] / np.cosh(eta))[visible].sum()
        assert 0.9 < towers.et.sum() / true < 1.02


def test_images_go_around_in_phi_and_an_empty_event_is_zero():
    phi = np.array([3.1, -3.1, np.pi, -np.pi])
    towers = Towers(np.zeros(4, np.int64), np.zeros(4), phi, np.ones(4), np.ones(4, bool))
    none = Tracks(*np.zeros((3, 0), np.int64))
    image = detector.images(towers, none, np.arange(2), 16)
    assert image[0, 0, 8, 0] + image[0, 0, 8, 15] == 4
    assert image[0, 0, 8, 0] == 3 or image[0, 0, 8, 0] == 2
    assert not image[1].any()
    assert np.isfinite(image).all()


@pytest.mark.parametrize("pixels", [64, 128, 227])
def test_images_have_the_size_that_is_asked_for(collisions, pixels):
    found, towers = collisions["gluino"]
    image = detector.images(towers, detector.tracks(found, np.random.default_rng(0)), np.array([3, 9]), pixels)
    assert image.shape == (2, 3, pixels, pixels)
    assert image[:, 0].sum() == pytest.approx(towers.et[np.isin(towers.event, [3, 9])].sum(), rel=1e-5)


# jets and selection


def test_a_jet_across_the_seam_counts_once():
    phi = np.array([3.10, -3.10, 0.0])
    towers = Towers(np.zeros(3, np.int64), np.full(3, 0.2), phi, np.array([300.0, 300.0, 500.0]), np.ones(3, bool))
    found = jets.fat_jets(towers, 1)
    assert len(found.pt) == 2
    np.testing.assert_allclose(np.sort(found.pt), [500, 600 * np.cos(np.pi - 3.10)], rtol=1e-6)
    assert abs(found.phi[0]) == pytest.approx(np.pi, abs=1e-6)


def test_trimming_removes_soft_parts_and_keeps_hard_ones():
    eta = np.array([0.0, 0.5, -0.4])
    towers = Towers(
        np.zeros(3, np.int64), eta, np.array([0.0, 0.2, 0.6]), np.array([400.0, 100.0, 5.0]), np.ones(3, bool)
    )
    whole, trimmed = (jets.fat_jets(towers, 1, trimmed=on) for on in (False, True))
    assert trimmed.pt == pytest.approx(np.hypot(400 + 100 * np.cos(0.2), 100 * np.sin(0.2)), rel=1e-6)
    assert whole.pt > trimmed.pt
    assert whole.mass > trimmed.mass


def test_the_published_cuts_keep_the_published_share_of_signal_with_jets_as_found(collisions):
    """42 %, of Delphes jets that were not groomed; with trimmed jets it is 28 %."""
    found, towers = collisions["gluino"]
    kept = {}
    for trimmed in (False, True):
        table = jets.features(jets.fat_jets(towers, found.events, trimmed), found.events)
        kept[trimmed] = jets.signal_region(table).sum() / jets.preselected(table).sum()
    assert kept[False] == pytest.approx(0.43, abs=0.09)
    assert kept[True] < kept[False] - 0.05


def test_events_without_jets_have_no_features():
    towers = Towers(np.array([1, 1]), np.zeros(2), np.zeros(2), np.array([50.0, 300.0]), np.ones(2, bool))
    found = jets.fat_jets(towers, 4)
    table = jets.features(found, 4)
    assert table[:, jets.COUNT].tolist() == [0, 1, 0, 0]
    assert not table[[0, 2, 3]].any()
    assert not jets.preselected(table).any()
    nothing = jets.features(jets.fat_jets(Towers(*(np.zeros(0, int),) * 5), 2), 2)
    assert not nothing.any()


@pytest.mark.parametrize(
    ("count", "mass", "difference", "leading", "passes"),
    [
        (4, 801, 1.0, 441, True), (4, 799, 1.0, 441, False), (5, 601, 1.0, 441, True), (5, 599, 1.0, 441, False),
        (3, 2000, 1.0, 441, False), (4, 801, 1.5, 441, False), (4, 801, 1.0, 439, False), (7, 900, 0.1, 900, True),
    ],
)  # fmt: skip
def test_the_published_selection_cuts_where_it_says(count, mass, difference, leading, passes):
    table = np.zeros((1, 24))
    table[0, [0, 1, 2, 4]] = count, mass, difference, leading
    assert jets.signal_region(table).tolist() == [passes]


def test_sum_of_masses_is_of_the_four_leading_jets_and_features_are_ordered(events):
    table = events["features"]
    pt = table[:, 4::4]
    assert (np.diff(pt, axis=1) <= 0).all()
    np.testing.assert_allclose(table[:, jets.MASS_SUM], table[:, 7:20:4].sum(1), rtol=1e-4)
    np.testing.assert_allclose(table[:, 2], np.abs(table[:, 5] - table[:, 9]), atol=1e-5)
    assert (table[:, jets.HT] >= pt.sum(1) * (1 - 1e-5)).all()


# the data


def test_only_preselected_events_are_kept_and_units_are_gev(events):
    assert jets.preselected(events["features"]).all()
    np.testing.assert_array_equal(events["pass_cuts"], jets.signal_region(events["features"]))
    for number, low, high in ((5, 0.85, 1.0), (1, 0.01, 0.16), (3, 0.08, 0.35)):
        chosen = events["process"] == number
        made = events["truth/generated"][chosen][0] * len(BLOCKS)
        assert low < chosen.sum() / made <= high  # a slip of units changes these by factors
    energy = events["image"][:, 0].sum((1, 2))
    assert (energy > 440).all()
    assert energy.max() < 13_000


def test_weights_of_a_block_add_up_to_the_events_expected(events):
    for name, count in FEW.items():
        chosen = events["process"] == PROCESSES[name].number
        one = events["weight"][chosen][0]
        assert (events["weight"][chosen] == one).all()
        assert one * count == pytest.approx(PROCESSES[name].cross_section_mb * 1e12 * 36)
    # 0.0253 pb at 36 fb-1; QCD of 400-600 GeV: sixty-five million
    assert PROCESSES["gluino"].cross_section_mb * 1e12 * 36 == pytest.approx(911, rel=0.01)
    assert PROCESSES["qcd_400_600"].cross_section_mb * 1e12 * 36 == pytest.approx(6.48e7, rel=0.01)


def test_the_spectrum_falls_smoothly_over_the_slices():
    """Weighted leading-parton pT: neighbouring slices meet at their borders without a step."""
    slices = [name for name in PROCESSES if name.startswith("qcd")]
    made = {name: generator.generate(name, 120, 9).hard[:, 0] for name in slices}
    edges = np.array([400, 490, 600, 690, 800, 1000, 1250, 1500])
    counted = {name: np.histogram(pt, edges)[0] * PROCESSES[name].cross_section_mb / 120 for name, pt in made.items()}
    density = sum(counted.values()) / np.diff(edges)
    slope = np.diff(np.log(density)) / np.diff(np.log((edges[1:] + edges[:-1]) / 2))
    assert (slope < -3).all()
    assert (slope > -12).all()


def test_signal_has_more_fat_jets_of_larger_mass_than_background(events):
    signal = events["label"] == 1
    for column, least in ((jets.COUNT, 0.5), (jets.MASS_SUM, 100)):
        assert events["features"][signal, column].mean() > events["features"][~signal, column].mean() + least
    assert events["image"][signal, 2].sum((1, 2)).mean() > events["image"][~signal, 2].sum((1, 2)).mean()


def test_the_table_of_backgrounds_holds_background_alone_and_signal_stands_in_truth(blocks):
    for block in blocks:
        table = block["backgrounds"]
        assert not table["label"].any()
        assert set(table["process"]) <= set(range(5))
        assert PROCESSES["gluino"].number in table["truth/unseen_process"]
        same_events = block["events"]["label"] == 0
        np.testing.assert_array_equal(table["image"], block["events"]["image"][same_events])
        assert set(block["events"]["truth/unseen_process"]) <= {6, 10, simulate.NONE}
        none = table["truth/unseen_process"] == simulate.NONE
        assert not table["truth/unseen_image"][none].any()
        assert table["truth/unseen_image"][~none, 0].any(axis=(1, 2)).all()


def test_no_event_occurs_twice(blocks):
    images = [image.tobytes() for block in blocks for image in block["events"]["image"]]
    images += [
        image.tobytes()
        for block in blocks
        for image, process in zip(
            block["events"]["truth/unseen_image"], block["events"]["truth/unseen_process"], strict=True
        )
        if process != simulate.NONE
    ]
    assert len(set(images)) == len(images)


def test_pile_up_adds_energy_and_tracks_and_leaves_the_hard_process_alone():
    few = {**SETTINGS, "per_block": {"gluino": 20}, "unseen": {}}
    busy, quiet = (simulate.simulate(1, 0, {**few, "pileup": mean})["events"] for mean in (3, 0))
    assert busy["image"][:, 2].sum((1, 2)).mean() > quiet["image"][:, 2].sum((1, 2)).mean() + 10
    assert len(np.intersect1d(busy["truth/event"][:, 0], quiet["truth/event"][:, 0])) > 15


def test_multiple_interactions_add_particles():
    alone, several = (generator.generate("qcd_800_1300", 15, 4, multiparton=on) for on in (False, True))
    assert len(several.code) > 1.3 * len(alone.code)


def test_a_block_in_which_nothing_passes_has_empty_tables():
    settings = {**SETTINGS, "per_block": {"qcd_400_600": 1, "gluino": 0}, "unseen": {}}
    block = next(b for g in range(5) if not len((b := simulate.simulate(3, g, settings))["events"]["group"]))
    for table in block.values():
        assert {len(array) for array in table.values()} == {0}
        assert table["image"].shape[1:] == (3, 32, 32)


def test_pixels_and_shapes_of_the_case_file_agree():
    for tier in config.TIERS:
        resolved = config.resolve("lhc_events", tier)
        size = resolved["simulation"]["pixels"]
        for table in resolved["tables"].values():
            assert table["image"]["shape"] == table["truth/unseen_image"]["shape"] == [3, size, size]


def test_the_config_for_1024_nodes_is_sound_and_gives_every_rank_work():
    case = config.case_file("lhc_events")
    content, overlay = config.read_yaml(case), config.read_yaml(case.with_name("article_1024.yaml"))
    content["tiers"]["article"] = config.merged(content["tiers"]["article"], overlay)
    config.check(content, config.schema("case"), "article_1024.yaml")
    simulation = config.merged(content["simulation"], content["tiers"]["article"]["simulation"])
    ranks = 1024 * 2
    assert simulation["groups"] / simulation["groups_per_shard"] >= 8 * ranks
    assert simulation["groups"] * sum(simulation["per_block"].values()) > 1e8  # a tenth of which is kept
    for task in content["tiers"]["article"]["tasks"].values():
        assert task["training"]["batch"] >= 8 * ranks
