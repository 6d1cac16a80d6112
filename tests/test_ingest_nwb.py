"""NWB, on files that pynwb writes: recordings in their unit, epochs around trials, spikes of units."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
import pytest
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from small_ingest import field, ingested, refused, said

from kilonode.data import ingest

RATE = 100.0
STARTS = np.array([1.0, 2.5, 4.0])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "mine.nwb"
    file = NWBFile(session_description="a test", identifier="mine", session_start_time=datetime(2026, 1, 1, tzinfo=UTC))
    data = np.arange(1000, dtype=np.int16).reshape(500, 2)
    words = {"unit": "V", "conversion": 1e-3, "offset": 0.5}
    file.add_acquisition(TimeSeries(name="eeg", data=data, rate=RATE, starting_time=0.2, description="scalp", **words))
    stamps = np.arange(500) / RATE + 0.2
    stamps[300:] += 0.5  # a pause
    file.add_acquisition(TimeSeries(name="paused", data=data, timestamps=stamps, **words))
    file.add_trial_column(name="kind", description="what was shown")
    for number, start in enumerate(STARTS):
        file.add_trial(start_time=start, stop_time=start + 0.5, kind=number % 2)
    for times in ([0.1, 0.2], [], [0.3]):
        file.add_unit(spike_times=times)
    module = file.create_processing_module(name="behavior", description="what it did")
    module.add(TimeSeries(name="speed", data=np.arange(50.0), unit="m/s", rate=10.0))
    with NWBHDF5IO(str(path), "w") as io:
        io.write(file)
    return path


def test_epochs_around_trials(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "SHARD_BYTES", 400)
    cut = {"times": "intervals/trials/start_time", "before": 0.1, "after": 0.2}
    columns = {
        "eeg": said("acquisition/eeg", epochs=cut),
        "paused": said("acquisition/paused", epochs={**cut, "rate": RATE}),
        "kind": said("intervals/trials/kind", unit="1"),
    }
    found = ingested(tmp_path / "out", "nwb", source, columns)
    moments = np.rint((STARTS - 0.2 - 0.1) * RATE).astype(int)
    volts = np.arange(1000).reshape(500, 2) * 1e-3 + 0.5
    expected = np.stack([volts[begin : begin + 30] for begin in moments])
    assert len(found["index"]["shards"]) > 1
    assert found["arrays"]["eeg"] == pytest.approx(expected, rel=1e-6)
    assert found["arrays"]["paused"][:2] == pytest.approx(expected[:2], rel=1e-6)
    assert found["arrays"]["paused"][2] == pytest.approx(volts[moments[2] - 50 : moments[2] - 20], rel=1e-6)
    assert found["arrays"]["kind"].tolist() == [0, 1, 0]
    words = found["fields"]["eeg"]
    assert (words["unit"], words["long_name"]) == ("V", "scalp")
    assert found["fields"]["kind"]["long_name"] == "what was shown"


def test_an_epoch_over_a_pause_is_refused(tmp_path: Path, source: Path) -> None:
    cut = {"times": "intervals/trials/start_time", "before": 0.1, "after": 0.9, "rate": RATE}
    (line,) = refused(tmp_path / "out", "nwb", source, {"x": said("acquisition/paused", epochs=cut)})
    assert line.startswith(
        "expected 0.99 s from the first to the last moment of an epoch of 'acquisition/paused', got 1.49"
    )


def test_moments_spikes_and_modules(tmp_path: Path, source: Path) -> None:
    found = ingested(tmp_path / "a", "nwb", source, {"x": said("acquisition/eeg"), "group": {"block": 100}})
    assert found["arrays"]["x"] == pytest.approx(np.arange(1000).reshape(500, 2) * 1e-3 + 0.5, rel=1e-6)
    assert found["arrays"]["x"].dtype == np.float32
    spikes = ingested(tmp_path / "b", "nwb", source, {"spikes": said("units/spike_times", unit="s")})
    assert spikes["arrays"]["spikes"].offsets.tolist() == [0, 2, 2, 3]
    assert spikes["arrays"]["spikes"].values.tolist() == [0.1, 0.2, 0.3]
    speed = ingested(tmp_path / "c", "nwb", source, {"v": said("processing/behavior/speed")})
    assert (speed["arrays"]["v"].tolist(), speed["fields"]["v"]["unit"]) == (list(range(50)), "m/s")


def test_every_mistake_is_a_line(tmp_path: Path, source: Path) -> None:
    (line,) = refused(tmp_path / "out", "nwb", source, {"x": said("acquisition/egg")})
    assert line == "expected dataset 'acquisition/egg', got none (F); did you mean 'acquisition/eeg'?"
    with h5py.File(tmp_path / "plain.nwb", "w") as file:
        file["x"] = [1, 2]
    (line,) = refused(tmp_path / "out", "nwb", tmp_path / "plain.nwb", {"x": field("x")})
    assert line.startswith("expected a readable nwb file, got ")
    with h5py.File(source, "a") as file:
        file["elsewhere"] = h5py.ExternalLink("/etc/passwd", "/")
    (line,) = refused(tmp_path / "out", "nwb", source, {"x": said("acquisition/eeg")})
    assert line.startswith("expected no external links, got one")
