"""Galaxy shapes: the simulator's known answers, and the traps that concern the data."""

import itertools

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kilonode import config
from kilonode.cases.galaxy_shapes import baseline, galaxies, simulate
from kilonode.data.split import split
from kilonode.errors import UserError

SETTINGS = {**config.resolve("galaxy_shapes", "toy")["simulation"], "per_field": 20}
SIGMA = np.sqrt(145.0)
PARAM = {name: place for place, name in enumerate(galaxies.PARAMS)}


def fields(numbers, **more):
    made = [simulate.simulate(1, number, {**SETTINGS, **more})["galaxies"] for number in numbers]
    return {name: np.concatenate([field[name] for field in made]) for name in made[0]}


@pytest.fixture(scope="module")
def sky():
    return fields(range(12))


def test_the_light_of_a_stamp_is_the_flux_of_its_galaxy():
    found = fields([0, 1], neighbours=0.0)
    light = found["truth/noiseless"].sum((1, 2), dtype=np.float64) * SIGMA
    flux = found["truth/params"][:, PARAM["flux"]]
    assert np.median(light / flux) == pytest.approx(1, abs=0.005)
    assert (light < 1.03 * flux).all()  # what lies beyond the stamp is lost, nothing is gained


def test_flux_is_the_magnitude_above_the_zero_point(sky):
    flux, mag = sky["truth/params"][:, PARAM["flux"]], sky["truth/params"][:, PARAM["mag"]]
    np.testing.assert_allclose(flux, 10 ** (-0.4 * (mag - SETTINGS["zero_point"])), rtol=1e-4)
    assert 19 <= mag.min() < mag.max() <= 22


def test_noise_has_the_variance_of_sky_read_out_and_the_photons_of_the_light(sky):
    assert np.all(sky["sky_var"] == 145)
    residual = sky["image"] - sky["truth/noiseless"]
    variance = 1 + sky["truth/noiseless"] / SIGMA
    pixels = residual.size
    assert (residual / np.sqrt(variance)).mean() == pytest.approx(0, abs=4 / np.sqrt(pixels))
    assert (residual**2 / variance).mean() == pytest.approx(1, abs=4 * np.sqrt(2 / pixels))
    bright = sky["truth/noiseless"] > 15
    assert (residual[bright] ** 2).mean() > 1.8  # and not the sky's alone


def test_noise_is_white(sky):
    residual = (sky["image"] - sky["truth/noiseless"]) / np.sqrt(1 + sky["truth/noiseless"] / SIGMA)
    for shift in ((0, 1), (1, 0), (1, 1)):
        together = (residual * np.roll(residual, shift, (1, 2))).mean()
        assert abs(together) < 4 / np.sqrt(residual.size)


def test_stamps_have_the_signal_to_noise_they_were_chosen_for(sky):
    snr = sky["truth/params"][:, PARAM["snr"]]
    assert 10 <= snr.min() < snr.max() <= 400
    assert 40 < np.median(snr) < 80
    narrow = fields([0], snr=[50, 60])["truth/params"][:, PARAM["snr"]]
    assert 50 <= narrow.min() < narrow.max() <= 60
    with pytest.raises(ValueError, match="got none in 200"):
        fields([0], snr=[1e6, 2e6])


def test_a_stamp_does_not_change_when_there_are_more(sky):
    more = fields([3], per_field=20, groups=10_000)
    assert np.array_equal(more["image"], sky["image"][60:80])


def test_other_noise_leaves_the_galaxies(sky):
    settings = {"snr": [0, 1e9]}
    quiet, loud = fields([0], **settings), fields([0], read_noise=20.0, **settings)
    assert np.array_equal(quiet["truth/kind"], loud["truth/kind"])
    known = slice(0, PARAM["snr"])
    assert np.array_equal(quiet["truth/params"][:, known], loud["truth/params"][:, known])
    expected = quiet["truth/noiseless"] * SIGMA / np.sqrt(520.0)
    np.testing.assert_allclose(loud["truth/noiseless"], expected, rtol=1e-5, atol=1e-6)


