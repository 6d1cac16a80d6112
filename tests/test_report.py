"""Words, contests and tables: who won is said, nobody wins by noise, and what is not shown is said too."""

from __future__ import annotations

import csv
import socket
from pathlib import Path
from typing import Any

import pytest
import small_report

from kilonode import intervals
from kilonode.errors import UserError
from kilonode.records import file_digest, read_json
from kilonode.report import gather, maps, page, pictures, publish, run
from kilonode.report.contests import contests, leading, widening
from kilonode.report.pool import pooled
from kilonode.report.wording import listed, number, seeds_of, spoken, verdict, with_interval


def row(method: str, role: str, value: float | None, half: float = 0.02, **more: Any) -> dict[str, Any]:
    interval = None if value is None else [value - half, value + half]
    named = {"case": "c", "data": "toy", "task": "t", "question": "class", "metric": "accuracy", "unit": "1", "n": 99}
    return {**named, "seed": 0, "method": method, "role": role, "value": value, "interval": interval, **more}


def gain(value: float, half: float, against: str = "trees", groups: int = 30) -> dict[str, Any]:
    metric = f"accuracy_gain_on_{against}"
    return row("network", "network", value, half, metric=metric, against=against, groups=groups)


def judged(*rows: dict[str, Any]) -> dict[str, Any]:
    (found,) = contests(pooled(rows))
    return found


NETWORK, TREES = row("network", "network", 0.9), row("trees", "baseline", 0.8)


@pytest.mark.parametrize(
    ("difference", "said"),
    [
        (gain(0.1, 0.05), "the network is better than trees by 0.100 [0.050, 0.150]"),
        (gain(-0.1, 0.05), "the network is worse than trees by 0.100 [0.050, 0.150]"),
        (gain(0.01, 0.03), "no difference shown between the network and trees: 0.010 [−0.020, 0.040]"),
        (gain(0.1, 0.05, groups=2), "not decided: 0.100 [0.050, 0.150] against trees from only 2 test groups"),
    ],
)
def test_a_verdict_follows_the_interval(difference: dict[str, Any], said: str) -> None:
    assert verdict(judged(NETWORK, TREES, difference)) == said


def test_the_strongest_rival_counts_even_where_nobody_recorded_a_difference_to_it() -> None:
    stronger = row("cuts", "baseline", 0.95)
    found = judged(NETWORK, TREES, stronger, gain(0.1, 0.05))
    assert found["rival"]["method"] == "cuts"
    assert not found["difference"]["paired"]
    assert found["difference"]["cover"] == pytest.approx([-0.05 - 0.02 * 2**0.5, -0.05 + 0.02 * 2**0.5])
    assert verdict(found).startswith("the network is worse than cuts, the strongest of 2, by 0.050")


def test_of_errors_the_smaller_is_better() -> None:
    found = judged(*(row(m, r, v, metric="mse") for m, r, v in (("net", "network", 0.5), ("pca", "baseline", 0.2))))
    assert found["outcome"] == "lost"
    assert found["difference"]["value"] == pytest.approx(-0.3)


def test_a_share_of_wins_is_measured_from_a_half() -> None:
    share = row("network", "network", 0.3, 0.06, question="win_rate", metric="win_rate_over_fit", against="fit")
    assert verdict(judged(share)) == (
        "the network wins on 30.0\N{NO-BREAK SPACE}% [24.0, 36.0] of test samples against fit: "
        "less than half, so the network is worse"
    )


def test_a_bound_stands_beside_every_question_of_its_metric() -> None:
    bound = row("perfect", "oracle", 0.97, question="bounds")
    assert judged(NETWORK, TREES, bound)["oracle"]["method"] == "perfect"


def test_nobody_wins_by_knowing_a_nuisance() -> None:
    rows = [row(m, r, v, metric="linear_r2") for m, r, v in (("code", "network", 0.0), ("pca", "baseline", 0.9))]
    assert contests(pooled(rows)) == []


def test_an_oracle_stands_beside_the_difference_to_the_same_rival() -> None:
    named = {"question": "win_rate", "metric": "win_rate_over_fit", "against": "fit"}
    oracle = row("truth", "oracle", 0.94, **named)
    assert judged(row("network", "network", 0.3, 0.06, **named), oracle)["oracle"]["value"] == 0.94


def test_few_groups_widen_an_interval() -> None:
    # Student's t of 3 degrees of freedom over the normal's 1.960, times sqrt(4 / 3)
    assert widening(4) == pytest.approx(3.1824 / 1.95996 * (4 / 3) ** 0.5, rel=1e-4)
    assert widening(1000) == pytest.approx(1, abs=0.003)


def test_a_task_is_known_by_what_its_case_names() -> None:
    rows = [NETWORK, TREES, *({**one, "question": "other", "metric": "auc"} for one in (NETWORK, TREES))]
    found = contests(pooled(rows))
    assert leading(found, "other/auc") is found[1]
    assert leading(found) is found[0]
    assert leading([]) is None


