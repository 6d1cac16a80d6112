"""npz and npy: a real recording cut into epochs, every order in memory, nothing pickled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_ingest import field, ingested, real, refused

from kilonode.data import ingest


def test_a_real_recording_is_cut_into_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "SHARD_BYTES", 1 << 20)
    path = real("eeg_p300/subject_01_session_01.npz")
    cut = {"markers": "stim", "rate": 128}
    columns = {
        "eeg": field("data", unit="uV", epochs={**cut, "before": 0.25, "after": 0.75}),
        "label": field("stim", unit="1", epochs=cut),
        "group": {"block": 64},
    }
    found = ingested(tmp_path, "npz", path, columns)["arrays"]
    eeg, label = found["eeg"], found["label"]
    assert eeg.shape == (768, 128, 17)
    assert [(label == kind).sum() for kind in (1, 2)] == [640, 128]
    with np.load(path) as kept:
        onsets = np.flatnonzero(kept["stim"])
        assert np.array_equal(eeg[:, 32], kept["data"][onsets])
        assert np.array_equal(eeg[5], kept["data"][onsets[5] - 32 : onsets[5] + 96])
    # the P300: after a target the parietal channels rise
    quiet = np.abs(eeg - np.median(eeg, 1, keepdims=True)).max((1, 2)) < 500
    mean = [eeg[(label == kind) & quiet].mean(0) for kind in (1, 2)]
    difference = (mean[1] - mean[0]) - (mean[1] - mean[0])[:32].mean(0)
    assert np.abs(difference[32 + 26 : 32 + 77]).max() > 2 * np.abs(difference[:32]).max()


def test_a_real_map(tmp_path: Path) -> None:
    path = real("mass_maps/m_data__128N_5ms_30gpa_0.2se.npy")
    found = ingested(tmp_path, "npz", path, {"rows": field("array", unit="1")})["arrays"]["rows"]
    assert np.array_equal(found, np.load(path))
    assert found.shape == (128, 128)


@pytest.mark.parametrize("compressed", [False, True])
def test_any_order_in_memory(tmp_path: Path, compressed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "SHARD_BYTES", 400)
    values = np.arange(120, dtype=np.float32).reshape(6, 4, 5)
    arrays = {"c": values, "fortran": np.asfortranarray(values), "big": values.astype(">f8"), "one": np.float64(3)}
    (np.savez_compressed if compressed else np.savez)(tmp_path / "mine.npz", **arrays)
    columns = {name: field(name) for name in ("c", "fortran", "big")}
    columns["one"] = field("one", layout="shared")
    found = ingested(tmp_path / "out", "npz", tmp_path / "mine.npz", columns)
    assert len(found["index"]["shards"]) > 2
    for name in ("c", "fortran", "big"):
        assert np.array_equal(found["arrays"][name], values)
    assert found["arrays"]["one"] == 3
    for axis, length in ((1, 4), (2, 5)):
        columns = {name: field(name, sample_axis=axis) for name in ("c", "fortran")}
        other = ingested(tmp_path / f"axis{axis}", "npz", tmp_path / "mine.npz", columns)["arrays"]
        assert len(other["c"]) == length
        assert np.array_equal(other["c"], np.moveaxis(values, axis, 0))
        assert np.array_equal(other["fortran"], np.moveaxis(values, axis, 0))


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path("/nonexistent/exploded").touch, ())


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", x=np.array([Bomb()], object), y=np.arange(3))
    assert refused(tmp_path / "out", "npz", tmp_path / "bad.npz", {"x": field("x"), "y": field("y")}) == [
        "expected numbers in 'x', got object (F); map another dataset"
    ]


def test_a_damaged_file_is_a_line(tmp_path: Path) -> None:
    np.save(tmp_path / "good.npy", np.arange(100.0))
    (tmp_path / "short.npy").write_bytes((tmp_path / "good.npy").read_bytes()[:-8])
    (line,) = refused(tmp_path / "out", "npz", tmp_path / "short.npy", {"x": field("array")})
    assert line == "expected 800 bytes of an array (100,), float64, got 792 (F); make or copy it again"
    (tmp_path / "text.npy").write_text("1 2 3\n" * 10)
    (line,) = refused(tmp_path / "out", "npz", tmp_path / "text.npy", {"x": field("array")})
    assert line.startswith("expected a readable npz file, got ")


def test_epochs_stay_inside_the_recording(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    np.savez(
        path, x=np.arange(100.0), stim=np.isin(np.arange(100), [5, 50, 51, 98]) * 1, times=[0.5, 5.0], mark=np.arange(9)
    )
    cut = {"markers": "stim", "rate": 10, "before": 1, "after": 1}
    (line,) = refused(tmp_path / "out", "npz", path, {"x": field("x", epochs=cut)})
    assert "got 20 moments and 2 epochs that stick out (F); change `before` or `after`" in line
    (line,) = refused(tmp_path / "out", "npz", path, {"x": field("x", epochs={**cut, "markers": "mark"})})
    assert line.startswith("expected one marker for each of the 100 moments of 'x', got shape (9,) in 'mark' (F)")
    (line,) = refused(tmp_path / "out", "npz", path, {"x": field("x", epochs={"times": "times", "after": 1})})
    assert line == "expected a sampling rate of 'x', got none (F); add `rate: <Hz>` to epochs"
    short = {"markers": "stim", "rate": 10, "before": 0.2, "after": 0.2}
    found = ingested(tmp_path / "ok", "npz", path, {"x": field("x", epochs=short)})["arrays"]["x"]
    assert found.tolist() == [[3, 4, 5, 6], [48, 49, 50, 51], [96, 97, 98, 99]]  # 51 belongs to the mark of 50
    timed = ingested(
        tmp_path / "t", "npz", path, {"x": field("x", epochs={"times": "times", "rate": 10, "after": 0.2})}
    )
    assert timed["arrays"]["x"].tolist() == [[5, 6], [50, 51]]
