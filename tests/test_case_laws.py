"""Laws that every case obeys, run on all that globbing finds, at toy size."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kilonode import cases, config
from kilonode.cases import contract
from kilonode.cases.contract import Batch
from kilonode.data.stats import measure
from kilonode.data.transform import TRANSFORMS, Scaler
from kilonode.training.build import build
from kilonode.training.loop import keys

CASES = cases.names()
TASKS = [(case, task) for case in CASES for task in config.resolve(case, "toy")["tasks"]]
FILES = ("__init__", "simulate", "models", "baseline", "figures")


def made(case: str, group: int = 0, **more: Any) -> dict[str, dict[str, np.ndarray]]:
    settings = {**config.resolve(case, "toy")["simulation"], **more}
    tables: dict[str, dict[str, np.ndarray]] = contract.load(case).simulate.simulate(settings["seed"], group, settings)
    return tables


def batch_of(case: str, task: str, count: int = 32) -> tuple[Any, Batch, np.ndarray]:
    """A fresh network, one batch of simulated samples for it, and the raw inputs."""
    settings = config.task(case, "toy", task)
    table = made(case)[settings["table"]]
    field = settings["input"]["field"]
    stats = {field: {name: measure(function(table[field])).to_json() for name, function in TRANSFORMS.items()}}
    raw = table[field][:count]
    x = torch.from_numpy(Scaler(settings["input"], stats)(raw))
    target = settings.get("target")
    y = torch.from_numpy(table[target][:count].astype(np.int64)) if target else None
    torch.manual_seed(0)
    network = build(case, task, settings["model"], tuple(x.shape[1:]))
    return network, Batch(x=x, y=y, key=torch.from_numpy(keys(0, 0, np.arange(len(raw))))), raw


@pytest.mark.parametrize("case", CASES)
def test_a_case_has_the_five_modules_and_says_what_it_studies(case: str) -> None:
    for name in FILES:
        import_module(f"kilonode.cases.{case}.{name}" if name != "__init__" else f"kilonode.cases.{case}")
    assert contract.load(case).name == case
    assert len((import_module(f"kilonode.cases.{case}").__doc__ or "").splitlines()) >= 5


@pytest.mark.parametrize("case", CASES)
def test_importing_a_case_to_simulate_imports_no_torch(case: str) -> None:
    code = "import sys; from kilonode.cases import contract; contract.load(sys.argv[1]).simulate; print(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", code, case], capture_output=True, text=True, check=True).stdout
    assert "numpy" in said.split()
    assert "torch" not in said.split()


def test_case_numbers_are_unique() -> None:
    numbers = [config.resolve(case, "toy")["case_id"] for case in CASES]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("case", CASES)
def test_simulation_gives_exactly_the_declared_fields(case: str) -> None:
    declared = config.resolve(case, "toy")["tables"]
    tables = made(case)
    assert set(tables) == set(declared)
    for table, columns in declared.items():
        assert set(tables[table]) == set(columns)
        lengths = {len(array) for array in tables[table].values()}
        assert len(lengths) == 1
        for name, spec in columns.items():
            array = tables[table][name]
            assert (list(array.shape[1:]), str(array.dtype)) == (spec["shape"], spec["dtype"]), name
            assert array.dtype.kind != "f" or np.isfinite(array).all(), name


@pytest.mark.parametrize("case", CASES)
def test_a_group_depends_on_seed_and_number_alone(case: str) -> None:
    first, again, larger, other = made(case), made(case), made(case, groups=1000), made(case, group=1)
    for table, columns in first.items():
        for name, array in columns.items():
            assert array.tobytes() == again[table][name].tobytes()
            assert array.tobytes() == larger[table][name].tobytes()
        main = next(name for name, array in columns.items() if array.ndim > 1)
        assert columns[main].tobytes() != other[table][main].tobytes()


@pytest.mark.parametrize("case", CASES)
def test_sample_numbers_are_unique_over_groups(case: str) -> None:
    parts = [made(case, group=group) for group in range(4)]
    for table in parts[0]:
        numbers = np.concatenate([part[table]["sample_id"] for part in parts])
        assert len(np.unique(numbers)) == len(numbers)


@pytest.mark.parametrize(("case", "task"), TASKS)
def test_losses_are_finite_and_gradients_reach_every_parameter(case: str, task: str) -> None:
    network, batch, _ = batch_of(case, task)
    losses = network.losses(batch)
    assert losses.shape == (len(batch.x),)
    assert torch.isfinite(losses).all()
    losses.mean().backward()
    silent = [
        name for name, parameter in network.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ]
    assert silent == []


@pytest.mark.parametrize(("case", "task"), TASKS)
def test_the_loss_falls_on_toy_data(case: str, task: str) -> None:
    network, batch, _ = batch_of(case, task)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    network.train()
    history = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = network.losses(batch).mean()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert np.mean(history[-5:]) < 0.9 * history[0]


@pytest.mark.parametrize(("case", "task"), TASKS)
def test_training_randomness_is_off_at_inference_and_a_function_of_the_key_in_training(case: str, task: str) -> None:
    network, batch, _ = batch_of(case, task)
    other = Batch(batch.x, batch.y, batch.key + 1)
    network.eval()
    with torch.no_grad():
        assert torch.equal(network.losses(batch), network.losses(other))
        network.train()
        assert torch.equal(network.losses(batch), network.losses(batch))


@pytest.mark.parametrize(("case", "task"), TASKS)
def test_a_sample_does_not_see_its_batch(case: str, task: str) -> None:
    network, batch, _ = batch_of(case, task)
    half = Batch(batch.x[:16], None if batch.y is None else batch.y[:16], batch.key[:16])
    with torch.no_grad():
        torch.testing.assert_close(network.losses(batch)[:16], network.losses(half), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("case", "task"), TASKS)
def test_classical_features_have_a_row_for_each_sample(case: str, task: str) -> None:
    settings = config.task(case, "toy", task)
    _, _, raw = batch_of(case, task)
    images = raw[:, None] if raw.ndim == 3 else raw[:, settings["input"].get("channels", slice(None))]
    found = contract.load(case).baseline.features(task, images)
    assert found
    for name, block in found.items():
        assert block.ndim == 2, name
        assert len(block) == len(raw), name
        assert np.isfinite(block).all(), name


@pytest.mark.parametrize("case", CASES)
def test_no_other_module_names_the_case(case: str) -> None:
    source = Path(config.__file__).parent
    engine = [
        path for path in source.rglob("*.py") if f"cases/{case}/" not in path.as_posix() and path.name != "cli.py"
    ]
    engine.remove(Path(cases.__file__))  # it names the one that benchmarks train
    assert [str(path) for path in engine if case in path.read_text()] == []
