"""Galaxy shapes: the network's density and the fitted profiles, and the traps that concern them."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from kilonode import config
from kilonode.cases.contract import Batch
from kilonode.cases.galaxy_shapes import (
    baseline,
    galaxies,
    halves,
    likelihood,
    models,
    profiles,
    scores,
    simulate,
)

SMALL = {"latent": 5, "width": 3, "draws": 20}
SETTINGS = config.resolve("galaxy_shapes", "toy")["simulation"]
PIXELS = 69 * 69


@pytest.fixture(scope="module")
def sky():
    made = [simulate.simulate(2, number, {**SETTINGS, "per_field": 12})["galaxies"] for number in range(8)]
    return {name: np.concatenate([field[name] for field in made]) for name in made[0]}


@pytest.fixture(scope="module")
def x(sky):
    return sky["image"].reshape(-1, PIXELS)


@pytest.fixture(scope="module")
def photon(sky):
    return 1 / np.sqrt(sky["sky_var"].astype(float))


@pytest.fixture(scope="module")
def gauss(x, photon):
    return scores.gaussian(x, photon)


@pytest.fixture(scope="module")
def trained_model(x):
    return halves.trained(SMALL, x[:60])


def network(**more):
    torch.manual_seed(0)
    return models.build("density", {**SMALL, **more}, (1, 69, 69)).eval()


# densities of the network


def test_the_article_sized_network_maps_shapes_to_shapes():
    model = models.build("density", {"latent": 16, "width": 32}, (1, 69, 69))
    templates = sum(p.numel() for p in model.encoder.templates.parameters())
    assert 1.9e6 < sum(p.numel() for p in model.parameters()) - templates < 2.3e6
    assert model.encoder.sizes == [(69, 69), (35, 35), (18, 18), (9, 9), (5, 5)]
    mean, variance = model.decoder(torch.randn(2, 16))
    assert mean.shape == variance.shape == (2, 1, 69, 69)


@pytest.mark.parametrize("shape", [(1, 69, 69), (2, 40, 33), (1, 9, 9)])
def test_images_of_any_size_fit(shape):
    model = models.build("density", SMALL, shape)
    assert model(torch.randn(2, *shape)).shape == (2, *shape)


@pytest.mark.parametrize(
    ("settings", "told"),
    [({"code": 3}, "among"), ({"latent": 0}, "latent needs at least 1"), ({"draws": 0}, "draws needs at least 1")],
)
def test_settings_that_mean_nothing_are_refused(settings, told):
    with pytest.raises(ValueError, match=told):
        models.build("density", settings, (1, 69, 69))
    with pytest.raises(ValueError, match="9 rows"):
        models.build("density", {}, (1, 8, 8))
    with pytest.raises(ValueError, match="task needs"):
        models.build("classifier", {}, (1, 69, 69))


def test_the_variance_never_falls_below_the_sky(trained_model, x):
    for model in (network(), trained_model):
        for images in (torch.zeros(2, 1, 69, 69), 1e4 * torch.randn(2, 1, 69, 69), scores.tensor(x[:8])):
            with torch.no_grad():
                _, variance = model.decoder(model.features(images))
            assert variance.min() >= 1
            assert torch.isfinite(variance).all()


def test_a_learned_variance_cannot_win_on_noise_alone(trained_model, sky, x, photon):
    noise = np.random.default_rng(0).standard_normal((40, PIXELS)).astype(np.float32)
    sky_alone = likelihood.log_normal(noise, np.zeros_like(noise), np.ones_like(noise))
    for model in (network(), trained_model):
        assert (scores.of_network(model, noise).usual - sky_alone).max() < 3
    # The rival may: it has seen the noise, and gains half a nat for each of about seven parameters.
    gain = scores.gaussian(noise, photon[:40]).log_likelihood - sky_alone
    assert gain.min() > -1
    assert 1 < gain.mean() < 12


def test_a_density_in_electrons_moves_by_the_jacobian_when_the_unit_does(x, photon, gauss):
    in_unit = scores.in_electrons(gauss.log_likelihood, np.full(len(x), 145.0), PIXELS)
    scaled = scores.in_electrons(gauss.log_likelihood, np.full(len(x), 9 * 145.0), PIXELS)  # image times 3
    np.testing.assert_allclose(scaled - in_unit, -PIXELS * np.log(3), rtol=1e-12)
    direct = likelihood.log_normal(
        12 * x.astype(float), 12 * gauss.mean.astype(float), 144 * gauss.variance.astype(float)
    )
    own = scores.in_electrons(gauss.log_likelihood, np.full(len(x), 144.0), PIXELS)
    np.testing.assert_allclose(direct, own, atol=0.05)


def test_a_decoder_that_ignores_its_code_has_an_exact_likelihood(x):
    model = network()
    with torch.no_grad():
        model.decoder.first.weight.zero_()
        images = scores.tensor(x[:6])
        exact = models.log_normal(images, *model.decoder(torch.zeros(6, 5))).numpy()
        model.encoder.posterior.weight.zero_()
        model.encoder.posterior.bias.zero_()  # posterior = prior: every draw has the weight p(x)
    found = scores.of_network(model, x[:6])
    np.testing.assert_allclose(found.usual, exact, atol=0.02)
    np.testing.assert_allclose(found.one, exact, atol=0.02)


def test_the_bound_rises_with_its_draws(trained_model, x):
    found = scores.by_draws(trained_model, x)
    assert list(found) == [1, 20, 1000]
    means = [values.mean() for values in found.values()]
    assert means[0] < means[1] < means[2]
    bounds = scores.of_network(trained_model, x[:20])
    assert (bounds.usual >= bounds.one - 1e-3).all()


def test_pixels_of_no_weight_do_not_count(trained_model, x, photon):
    weight = np.ones_like(x[:4])
    weight[:, :2000] = 0
    spoiled = x[:4].copy()
    spoiled[:, :2000] = 50
    ours = trained_model.log_weights(scores.tensor(x[:4]), 5, weight_BCHW=scores.tensor(weight))
    theirs = likelihood.log_normal(x[:4], 0 * x[:4], 1 + 0 * x[:4], weight)
    assert theirs == pytest.approx(likelihood.log_normal(x[:4, 2000:], 0, np.ones((4, PIXELS - 2000))))
    assert torch.isfinite(ours).all()
    fitted = [likelihood.fit(profiles.Gaussian(69), x[:4], photon[:4], weight)]
    fitted += [likelihood.fit(_Same(fitted[0].params), spoiled, photon[:4], weight)]
    np.testing.assert_allclose(fitted[1].log_likelihood, fitted[0].log_likelihood, atol=0.05)


class _Same(profiles.Gaussian):
    """The Gaussian, started where another fit ended."""

    def __init__(self, params):
        super().__init__(69)
        self.begin = params

    def start(self, x):
        return self.begin.copy()


def test_noise_is_off_at_inference_and_samples_are_turned_in_training_only(x):
    model, images = network(), scores.tensor(x[:16])
    assert torch.equal(model(images), model(images))
    model.train()
    keys = torch.arange(16)
    assert torch.equal(model.losses(Batch(images, None, keys)), model.losses(Batch(images, None, keys)))
    assert not torch.equal(model.losses(Batch(images, None, keys)), model.losses(Batch(images, None, keys + 16)))
    many = torch.arange(9.0).view(1, 1, 3, 3).expand(400, 1, 3, 3)
    turned = models.turned(many, torch.arange(400))
    copies = {tuple(image.flatten().tolist()) for image in turned}
    square = np.arange(9.0).reshape(3, 3)
    allowed = {tuple(np.rot90(image, k).ravel()) for image in (square, square.T) for k in range(4)}
    assert copies == allowed


def test_normal_numbers_are_normal_and_functions_of_the_key():
    numbers = models.normal(torch.arange(20000), 4)
    assert numbers.mean().abs() < 0.02
    assert abs(numbers.std() - 1) < 0.01
    assert abs((numbers**4).mean() - 3) < 0.1
    assert abs((numbers[:, 0] * numbers[:, 1]).mean()) < 0.03
    assert torch.equal(models.normal(torch.tensor([7]), 4)[0], numbers[7])


# fitted profiles


def test_a_drawn_gaussian_is_found_again():
    shape = profiles.Gaussian(69)
    rng = np.random.default_rng(0)
    truth = np.column_stack([rng.uniform(2, 4, 30), rng.uniform(-1, 1, (30, 2)), -rng.uniform(0.7, 1.6, (30, 2)),
                             rng.uniform(-0.1, 0.1, 30), rng.uniform(-0.1, 0.1, 30)])  # fmt: skip
    light = shape.light(truth, np.arange(30))
    drawn = light + truth[:, -1:] + rng.standard_normal(light.shape) * np.sqrt(1 + 0.08 * light)
    found = likelihood.fit(shape, drawn.astype(np.float32), np.full(30, 0.08))
    assert found.settled.all()
    np.testing.assert_allclose(found.params[:, 0], truth[:, 0], atol=0.25)
    np.testing.assert_allclose(found.params[:, 1:3], truth[:, 1:3], atol=0.5)
    at_truth = likelihood.log_normal(drawn, light + truth[:, -1:], 1 + 0.08 * light)
    gain = found.log_likelihood - at_truth
    assert gain.min() > -0.01
    assert gain.mean() == pytest.approx(3.5, abs=1.5)  # half a nat for each of seven parameters


def test_no_other_climber_finds_a_better_gaussian(x, photon, gauss):
    shape = profiles.Gaussian(69)
    for row in range(4):

        def cost(params, row=row):
            light = shape.light(params[None], np.array([row])).astype(float)
            return -likelihood.log_normal(x[row : row + 1], light + params[-1], 1 + photon[row] * light)[0]

        other = minimize(cost, gauss.params[row], method="Nelder-Mead", options={"maxiter": 1500, "fatol": 1e-3})
        assert -other.fun < gauss.log_likelihood[row] + 0.05


def test_the_sersic_profile_is_galsims_own():
    truth = profiles.Sersic(69, np.array([1.3]), np.zeros((1, 7)))
    index = 2.0
    free = np.log((index - 0.4) / (6.0 - index))
    half_light = 1.6 / galaxies.PIXEL  # pixels
    params = np.array([[np.log(5000.0), 0.3, -0.2, -np.log(half_light), -np.log(half_light), 0, free, 0]])
    ours = truth.light(params, np.array([0])).reshape(69, 69)
    package = galaxies.galsim()
    theirs = galaxies.stamp(package.Sersic(index, half_light_radius=1.6, flux=5000.0), 1.3, (0.3, -0.2))
    assert np.abs(ours - theirs).max() < 0.01 * theirs.max()
    assert ours.sum() == pytest.approx(theirs.sum(), rel=0.02)


def test_a_sersic_profile_behind_the_seeing_beats_the_gaussian(sky, x, photon, gauss):
    found = scores.sersic(x, photon, sky["psf_fwhm"], gauss)
    assert found.settled.mean() > 0.9
    gain = found.log_likelihood - gauss.log_likelihood[:24]
    assert np.median(gain) > 5
    assert gain.min() > -3
    oracle, _ = scores.oracle(x[:24], sky["truth/noiseless"].reshape(-1, PIXELS)[:24], photon[:24])
    assert (found.log_likelihood - oracle).max() < 15  # nobody beats the truth by more than its own parameters


def test_bic_takes_29_6_nats_from_a_gaussian():
    assert scores.penalty(7, PIXELS) == pytest.approx(29.6, abs=0.05)


def test_the_oracle_beats_the_gaussian_less_often_without_structure_and_light():
    made = {}
    for name, more in {"faint": {"zero_point": 30.0, "structure": 0.0}, "bright": {"zero_point": 32.5}}.items():
        found = simulate.simulate(3, 0, {**SETTINGS, **more, "per_field": 30, "neighbours": 0.0})["galaxies"]
        images, noiseless = (found[key].reshape(-1, PIXELS) for key in ("image", "truth/noiseless"))
        light = 1 / np.sqrt(found["sky_var"])
        oracle, _ = scores.oracle(images, noiseless, light)
        made[name] = oracle - scores.gaussian(images, light).log_likelihood
    assert np.median(made["faint"]) < 15 < 60 < np.median(made["bright"])


def test_factor_analysis_has_the_exact_normal_density_with_a_floor():
    rng = np.random.default_rng(0)
    data = (rng.standard_normal((400, 2)) @ rng.standard_normal((2, 12)) * 3 + rng.standard_normal((400, 12))).astype(
        np.float32
    )
    found = baseline.FactorAnalysis.of(data, 2)
    assert found.noise.min() >= 1
    covariance = found.loadings @ found.loadings.T + np.diag(found.noise)
    exact = multivariate_normal(found.mean, covariance).logpdf(data[:20])
    np.testing.assert_allclose(found.log_likelihood(data[:20]), exact, rtol=1e-5)
    assert found.log_likelihood(data).mean() == pytest.approx(
        multivariate_normal(data.mean(0), np.cov(data.T)).logpdf(data).mean(), abs=0.4
    )
