"""One rank: a share in pieces gives the gradient of the whole; what is refused with it. Ranks: tests/parallel."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from kilonode.cases.reactor_neutrinos import models
from kilonode.data.loader import Share
from kilonode.training.gradients import pieces
from kilonode.training.noise import measured_every

sys.path.append(str(Path(__file__).parent))
small = import_module("small_train")
STEPS, EPOCHS = small.STEPS, small.EPOCHS


@pytest.fixture(scope="module")
def here(toy: Path) -> Any:
    return small.here(toy)


@given(rows=st.integers(0, 40), count=st.integers(1, 12))
def test_pieces_cover_the_share_in_order(rows: int, count: int) -> None:
    share = Share(np.arange(rows) + 100, {"x": np.arange(2 * rows).reshape(rows, 2)}, 77)
    parts = pieces(share, count)
    sizes = [len(part.rows) for part in parts]
    assert len(parts) == count
    assert max(sizes) - min(sizes) <= 1
    assert {part.global_size for part in parts} == {77}
    assert np.concatenate([part.rows for part in parts]).tolist() == share.rows.tolist()
    assert np.concatenate([part.fields["x"] for part in parts]).tolist() == share.fields["x"].tolist()


@pytest.mark.parametrize("accumulate", [3, 250])  # 250: some pieces of a batch of 243 are empty
def test_a_training_in_pieces_is_the_same_training(accumulate: int, here: Any, tmp_path: Path) -> None:
    """Up to rounding; another rounding is another run, so the checkpoint of one does not continue the other."""
    assert here.train(tmp_path / "whole") == 0
    assert here.train(tmp_path / "pieces", accumulate=accumulate, mishaps=[(f"step {STEPS + 5}", "SIGTERM")]) == 0
    assert here.train(tmp_path / "pieces", accumulate=accumulate) == 0
    whole, in_pieces = (small.records(tmp_path / name) for name in ("whole", "pieces"))
    for name in ("train_loss", "validation_loss", "lr", "step"):
        np.testing.assert_allclose([line[name] for line in in_pieces], [line[name] for line in whole], rtol=1e-4)
    first, second = (small.status(tmp_path / name)["identity"] for name in ("whole", "pieces"))
    assert first != second


def test_a_training_in_pieces_continues_to_the_same_bits(here: Any, tmp_path: Path) -> None:
    """With a schedule of steps, the noise scale and early stopping in it."""
    choice = {
        "accumulate": 2, "optimizer": "lamb", "schedule": "step", "milestones": [1, 2], "scale": "sqrt",
        "reference_batch": 64, "patience": 2,
    }  # fmt: skip
    assert here.train(tmp_path / "straight", **choice) == 0
    for point in ("step 4", f"step {STEPS + 9}"):
        assert here.train(tmp_path / "stopped", mishaps=[(point, "SIGUSR1")], **choice) == 0
        assert small.status(tmp_path / "stopped")["status"] == "stopped"
    assert here.train(tmp_path / "stopped", **choice) == 0
    small.assert_same_run(tmp_path / "stopped", tmp_path / "straight")
    scales = [line["noise_scale"] for line in small.records(tmp_path / "straight")]
    assert len(scales) == EPOCHS
    assert all(scale is None or scale >= 0 for scale in scales)
    assert any(scale is not None for scale in scales)


def test_an_epoch_is_measured_often_enough() -> None:
    assert [measured_every(steps) for steps in (1, 16, 39, 40, 199, 200, 10**6)] == [1, 1, 1, 2, 9, 10, 10]


def test_one_piece_on_one_rank_says_nothing_of_noise(here: Any, tmp_path: Path) -> None:
    assert here.train(tmp_path, epochs=1) == 0
    assert [line["noise_scale"] for line in small.records(tmp_path)] == [None]


def test_a_batch_above_the_noise_scale_is_said(
    here: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("kilonode.training.noise.noise_scale", lambda *_: 17.4)
    assert here.train(tmp_path, epochs=1, warmup_epochs=0, accumulate=2) == 0
    warning = f"train: warning: a batch of {here.batch} is above the gradient noise scale of 17.4 samples"
    assert warning in capsys.readouterr().out
    monkeypatch.setattr("kilonode.training.noise.noise_scale", lambda *_: 1e6)
    assert here.train(tmp_path / "other", epochs=1, warmup_epochs=0, accumulate=2) == 0
    assert "warning" not in capsys.readouterr().out


def test_pieces_of_a_batch_that_is_normalised_whole_are_refused(
    here: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    build = models.build

    def with_norm(*arguments: Any) -> Any:
        model = build(*arguments)
        model.norm = nn.BatchNorm2d(2)
        return model

    monkeypatch.setattr(models, "build", with_norm)
    assert here.train(tmp_path, accumulate=2) == 2
    error = capsys.readouterr().err
    assert error.startswith("kilonode: expected training.accumulate 1 for a network with batch normalisation, got 2 (")
    assert error.count("\n") == 1
