"""Reactor antineutrinos: networks, classical methods and figures, and the traps that concern them."""

import io
from itertools import product

import numpy as np
import pytest
import torch

from kilonode.cases.contract import Batch, Explanation
from kilonode.cases.layers import PeriodicConv2d
from kilonode.cases.reactor_neutrinos import baseline, figures, models, simulate

COUNTS = {"antineutrino": 30, "physical": 30, "shuffled": 30, "lithium9": 10, "single": 20}
PAIR_SHAPE = (2, 8, 24)


def joined(runs, table):
    return {name: np.concatenate([run[table][name] for run in runs]) for name in runs[0][table]}


@pytest.fixture(scope="module")
def runs():
    return [
        simulate.simulate(1, group, {"detectors": 8, "dark_pe": 0.01, "neutron_m": 0.4, "per_run": COUNTS})
        for group in range(24)
    ]


@pytest.fixture(scope="module")
def pairs(runs):
    return joined(runs, "pairs")


@pytest.fixture(scope="module")
def singles(runs):
    return joined(runs, "singles")


@pytest.fixture(scope="module")
def x_pairs(pairs):
    """Inputs as the engine gives them: log1p over one scale, unit root mean square."""
    x = np.log1p(pairs["pairs"][:, [0, 2]])
    return torch.from_numpy((x / np.sqrt((x**2).mean())).astype(np.float32))


@pytest.fixture(scope="module")
def x_singles(singles):
    x = np.log1p(singles["singles"][:, None])
    return torch.from_numpy((x / np.sqrt((x**2).mean())).astype(np.float32))


# networks


def batch(x, y=None, first=0):
    return Batch(x, y, torch.arange(first, first + len(x)))


@pytest.mark.parametrize(("variant", "parameters"), [("original", 357_138), ("periodic", 360_216)])
def test_the_article_sized_network_has_this_many_parameters(variant, parameters):
    model = models.build("autoencoder", {"variant": variant, "filters": 128}, PAIR_SHAPE)
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize("shape", [(2, 8, 24), (1, 18, 115), (3, 5, 7), (1, 1, 1)])
@pytest.mark.parametrize("periodic", [True, False])
def test_networks_take_any_shape(shape, periodic):
    x = torch.rand(3, *shape)
    model = models.build("autoencoder", {"filters": 4, "code": 6, "periodic": periodic}, shape)
    assert model(x).shape == x.shape
    assert model.features(x).shape == (3, 6)
    assert model.losses(batch(x)).shape == (3,)
    classifier = models.build("classifier", {"filters": 4, "features": 7, "periodic": periodic}, shape)
    assert classifier(x).shape == (3, 5)
    assert classifier.features(x).shape == (3, 7)


def test_the_original_takes_its_own_shape_only():
    with pytest.raises(ValueError, match=r"'original' needs shape \(C, 8, 24\), got \(1, 18, 115\)"):
        models.build("autoencoder", {"variant": "original"}, (1, 18, 115))


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        ("autoencoder", {"filter": 8}, "got \\['filter'\\]"),
        ("autoencoder", {"variant": "wide"}, "got 'wide'"),
        ("autoencoder", {"mask": "both"}, "got 'both'"),
        ("boxes", {}, "got 'boxes'"),
    ],
)
def test_wrong_settings_are_refused(task, settings, message):
    with pytest.raises(ValueError, match=message):
        models.build(task, settings, PAIR_SHAPE)


