"""Configurations: every mistake at once, with the way out, before anything runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kilonode import cases, config
from kilonode.errors import UserError

CASE = "reactor_neutrinos"
ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples/muon_images/mapping.yaml"
LOCAL_RANKS = int(yaml.safe_load((ROOT / "workflow/profiles/local/profile.yaml").read_text())["set-threads"]["train"])
Json = dict[str, Any]
Change = Callable[[Json], None]
Problems = Callable[[Change], list[str]]


def read(path: Path) -> Json:
    """YAML with every alias as a copy of its own, so that a change stays where it is made."""

    def copied(value: Any) -> Any:
        return {key: copied(item) for key, item in value.items()} if isinstance(value, dict) else value

    content: Json = copied(yaml.safe_load(path.read_text()))
    return content


def lines_of(path: Path, change: Change, data: str) -> list[str]:
    """What resolving says after a change of the file; the file's own name as F."""
    content = read(path)
    change(content)
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(UserError) as caught:
        config.resolve(CASE, data)
    assert all(str(path) in line for line in caught.value.problems)
    return [line.replace(f" ({path}", " (F") for line in caught.value.problems]


@pytest.fixture
def case_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ``case.yaml`` that may be changed."""
    shutil.copytree(cases.HOME / CASE, tmp_path / CASE, ignore=shutil.ignore_patterns("*.py"))
    monkeypatch.setattr(cases, "HOME", tmp_path)
    return tmp_path / CASE / "case.yaml"


@pytest.fixture
def case_problems(case_copy: Path) -> Problems:
    """Lines that the demo tier of a changed copy of the case gives."""
    return lambda change: lines_of(case_copy, change, "demo")


@pytest.fixture
def mapping_problems(tmp_path: Path) -> Problems:
    """Lines that a changed copy of the example's mapping gives."""
    path = tmp_path / "mapping.yaml"

    def problems(change: Change) -> list[str]:
        shutil.copy(EXAMPLE, path)
        return lines_of(path, change, str(path))

    return problems


@pytest.mark.parametrize("tier", config.TIERS)
@pytest.mark.parametrize("case", cases.names())
def test_every_tier_of_every_case_is_valid(case: str, tier: str) -> None:
    resolved = config.resolve(case, tier)
    assert resolved["data"] == tier
    assert "tiers" not in resolved
    config.check({**resolved, "tiers": {key: {} for key in config.TIERS}}, _with_data(config.schema("case")), case)
    assert sum(resolved["split"]["fractions"]) == pytest.approx(1)
    for name, task in resolved["tasks"].items():  # a rank without a sample of each batch is refused
        assert task["training"]["batch"] >= LOCAL_RANKS, name


def _with_data(schema: Json) -> Json:
    return {**schema, "properties": {**schema["properties"], "data": {"type": "string"}}}


def test_every_mistake_of_a_case_is_listed_at_once(case_problems: Problems) -> None:
    def change(content: Json) -> None:
        content["taks"] = content.pop("title")
        autoencoder = content["tasks"]["autoencoder"]
        autoencoder["training"]["epoch"] = 3
        autoencoder["training"]["batch"] = "1e2"  # YAML's own trap: no number without a point
        autoencoder["input"]["transform"] = "log"
        autoencoder["read_outs"]["detector"]["kind"] = "regression"
        content["split"]["fractions"] = [0.5, 0.5]
        content["tables"]["pairs"]["dt"]["dtype"] = "float16"
        content["simulation"]["groups"] = True

    assert case_problems(change) == sorted(
        [
            "expected a known key in top level, got 'taks' (F); did you mean 'tasks'?",
            "expected top level to be valid, got 'title' is a required property (F); see its comment in the file",
            "expected a known key in tasks.autoencoder.training, got 'epoch' (F); did you mean 'epochs'?",
            *(
                f"expected {place} to be valid, got {got} (F); see its comment in the file"
                for place, got in {
                    "tasks.autoencoder.training.batch": "'1e2' is not of type 'integer'",
                    "tasks.autoencoder.input.transform": "'log' is not one of ['none', 'log1p']",
                    "tasks.autoencoder.read_outs.detector.kind": (
                        "'regression' is not one of ['separate', 'classes', 'regress']"
                    ),
                    "split.fractions": "[0.5, 0.5] is too short",
                    "tables.pairs.dt.dtype": (
                        "'float16' is not one of ['float32', 'float64', 'int64', 'int32', 'int16', 'uint8']"
                    ),
                    "simulation.groups": "True is not of type 'integer'",
                }.items()
            ),
        ]
    )


