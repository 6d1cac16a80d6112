"""The simulated weather obeys the physics it claims, and its labels and patches keep their promises."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier

from kilonode import config
from kilonode.cases.extreme_weather import (
    areas,
    baseline,
    earth,
    export,
    flow,
    labels,
    moisture,
    patches,
    rules,
    simulate,
    storms,
    world,
)
from kilonode.cases.extreme_weather.earth import DEGREE, GAS, GRAVITY, RADIUS, Grid
from kilonode.cases.extreme_weather.storms import Storm
from kilonode.cases.extreme_weather.world import INDEX
from kilonode.data.ingest import opened

SMALL: dict[str, Any] = {
    "rows": 48,
    "frames": 16,
    "stored": 8,
    "spin_up": 3,
    "labelled": 1.0,
    "cyclones": 24,
    "rivers": 4,
}
GLOBE = earth.globe(96, 144)
HURRICANE = Storm(0, storms.TROPICAL, 18.0, 120.0, 5000.0, 6e4, 1.5, 3.0, 15.0, fastest=40.0)


@functools.cache
def weather(group: int = 1) -> world.World:
    return world.make(3, group, SMALL)


@functools.cache
def made(group: int = 1) -> dict[str, dict[str, np.ndarray]]:
    return simulate.simulate(3, group, SMALL)


@functools.cache
def many() -> dict[str, np.ndarray]:
    """Cyclone patches of some sequences, one after another."""
    parts = [patches.cyclones(world.make(5, group, {**SMALL, "frames": 40}), 40, 5, group) for group in range(6)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def alone(storm: Storm, grid: Grid) -> dict[str, np.ndarray]:
    fields = {name: np.zeros(grid.shape) for name in world.FIELDS}
    storms.add(storm, grid, fields)
    return fields


# ---- the air


def test_the_zonal_wind_is_in_thermal_wind_balance() -> None:
    grid = Grid(np.linspace(-80, 80, 641), np.array([0.0, 1.0]))
    calm = flow.Flow(np.array([12.0, 12.0]), np.zeros((0, 5)), np.zeros((0, 7)))
    low, high, middle = (calm.air(0.0, grid, at) for at in (0.2, 1.0, 0.6))
    slope = np.gradient(middle.temperature[:, 0], grid.lat * DEGREE) / RADIUS
    shear = (high.u - low.u)[:, 0] / 0.8
    np.testing.assert_allclose(earth.coriolis(grid.lat, 0.0) * shear, -GAS * slope, atol=2e-6)


def test_temperature_is_what_the_heights_of_two_levels_ask_for() -> None:
    air, grid = weather().flow, weather().grid
    below, above, middle = (air.air(6.0, grid, at) for at in (0.59, 0.61, 0.60))
    np.testing.assert_allclose((above.phi - below.phi) / 0.02 / GAS, middle.temperature, atol=0.01)


def test_winds_of_waves_and_lows_are_the_slopes_of_their_stream_function() -> None:
    waves = np.array([[5.0, 1.0, 5e6, 9.0, 0.3]])
    lows = np.array([[-48.0, 96.0, 45.0, 200.0, 2e7, 12.0, 6.0]])
    grid = Grid(np.arange(30, 60, 0.25), np.arange(150, 250, 0.25))
    for part in (
        flow.Flow(np.zeros(2), waves, np.zeros((0, 7))),
        flow.Flow(np.zeros(2), np.zeros((0, 5)), lows),
    ):
        still = flow.Flow(np.zeros(2), np.zeros((0, 5)), np.zeros((0, 7)))
        air, nothing = part.air(0.0, grid, 0.5), still.air(0.0, grid, 0.5)
        psi = (air.phi - nothing.phi) / earth.coriolis(grid.lat)[:, None]
        across = RADIUS * np.cos(grid.lat * DEGREE)[:, None]
        east = np.gradient(psi, grid.lon * DEGREE, axis=1) / across
        north = np.gradient(psi, grid.lat * DEGREE, axis=0) / RADIUS
        inner = (slice(2, -2), slice(2, -2))
        np.testing.assert_allclose((air.v - nothing.v)[inner], east[inner], atol=0.15)
        np.testing.assert_allclose((air.u - nothing.u)[inner], -north[inner], atol=0.15)


def test_waves_lean_west_with_height_and_carry_warm_air_polewards() -> None:
    waves = np.array([[6.0, 1.0, 5e6, 9.0, 0.0]])
    air = flow.Flow(np.zeros(2), waves, np.zeros((0, 7)))
    grid = Grid(np.array([43.0, 44.0]), np.arange(0, 60, 0.5))
    low, high = air.air(0.0, grid, 0.0), air.air(0.0, grid, 1.0)
    calm = flow.Flow(np.zeros(2), np.zeros((0, 5)), np.zeros((0, 7))).air(0.0, grid, 0.0)
    turn = np.angle(np.fft.fft(high.v[0])[1] / np.fft.fft(low.v[0])[1])
    assert turn == pytest.approx(flow.LEAN, abs=1e-6)
    assert np.mean(low.v[0] * (low.temperature - calm.temperature)[0]) > 0


def test_the_zonal_mean_has_two_westerly_jets_and_easterlies_between_them() -> None:
    wind = np.mean([world.clean(weather(), step)[INDEX["U850"]].mean(axis=1) for step in (0, 8)], axis=0)
    lat = weather().grid.lat
    for side in (-1, 1):
        assert wind[np.abs(lat - side * 42) < 6].mean() > 6
    assert wind[np.abs(lat) < 8].mean() < -2


def test_moisture_is_never_negative_and_going_around_makes_no_seam() -> None:
    grid = earth.globe(24, 36)
    u, v = np.full(grid.shape, 20.0), np.zeros(grid.shape)
    rolled = [moisture.sweep([(np.roll(part, 9, 1) for part in (u, v))] * 3, grid, 0.0) for _ in range(1)]
    assert rolled
    for step in range(weather().steps):
        assert world.clean(weather(), step)[INDEX["TMQ"]].min() >= 0
    rng = np.random.default_rng(0)
    u, v = rng.normal(0, 10, (2, *grid.shape))
    plain = [water for water, _ in moisture.sweep([(u, v)] * 4, grid, 0.0)]
    turned = [water for water, _ in moisture.sweep([(np.roll(u, 9, 1), np.roll(v, 9, 1))] * 4, grid, 0.0)]
    np.testing.assert_allclose(np.roll(plain[-1], 9, 1), turned[-1], rtol=1e-10)


def test_moisture_moves_with_the_wind() -> None:
    grid = earth.globe(48, 72)
    rows, columns = moisture.departures(np.full(grid.shape, 10.0), np.zeros(grid.shape), grid)
    equator = len(grid.lat) // 2
    moved = 10 * 3600 / (RADIUS * DEGREE * np.cos(grid.lat[equator] * DEGREE) * grid.step[1])
    np.testing.assert_allclose(np.arange(72) - columns[equator], moved, rtol=1e-9)
    assert (rows == np.arange(48)[:, None]).all()


def test_a_third_of_the_planet_is_land_at_any_resolution() -> None:
    for size in (48, 96):
        grid = earth.globe(size, size * 3 // 2)
        area = np.cos(grid.lat * DEGREE)
        share = (earth.relief(grid.lat, grid.lon) > 0).mean(axis=1)
        assert (share * area).sum() / area.sum() == pytest.approx(earth.LAND_SHARE, abs=0.03)


# ---- storms


def test_a_cyclone_turns_with_its_hemisphere() -> None:
    for lat in (18.0, -18.0):
        fields = alone(replace(HURRICANE, lat=lat), earth.window(lat, 120.0, 65, 65, (0.25, 0.25)))
        east = fields["v"][32, 48]  # to the east of the centre
        assert np.sign(east) == np.sign(lat)
        assert (
            rules.vorticity(fields["u"], fields["v"], earth.window(lat, 120.0, 65, 65, (0.25, 0.25)), False)[32, 32] > 0
        )


def test_the_gradient_wind_balances_the_pressure() -> None:
    r = np.linspace(3e4, 5e5, 400)
    speed, drop = storms.wind(r, HURRICANE), storms.pressure_drop(r, HURRICANE)
    force = -np.gradient(drop, r) / earth.DENSITY
    needed = speed**2 / r + abs(earth.coriolis(HURRICANE.lat)) * speed
    np.testing.assert_allclose(force[5:-60], needed[5:-60], rtol=0.1)


def test_the_largest_wind_stands_at_its_radius_and_follows_the_deficit() -> None:
    r = np.linspace(2e4, 4e5, 2000)
    speed = storms.wind(r, HURRICANE)
    assert r[speed.argmax()] == pytest.approx(HURRICANE.radius, rel=0.05)
    expected = np.sqrt(HURRICANE.shape * HURRICANE.deficit / earth.DENSITY / np.e)
    assert speed.max() == pytest.approx(expected, rel=0.05)


def test_a_cyclone_has_a_warm_core_and_a_cut_off_low_a_cold_one() -> None:
    grid = earth.window(18.0, 120.0, 33, 33, (0.5, 0.5))
    warm = alone(HURRICANE, grid)
    assert warm["t500"][16, 16] == pytest.approx(3.0, rel=0.05)
    assert warm["t500"][0, 0] < 0.2
    cold = alone(replace(HURRICANE, kind=storms.CUT_OFF, radius=3e5, core=-3.0), grid)
    assert cold["t500"][16, 16] == pytest.approx(-3.0, rel=0.05)
    assert cold["psl"].min() < 0


def test_tropical_storms_are_born_over_warm_sea_and_move_slowly_and_polewards() -> None:
    speeds, polewards, births = [], [], []
    for group in range(3):
        for step in (found := world.make(7, group, {**SMALL, "rows": 24, "frames": 60, "spin_up": 1}).storms):
            for storm in step:
                if storm.kind == storms.TROPICAL:
                    speeds.append(np.hypot(*storm.move))
                    polewards.append(storm.move[1] * np.sign(storm.lat))
                    if storm.age == 0:
                        births.append((storm.lat, storm.lon))
        assert found
    assert 2 < np.median(speeds) < 9
    assert np.mean(np.array(speeds) < 25) > 0.99
    assert np.mean(polewards) > 1
    assert births
    assert all(5 <= abs(lat) <= 22 for lat, _ in births)
    assert all(earth.relief(np.array([lat]), np.array([lon]))[0, 0] < 0 for lat, lon in births)


def test_one_storm_keeps_its_number_and_moves_without_jumps() -> None:
    places: dict[int, list[tuple[int, float, float]]] = {}
    for step, found in enumerate(weather().storms):
        for storm in found:
            places.setdefault(storm.number, []).append((step, storm.lat, storm.lon))
    for track in places.values():
        steps, lat, lon = (np.array(part) for part in zip(*track, strict=True))
        assert (np.diff(steps) == 1).all()
        assert np.abs(np.diff(lat)).max(initial=0) < 3
        assert np.abs((np.diff(lon) + 180) % 360 - 180).max(initial=0) < 6


def test_a_storm_looks_the_same_on_every_grid() -> None:
    coarse, fine = (alone(HURRICANE, earth.window(18.0, 120.0, n, n, (8 / n, 8 / n)))["psl"] for n in (33, 99))
    np.testing.assert_allclose(fine[1::3, 1::3], coarse, atol=60)


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
    assert labels.rule(replace(HURRICANE, deficit=600.0, core=0.3), 101000.0) == rules.TD
    assert labels.rule(replace(HURRICANE, deficit=50.0, core=0.0), 101000.0) is None
    assert labels.rule(replace(HURRICANE, kind=storms.CUT_OFF, radius=3e5, core=-3.0, deficit=1500), 101000.0) is None


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


@pytest.mark.xfail(reason="measured 0.956 on 203 patches: the hard negatives are still too easy", strict=True)
def test_no_single_threshold_tells_cyclones_from_what_looks_like_them() -> None:
    x, y = baseline.cyclone_summaries(many()["x"]), many()["y"]
    best = DecisionTreeClassifier(max_depth=1).fit(x, y).score(x, y)
    assert 0.6 < best < 0.95


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
    cold = replace(HURRICANE, kind=storms.CUT_OFF, radius=4e5, core=-4.0)
    assert not (rules.detect(frame(cold), GLOBE, rules.Thresholds()).kinds <= rules.TC).any()


def test_heights_and_pressure_tell_the_same() -> None:
    fields = world.clean(weather(), 0)
    height = (fields[INDEX["PSL"]] - 1e5) / earth.DENSITY / GRAVITY
    np.testing.assert_allclose(fields[INDEX["Z1000"]], height)


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
