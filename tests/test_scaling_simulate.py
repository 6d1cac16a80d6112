"""The replay of a training's messages: what is replayed, on what, and that SimGrid and the formulas agree."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from safetensors.numpy import save_file

from kilonode import cli
from kilonode.records import figure
from kilonode.scaling import simulate, terms

FREE = terms.Network(0.0, 0.0, 0.0)
needs_simgrid = pytest.mark.skipif(
    shutil.which("smpicc") is None, reason="needs SimGrid's smpicc (Debian: apt-get install libsimgrid-dev)"
)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A training of 8 tensors of 1,000 numbers, steps of 100 ms of which a fifth is waiting, after 20 % of input."""
    folder = tmp_path / "results" / "mine" / "demo" / "classifier" / "seed-0"
    folder.mkdir(parents=True)
    tensors = {f"layer_{i}.weight": np.zeros((10, 100), np.float32) for i in range(8)}
    others = {"norm.running_mean": np.zeros(7, np.float32), "norm.num_batches_tracked": np.array(3)}
    save_file({**tensors, **others}, folder / "weights.safetensors")
    rows = [figure("step_p50", 100.0), figure("communication_wait", 0.16), figure("input_wait", 0.2)]
    (folder / "metrics.json").write_text(json.dumps({"bench": "train", "figures": rows}))
    return tmp_path / "results"


def test_what_is_replayed_are_the_parameters_of_a_training(results: Path) -> None:
    record, sizes = simulate.training(results, "mine", None)
    assert sizes == [4000] * 8
    assert simulate.compute_of(record) == pytest.approx(0.08)  # waits are parts of steps and input together


def test_our_schedule_is_four_groups_that_hide() -> None:
    ours, blocking, single, each = simulate.schedules([100, 200, 300, 400, 500])
    assert ours.groups == (300, 300, 400, 500)
    assert ours.overlap
    assert blocking.groups == ours.groups
    assert not blocking.overlap
    assert single.groups == (1500,)
    assert each.groups == (100, 200, 300, 400, 500)


def test_the_formula_counts_what_computing_does_not_hide() -> None:
    """4 messages of 10 ms at 2 ranks (a cycle of 15 ms: longest of two waits 10 ms), 60 ms of compute, 40 backward."""
    ours = simulate.Schedule("ours", (0, 0, 0, 0), True)
    blocking = simulate.Schedule("blocking", (0, 0, 0, 0), False)
    assert blocking.seconds(0.06, 0.0, 0.015, 2, FREE) == pytest.approx(0.06 + 4 * 0.01)
    assert ours.seconds(0.06, 0.0, 0.015, 2, FREE) == pytest.approx(0.06 + 0.01)  # 3 x 10 ms behind 3/4 x 40 ms
    assert ours.seconds(0.03, 0.0, 0.015, 2, FREE) == pytest.approx(0.03 + 0.01 + 0.03 - 0.015)


@pytest.mark.parametrize("ranks", [2, 1024, 4096])
def test_the_platform_has_a_node_for_every_rank(ranks: int, tmp_path: Path) -> None:
    simulate.platform(tmp_path, ranks, terms.ARIES, "0.5us")
    cluster = ElementTree.parse(tmp_path / "platform.xml").getroot()[0]
    last = int(cluster.attrib["radical"].partition("-")[2])
    shape = [int(part.partition(",")[0]) for part in cluster.attrib["topo_parameters"].split(";")]
    assert np.prod(shape) == last + 1 >= ranks
    assert cluster.attrib["bw"] == "8GBps"
    assert len((tmp_path / "hosts").read_text().split()) == ranks


def call(words: str) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(words.split())
    return int(str(caught.value.code or 0))


def test_a_case_without_a_training_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(f"scaling simulate --case mine --results {tmp_path}") == 2
    assert capsys.readouterr().err.startswith("kilonode: expected a finished training, got none (")


def test_ranks_are_a_power_of_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("scaling simulate --case mine --ranks 1000") == 2
    assert "expected a power of two from 2 to 4096, got 1000" in capsys.readouterr().err


def test_without_simgrid_it_says_how_to_get_it(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert call(f"scaling simulate --case mine --results {results} --ranks 2") == 2
    assert "apt-get install libsimgrid-dev" in capsys.readouterr().err


@needs_simgrid
def test_simulation_and_formulas_agree_and_overlap_pays(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(f"scaling simulate --case mine --results {results} --ranks 16 --steps 4 --json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["conditions"]["simulated"]
    found = {row["name"].partition("ranks, ")[2]: row for row in content["figures"] if row["name"].startswith("step")}
    assert len(found) == 4
    for row in found.values():
        assert row["value"] == pytest.approx(row["formula"], rel=0.05)
    ours, blocking, *_ = found.values()
    assert 80 < ours["value"] < blocking["value"]


@needs_simgrid
def test_a_replay_costs_what_rabenseifner_says(tmp_path: Path) -> None:
    """One message of 28 MB after 200 ms, no noise, no cycle, 2 ranks: 2 x 14 MB over links of 8 GB/s, 14 MB added."""
    simulate.platform(tmp_path, 2, terms.ARIES, "0.5us")
    one = simulate.Schedule("one", (28_000_000,), False)
    step = simulate.replay(simulate.compiled(tmp_path), one, 0.2, 0.0, 0.0, 2, 2)
    assert step == pytest.approx(0.2 + terms.rabenseifner(28e6, 2, terms.ARIES), rel=0.01)
