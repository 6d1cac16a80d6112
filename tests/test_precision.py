"""Precision and layout: chosen once, the same afterwards, and only rounding differs."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_train import Here, finish, here, last, status

from kilonode.cases.contract import Batch
from kilonode.comm import Comm
from kilonode.data.loader import Share
from kilonode.training import precision
from kilonode.training.build import build
from kilonode.training.precision import Choice
from kilonode.training.rules import complete

ALL = [Choice(p, layout) for p in ("fp32", "bf16") for layout in ("default", "channels_last")]
MODEL = {"filters": 4, "code": 4}


def rules(**chosen: Any) -> dict[str, Any]:
    return complete({"schedule": "constant", "optimizer": "adam", **chosen}, "test")


def model() -> Any:
    torch.manual_seed(0)
    return build("reactor_neutrinos", "autoencoder", MODEL, (2, 8, 24)).train()


def batch() -> Batch:
    return Batch(torch.rand(6, 2, 8, 24, generator=torch.Generator().manual_seed(0)), None, torch.arange(6))


def gradient(choice: Choice) -> np.ndarray:
    made = precision.prepare(model(), choice)
    losses = made.losses(batch())
    assert losses.dtype == torch.float32
    losses.mean().backward()
    assert all(weight.grad.dtype == torch.float32 and weight.grad.is_contiguous() for weight in made.parameters())
    return np.concatenate([weight.grad.flatten().numpy() for weight in made.parameters()])


@pytest.mark.parametrize(
    ("choice", "tolerance"), list(zip(ALL, (0.0, 1e-5, 0.1, 0.1), strict=True)), ids=lambda x: str(x)
)
def test_every_choice_gives_the_same_gradient_but_for_rounding(choice: Choice, tolerance: float) -> None:
    wanted, found = gradient(Choice()), gradient(choice)
    assert np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max()
    if choice.precision == "bf16":
        assert (found != wanted).any()  # it was in effect


def test_what_is_stated_is_taken_without_measuring() -> None:
    for choice in ALL:
        stated = rules(precision=choice.precision, layout=choice.layout)
        assert precision.candidates(stated, model(), batch().x) == [choice]


def test_without_bf16_in_hardware_auto_is_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "native_bf16", lambda device: False)
    asked = rules(precision="auto", layout="auto")
    assert precision.candidates(asked, model(), batch().x) == ALL[:2]
    assert precision.candidates(asked, torch.nn.Linear(2, 2), torch.rand(3, 2)) == ALL[:1]


def test_the_probe_leaves_no_trace_and_takes_the_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    made, state = model(), torch.get_rng_state()
    before = copy.deepcopy(made.state_dict())
    found = precision.probe(made, batch(), ALL)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
    assert all(weight.grad is None for weight in made.parameters())
    assert "losses" not in vars(made)
    assert set(found.probe_ms) == {choice.name for choice in ALL}
    fastest = min(found.probe_ms.values())
    assert found.probe_ms[found.name] <= fastest * precision.MARGIN


def test_a_choice_is_measured_once_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Plain:
        field = "x"

        def __call__(self, raw: np.ndarray) -> np.ndarray:
            return raw

    answers = iter([Choice("bf16", "default"), Choice("fp32", "default")])
    monkeypatch.setattr(precision, "probe", lambda *_: next(answers))

    class One:
        def epoch(self, epoch: int) -> Iterator[Share]:
            yield Share(np.arange(6), {"x": batch().x.numpy()}, 6)

    def choose(identity: str) -> Choice:
        asked = rules(precision="auto")
        return precision.choose(asked, model(), (One(), Plain(), None), Comm(), tmp_path, identity, "cpu")  # type: ignore[arg-type]

    assert [choose("a").precision, choose("a").precision, choose("b").precision] == ["bf16", "bf16", "fp32"]


@pytest.fixture
def trained(toy: Path) -> Here:
    return here(toy)


def test_a_run_continues_with_what_its_first_start_chose(trained: Here, tmp_path: Path) -> None:
    """Also if a later probe would have chosen otherwise; the choice stands in status and record."""
    auto = {"precision": "auto", "layout": "auto", "epochs": 2}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "probe", lambda *_: Choice("bf16", "channels_last", probe_ms={"bf16 default": 1.0}))
        trained.train(tmp_path / "whole", **auto)
        trained.train(tmp_path / "parts", mishaps=[("step 20", "SIGTERM")], **auto)
    assert status(tmp_path / "parts")["status"] == "stopped"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "probe", lambda *_: Choice("fp32", "default"))
        trained.train(tmp_path / "parts", **auto)
    assert last(tmp_path / "parts") == last(tmp_path / "whole")
    assert finish(tmp_path / "parts") == 0
    conditions = json.loads((tmp_path / "parts/m.json").read_text())["conditions"]
    assert (conditions["precision"], conditions["layout"]) == ("bf16", "channels_last")
