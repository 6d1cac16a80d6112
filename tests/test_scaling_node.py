"""The sweep of a node: sanity before performance, the choice, and the profile that carries it."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from kilonode import config
from kilonode.errors import UserError
from kilonode.records import Json, figure
from kilonode.scaling import layout, node, roofline, sanity, series, start
from kilonode.scaling.plan import Plan, counts, of_json
from kilonode.training import rules

BASE = Plan("reactor_neutrinos", "autoencoder", "toy", "index.json", 1, 1, 128, "fp32", 3)
TRAINING: Json = {"batch": 128, "threads": 1}


def records(rate: float, losses: tuple[float, ...], before: float = 1.0) -> list[Json]:
    """Of one layout, a seed each."""
    return [
        {
            "figures": [
                figure("samples_per_s", rate),
                figure("best_validation_loss", loss),
                figure("validation loss before", before),
            ]
        }
        for loss in losses
    ]


def with_layout(**changed: Any) -> Plan:
    return Plan(**{**vars(BASE), **changed})


def test_a_layout_whose_loss_is_wrong_is_refused_however_fast() -> None:
    good, bad = with_layout(ranks=2), with_layout(threads=2)
    found = sanity.judged(
        {BASE: records(100, (0.50, 0.52)), good: records(190, (0.50, 0.52)), bad: records(900, (0.9, 0.9))}
    )
    assert [found[one].right for one in (BASE, good, bad)] == [True, True, False]
    assert found[bad].note.startswith("refused: loss 0.9, reference 0.51")
    assert found[good].rate == 190


def test_training_that_does_not_lower_the_loss_is_refused() -> None:
    assert "did not lower" in sanity.wrong([0.5, 1.1], [1.0, 1.0], [0.5, 0.5], both_ways=True)


def test_a_lower_loss_is_wrong_only_where_the_same_samples_were_seen() -> None:
    assert sanity.wrong([0.4, 0.4], [1.0, 1.0], [0.5, 0.5], both_ways=True)
    assert not sanity.wrong([0.4, 0.4], [1.0, 1.0], [0.5, 0.5], both_ways=False)
    assert not sanity.wrong([0.504, 0.504], [1.0, 1.0], [0.5, 0.5], both_ways=True)


@pytest.mark.parametrize(
    ("cores", "expected"),
    [
        (1, [(1, 1)]),
        (2, [(1, 1), (1, 2), (2, 1)]),
        (6, [(1, 1), (1, 6), (2, 3), (4, 1), (6, 1), (1, 5), (2, 2)]),
    ],
)
def test_layouts_fill_the_node_or_leave_a_core_free(cores: int, expected: list[tuple[int, int]]) -> None:
    assert node.shapes(cores) == expected


def test_the_fastest_right_ones_and_every_default_are_measured_again() -> None:
    plans = [with_layout(ranks=r, threads=t, precision=p) for p in ("fp32", "bf16") for r, t in node.shapes(2)]
    rates = dict(zip(plans, (100, 150, 190, 400, 410, 420), strict=True))
    verdicts = {one: sanity.Verdict(one.precision == "fp32", rates[one], (0, 0), "") for one in plans}
    assert set(node._finalists(verdicts, plans, TRAINING, 2)) == set(plans[:3])
    assert node._defaults(plans, TRAINING, 2)["a rank a core"] == plans[2]
    nothing = {one: sanity.Verdict(False, 1.0, (0, 0), "") for one in plans}
    with pytest.raises(UserError, match="expected a layout that learns"):
        node._finalists(nothing, plans, TRAINING, 2)


def test_turns_go_there_and_back_with_a_seed_a_round() -> None:
    turns = node._turns([BASE, with_layout(ranks=2)], 2, first=3)
    assert [(one.ranks, one.seed, one.repeat) for one in turns] == [(1, 3, 3), (2, 3, 3), (2, 4, 4), (1, 4, 4)]
    assert len({one.name for one in turns}) == 4


def test_the_profile_carries_ranks_and_what_differs_from_the_task(tmp_path: Path, monkeypatch: Any) -> None:
    base = layout.profile("local")
    layout.write(tmp_path, base, with_layout(ranks=1, threads=2, precision="bf16"), TRAINING)
    content = config.read_yaml(tmp_path / "profile.yaml")
    train = content["set-resources"]["train"]
    assert train == {"launch": "'env KILONODE_TRAINING=threads=2,precision=bf16 mpiexec'", "layout": "'-n 1'"}
    assert content["set-threads"]["train"] == 2
    assert content["set-resources"]["simulate"] == base[1]["set-resources"]["simulate"]
    monkeypatch.setenv("KILONODE_TRAINING", "threads=2,precision=bf16")
    assert rules.of_profile() == {"threads": 2, "precision": "bf16"}


def test_a_layout_that_is_the_tasks_own_says_nothing_twice() -> None:
    train = layout.changed(layout.profile("local")[1], with_layout(ranks=2), TRAINING)["set-resources"]["train"]
    assert train == {"launch": "'mpiexec'", "layout": "'-n 2'"}


@pytest.mark.parametrize("said", ["threads=0", "threads=two", "precision=fp8", "batch=4", "nonsense"])
def test_a_profile_that_says_something_else_is_refused(said: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("KILONODE_TRAINING", said)
    with pytest.raises(UserError, match="KILONODE_TRAINING"):
        rules.of_profile()


def test_only_profiles_with_mpiexec_are_a_base() -> None:
    with pytest.raises(UserError, match="expected a profile that starts training by mpiexec"):
        layout.profile("slurm")
    with pytest.raises(UserError, match="expected a profile, got 'loca'"):
        layout.profile("loca")


def test_operations_and_bytes_of_a_product_are_counted() -> None:
    torch = pytest.importorskip("torch")

    class Product(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(8, 4))

        def losses(self, batch: Any) -> Any:
            return batch @ self.weight

    flop, moved = roofline.counted(Product(), torch.ones(16, 8))
    assert flop == 2 * (2 * 16 * 8 * 4)  # forward, and the weight's gradient
    assert moved >= 2 * 4 * (16 * 8 + 8 * 4 + 16 * 4)


def test_a_model_is_held_against_the_ceiling_above_it() -> None:
    found = roofline.Ceilings({"fp32": 100e9}, 10e9, [])
    rows = {
        row["name"]: row
        for row in roofline.rows(found, [roofline.Dot("a", 5.0, 25e9), roofline.Dot("b", 20.0, 25e9)], "fp32")
    }
    assert rows["a: share of its ceiling"]["value"] == pytest.approx(0.5)  # 10 GB/s times 5 operations a byte
    assert "memory" in rows["a: share of its ceiling"]["note"]
    assert rows["b: share of its ceiling"]["value"] == pytest.approx(0.25)


def test_a_plan_survives_its_way_to_the_ranks() -> None:
    assert of_json(BASE.to_json()) == BASE


@pytest.mark.parametrize("text", ["", "0", "1,", "one", "2,-1"])
def test_counts_are_numbers(text: str) -> None:
    with pytest.raises(UserError, match="expected counts"):
        counts(text)


def options(**changed: Any) -> Namespace:
    words = ["--case", "reactor_neutrinos", *(word for name, value in changed.items() for word in (f"--{name}", value))]
    from argparse import ArgumentParser

    parser = ArgumentParser()
    series.arguments(parser)
    return parser.parse_args(words)


def planned(over: str, sizes: tuple[int, ...], **changed: Any) -> list[Plan]:
    return series._plans(options(**changed), "autoencoder", TRAINING, "index.json", sizes, over)


def test_weak_keeps_the_batch_of_a_rank_and_strong_that_of_all() -> None:
    assert [(one.ranks, one.batch) for one in planned("ranks", (1, 2), repeats="1")] == [(1, 128), (2, 256)]
    assert [one.batch for one in planned("ranks", (1, 2), repeats="1", mode="strong")] == [128, 128]
    nodes = planned("nodes", (1, 2), repeats="1", **{"ranks-per-node": "4"})
    assert [(one.nodes, one.ranks, one.batch) for one in nodes] == [(2, 8, 1024), (1, 4, 512)]


def test_counts_take_turns_here_and_the_largest_comes_first_in_an_allocation() -> None:
    assert [one.ranks for one in planned("ranks", (1, 2), repeats="3")] == [1, 2, 2, 1, 1, 2]
    assert [one.nodes for one in planned("nodes", (1, 2), repeats="2")] == [2, 2, 1, 1]


def test_a_step_of_slurm_says_all_that_the_allocation_would_leak(monkeypatch: Any) -> None:
    monkeypatch.setenv("KILONODE_SRUN", "--mpi=pmi2 --cpu-bind=cores")
    monkeypatch.setenv("KILONODE_CPUS_PER_NODE", "256")
    command, _ = start.launcher(with_layout(nodes=4, ranks=8), ["-m", "worker"])
    head = ["srun", "--mpi=pmi2", "--cpu-bind=cores", "--kill-on-bad-exit=1", "-N", "4", "-n", "8"]
    assert command[:11] == [*head, "--ntasks-per-node=2", "-c", "128"]


def test_one_rank_here_needs_no_launcher() -> None:
    command, environment = start.launcher(BASE, ["-m", "worker"])
    assert command[1:] == ["-m", "worker"]
    assert not any(name.startswith(("SLURM_", "PMI_")) for name in environment)


def test_a_chain_submits_the_largest_first_and_waits(tmp_path: Path) -> None:
    from kilonode.scaling import chain

    words = ["scaling", "run", "--case", "c", "--nodes", "1,2", "--submit", "-A m0"]
    command = chain.job(2, 4, ["-A", "m0"], tmp_path, words, "17")
    assert command[:2] == ["sbatch", "--parsable"]
    assert {"--nodes=2", "--ntasks-per-node=4", "--dependency=afterany:17", "-A", "m0"} <= set(command)
    assert command[-1].endswith("-m kilonode scaling run --case c --nodes 2")
    assert not any(word.startswith("--dependency") for word in chain.job(2, 4, [], tmp_path, words, ""))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "expected either --ranks or --nodes, got neither"),
        ({"ranks": "1", "nodes": "1"}, "got both"),
        ({"nodes": "1"}, "expected an allocation of Slurm"),
        ({"ranks": "1", "submit": ""}, "expected --nodes beside --submit"),
        ({"ranks": "1", "epochs": "1"}, "expected at least 2 epochs"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_words(changed: dict[str, str], said: str, monkeypatch: Any) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(UserError, match=said):
        series._counts(options(**changed))
