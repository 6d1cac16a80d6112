"""The fit finds what was put in, says how sure it is, and tells public curves it has not seen."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kilonode import cli
from kilonode.errors import UserError
from kilonode.scaling import curves, model, predict, validate

NODES = 2.0 ** np.arange(1, 11)


def made(
    nodes: np.ndarray, base: float, growth: float, tail: float, exponent: float, noise: float = 0.0
) -> curves.Curve:
    """A curve that follows the model."""
    step = base * (1 + growth * np.log2(nodes)) + tail * nodes**exponent
    step *= 1 + noise * np.random.default_rng(3).standard_normal(len(nodes))
    return curves.Curve("made", nodes, step, 1.0, {})


@pytest.fixture(scope="module")
def public() -> list[curves.Curve]:
    return curves.shipped()


@pytest.fixture(scope="module")
def given(public: list[curves.Curve]) -> model.Prior:
    return model.prior(public)


def test_the_model_is_its_formula() -> None:
    one = {name: np.array([value]) for name, value in {"base": 0.25, "growth": 0.1, "tail": 0.002}.items()}
    fit = model.Fit(**one, exponent=np.array([0.5]), noise=np.array([0.0]), effective=1.0)
    # 0.25 (1 + 0.1 x 4) + 0.002 x 4 at 16 nodes; 0.25 (1 + 0.1 x 6) + 0.002 x 8 at 64
    assert fit.draws(np.array([16, 64]))[0].tolist() == pytest.approx([0.358, 0.416])
    assert fit.step(np.array([16.0])).ravel().tolist() == pytest.approx([0.358] * 3)


@pytest.mark.parametrize("exponent", model.EXPONENTS)
def test_the_tail_of_a_whole_curve_is_found(exponent: float) -> None:
    found = model.tail(made(NODES, 0.3, 0.01, 4e-5, exponent), exponent)
    assert found is not None
    assert found.value == pytest.approx(4e-5, rel=1e-6)
    assert found.residual < 1e-9
    assert model.tail(made(NODES[:4], 0.3, 0.01, 4e-5, exponent), exponent) is None


def test_a_tail_lost_in_noise_is_not_seen() -> None:
    assert not model.Tail(1e-5, 0.6e-5, 0.01).is_seen
    assert model.Tail(1e-5, 0.4e-5, 0.01).is_seen


def test_published_efficiencies_become_growth_per_doubling() -> None:
    growth = model.efficiencies()
    assert growth[0] == pytest.approx((1 / 0.93 - 1) / 3)  # 128 to 1,024 nodes: three doublings
    assert len(model.efficiencies("hepcnn-cori")) == len(growth) - 1
    assert 0 < growth.min() < growth.mean() < growth.max() < 0.06


def test_the_prior_of_a_family_does_not_change_when_its_curves_do(public: list[curves.Curve]) -> None:
    spoilt = [replace(one, step_s=one.step_s * one.nodes) if one.family == "cosmoflow-cori" else one for one in public]
    assert model.prior(spoilt, "cosmoflow-cori") == model.prior(public, "cosmoflow-cori")
    assert model.prior(spoilt) != model.prior(public)


def test_a_prior_needs_curves_that_reach_far(public: list[curves.Curve]) -> None:
    short = [one.part(one.nodes <= 16) for one in public]
    with pytest.raises(UserError, match="expected curves that show how the step grows"):
        model.prior(short)


def test_what_was_put_in_lies_inside_the_interval(given: model.Prior) -> None:
    curve = made(NODES, 0.3, 0.015, 3e-5, 1.0, noise=0.005)
    middle, low, high = model.fit(curve.part(NODES <= 64), given).step(NODES)
    truth = made(NODES, 0.3, 0.015, 3e-5, 1.0).step_s
    assert ((low < truth) & (truth < high)).all()
    assert abs(middle / truth - 1).max() < 0.05


def test_more_counts_make_it_surer(given: model.Prior) -> None:
    curve = made(NODES, 0.3, 0.015, 3e-5, 1.0, noise=0.005)
    widths = []
    for most in (4, 64, 512):
        _, low, high = model.fit(curve.part(curve.nodes <= most), given).step(np.array([1024.0]))
        widths.append(float(high[0] - low[0]))
    assert widths[0] > widths[1] > widths[2]


def test_records_that_say_their_error_widen_the_interval(given: model.Prior) -> None:
    curve = made(NODES[:6], 0.3, 0.015, 3e-5, 1.0)
    plain = model.fit(curve, given).step(np.array([128.0]))
    rough = model.fit(replace(curve, own_error=0.05), given).step(np.array([128.0]))
    assert rough[2] - rough[1] > 2 * (plain[2] - plain[1])


def test_a_curve_with_a_larger_tail_than_any_public_one_is_followed_once_it_reaches_far() -> None:
    curve = made(NODES, 0.3, 0.01, 4e-4, 1.0, noise=0.005)
    known = curve.part(curve.nodes <= 512)
    middle, low, high = model.fit(known, predict.prior(known, model.EXPONENTS)).step(NODES[-1:])
    assert low[0] < curve.step_s[-1] < high[0]
    assert middle[0] == pytest.approx(curve.step_s[-1], rel=0.05)


def test_the_same_seed_gives_the_same(given: model.Prior) -> None:
    curve = made(NODES[:6], 0.3, 0.015, 3e-5, 1.0)
    first, again = (model.fit(curve, given).step(NODES) for _ in range(2))
    assert (first == again).all()


def test_one_node_alone_is_refused(given: model.Prior) -> None:
    with pytest.raises(UserError, match="expected a count of at least 2 nodes, got only one node"):
        model.fit(made(np.array([1.0]), 0.3, 0.0, 0.0, 1.0), given)


def test_no_fit_sees_beyond_64_nodes_or_its_own_family(public: list[curves.Curve]) -> None:
    """Whatever is changed there, predictions stay the same to the bit."""
    before = {one.curve.name: one.predicted for one in validate.held_out(public)}
    for family in {one.family for one in public}:
        spoilt = [
            replace(one, step_s=np.where(one.nodes > validate.LIMIT, 1.2 * one.step_s, one.step_s))
            if one.family == family
            else one
            for one in public
        ]
        for one in validate.held_out(spoilt):
            if one.curve.family == family:
                assert (one.predicted == before[one.curve.name]).all()


def test_the_public_curves_are_predicted_within_the_targets() -> None:
    rows, held = validate.report()
    assert [row["met"] for row in rows if row["target"] is not None] == [True] * 4
    far = np.concatenate([one.curve.nodes[one.far] for one in held])
    assert len(far) == 20
    assert far.max() == 1024


def test_a_logarithm_alone_misses_the_targets() -> None:
    """The check can fail: without a tail the curves of Cori leave their intervals."""
    public = curves.shipped()
    for name in ("cosmoflow-cori-real", "cosmoflow-cori-dummy"):
        curve = next(one for one in public if one.name == name)
        known = curve.part((curve.nodes >= model.FIRST) & (curve.nodes <= validate.LIMIT))
        prior = replace(model.prior(public, curve.family), largest={1.0: 0.0})
        _, low, high = model.fit(known, prior).step(np.array([1024.0]))
        assert not low[0] <= curve.step_s[-1] <= high[0]


def call(words: str) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(words.split())
    return int(str(caught.value.code or 0))


def test_the_verb_predicts_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "weak.csv"
    rows = "".join(f"{nodes},{nodes / 0.3:.6f},1\n" for nodes in (1, 2, 4, 8, 16))
    path.write_text(f"nodes,samples_per_s,batch_per_node\n{rows}")
    assert call(f"scaling predict {path} --nodes 64,2048 --json --figure {tmp_path}/p.png") == 0
    found = {row["name"]: row for row in json.loads(capsys.readouterr().out)["figures"]}
    rate = found["rate at 64 nodes"]
    assert rate["interval"][0] < rate["value"] < rate["interval"][1]
    assert 0.85 * 64 / 0.3 < rate["value"] <= 64 / 0.3
    assert found["rate at 2048 nodes"]["note"] == "beyond 1024 nodes no public curve checks it"
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"


def test_the_verb_validates_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(f"scaling predict --validate --strict --json --figure {tmp_path}/v.svg") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["bench"] == "scaling predict"
    assert sum(row["target"] is not None for row in content["figures"]) == 4
    assert "<svg" in (tmp_path / "v.svg").read_text()[:2000]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "expected either records or --validate, got neither"),
        ("x.csv --validate", "expected either records or --validate, got both"),
        ("nothing.csv", "expected a file of records, got nothing (nothing.csv)"),
        ("--validate --figure x.jpg", "expected .png, .svg or .pdf, got .jpg"),
    ],
)
def test_wrong_words_are_one_line(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(f"scaling predict {words}") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"kilonode: {said}")
    assert error.count("\n") == 1


def test_one_node_is_no_count_to_predict(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("scaling predict x.csv --nodes 1,2") == 2
    assert "expected node counts of at least 2, got '1,2'" in capsys.readouterr().err