@pytest.mark.parametrize("tier", config.TIERS)
def test_mistakes_in_any_tier_are_found(case_problems: Problems, tier: str) -> None:
    def change(content: Json) -> None:
        content["tiers"][tier] = {"tasks": {"autoencoder": {"traning": {}, "training": {"lr": 0}}}, "splits": {}}

    assert case_problems(change) == [
        f"expected a known key in tiers.{tier}, got 'splits' (F); did you mean 'split'?",
        f"expected a known key in tiers.{tier}.tasks.autoencoder, got 'traning' (F); did you mean 'training'?",
        f"expected tiers.{tier}.tasks.autoencoder.training.lr to be valid, got 0 is less than or equal to the minimum "
        "of 0 (F); see its comment in the file",
    ]


def test_a_task_that_only_a_tier_has_must_be_whole(case_problems: Problems) -> None:
    def change(content: Json) -> None:
        content["tiers"]["demo"] = {"tasks": {"extra": {"table": "pairs"}}}

    missing = ("explain", "input", "model", "training")
    assert case_problems(change) == [
        f"expected tasks.extra to be valid, got '{key}' is a required property (F, tier demo); "
        "see its comment in the file"
        for key in missing
    ]


def test_fields_that_no_table_has_are_found(case_problems: Problems) -> None:
    def change(content: Json) -> None:
        autoencoder = content["tasks"]["autoencoder"]
        autoencoder["input"]["field"] = "pair"
        autoencoder["read_outs"]["detector"]["field"] = "detectors"
        autoencoder["read_outs"]["antineutrino_vs_physical"]["negative"] = {"acidental": [1]}
        autoencoder["columns"]["run"]["field"] = "groups"
        content["tasks"]["classifier"]["table"] = "single"

    assert case_problems(change) == [
        f"expected a {kind} in tasks.{place}, got {got!r} (F, tier demo); did you mean {meant!r}?"
        for kind, place, got, meant in [
            ("field", "autoencoder.input.field", "pair", "pairs"),
            ("field", "autoencoder.columns.run.field", "groups", "group"),
            ("field", "autoencoder.read_outs.detector.field", "detectors", "detector"),
            ("field", "autoencoder.read_outs.antineutrino_vs_physical.negative", "acidental", "accidental"),
            ("table", "classifier.table", "single", "singles"),
        ]
    ]


def test_every_mistake_of_a_mapping_is_listed_at_once(mapping_problems: Problems) -> None:
    def change(content: Json) -> None:
        content["titel"] = "x"
        content["name"] = "demo"
        content["format"] = "hdf6"
        content["split"] = {"fractoins": [0.6, 0.2, 0.2]}
        content["tables"]["events"]["sample_id"] = content["tables"]["events"]["images"]
        content["tables"]["events"]["truth/dir_z"] = {"datasts": ["a", "b"], "unit": "1", "long_name": "x"}
        del content["tables"]["events"]["group"]["datasets"]
        content["tasks"]["autoencoder"]["training"]["epoch"] = 3
        content["tasks"]["autoencoder"]["training"]["threads"] = 1.5

    found = mapping_problems(change)
    for start in (
        "expected a known key in top level, got 'titel' (F); did you mean 'title'?",
        "expected name to be valid, got 'demo' should not be valid under {'enum': ['toy', 'demo', 'article']} (F)",
        f"expected format to be valid, got 'hdf6' is not one of {config.formats()} (F)",
        "expected a known key in split, got 'fractoins' (F); did you mean 'fractions'?",
        "expected tables.events to be valid, got 'sample_id' should not be valid under {'const': 'sample_id'} (F)",
        "expected a known key in tables.events.truth/dir_z, got 'datasts' (F); did you mean 'datasets'?",
        "expected one of the forms of tables.events.truth/dir_z, got ",
        "expected one of the forms of tables.events.group, got ",
        "expected a known key in tasks.autoencoder.training, got 'epoch' (F); did you mean 'epochs'?",
        "expected tasks.autoencoder.training.threads to be valid, got 1.5 is not of type 'integer' (F)",
    ):
        assert sum(line.startswith(start) for line in found) == 1, (start, found)
    assert len(found) == 10


def test_a_mapping_names_known_tasks_and_fields(mapping_problems: Problems) -> None:
    def typo(content: Json) -> None:
        content["tasks"]["autoencode"] = content["tasks"].pop("autoencoder")

    assert mapping_problems(typo) == ["expected a task, got 'autoencode' (F); did you mean 'autoencoder'?"]

    def unknown(content: Json) -> None:
        content["tasks"]["autoencoder"]["input"]["field"] = "image"
        content["tasks"]["autoencoder"]["read_outs"]["dir_z"]["field"] = "dir_z"

    assert mapping_problems(unknown) == [
        "expected a field in tasks.autoencoder.input.field, got 'image' (F); did you mean 'images'?",
        "expected a field in tasks.autoencoder.read_outs.dir_z.field, got 'dir_z' (F); did you mean 'truth/dir_z'?",
    ]


