"""Benchmarks: found by name, one shape, honest exit codes. The measuring ones run at their smallest."""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kilonode import bench, cases, config
from kilonode.bench import _measure, comm
from kilonode.records import Json, conditions, figure

Run = Callable[..., subprocess.CompletedProcess[str]]
# Literal: scripts depend on it.
FROZEN = {
    "chaos": ["--kills", "--ranks", "--seed", "--backend", "--case", "--task", "--data", "--store"],
    "comm": ["--rounds", "--starts", "--steps", "--case", "--task", "--data", "--store"],
    "demo": ["--summary"],
    "io": ["--samples", "--sample-kb", "--turns", "--compression", "--cold", "--folder"],
    "preprocess": ["--mb", "--rounds", "--case", "--tier", "--folder"],
    "step": ["--case", "--data", "--rounds", "--seconds", "--epochs", "--precision", "--compile"],
}


@pytest.mark.parametrize("what", FROZEN)
def test_a_benchmark_has_its_options(what: str) -> None:
    assert what in bench.names()
    names = [action.option_strings[-1] for action in bench.parser(what)._actions]
    assert names == ["--help", "--json", "--strict", *FROZEN[what]]
    assert all(action.help for action in bench.parser(what)._actions)


def summary(folder: Path, met: bool) -> Path:
    path = folder / "summary.json"
    figures = [figure("speed", 2.5, "samples/s", (2.0, 3.0), target=3.0, met=met, note="slow")]
    path.write_text(json.dumps({"figures": figures, "conditions": conditions(seeds=[0])}))
    return path


@pytest.mark.parametrize(
    ("met", "options", "code"), [(True, ["--strict"], 0), (False, [], 0), (False, ["--strict"], 1)]
)
def test_a_missed_target_is_an_exit_code_where_it_is_asked_for(
    met: bool, options: list[str], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.run("demo", ["--summary", str(summary(tmp_path, met)), *options]) == code
    verdict = "met" if met else "MISSED"
    assert capsys.readouterr().out == f"speed  2.500 samples/s  [2.000, 3.000]  target 3.000: {verdict}  (slow)\n"


def test_what_is_not_understood_is_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        bench.run("demo", ["--sumary", "x"])
    assert ended.value.code == 2
    assert "unrecognized arguments: --sumary" in capsys.readouterr().err


def test_medians_of_interleaved_rounds() -> None:
    calls: list[str] = []

    def side(name: str, value: float) -> Callable[[], float]:
        return lambda: calls.append(name) or value  # type: ignore[func-returns-value]

    found = _measure.turns({"a": side("a", 2.0), "b": side("b", 4.0)}, rounds=2, what="test", warm=1)
    assert found == {"a": [2.0, 2.0], "b": [4.0, 4.0]}
    assert calls == ["b", "a", "a", "b", "b", "a"]  # nobody is always first
    assert _measure.ratio(found["b"], found["a"]) == (2.0, (2.0, 2.0))
    value, (low, high) = _measure.median(np.arange(101.0))
    assert low < value == 50.0 < high
    assert _measure.geometric_mean([1.0, 4.0]) == pytest.approx(2.0)


def printed(done: subprocess.CompletedProcess[str]) -> dict[str, Json]:
    """Figures by name of what ``--json`` printed."""
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    config.check(found, config.schema("bench"), "stdout")
    return {row["name"]: row for row in found["figures"]}


@pytest.mark.slow
@pytest.mark.mpi
def test_chaos(kilonode: Run, mpiexec: Run, toy: Path) -> None:
    store = toy / "store/pairs/index.json"
    rows = printed(kilonode("bench", "chaos", "--kills", "6", "--store", store, "--json", timeout=500))
    assert rows["kills whose run ended bit-identical"]["value"] == 6
    assert rows["processes that had to be removed"]["value"] == 0


@pytest.mark.slow
@pytest.mark.mpi
def test_communication(kilonode: Run, mpiexec: Run, toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("--rounds", "2", "--starts", "1", "--steps", "1", "--store", toy / "store/pairs/index.json")
    rows = printed(kilonode("bench", "comm", *options, "--json", timeout=500))
    assert {f"allreduce {comm.label(size)}, horovod over mpi4py" for size in comm.SIZES} <= set(rows)
    assert rows["2 ranks x 1 thread over 1 rank x 2 threads"]["target"] == comm.TWO_BY_ONE
    assert all(row["value"] > 0 for name, row in rows.items() if row["unit"] in ("ms", "samples/s")), rows


@pytest.mark.slow
@pytest.mark.mpi
def test_preprocess_on_two_ranks(kilonode: Run, mpiexec: Run) -> None:
    rows = printed(
        kilonode("bench", "preprocess", "--mb", "8", "--rounds", "1", "--tier", "toy", "--json", timeout=500)
    )
    for stage in ("simulate", "ingest", "preprocess"):
        assert rows[f"{stage}, same bytes"]["met"]
        assert rows[f"{stage}, two ranks against one"]["target"] == 1.8


@pytest.mark.slow
def test_steps(kilonode: Run) -> None:
    options = ("--case", cases.SMALL, "--rounds", "1", "--seconds", "0.1", "--epochs", "1")
    rows = printed(kilonode("bench", "step", *options, "--json", timeout=500))
    judged = [name for name, row in rows.items() if row["target"] is not None]
    assert {"geometric mean of ours over the plain loop", "least of them"} <= set(judged)
    assert sum(name.endswith(", ours over the plain loop") for name in rows) >= 3
    assert all(row["value"] > 0 for row in rows.values() if row["unit"] in ("GFLOP/s",)), rows


def test_an_empty_parser_is_what_a_benchmark_starts_from() -> None:
    for what in bench.names():
        assert isinstance(bench.parser(what), argparse.ArgumentParser)
