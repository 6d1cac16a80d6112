"""A cyclone on a spectral-element mesh becomes an image in which the rules find it; best tracks check the storms."""

from __future__ import annotations

import csv
import gzip
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from small_ingest import real

from kilonode.cases.extreme_weather import earth, rules, storms, world
from kilonode.cases.extreme_weather.earth import DEGREE, RADIUS, Grid
from kilonode.data.ingest import mesh, opened
from kilonode.errors import DataError

STORM = "storm_mesh/ne120_TCsubset.nc"
TRACKS = "storm_mesh/ibtracs_wmo.csv.gz"


def test_regridding_keeps_a_constant_and_follows_a_slope() -> None:
    rng = np.random.default_rng(0)
    lat, lon = (part.ravel() for part in np.meshgrid(np.arange(10, 30, 0.3), np.arange(100, 130, 0.3)))
    lat, lon = lat + rng.uniform(-0.05, 0.05, lat.size), lon + rng.uniform(-0.05, 0.05, lat.size)
    grid = mesh.regridding(lat, lon)
    np.testing.assert_allclose(grid(np.full(lat.size, 7.0)), 7.0, rtol=1e-12)
    back = grid(lat + 2 * lon)
    inner = (slice(3, -3), slice(3, -3))
    expected = grid.lat[:, None] + 2 * grid.lon[None]
    assert np.abs(back - expected)[inner].mean() < 0.5 * (grid.lat[1] - grid.lat[0])


def test_a_mesh_across_greenwich_is_one_image_without_a_gap() -> None:
    rng = np.random.default_rng(1)
    grid = mesh.regridding(rng.uniform(-5, 5, 3000), (rng.uniform(-8, 8, 3000)) % 360)
    assert grid.lon[-1] - grid.lon[0] < 20
    assert not grid.missing.all()
    assert grid.missing.mean() < 0.1


def test_a_mesh_around_the_globe_gives_a_grid_around_the_globe() -> None:
    rng = np.random.default_rng(2)
    lat, lon = np.rad2deg(np.arcsin(rng.uniform(-1, 1, 5000))), rng.uniform(-180, 180, 5000)
    grid = mesh.regridding(lat, lon)
    step = grid.lon[1] - grid.lon[0]
    assert len(grid.lon) * step == pytest.approx(360, abs=step)


def test_pixels_far_from_every_face_are_missing() -> None:
    lat, lon = (part.ravel() for part in np.meshgrid(np.arange(0, 5, 0.25), np.arange(0, 5, 0.25)))
    hole = np.hypot(lat - 2.5, lon - 2.5) > 1.2
    grid = mesh.regridding(lat[hole], lon[hole])
    assert grid.missing.any()
    assert not grid.missing[0].any()


def test_a_file_without_a_mesh_is_refused_in_one_line(tmp_path: Path) -> None:
    import xarray

    path = tmp_path / "plain.nc"
    xarray.Dataset({"PS": ("x", np.zeros(4))}).to_netcdf(path, engine="h5netcdf")
    words = "expected the middles of a mesh's faces, got no variable face_lat and face_lon"
    with pytest.raises(DataError, match=words), opened(path, "mesh"):
        pass


def test_the_rules_find_exactly_one_cyclone_on_the_mesh_where_it_is() -> None:
    path = real(STORM)
    with opened(path, "mesh") as source:
        columns = source.columns
        lat, lon = (columns[name]().read(0, 10**6, 0) for name in ("lat", "lon"))
        pressure = columns["PS"]()
        assert (pressure.dims, pressure.unit) == (("time", "lat", "lon"), "Pa")
        psl = np.asarray(pressure.read(0, 1, 0)[0])
        warm = np.asarray(columns["T"]().read(0, 1, 0)[0])
    upper = warm[16:19].mean(axis=0)  # 369 to 510 hPa
    found = rules.warm_lows(psl, upper, Grid(lat, lon))
    assert len(found.places) == 1
    east = (found.places[0, 1] - 114.54) * np.cos(17.66 * DEGREE)
    assert np.hypot(found.places[0, 0] + 17.66, east) < 0.3
    assert psl.min() == pytest.approx(96850, abs=700)


def test_a_calm_mesh_holds_no_cyclone() -> None:
    grid = earth.window(-17.0, 114.0, 40, 40, (0.25, 0.25))
    noise = np.random.default_rng(0).normal(0, 20, grid.shape)
    assert len(rules.warm_lows(101200 + noise, 270 + noise / 100, grid).places) == 0


def best_tracks() -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with gzip.open(real(TRACKS), "rt") as stream:
        for row in csv.DictReader(stream):
            if row["time"].endswith(("00:00:00", "06:00:00", "12:00:00", "18:00:00")):
                found[row["track_id"]].append((float(row["lat"]), float(row["lon"]) % 360))
    return found


def speeds(track: list[tuple[float, float]], hours: float) -> np.ndarray:
    lat, lon = np.array(track).T
    east = (np.diff(lon) + 180) % 360 - 180
    return RADIUS * DEGREE * np.hypot(np.diff(lat), east * np.cos(lat[1:] * DEGREE)) / hours / 3600


def simulated() -> dict[tuple[int, int], list[tuple[float, float]]]:
    found: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    for group in range(5):
        whole = world.make(1, group, {"rows": 24, "frames": 80, "spin_up": 1})
        for step in whole.storms[::2]:
            for storm in step:
                if storm.kind == storms.TROPICAL:
                    found[group, storm.number].append((storm.lat, storm.lon))
    return found


def test_simulated_tropical_storms_live_where_best_tracks_lie_and_move_as_fast() -> None:
    tracks, ours = best_tracks(), simulated()
    assert sum(map(len, tracks.values())) > 100_000
    lats = [np.abs(np.concatenate([np.array(t)[:, 0] for t in part.values()])) for part in (tracks, ours)]
    low, high = np.quantile(lats[0], [0.01, 0.99])
    assert low - 3 < np.quantile(lats[1], 0.05) and np.quantile(lats[1], 0.95) < high  # noqa: PT018
    assert abs(np.median(lats[0]) - np.median(lats[1])) < 6
    fast = [np.median(np.concatenate([speeds(t, 6.0) for t in part.values() if len(t) > 1])) for part in (tracks, ours)]
    assert fast[1] == pytest.approx(fast[0], rel=0.4)