def test_a_mapping_belongs_to_its_case(mapping_problems: Problems) -> None:
    def change(content: Json) -> None:
        content["case"] = "galaxy_shapes"

    assert mapping_problems(change) == [f"expected a mapping for case {CASE!r}, got one for 'galaxy_shapes' (F)"]


def test_a_mapping_becomes_a_configuration() -> None:
    case, resolved = config.resolve(CASE, "toy"), config.resolve(CASE, str(EXAMPLE))
    assert (resolved["data"], resolved["tables"], resolved["group"]) == ("muon_images", {}, "event")
    assert "simulation" not in resolved
    assert set(resolved["tasks"]) == {"autoencoder"}
    task = resolved["tasks"]["autoencoder"]
    assert task["training"] == {**case["tasks"]["autoencoder"]["training"], "batch": 32, "epochs": 60, "patience": 15}
    assert set(task["read_outs"]) == {"dir_z"}  # its own, not the case's
    assert resolved["ingest"]["tables"]["events"]["group"]["datasets"] == ["file", "event"]


@pytest.mark.parametrize(
    ("ask", "part"),
    [
        (lambda: config.resolve("reactor_neutrino", "toy"), "did you mean 'reactor_neutrinos'?"),
        (lambda: config.task(CASE, "toy", "autoencoders"), "did you mean 'autoencoder'?"),
        (lambda: config.resolve(CASE, "toyy"), "expected one of toy, demo, article or a mapping file ending in .yaml"),
        (lambda: config.resolve(CASE, "none.yaml"), "expected a YAML file, got No such file or directory (none.yaml)"),
    ],
)
def test_unknown_names_show_the_near_ones(ask: Callable[[], Any], part: str) -> None:
    with pytest.raises(UserError) as caught:
        ask()
    (line,) = caught.value.problems
    assert part in line


@pytest.mark.parametrize("text", ["a: [1", "- 1\n- 2", "a: 2024-13-45", "\x00", "", "a: !!python/object:os.system {}"])
def test_what_is_no_yaml_mapping_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        config.resolve(CASE, str(path))
    (line,) = caught.value.problems
    assert line.startswith("expected a YAML mapping" if text in ("", "- 1\n- 2") else "expected YAML")
    assert line.endswith(f"({path}); mend the file")


leaves = st.integers() | st.lists(st.integers(), max_size=2)
trees = st.recursive(leaves, lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3), max_leaves=8)
mappings = st.dictionaries(st.sampled_from("abc"), trees, max_size=3)


@given(mappings, mappings, mappings)
def test_merging_overlays_is_associative_and_changes_no_argument(a: Json, b: Json, c: Json) -> None:
    before = repr((a, b, c))
    assert config.merged({}, a) == config.merged(a, {}) == config.merged(a, a) == a
    if not _clash(a, b, c):
        assert config.merged(config.merged(a, b), c) == config.merged(a, config.merged(b, c))
    assert repr((a, b, c)) == before


def _clash(*parts: Any) -> bool:
    """Whether a key is a mapping in one place and a value in another: then the order of merging matters."""
    if not all(isinstance(part, dict) for part in parts):
        return any(isinstance(part, dict) for part in parts)
    keys = {key for part in parts for key in part}
    return any(_clash(*(part[key] for part in parts if key in part)) for key in keys)


def test_merging_replaces_lists_and_keeps_neighbours() -> None:
    base = {"a": {"x": 1, "y": [1, 2]}, "b": 2}
    result = config.merged(base, {"a": {"y": [3]}, "c": {"z": 1}})
    assert result == {"a": {"x": 1, "y": [3]}, "b": 2, "c": {"z": 1}}
    result["a"]["y"].append(4)
    assert base["a"]["y"] == [1, 2]


def test_a_digest_changes_with_its_part_only(case_copy: Path) -> None:
    parts = [("simulation",), ("split",), ("tables",), ("tasks", "classifier"), ("tasks", "autoencoder", "model")]
    training = ("tasks", "autoencoder", "training")
    content = read(case_copy)
    before = [config.part(CASE, "toy", *part) for part in [*parts, training]]
    content["tasks"]["autoencoder"]["training"]["lr"] *= 2
    case_copy.write_text(yaml.safe_dump(content))
    after = [config.part(CASE, "toy", *part) for part in [*parts, training]]
    assert after[:-1] == before[:-1]
    assert after[-1] != before[-1]
    assert len(set(before)) == len(before)
    assert config.part(CASE, "toy", "none", "such") == config.part(CASE, "toy", "nothing")