def test_a_field_has_one_seeing_and_fields_differ(sky):
    seeing = sky["psf_fwhm"].reshape(12, 20)
    assert np.all(seeing == seeing[:, :1])
    assert len(np.unique(seeing)) == 12
    scatter = np.log(seeing[:, 0] / SETTINGS["seeing"])
    assert 0.05 < scatter.std() < 0.2
    assert np.abs(scatter).max() < 0.4  # four standard deviations


def test_pixels_are_no_integers_of_electrons(sky):
    electrons = sky["image"].astype(np.float64) * SIGMA
    assert (np.abs(electrons - np.round(electrons)) < 1e-3).mean() < 0.01


def test_types_differ_in_bulge_and_size():
    rng = np.random.default_rng(0)
    drawn = [galaxies.draw(rng, SETTINGS) for _ in range(4000)]
    kind = np.array([galaxy.kind for galaxy in drawn])
    np.testing.assert_allclose(np.bincount(kind) / len(kind), galaxies.SHARES, atol=0.03)
    bulge = np.array([galaxy.bulge_fraction for galaxy in drawn])
    size = np.array([galaxy.half_light_radius for galaxy in drawn])
    assert bulge[kind == 0].min() > 0.5 > np.median(bulge[kind == 1])
    assert np.median(size[kind == 1]) > 1.2 * np.median(size[kind == 0])
    mag = np.array([galaxy.mag for galaxy in drawn])
    assert np.corrcoef(mag, np.log(size))[0, 1] < -0.1
    index = np.array([galaxy.sersic_index for galaxy in drawn])
    assert np.corrcoef(mag, index)[0, 1] < -0.05
    assert np.corrcoef(bulge, index)[0, 1] > 0.5
    arms = np.array([galaxy.arm_count for galaxy in drawn])
    assert set(arms[kind == 1]) == {2, 3, 4}
    assert not arms[kind != 1].any()


def test_shear_moves_the_ellipticity_of_a_round_galaxy_by_twice_itself():
    rng = np.random.default_rng(0)
    parts = []
    for g1 in (-0.05, 0.05):
        known = {**vars(galaxies.draw(rng, SETTINGS)), "q": 1.0, "g1": g1, "g2": 0.0, "dx": 0.0, "dy": 0.0}
        smooth = {**known, "structure_fraction": 0.0, "half_light_radius": 2.0, "bulge_fraction": 0.0}
        image = galaxies.expose(galaxies.Galaxy(**smooth), 0.5, rng)
        rows, columns = np.indices(image.shape) - 34.0
        xx, yy = (image * columns**2).sum(), (image * rows**2).sum()
        parts.append((xx - yy) / (xx + yy))
    assert parts[1] - parts[0] == pytest.approx(2 * 0.1, rel=0.1)  # the seeing takes a little


def test_structure_leaves_the_flux_and_can_be_switched_off():
    smooth = fields([0, 1], structure=0.0, neighbours=0.0)
    assert not smooth["truth/params"][:, PARAM["structure_fraction"]].any()
    rough = fields([0, 1], neighbours=0.0)
    late = rough["truth/kind"] != galaxies.Kind.EARLY
    assert (rough["truth/params"][late, PARAM["structure_fraction"]] > 0.04).all()
    assert not rough["truth/params"][~late, PARAM["structure_fraction"]].any()
    with_knots = rough["truth/noiseless"][late].sum((1, 2)) * SIGMA / rough["truth/params"][late, PARAM["flux"]]
    assert np.median(with_knots) == pytest.approx(1, abs=0.01)


def test_neighbours_come_at_their_rate_and_are_masked(sky):
    count = sky["truth/params"][:, PARAM["n_neighbours"]]
    assert count.mean() == pytest.approx(0.15, abs=4 * np.sqrt(0.15 / len(count)))
    masked = sky["truth/neighbour_mask"].any((1, 2))
    assert not masked[count == 0].any()
    assert masked[count > 0].mean() > 0.5  # some lie beyond the edge
    clean = fields([0], neighbours=0.0)
    assert not clean["truth/params"][:, PARAM["n_neighbours"]].any()
    assert not clean["truth/neighbour_mask"].any()


