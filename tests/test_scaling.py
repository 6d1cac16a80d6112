"""The formulas against numbers computed by hand, the readers of curves, and the law of epochs and batch."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from kilonode.errors import UserError
from kilonode.scaling import curves, quality, terms

MEGA = 1e6


def of_largest(count: int) -> float:
    """Exact mean of the largest of ``count`` standard normal numbers, by integration."""
    x = np.linspace(-10, 10, 40_001)
    below = np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in x])
    density = count * below ** (count - 1) * np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    return float(np.trapezoid(x * density, x))


@pytest.mark.parametrize("ranks", [2, 3, 5, 16, 64, 1024, 4096])
def test_the_slowest_of_many_ranks_is_the_mean_of_the_largest_normal_number(ranks: int) -> None:
    exact = of_largest(ranks)
    found = terms.slowest(2.0, 0.1, ranks)
    assert found == pytest.approx(2.0 * (1 + 0.1 * exact), abs=2.0 * 0.1 * 0.03)
    if ranks >= 5:
        assert found - 2.0 == pytest.approx(0.2 * exact, rel=0.02)


def test_one_rank_waits_for_nobody() -> None:
    assert terms.slowest(0.25, 0.3, 1) == 0.25
    assert terms.Step(compute_s=0.25, gradient_bytes=28 * MEGA, node_s=1.0).seconds(1) == 0.25


def test_allreduce_costs_what_the_formulas_say() -> None:
    """a = 1, b = 1/4, g = 1/8, 8 bytes, 4 ranks: every term is a round number."""
    network = terms.Network(latency_s=1.0, byte_s=0.25, reduce_s=0.125)
    assert terms.recursive_doubling(8, 4, network) == 2 * (1 + 2 + 1)
    assert terms.rabenseifner(8, 4, network) == 2 * 2 * 1 + 2 * 0.75 * 2 + 0.75 * 1
    assert terms.ring(8, 4, network) == 2 * 3 * 1 + 2 * 0.75 * 2 + 0.75 * 1
    assert terms.allreduce(8, 4, network) == 7.75


@pytest.mark.parametrize(
    ("megabytes", "aries", "slingshot"),
    [
        (0.59, (1.3, 0.25, 4.3), (0.87, 0.15, 4.2)),
        (2.4, (5.4, 0.88, 4.9), (3.5, 0.49, 4.5)),
        (28, (63, 9.8, 13.9), (40, 5.3, 9.3)),
        (302, (680, 106, 110), (433, 56, 60)),
    ],
)
def test_allreduce_at_1024_ranks_is_that_of_the_table_worked_out_before(
    megabytes: float, aries: tuple[float, ...], slingshot: tuple[float, ...]
) -> None:
    for network, expected in ((terms.ARIES, aries), (terms.SLINGSHOT, slingshot)):
        found = [1e3 * algorithm(megabytes * MEGA, 1024, network) for algorithm in terms.ALLREDUCE.values()]
        assert found == pytest.approx(expected, rel=0.05)  # two digits there


def test_communication_hides_behind_the_backward_pass_and_no_further() -> None:
    assert terms.exposed(0.5, 0.9, overlap=0.0) == 0.5
    assert terms.exposed(0.5, 0.9, overlap=0.5) == pytest.approx(0.2)
    assert terms.exposed(0.5, 0.9, overlap=1.0) == 0.0


def test_input_that_is_read_ahead_costs_only_what_computing_does_not_cover() -> None:
    assert terms.input_wait(0.3, 0.2) == pytest.approx(0.1)
    assert terms.input_wait(0.1, 0.2) == 0.0
    assert terms.input_wait(0.1, 0.2, prefetch=False) == 0.1


def test_a_step_is_the_sum_of_its_terms() -> None:
    network = terms.Network(latency_s=0.01, byte_s=0.0, reduce_s=0.0)
    step = terms.Step(
        compute_s=0.3, input_s=0.5, gradient_bytes=8, overlap=0.1, node_s=0.001, spread=0.0, network=network
    )
    # 2 messages of recursive doubling, 0.02 s, hide behind 0.1 x 2/3 x 0.3 s; input beyond 0.3 s; 4 nodes of 0.001 s
    assert step.seconds(4) == pytest.approx(0.3 + 0.2 + 0.0 + 0.004)
    assert terms.Step(0.3, gradient_bytes=8, network=network).seconds(4) == pytest.approx(0.32)


def test_the_shipped_curves_are_those_published() -> None:
    shipped = {curve.name: curve for curve in curves.shipped()}
    assert len(shipped) == 8
    cori = shipped["cosmoflow-cori-real"]
    assert cori.nodes.tolist() == [2.0**k for k in range(11)]
    assert cori.step_s[0] == pytest.approx(17.317688 / 64, rel=1e-6)  # published: seconds of an epoch of 64 steps
    assert cori.step_s[-1] == pytest.approx(22.243103 / 64, rel=1e-6)
    summit = shipped["cosmoflow-summit-dummy"]
    assert summit.nodes[-1] == 170
    assert summit.step_s[-1] == pytest.approx(1020 / 19320.8)
    for curve in shipped.values():
        assert {"title", "family", "statistic", "setup", "source", "date"} <= set(curve.about), curve.name


def test_a_curve_is_read_from_csv_with_repeats_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "weak.csv"
    path.write_text("# title: mine\n# batch_per_node: 32\nnodes,samples_per_s\n4,1200\n2,640\n4,1280\n")
    curve = curves.read([path])
    assert curve.title == "mine"
    assert curve.nodes.tolist() == [2, 4, 4]
    assert curve.step_s.tolist() == pytest.approx([0.1, 0.1, 4 * 32 / 1200])
    assert curve.batch_per_node == 32


def test_a_curve_is_read_from_json(tmp_path: Path) -> None:
    path = tmp_path / "weak.json"
    path.write_text(json.dumps([{"nodes": 2, "samples_per_s": 640}, {"nodes": 8, "samples_per_s": 2000}]))
    assert curves.read([path], batch_per_node=32).step_s.tolist() == pytest.approx([0.1, 0.128])


def test_records_of_trainings_are_a_curve(tmp_path: Path) -> None:
    from kilonode.records import conditions, figure

    for nodes in (2, 4):
        figures = [figure("step_p50", 80.0), figure("input_wait", 0.2), figure("samples_per_s", 320.0 * nodes)]
        record = {
            "bench": "train",
            "figures": figures,
            "conditions": conditions(seeds=[0], ranks=2 * nodes, nodes=nodes),
        }
        (tmp_path / f"{nodes}.json").write_text(json.dumps(record))
    curve = curves.read([tmp_path / "2.json", tmp_path / "4.json"])
    assert curve.nodes.tolist() == [2, 4]
    assert curve.step_s.tolist() == pytest.approx([0.1, 0.1])  # 80 ms are 0.8 of it
    assert curve.batch_per_node == pytest.approx(32)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "nodes,samples_per_s,batch_per_node\n4,-3,1\nx,5,1\n",
            "expected a positive number of samples_per_s, got '-3'",
        ),
        ("nodes,samples_per_s\n4,3\n", "expected the samples of a node in a step, got none"),
        ("nodes,batch_per_node\n4,3\n", "expected samples_per_s or step_s, got neither"),
        ("nodes,samples_per_s,batch_per_node\n", "expected rows of nodes and samples_per_s, got none"),
        ("nodes,samples_per_s,batch_per_node\n2,10,64\n4,10,32\n", "expected the same samples per node at every count"),
        ("[3, 4]", "expected a list of objects, got another list"),
        ('{"nodes": ', "expected JSON, got "),
        ('{"figures": 3}', "expected top level to be valid"),
        ("", "expected rows of nodes and samples_per_s, got none"),
    ],
)
def test_what_is_no_curve_is_refused_in_words(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "weak.csv"
    path.write_text(text)
    with pytest.raises(UserError, match="expected") as caught:
        curves.read([path])
    assert any(problem.startswith(said) for problem in caught.value.problems), caught.value.problems


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "weak.csv"
    path.write_text("nodes,samples_per_s,batch_per_node\n4,-3,1\nx,5,1\n")
    with pytest.raises(UserError) as caught:
        curves.read([path])
    assert [problem.partition(" of ")[2].partition(",")[0] for problem in caught.value.problems] == [
        "samples_per_s",
        "nodes",
    ]


def test_a_batch_at_the_critical_one_needs_twice_the_epochs() -> None:
    assert quality.epochs(50.0, 400.0, 0.0) == 50
    assert quality.epochs(50.0, 400.0, 400.0) == 100
    assert quality.epochs(50.0, 400.0, 1200.0) == 200


def test_the_law_is_found_again_in_points_that_follow_it() -> None:
    points = [(batch, quality.epochs(20.0, 500.0, batch)) for batch in (64.0, 256.0, 1024.0)]
    found = quality.fitted("task", points)
    assert (found.fewest, found.critical) == pytest.approx((20, 500))
    assert found.residual == pytest.approx(0, abs=1e-9)


def test_public_trainings_follow_the_law_of_the_noise_scale() -> None:
    found = {one.task: one for one in quality.published()}
    assert set(found) == {"cosmoflow-v0.7", "cosmoflow-v1.0", "deepcam-v1.0"}
    assert all(one.residual < 0.06 for one in found.values())
    assert 350 < found["cosmoflow-v0.7"].critical < 450
    assert 1000 < found["deepcam-v1.0"].critical < 1200
