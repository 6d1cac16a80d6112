"""Labels and patches keep their promises: stated errors, hard negatives, storms anywhere; regions, rules, files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier
from small_weather import CUT_OFF, GLOBE, HURRICANE, SMALL, alone, made, many

from kilonode import config
from kilonode.cases.extreme_weather import areas, baseline, export, labels, patches, rules, simulate, storms
from kilonode.cases.extreme_weather.earth import DEGREE, RADIUS
from kilonode.cases.extreme_weather.storms import Storm
from kilonode.cases.extreme_weather.world import INDEX
from kilonode.data.ingest import opened

# ---- labels


def test_labels_and_truth_differ_and_both_know_all_classes() -> None:
    true, said = [], []
    for group in range(3):
        part = simulate.simulate(11, group, {**SMALL, "rows": 96, "cyclones": 0, "rivers": 0})["frames"]
        true.append(part["truth/boxes"][::2])
        said.append(part["boxes"][::2])
    both = np.concatenate(true), np.concatenate(said)
    for boxes in both:
        assert (boxes[..., 4] >= 0).sum() > 20
    assert set(np.unique(both[0][..., 4])) >= {rules.TD, rules.TC, rules.ETC, rules.AR}
    assert (both[0] != both[1]).any()


def test_the_rule_names_storms_by_their_profile_alone() -> None:
    assert labels.rule(HURRICANE, 101000.0) == rules.TC
    assert labels.rule(replace(HURRICANE, deficit=600.0, core=0.3, aloft=0.4), 101000.0) == rules.TD
    assert labels.rule(replace(HURRICANE, deficit=50.0, core=0.0, aloft=0.0), 101000.0) is None
    assert labels.rule(CUT_OFF, 101000.0) is None
    assert labels.rule(replace(CUT_OFF, kind=storms.HYBRID, core=3.0, aloft=-3.0), 101000.0) is None


def test_rivers_are_labelled_in_their_sector_alone_but_true_everywhere() -> None:
    middles: dict[str, list[float]] = {"boxes": [], "truth/boxes": []}
    for group in range(3):
        part = simulate.simulate(13, group, {**SMALL, "rows": 96, "cyclones": 0, "rivers": 0})["frames"]
        for name, found in middles.items():
            boxes = part[name][::2].reshape(-1, 5)
            boxes = boxes[boxes[:, 4] == rules.AR]
            found += ((boxes[:, 1] + boxes[:, 3]) / 2 * 2.5 % 360).tolist()
    low, high = labels.SECTOR
    assert all(low - 5 <= lon <= high + 5 for lon in middles["boxes"])
    assert any(not low <= lon < high for lon in middles["truth/boxes"])


def test_a_frame_that_is_empty_differs_from_one_nobody_looked_at() -> None:
    frames = made()["frames"]
    assert (frames["boxes"][1::2] == labels.UNLABELLED).all()
    assert (frames["labelled"] == (frames["boxes"][:, 0, 4] != labels.UNLABELLED)).all()
    none = labels.padded(np.zeros((0, 5), np.int32))
    assert (none == labels.UNUSED).all()


def test_label_errors_leave_the_weather_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    before = made()
    monkeypatch.setattr(labels, "MISSED", 0.9)
    monkeypatch.setattr(patches, "MISSED", 0.9)
    after = simulate.simulate(3, 1, SMALL)
    assert before["frames"]["images"].tobytes() == after["frames"]["images"].tobytes()
    assert before["cyclones"]["x"].tobytes() == after["cyclones"]["x"].tobytes()
    assert before["frames"]["truth/boxes"].tobytes() == after["frames"]["truth/boxes"].tobytes()
    assert before["frames"]["boxes"].tobytes() != after["frames"]["boxes"].tobytes()


def test_no_storm_is_in_two_sequences() -> None:
    numbers = [set(made(group)["frames"]["truth/storms"][..., 0].ravel()) - {-1.0} for group in (1, 2)]
    assert all(numbers)
    assert not numbers[0] & numbers[1]


def test_a_day_is_eight_frames_and_its_labels_those_of_every_second_one() -> None:
    frames, days = made()["frames"], made()["days"]
    np.testing.assert_array_equal(days["images"][0], frames["images"].swapaxes(0, 1))
    np.testing.assert_array_equal(days["boxes"][0], frames["boxes"][::2])


# ---- patches


def test_labels_of_patches_have_the_errors_that_are_stated() -> None:
    wrong = many()["y"] != many()["truth/rule"]
    assert 0 < wrong.mean() < 0.1
    assert (many()["truth/rule"] != many()["truth/y"]).any()


def test_half_of_the_negatives_look_like_storms() -> None:
    negative = many()["truth/rule"] == 0
    assert (many()["truth/kind"][negative] != storms.NONE).mean() >= 0.5


def test_storms_stand_anywhere_in_their_patch() -> None:
    around = many()["truth/storm"][many()["truth/kind"] == storms.TROPICAL][:, 7:]
    assert around.std(axis=0).min() >= 3
    assert np.abs(around).max() <= patches.JITTER * 32 + 1e-6


def test_every_kind_of_hard_negative_is_drawn_about_as_often() -> None:
    negative = many()["truth/rule"] == 0
    kinds, counts = np.unique(many()["truth/kind"][negative], return_counts=True)
    hard = counts[kinds != storms.NONE]
    assert len(hard) == 7  # six that are no tropical storm, and tropical storms too weak for the rule
    assert hard.max() <= 2 * hard.min()


def test_no_single_threshold_tells_cyclones_from_what_looks_like_them_but_some_criteria_together_do() -> None:
    x, y = baseline.cyclone_summaries(many()["x"]), many()["y"]
    single, together = (
        DecisionTreeClassifier(max_depth=depth, random_state=0).fit(x, y).score(x, y) for depth in (1, 3)
    )
    assert 0.6 < single < 0.95
    assert together > single + 0.015


def test_some_negatives_are_deeper_windier_moister_or_warmer_than_many_cyclones() -> None:
    x, is_one = baseline.cyclone_summaries(many()["x"]), many()["truth/rule"] == 1
    for number in (
        1,
        3,
        4,
        5,
        7,
        8,
    ):  # depth, core at 500 and 200 hPa, water vapour, wind at 850 hPa and near the ground
        assert (x[~is_one, number] > np.quantile(x[is_one, number], 0.25)).mean() > 0.05, number


def test_the_middle_pixel_does_not_give_the_storm_away() -> None:
    middle, y = baseline.features("patches", many()["x"])["middle"], many()["y"]
    assert DecisionTreeClassifier(max_depth=1).fit(middle, y).score(middle, y) < 0.95


def test_a_patch_standardised_by_itself_has_lost_its_pressure() -> None:
    x = many()["x"]
    louder = x.copy()
    louder[:, 2] += 1000.0
    before, after = (baseline.features("patches", part) for part in (x, louder))
    np.testing.assert_allclose(before["per_patch"], after["per_patch"], atol=0.05)
    assert np.abs(before["summaries"] - after["summaries"]).max() > 500


def test_windows_of_rivers_hold_moisture_and_land() -> None:
    found = made()["rivers"]["x"]
    assert found.shape[1:] == (2, *patches.RIVER_SHAPE)
    assert set(np.unique(found[:, 1])) <= {0.0, 1.0}
    assert found[:, 0].min() >= 0


# ---- regions and rules


def regions_of(mask: np.ndarray) -> list[areas.Region]:
    return areas.regions(mask, GLOBE, 0.0)


def test_a_region_on_the_seam_is_one() -> None:
    mask = np.zeros(GLOBE.shape, bool)
    mask[60, 138:] = mask[61, :4] = True
    (found,) = regions_of(mask)
    assert found.box == (60, 138, 62, 148)


def test_the_length_of_a_region_is_that_on_the_sphere() -> None:
    mask = np.zeros(GLOBE.shape, bool)
    mask[80, 20:60] = True
    (found,) = regions_of(mask)
    assert found.length == pytest.approx(40 * 2.5 * DEGREE * RADIUS * np.cos(GLOBE.lat[80] * DEGREE), rel=0.1)
    assert found.length > 5 * found.width


def test_the_detector_finds_a_cyclone_and_no_cut_off_low() -> None:
    calm = np.zeros((16, *GLOBE.shape))
    calm[INDEX["PSL"]] = 101200.0
    calm[INDEX["T500"]], calm[INDEX["T200"]] = 260.0, 220.0

    def frame(storm: Storm) -> np.ndarray:
        fields, added = calm.copy(), alone(storm, GLOBE)
        pairs = {"PSL": "psl", "U850": "u", "V850": "v", "T500": "t500", "T200": "t200"}
        for channel, name in pairs.items():
            fields[INDEX[channel]] += added[name]
        return fields

    found = rules.detect(frame(replace(HURRICANE, lat=18.4, lon=120.6)), GLOBE, rules.Thresholds())
    tropical = found.kinds <= rules.TC
    assert tropical.sum() == 1
    assert np.hypot(*(found.places[tropical][0] - (18.4, 120.6))) < 3
    cold = replace(CUT_OFF, radius=4e5, core=-4.0, aloft=2.0)
    assert not (rules.detect(frame(cold), GLOBE, rules.Thresholds()).kinds <= rules.TC).any()


# ---- files


def test_frames_can_be_written_as_the_original_has_them_and_read_back(tmp_path: Path) -> None:
    export.to_extreme_weather(tmp_path / "climo_2000.h5", made()["frames"])
    with opened(tmp_path / "climo_2000.h5", "hdf5") as source:
        images, boxes = (source.columns[name]().read(0, 99, 0) for name in ("images", "boxes"))
    np.testing.assert_array_equal(images, made()["frames"]["images"][::2])
    np.testing.assert_array_equal(boxes, made()["frames"]["boxes"][::2])


def test_netcdf_has_units_names_and_places(tmp_path: Path) -> None:
    export.to_netcdf(tmp_path / "frames.nc", made()["frames"])
    with opened(tmp_path / "frames.nc", "netcdf") as source:
        found = source.columns["PSL"]()
        assert (found.unit, found.dims) == ("Pa", ("time", "lat", "lon"))
        assert found.attributes["standard_name"] == "air_pressure_at_mean_sea_level"
        np.testing.assert_array_equal(found.read(0, 8, 0), made()["frames"]["images"][:, INDEX["PSL"]])
        assert source.columns["lat"]().read(0, 1, 0)[0] < 0


@pytest.mark.parametrize("tier", ["toy", "demo", "article"])
def test_every_tier_stores_whole_days(tier: str) -> None:
    settings = config.resolve("extreme_weather", tier)["simulation"]
    assert settings["stored"] % simulate.DAY == 0
    assert settings["stored"] <= settings["frames"]
    assert settings["rows"] == config.resolve("extreme_weather", tier)["tables"]["frames"]["images"]["shape"][1]
