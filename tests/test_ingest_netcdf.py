"""NetCDF: a real storm on a mesh; the classic format; packed, missing and badly placed values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray
from small_ingest import Json, field, ingested, real, refused, said

FACES = {"sample_axis": "n_face"}


def test_a_real_storm_keeps_its_eye_and_warm_core(tmp_path: Path) -> None:
    columns = {
        "pressure": said("PS"),
        "temperature": said("T", **FACES),
        "levels": said("plev", layout="shared"),
        "group": {"block": 20},
    }
    found = ingested(tmp_path, "netcdf", real("storm_mesh/ne120_TCsubset.nc"), columns)
    arrays, fields = found["arrays"], found["fields"]
    assert arrays["temperature"].shape == (1417, 26)
    assert arrays["pressure"].min() / 100 == pytest.approx(968.5, abs=0.05)
    assert (fields["pressure"]["unit"], fields["pressure"]["long_name"]) == ("Pa", "Surface pressure")
    assert fields["pressure"]["attributes"]["PS"]["cell_methods"] == "time: point"
    eye = arrays["pressure"].argmin()
    warmer = arrays["temperature"][eye] - np.median(arrays["temperature"], 0)
    assert arrays["levels"][warmer.argmax()] / 100 == pytest.approx(369, abs=0.5)
    assert warmer.max() > 6.2  # the README's number is against the air nearby, which is warm too


def test_a_real_mesh_is_shared(tmp_path: Path) -> None:
    columns = {
        "latitude": said("face_lat"),
        "longitude": said("face_lon"),
        "corners": said("face_node_connectivity", unit="1", long_name="corners of a face", layout="shared"),
        "nodes": field(["node_lat", "node_lon"], unit="degree", layout="shared"),
    }
    found = ingested(tmp_path, "netcdf", real("storm_mesh/ne120_TCsubset.ug"), columns)
    corners = found["arrays"]["corners"]
    assert (corners.shape, corners.dtype) == ((1417, 5), np.int64)
    assert corners.max() + 1 == len(found["arrays"]["nodes"]) == 1503
    inside = [found["arrays"]["nodes"][row[row >= 0]].mean(0) for row in corners]
    centres = np.stack([found["arrays"]["latitude"], found["arrays"]["longitude"]], 1)
    assert np.abs(np.array(inside) - centres).max() < 0.2  # a face lies between its corners


@pytest.fixture(params=["NETCDF4", "NETCDF3_64BIT"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"{request.param}.nc"
    time = np.arange(4.0)
    values = np.arange(24.0).reshape(2, 4, 3)
    packed = values[0] / 10 + 273.15
    packed[1, 2] = np.nan
    data = xarray.Dataset(
        {
            "wind": (("level", "time", "x"), values, {"units": "m s-1", "long_name": "wind"}),
            "packed": (("time", "x"), packed, {"units": "K", "long_name": "temperature"}),
            "flag": (("time",), np.array([1, -9, 3, 4], np.int16), {"units": "1", "long_name": "flag"}),
            "bare": (("time",), time),
            "height": ((), 12.5, {"units": "m", "long_name": "height"}),
        },
        {"time": ("time", time, {"units": "days since 2000-01-01"})},
    )
    encoding: Json = {
        "packed": {"dtype": "int16", "scale_factor": 0.01, "add_offset": 273.15, "_FillValue": -32767},
        "flag": {"_FillValue": np.int16(-9)},
    }
    options: Json = {"engine": "h5netcdf"} if request.param == "NETCDF4" else {"engine": "scipy"}
    data.to_netcdf(path, format=request.param, encoding=encoding, **options)
    return path


def test_packed_values_units_and_axes(tmp_path: Path, source: Path) -> None:
    columns = {
        "wind": said("wind", sample_axis="time"),
        "temperature": said("packed", fill=0),
        "flag": said("flag", fill=0),
        "height": said("height", layout="shared"),
    }
    found = ingested(tmp_path / "out", "netcdf", source, columns)
    arrays = found["arrays"]
    assert arrays["wind"].shape == (4, 2, 3)
    assert np.array_equal(arrays["wind"], np.arange(24.0).reshape(2, 4, 3).transpose(1, 0, 2))
    expected = np.arange(12.0).reshape(4, 3) / 10 + 273.15
    expected[1, 2] = 0
    assert arrays["temperature"] == pytest.approx(expected, abs=0.006)
    assert (arrays["flag"].tolist(), arrays["flag"].dtype) == ([1, 0, 3, 4], np.int64)
    assert arrays["height"] == 12.5
    assert found["fields"]["wind"]["unit"] == "m s-1"
    assert found["index"]["remarks"] == {"samples/flag": {"filled": 1}, "samples/temperature": {"filled": 1}}


def test_every_mistake_is_a_line(tmp_path: Path, source: Path) -> None:
    columns = {"a": said("wind", sample_axis="tim"), "b": said("bare", unit="1"), "c": said("winds")}
    assert refused(tmp_path / "out", "netcdf", source, columns) == [
        "expected an axis of 'wind', got 'tim' (F); did you mean 'time'?",
        "expected a long_name of 'bare', got none (F); add `long_name:` to samples/b",
        "expected dataset 'winds', got none (F); did you mean 'wind'?",
    ]
    (line,) = refused(tmp_path / "out", "netcdf", source, {"a": said("packed")})
    assert line.startswith("expected finite values in 'packed', got nan at (1, 2) and 0 more (F); declare `fill:")
    (line,) = refused(tmp_path / "out", "netcdf", source, {"a": said("flag")})
    assert line.startswith("expected finite values in 'flag', got a missing value at (1,) and 0 more (F)")


def test_a_damaged_file_is_a_line(tmp_path: Path, source: Path) -> None:
    bad = tmp_path / "bad.nc"
    bad.write_bytes(source.read_bytes()[:60])
    (line,) = refused(tmp_path / "out", "netcdf", bad, {"a": said("wind")})
    assert line.startswith("expected a ")
