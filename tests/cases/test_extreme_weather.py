"""The simulated weather obeys the physics it claims."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_weather import CUT_OFF, HURRICANE, SMALL, alone, weather

from kilonode.cases.extreme_weather import earth, flow, moisture, rules, storms, world
from kilonode.cases.extreme_weather.earth import DEGREE, GAS, GRAVITY, RADIUS, Grid
from kilonode.cases.extreme_weather.world import INDEX

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
    cold = alone(CUT_OFF, grid)
    assert cold["t500"][16, 16] == pytest.approx(-3.0, rel=0.05)
    assert cold["psl"].min() < 0


def test_a_hybrid_cyclone_is_as_deep_and_windy_but_warm_below_alone() -> None:
    grid = earth.window(30.0, 120.0, 65, 65, (0.25, 0.25))
    place = {"lat": 30.0, "deficit": 3000.0}
    tropical = alone(replace(HURRICANE, **place), grid)
    hybrid = alone(replace(CUT_OFF, kind=storms.HYBRID, radius=1.5e5, core=2.0, aloft=-2.0, **place), grid)
    for fields in (tropical, hybrid):
        assert fields["psl"].min() < -1500
        assert np.hypot(fields["u"], fields["v"]).max() > 20
        assert fields["t500"].max() > 1
    assert tropical["t200"][32, 32] > 1
    assert hybrid["t200"][32, 32] < -1


def test_beyond_its_reach_an_object_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = earth.globe(180, 24)
    looks = (HURRICANE, CUT_OFF, replace(CUT_OFF, kind=storms.FRONT, stretch=4.0, deficit=0.0))
    cut = [alone(storm, grid) for storm in looks]
    monkeypatch.setattr(storms.Storm, "reach", 1e9)
    for storm, fields in zip(looks, cut, strict=True):
        for name, whole in alone(storm, grid).items():
            np.testing.assert_allclose(fields[name], whole, atol=max(1e-4 * np.abs(whole).max(), 1e-9))


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


def test_heights_and_pressure_tell_the_same() -> None:
    fields = world.clean(weather(), 0)
    height = (fields[INDEX["PSL"]] - 1e5) / earth.DENSITY / GRAVITY
    np.testing.assert_allclose(fields[INDEX["Z1000"]], height)