def test_seeds_become_a_mean_with_the_interval_of_student() -> None:
    rows = [row("network", "network", value, seed=seed) for seed, value in enumerate((0.8, 0.9, 1.0))]
    (found,) = pooled(rows)
    half = 4.3027 * 0.1 / 3**0.5  # t of 2 degrees of freedom
    assert found["value"] == pytest.approx(0.9)
    assert found["interval"] == pytest.approx([0.9 - half, 0.9 + half], rel=1e-4)
    assert found["test_interval"] == pytest.approx([0.88, 0.92])
    assert found["cover"] == found["interval"]
    assert intervals.student([0.5]) is None


def test_numbers_are_written_plainly() -> None:
    assert [number(0.12345), number(34776.0), number(None), number(float("nan"))] == ["0.123", "34,776", "n/a", "n/a"]
    assert [number(-0.5), number(0.00002), number(-0.0), number(123.45)] == ["−0.500", "2.0e-05", "0.000", "123.5"]
    assert with_interval({"value": 0.5, "interval": None}) == "0.500"
    assert spoken("linear_auc_gain") == "linear AUC gain"
    assert [seeds_of([0]), seeds_of([0, 1, 2]), seeds_of([0, 2])] == ["seed 0", "seeds 0-2", "seeds 0, 2"]
    assert listed(["a", "b", "c"]) == "a, b and c"


@pytest.fixture(scope="module")
def gathered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    gather.run([small_report.run(folder, "classifier", seed) for seed in (0, 1)], folder / "summary.json")
    return folder


def test_gather_writes_who_won_as_table_and_json(gathered: Path) -> None:
    (line,) = read_json(gathered / "summary.json")["overview"]
    (cells,) = csv.DictReader((gathered / "overview.csv").open())
    assert (line["outcome"], cells["outcome"], cells["rival"], cells["oracle"]) == (
        "won", "won", "boosted_trees", "label_rule",
    )  # fmt: skip
    assert float(cells["network_value"]) == pytest.approx(0.905)
    assert cells["article"] == "79 %"
    assert len(list(csv.DictReader((gathered / "summary.csv").open()))) == 10


def test_every_network_has_its_hash_and_a_card(gathered: Path) -> None:
    catalogue = read_json(gathered / "model_cards/catalogue.json")
    assert [entry["seed"] for entry in catalogue] == [0, 1]
    for entry in catalogue:
        assert entry["sha256"] == file_digest(Path(entry["file"]))
        card = (gathered / "model_cards" / entry["card"]).read_text()
        for said in ("Simulated", "0.9", "## Limits", "## Provenance", "licence", entry["sha256"], "better than"):
            assert said in card
    assert len(list(csv.DictReader((gathered / "model_cards/catalogue.csv").open()))) == 2


def test_a_published_record_names_no_machine_and_no_folder(gathered: Path) -> None:
    publish.run(gathered / "summary.json", gathered / "published.json")
    text, record = (gathered / "published.json").read_text(), read_json(gathered / "published.json")
    assert str(gathered) not in text
    assert f'"{socket.gethostname()}"' not in text
    assert '"/' not in text
    assert " /" not in text
    assert record["figures"] == read_json(gathered / "summary.json")["figures"]
    assert record["commands"]
    said = "run --to /a/b/c.h5 --lr 1/2 s/x, 5 /s, https://arxiv.org/abs/1"
    assert publish.scrubbed(said) == said.replace("/a/b/c.h5", "c.h5")


def test_the_page_says_in_words_who_won_and_what_is_not_shown(gathered: Path) -> None:
    page.run(gathered / "summary.json", gathered / "report.html")
    text = (gathered / "report.html").read_text()
    assert "the network is better than boosted trees, the strongest of 2, by 0.105" in text
    assert "article: 79 %; ours (accuracy): 0.905" in text
    assert "an AUC of 0.600 [0.550, 0.650]: above chance, not told from random weights." in text
    assert "Where the network looks is not shown by every saliency map: gradients not above random weights." in text
    assert "seeds 0-1" in text
    assert "http" not in text.replace("http://www.w3.org", "")


def test_a_published_record_is_no_page(gathered: Path) -> None:
    publish.run(gathered / "summary.json", gathered / "published.json")
    with pytest.raises(UserError, match="run gather again"):
        page.run(gathered / "published.json", gathered / "none.html")
    assert not (gathered / "none.html").exists()


def test_maps_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "maps.h5").write_bytes(b"no maps")
    with pytest.raises(UserError, match="expected maps as explain writes them"):
        maps.packed(tmp_path / "maps.h5")


@pytest.mark.parametrize("words", [["--directory", "there"], ["--directory=there"], ["-d", "there", "--quiet"]])
def test_the_front_knows_where_snakemake_will_work(words: list[str]) -> None:
    assert run.directory(words) == Path("there").resolve()
    assert run.directory(["--quiet"]) == Path()


def test_ticks_are_round_and_hold_the_curve() -> None:
    assert pictures.ticks(0.13, 0.92, 5) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert pictures.decades([0.3, 40.0]) == [0.2, 0.5, 1, 2, 5, 10, 20, 50]
    assert pictures.learning([], 1) is None


def test_scaling_curves_come_from_the_record(tmp_path: Path) -> None:
    rate, efficiency = pictures.scaling(read_json(small_report.scaling(tmp_path)))
    assert "1e+03 at 1 ranks, 2e+03 at 2 ranks, 4e+03 at 4 ranks" in rate["text"]
    assert "0.98 at 1 ranks" in efficiency["text"]