@pytest.mark.parametrize(
    ("task", "settings"),
    [
        ("autoencoder", {"filters": 8}),
        ("autoencoder", {"filters": 8, "periodic": False, "mask": "independent"}),
        ("autoencoder", {"filters": 8, "variant": "original"}),
        ("classifier", {"filters": 8, "features": 16}),
    ],
)
def test_the_loss_falls_and_every_parameter_learns(task, settings, x_pairs, x_singles, singles):
    torch.manual_seed(0)
    x, y = (
        (x_pairs[:128], None) if task == "autoencoder" else (x_singles[:128], torch.tensor(singles["y_single"][:128]))
    )
    y = y if y is None else y.long()
    model = models.build(task, settings, tuple(x.shape[1:]))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for step in range(25):
        loss = model.losses(batch(x, y, first=1000 * step)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.6 * losses[0]
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


def test_rolling_columns_changes_nothing_in_the_periodic_variant_only(x_pairs):
    x = x_pairs[:256]

    def errors(model, x):
        with torch.no_grad():
            return model.losses(batch(x))

    torch.manual_seed(0)
    periodic = models.build("autoencoder", {"filters": 8}, PAIR_SHAPE).eval()
    original = models.build("autoencoder", {"filters": 8, "variant": "original"}, PAIR_SHAPE).eval()
    plain = models.build("autoencoder", {"filters": 8, "periodic": False}, PAIR_SHAPE).eval()
    for shift in (1, 4, 7, 12):
        rolled = x.roll(shift, -1)
        torch.testing.assert_close(errors(periodic, rolled), errors(periodic, x), rtol=0, atol=1e-5)
        torch.testing.assert_close(periodic.features(rolled), periodic.features(x), rtol=0, atol=1e-5)
        torch.testing.assert_close(periodic(rolled), periodic(x).roll(shift, -1), rtol=0, atol=1e-5)
        for model in (original, plain):
            assert (errors(model, rolled) - errors(model, x)).abs().max() > 1e-4


def test_every_convolution_of_the_periodic_variant_goes_around():
    # Turning the input hides a seam from the test above; so each layer is asked by itself.
    model = models.build("autoencoder", {"filters": 4}, PAIR_SHAPE)
    convolutions = [layer for layer in model.modules() if isinstance(layer, PeriodicConv2d)]
    assert len(convolutions) == 4
    for layer in convolutions:
        x = torch.randn(2, layer.conv.in_channels, 4, 12)
        torch.testing.assert_close(layer(x.roll(5, -1)), layer(x).roll(5, -1), rtol=0, atol=1e-5)


def test_turning_brings_the_light_to_the_first_column():
    x = torch.zeros(1, 2, 8, 24)
    x[:, 1, :, 10:13] = 1
    column = models.facing(x)
    assert column.tolist() == [11]
    turned = models.turn(x, column)
    assert turned[0, 1, 0].nonzero().flatten().tolist() == [0, 1, 23]
    assert torch.equal(models.turn(turned, -column), x)


@pytest.mark.parametrize("variant", ["periodic", "original"])
def test_corruption_works_in_training_only_against_the_uncorrupted_input(variant, x_pairs):
    torch.manual_seed(0)
    x = x_pairs[:64]
    model = models.build("autoencoder", {"filters": 8, "variant": variant}, PAIR_SHAPE)
    seen = model.corruption(x, torch.arange(64))
    torch.testing.assert_close(model.losses(batch(x)), ((model(seen) - x) ** 2).mean((1, 2, 3)))
    lost = (seen == 0) & (x > 0)
    drawn = (x > 0).sum().item() / 2  # one mask for both flashes
    assert abs(lost.sum().item() / (x > 0).sum().item() - 1 / 3) < 3 * np.sqrt(2 / 9 / drawn)
    assert torch.equal(seen[~lost], x[~lost])
    model.eval()
    torch.testing.assert_close(model.losses(batch(x)), ((model(x) - x) ** 2).mean((1, 2, 3)))
    assert torch.equal(model.features(x), model.features(x))
    assert torch.equal(model(x), model(x))


def test_a_lost_pixel_looks_like_zero_charge_to_the_original_network(x_pairs):
    model = models.build("autoencoder", {"filters": 2, "variant": "original"}, PAIR_SHAPE)
    shown = []
    model.encoder.register_forward_pre_hook(lambda _module, inputs: shown.append(inputs[0]))
    x = x_pairs[:8] + 0.5  # no pixel is dark by itself
    model.losses(batch(x))
    lost = model.corruption(x, torch.arange(8)) == 0
    assert (shown[0][lost] == -1).all()
    assert (shown[0][~lost] > -1).all()


def test_the_loss_of_a_sample_does_not_depend_on_its_batch(x_pairs):
    torch.manual_seed(0)
    model = models.build("autoencoder", {"filters": 8}, PAIR_SHAPE)
    whole = model.losses(batch(x_pairs[:32]))
    halves = [model.losses(batch(x_pairs[k : k + 16], first=k)) for k in (0, 16)]
    torch.testing.assert_close(torch.cat(halves), whole, rtol=1e-5, atol=1e-6)


# classical methods


def test_total_charge_and_centroids_are_these_numbers():
    x = np.zeros((2, 2, 8, 24))
    x[0, 0, 2, 0], x[0, 1, 2, 12] = 3, 5
    x[1, 0, 2, 0], x[1, 0, 6, 0], x[1, 1, 2, 0] = 1, 2, 7
    blocks = baseline.features("autoencoder", x)
    np.testing.assert_allclose(blocks["total_charge"], np.log1p([[3, 5], [3, 7]]))
    # Opposite tubes; then 4/5 of the squared charge lies four rings up.
    np.testing.assert_allclose(blocks["centroid_distance"], [[4.6], [0.8 * 2.0]], rtol=1e-6)
    assert np.isfinite(baseline.features("autoencoder", 0 * x)["centroid_distance"]).all()


def test_features_of_other_detectors_are_total_charges_only():
    blocks = baseline.features("autoencoder", np.ones((3, 1, 18, 115)))
    assert {name: block.shape for name, block in blocks.items()} == {"total_charge": (3, 1)}


def test_the_flasher_variables_are_these_numbers():
    x = np.zeros((2, 1, 8, 24))
    x[0, 0, 1, 5], x[0, 0, 4, 17], x[0, 0, 4, 11], x[0, 0, 4, 23] = 60, 30, 5, 5  # opposite, and both sides
    x[1] = 1
    x[1, 0, 0, 20] = 2
    rule = baseline.features("classifier", x)["charge_rule"]
    np.testing.assert_allclose(rule[0], [100, 0.6, 3.0], rtol=1e-6)
    np.testing.assert_allclose(rule[1], [193, 2 / 193, 0.5], rtol=1e-6)


def test_the_label_rule_is_the_published_one():
    total, most, quadrant = 500.0, 0.45, 0.0
    fit = np.array([[50, 0.01, 0.3], [700, 0.01, 0.3], [1300, 0.01, 0.3]] * 5)
    rule = baseline.LabelRule().fit(fit, np.array([4, 0, 1] * 5))
    asked = [
        [3001, 0.9, 2],
        [total, most, quadrant],
        [total, 0.44, 0],
        [total, 0.1, 0.99],
        [40, 0, 0.3],
        [1400, 0, 0.3],
    ]
    assert rule.predict(np.array(asked)).tolist() == [2, 3, 0, 3 if 0.99**2 + (0.1 / 0.45) ** 2 >= 1 else 0, 4, 1]


def test_the_label_rule_alone_already_tells_most_singles(singles):
    rule = baseline.features("classifier", singles["singles"][:, None])["charge_rule"]
    fit = singles["group"] < 16
    found = baseline.LabelRule().fit(rule[fit], singles["y_single"][fit]).predict(rule[~fit])
    right = found == singles["y_single"][~fit]
    assert right.mean() == pytest.approx(0.95, abs=0.025)
    assert right[singles["y_single"][~fit] == simulate.MUON].all()
    assert right[singles["y_single"][~fit] == simulate.FLASHER].mean() > 0.95


def test_the_oracle_knows_distance_and_energies():
    event = np.zeros((1, 2, 6))
    event[0, 0, :4], event[0, 1, :4] = (3, 0, 0, 1), (8, 0, 2, 1)
    assert baseline.oracle("autoencoder", {"truth/event": event})["oracle"].tolist() == [[2, 3, 8]]
    assert baseline.oracle("classifier", {"truth/event": event[:, 0]}) == {}
    assert baseline.oracle("autoencoder", {"truth/energy": np.ones(3)}) == {}


def test_classical_methods_learn_repeatably(singles, x_singles):
    assert baseline.estimators("autoencoder") == {}
    blocks = {"pixels": x_singles.flatten(1).numpy(), **baseline.features("classifier", singles["singles"][:, None])}
    fit = np.flatnonzero(singles["group"] < 6)
    y = singles["y_single"]
    for name, estimator in baseline.estimators("classifier").items():
        assert len(list(product(*estimator.space.values()))) >= (1 if name == "label_rule" else 8)
        choice = {key: values[0] for key, values in estimator.space.items()}
        if name == "boosted_trees":
            choice["max_iter"] = 10
        x = blocks[estimator.inputs]
        answers = [estimator.make(**choice).fit(x[fit], y[fit]).predict(x[600:800]) for _ in range(2)]
        assert np.array_equal(*answers), name
        assert (answers[0] == y[600:800]).mean() > 0.6, name


# figures


def explanation(task, shape, columns=True, classes=5):
    rng, images = np.random.default_rng(0), np.random.default_rng(1).random((6, *shape), np.float32)
    supervised = task == "classifier"
    label = rng.integers(0, 2, 200)
    perfect = {"code": (label, label + 0.1 * rng.random(200)), "oracle": (label, rng.random(200))}
    said = {"network": (rng.integers(0, classes, 200),) * 2, "label_rule": tuple(rng.integers(0, classes, (2, 200)))}
    return Explanation(
        case="reactor_neutrinos",
        task=task,
        inputs=images,
        corrupted=None if supervised else images * (images > 0.3),
        outputs=np.eye(classes, dtype=np.float32)[[0, 1, 2, 3, 4, 0]] if supervised else images,
        embedding=rng.normal(size=(2, 200, 2)),
        trustworthiness=np.array([0.9, 0.8]),
        columns={"kind": label, "run": np.arange(200), "total_charge": rng.random(200)} if columns else {},
        labels={"kind": {0: "antineutrino", 1: "accidental"}} if columns else {},
        saliency=rng.random((classes if supervised else 16, *shape)),
        curves={"y_single": said}
        if supervised
        else {"signal_vs_rest": perfect, "energy": {"code": (rng.random(200),) * 2}},
        units={"run": "1"},
    )


@pytest.mark.parametrize("shape", [(2, 8, 24), (1, 18, 115)])
@pytest.mark.parametrize(
    ("task", "names"),
    [
        ("autoencoder", {"reconstructions", "roc", "tsne", "saliency"}),
        ("classifier", {"examples", "confusion", "tsne", "saliency"}),
    ],
)
def test_every_figure_is_drawn_and_has_a_caption(task, names, shape):
    for columns in (True, False):
        drawn = figures.draw(explanation(task, shape, columns))
        assert set(drawn) == names
        assert names <= set(figures.CAPTIONS)
        for figure in drawn.values():
            assert all(size < 20 for size in figure.get_size_inches())
            for axes in figure.axes:
                if axes.get_label() == "<colorbar>":
                    assert axes.get_ylabel() or figure.get_supxlabel().startswith("colour: ")
                elif axes.collections or axes.lines:
                    assert axes.get_xlabel()
                    assert axes.get_ylabel()
    figure.savefig(io.BytesIO(), dpi=30)


def test_a_figure_without_its_arrays_is_left_out():
    whole = explanation("autoencoder", PAIR_SHAPE)
    without = Explanation(**{**vars(whole), "curves": {}, "saliency": np.zeros((0, 2, 8, 24)), "corrupted": None})
    drawn = figures.draw(without)
    assert set(drawn) == {"reconstructions", "tsne"}
    assert [axes.get_title() for axes in drawn["reconstructions"].axes if axes.get_title()] == [
        "original",
        "reconstructed from the original",
    ]


def test_roc_panels_show_two_class_questions_with_their_area():
    figure = figures.draw(explanation("autoencoder", PAIR_SHAPE))["roc"]
    (panel,) = figure.axes  # the regression has no ROC curve
    told = [text.get_text() for text in panel.get_legend().get_texts()]
    assert told[0] == "code 1.000"
    assert told[1].startswith("oracle 0.")


def test_roc_weights_count():
    label, score = np.array([0, 0, 1]), np.array([0.9, 0.1, 0.5])
    figure = figures.roc({"q": {"m": (label, score, np.array([1.0, 3.0, 1.0]))}})
    assert figure.axes[0].get_legend().get_texts()[0].get_text() == "m 0.750"


def test_the_charge_panel_stands_beside_the_class_panel():
    figure = figures.draw(explanation("autoencoder", PAIR_SHAPE))["tsne"]
    titles = [axes.get_title().split(";")[0] for axes in figure.axes if axes.get_title()]
    assert titles == ["kind", "run", "total charge", "kind"]  # in the case's order; the last one is the other seed


def test_original_and_reconstruction_share_a_colour_scale():
    figure = figures.draw(explanation("autoencoder", PAIR_SHAPE))["reconstructions"]
    images = [axes.images[0] for axes in figure.axes if axes.images]
    for row in range(0, len(images), 3):
        assert len({image.get_clim() for image in images[row : row + 3]}) == 1


def test_images_show_their_true_class_and_the_answer():
    figure = figures.draw(explanation("classifier", (1, 8, 24)))["examples"]
    first = figure.axes[0].get_title().split("\n")
    assert first[0] in ("antineutrino", "accidental")
    assert first[1].startswith("given ")
    assert first[1].endswith("p = 1.00")
