"""The I/O benchmark: every reader gives every sample once, and what is made of their times."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kilonode import bench
from kilonode.bench import _peers, io
from kilonode.errors import UserError
from kilonode.records import Json

SAMPLES, SHAPE = 200, (3, 16, 16)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Json:
    folder = tmp_path_factory.mktemp("samples")
    found: Json = {"folder": str(folder), "samples": SAMPLES, "shape": SHAPE, "window": 200_000}
    _peers.make(_peers.Plan(reader="make", **found))
    return found


@pytest.mark.parametrize("contender", io.CONTENDERS, ids=lambda contender: contender.name.replace(" ", "-"))
def test_a_reader_gives_every_sample_once(contender: io.Contender, plan: Json) -> None:
    pytest.importorskip(contender.needs)
    own = _peers.Plan(reader=contender.reader, form=contender.form, **plan)
    epoch = _peers.READERS[contender.reader](own)
    for number in range(2):
        found = _peers.timed(epoch(number), own)  # raises where a sample is missing, doubled or mixed up
    assert found["samples"] == SAMPLES
    assert found["bytes"] == SAMPLES * (4 * int(np.prod(SHAPE)) + 8)
    assert 0 < found["p50"] <= found["p99"] <= found["seconds"]


@pytest.mark.parametrize(
    ("labels", "images", "words"),
    [
        ([0, 1, 2], [0, 1, 2], "1 samples missing or doubled"),
        ([0, 1, 2, 2], [0, 1, 2, 2], "2 samples missing or doubled"),
        ([0, 1, 2, 3], [0, 1, 3, 2], "do not belong together"),
    ],
)
def test_a_reader_that_cheats_is_found(labels: list[int], images: list[int], words: str) -> None:
    own = _peers.Plan("ours", "", samples=4, shape=(1,), window=1)
    batch = np.array(images, np.float32)[:, None], np.array(labels)
    with pytest.raises(RuntimeError, match=words):
        _peers.timed(iter([batch]), own)


def test_the_order_of_readers_rotates(plan: Json, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Json] = []
    monkeypatch.setattr(io, "_process", lambda own: asked.append(own) or {"own": len(asked)})
    found = io.measured(plan, turns=2, cold=True)
    half = len(asked) // 2
    first, second = ([(own["reader"], own["form"]) for own in part] for part in (asked[:half], asked[half:]))
    assert second == [*first[1:], first[0]]
    assert {own["batches"] for own in asked if own["reader"] == "fancy"} == {1}
    assert not any(own["rehearse"] for own in asked)
    assert all(len(turns) == 2 for turns in found.values())


def test_what_is_made_of_the_times(plan: Json) -> None:
    seconds = {"blocks": 1.0, "ours": 2.0, "fancy": 101.0, "webdataset": 3.5}
    found = {
        contender.name: [
            {
                "samples": 100,
                "bytes": 10**9,
                "seconds": seconds.get(contender.reader, 8.0),
                "p50": 1.0,
                "p99": 6.0,
                "memory": io.MB,
                "fetched": 0,
                "window": 0,
            }
        ]
        for contender in io.CONTENDERS
        if contender.reader != "streaming"
    }
    rows = {row["name"]: row for row in io.compared(found)}
    assert (rows["ours over block read_direct, chunked"]["value"], rows["ours over the best peer"]["value"]) == (
        0.5,
        1.75,
    )
    assert rows["ours over the best peer"]["note"] == "which is webdataset, 2 workers"
    assert {name: row["met"] for name, row in rows.items() if row["met"] is False} == {
        "ours over the best peer": False,
        **{f"{ours.name}: p99 over median wait": False for ours in io.CONTENDERS if ours.reader == "ours"},
    }
    assert all(row["target"] is None for row in io.compared(found, "cold cache: "))
    (absent,) = io._rows(io.CONTENDERS[-1], found, "")
    assert absent["value"] is None
    assert "numpy < 2.2" in absent["note"]
    assert io._rows(io.CONTENDERS[3], found, "")[0]["note"] == ""
    found["ours, chunked"][0]["memory"] = 200 * io.MB
    assert "read whole" in io._rows(io.CONTENDERS[3], found, "")[0]["note"]
    assert "not cold" in io._rows(io.CONTENDERS[0], found, "cold cache: ")[0]["note"]


def test_how_well_an_order_mixes() -> None:
    rows = {row["name"]: row["value"] for row in io.shuffles(20_000, 50_000, 200 << 20, epochs=3)}
    assert rows["shuffle: window over data"] == pytest.approx(0.2097, abs=1e-3)
    assert rows["shuffle, ours: mean run of one label"] == pytest.approx(10 / 9, rel=0.1)
    in_order = io.mixing([np.arange(1000)], 1000)
    assert in_order["rank correlation with the file, absolute"] == [pytest.approx(1.0)]
    assert in_order["mean run of one label"] == in_order["longest run of one label"] == [100.0]


def test_memory_counts_the_children() -> None:
    child = "import subprocess, sys; a = bytearray(50 << 20); print(flush=True); input()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert 50 * io.MB < io.anonymous(process.pid) < 100 * io.MB
        process.communicate(b"\n")
    assert io.anonymous(process.pid) == 0


def test_shapes_of_samples() -> None:
    assert io.shape(48) == [3, 64, 64]
    assert io.shape(5) == [1280]


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    for options in (["--turns", "0"], ["--samples", "-1"], ["--folder", str(tmp_path / "none")]):
        with pytest.raises(UserError, match="expected a"):
            bench.run("io", options)


def test_a_small_run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    # All readers have been run above; here those that the ratios need, for importing torch takes seconds.
    few = [one for one in io.CONTENDERS if one.needs != "torch" or "by sample" in one.name]
    monkeypatch.setattr(io, "CONTENDERS", [one for one in few if one.reader != "webdataset"])
    options = ["--samples", "130", "--sample-kb", "3", "--turns", "1", "--cold", "--folder", str(tmp_path), "--json"]
    assert bench.run("io", options) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["figures"]}
    for contender in io.CONTENDERS:
        assert {contender.name, f"cold cache: {contender.name}"} <= set(rows)
    judged = {name for name, row in rows.items() if row["target"] is not None}
    assert {"ours over the best peer", "ours over sorted fancy index"} <= judged
    assert len(judged) == 8
    assert os.listdir(tmp_path) == []