def test_pixels_of_neighbours_can_show_an_empty_sky():
    kept, emptied = (fields(range(6), neighbours=1.0, neighbour_pixels=choice) for choice in ("kept", "sky"))
    masked = kept["truth/neighbour_mask"].astype(bool)
    assert np.array_equal(masked, emptied["truth/neighbour_mask"].astype(bool))
    assert masked.any()
    assert not emptied["truth/noiseless"][masked].any()
    assert emptied["image"][masked].std() == pytest.approx(1, abs=0.05)
    assert np.array_equal(kept["truth/noiseless"][~masked], emptied["truth/noiseless"][~masked])
    with pytest.raises(ValueError, match="neighbour_pixels needs 'kept' or 'sky'"):
        fields([0], neighbour_pixels="gone")


def test_without_their_pixels_nothing_tells_how_many_neighbours_there_are():
    # The trap: a latent number that counts neighbours. Light far from the centre is what any code could see of them.
    rows, columns = np.indices((69, 69)) - 34
    far = np.hypot(rows, columns) > 16
    found = {}
    for choice in ("kept", "sky"):
        drawn = fields(range(16), neighbours=0.7, neighbour_pixels=choice)
        smooth = gaussian_filter(drawn["image"], (0, 2, 2))
        sides = [smooth[:, far & (rows * a + columns * b > 0)].max(1) for a, b in ((1, 0), (-1, 0))]
        x = np.column_stack([*sides, baseline.features("density", drawn["image"][:, None])["moments"]])
        y = drawn["truth/params"][:, PARAM["n_neighbours"]] > 0
        probe = make_pipeline(StandardScaler(), LogisticRegression())
        found[choice] = roc_auc_score(y, cross_val_predict(probe, x, y, cv=8, method="predict_proba")[:, 1])
    assert found["kept"] > 0.8
    assert found["sky"] < 0.6


def test_no_field_and_no_turned_copy_is_in_two_splits(sky):
    found = split(sky["group"], [0.6, 0.2, 0.2], 0)
    parts = {group: name for name, groups in found.items() for group in groups}
    assert len(parts) == 12
    assert set(parts.values()) == {"train", "validation", "test"}
    seen = {}
    for image, group in zip(np.round(sky["image"], 3), sky["group"], strict=True):
        for turns, mirrored in itertools.product(range(4), (False, True)):
            copy = np.rot90(image[:, ::-1] if mirrored else image, turns).tobytes()
            assert seen.setdefault(copy, parts[int(group)]) == parts[int(group)]


def test_without_galsim_one_line_says_so(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "galsim", None)
    galaxies.galsim.cache_clear()
    with pytest.raises(UserError, match="expected GalSim"):
        galaxies.galsim()
    galaxies.galsim.cache_clear()


def test_moments_of_a_known_galaxy_are_these_numbers():
    rows, columns = np.indices((69, 69)) - 34.0
    image = 50 * np.exp(-0.5 * ((columns - 1) ** 2 / 9 + rows**2 / 4))
    inner, flux, x0, y0, size, e1, e2, share = baseline.features("density", image[None, None])["moments"][0]
    # A Gaussian times a Gaussian window of width 7 is a Gaussian of these widths, its centre drawn inwards.
    xx, yy = 1 / (1 / 9 + 1 / 49), 1 / (1 / 4 + 1 / 49)
    assert (x0, y0) == pytest.approx((xx / 9, 0), abs=1e-6)
    assert size == pytest.approx(np.log(xx + yy), abs=1e-5)
    assert (e1, e2) == pytest.approx(((xx - yy) / (xx + yy), 0), abs=1e-6)
    assert share == pytest.approx(np.exp(inner - flux), rel=1e-9)
