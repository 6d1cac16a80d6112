"""FITS: real galaxies of many sizes as ragged pixels and as stamps, table columns, scaled and missing values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from small_ingest import field, ingested, real, refused, said

from kilonode.data import ingest

GALAXIES = "cosmos_galaxies/real_galaxy_images_extension.fits"
CATALOGUE = "cosmos_galaxies/real_galaxy_catalog_26_extension_example.fits"


def test_real_galaxies_keep_their_light(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "SHARD_BYTES", 1 << 20)
    path = real(GALAXIES)
    columns = {
        "pixels": field("images", unit="electron s-1"),
        "shape": said("images/shape"),
        "stamp": field("images", unit="electron s-1", stamp=[64, 64]),
    }
    found = ingested(tmp_path, "fits", path, columns)
    pixels, shape, stamps = (found["arrays"][name] for name in columns)
    assert len(found["index"]["shards"]) > 1
    assert len(pixels) == len(stamps) == 100
    assert (shape.min(), shape.max()) == (16, 190)
    light = np.add.reduceat(pixels.values, pixels.offsets[:-1])
    with fits.open(path) as file:
        assert light == pytest.approx([hdu.data.sum() for hdu in file], rel=1e-12)
        small = [k for k, hdu in enumerate(file) if max(hdu.shape) <= 64]
        odd = next(k for k in small if 64 % 2 == 0 and file[k].shape[0] % 2 == 0)
        begin = 32 - file[odd].shape[0] // 2
        assert np.array_equal(
            stamps[odd, begin : begin + file[odd].shape[0], 32], file[odd].data[:, file[odd].shape[1] // 2]
        )
    assert stamps.sum((1, 2))[small] == pytest.approx(light[small], rel=1e-12)
    told = found["index"]["remarks"]["samples/stamp"]
    assert told["images_cut"] == 100 - len(small) > 0
    assert told["sum_kept"] + told["sum_cut_off"] == pytest.approx(light.sum(), rel=1e-12)


def test_a_real_catalogue_agrees_with_the_stamps(tmp_path: Path) -> None:
    columns = {"flux": field("1/stamp_flux"), "mag": field("1/MAG", unit="mag"), "ident": field("1/IDENT")}
    found = ingested(tmp_path, "fits", real(CATALOGUE), {**columns, "group": {"dataset": "1/IDENT"}})["arrays"]
    with fits.open(real(CATALOGUE)) as file, fits.open(real(GALAXIES)) as images:
        assert np.array_equal(found["mag"], file[1].data["MAG"])
        assert np.array_equal(found["ident"], file[1].data["IDENT"])
        light = np.array([images[k].data.sum() for k in file[1].data["GAL_HDU"]])
    assert np.corrcoef(np.log(found["flux"]), np.log(light))[0, 1] > 0.97


def test_real_psfs_of_one_size_are_dense(tmp_path: Path) -> None:
    path = real("cosmos_galaxies/real_galaxy_PSF_images_extension.fits")
    found = ingested(tmp_path, "fits", path, {"psf": field("images", unit="1")})["arrays"]["psf"]
    assert found.shape == (100, 65, 51)
    assert found.sum((1, 2)) == pytest.approx(1, abs=0.02)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "mine.fits"
    rows = np.arange(5)
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column("x", "E", unit="pix", array=rows * 1.5),
            fits.Column("counts", "J", bzero=2**31, array=(rows + 2**31).astype(np.uint32)),
            fits.Column("scaled", "I", array=rows.astype(np.int16)),
            fits.Column("some", "J", null=-99, array=np.array([1, -99, 3, 4, 5])),
            fits.Column("good", "L", array=rows % 2 == 0),
            fits.Column("vector", "3D", array=np.arange(15.0).reshape(5, 3)),
            fits.Column("name", "4A", array=["a"] * 5),
            fits.Column("list", "PD()", array=np.array([np.arange(k + 1.0) for k in rows], object)),
        ],
        name="STARS",
    )
    cube = fits.ImageHDU(np.arange(40, dtype=np.int16).reshape(5, 4, 2), name="CUBE")
    cube.header["BUNIT"] = "adu"
    cube.header["TELESCOP"] = "mine"
    packed = fits.CompImageHDU(np.arange(5 * 8 * 8, dtype=np.float32).reshape(5, 8, 8), name="PACKED")
    fits.HDUList([fits.PrimaryHDU(), table, cube, packed]).writeto(path)
    fits.setval(path, "TSCAL3", value=0.5, ext=1)
    fits.setval(path, "TZERO3", value=10.0, ext=1)
    return path


def test_columns_of_every_kind(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "SHARD_BYTES", 256)
    columns = {name: field(f"STARS/{name}") for name in ("counts", "scaled", "good", "vector")}
    columns |= {"x": said("1/x", long_name="x"), "some": field("1/some", fill=-1)}
    columns |= {"cube": said("CUBE", long_name="cube"), "packed": field("PACKED")}
    found = ingested(tmp_path / "out", "fits", source, columns)
    arrays, fields = found["arrays"], found["fields"]
    assert len(found["index"]["shards"]) > 1
    assert arrays["x"].tolist() == [0, 1.5, 3, 4.5, 6]
    assert arrays["counts"].tolist() == [2**31 + k for k in range(5)]
    assert arrays["scaled"].tolist() == [10, 10.5, 11, 11.5, 12]
    assert arrays["some"].tolist() == [1, -1, 3, 4, 5]
    assert arrays["good"].tolist() == [1, 0, 1, 0, 1]
    assert arrays["vector"].tolist() == np.arange(15.0).reshape(5, 3).tolist()
    assert arrays["cube"].tolist() == np.arange(40).reshape(5, 4, 2).tolist()
    assert arrays["packed"] == pytest.approx(np.arange(320.0).reshape(5, 8, 8), abs=1)
    assert (fields["x"]["unit"], fields["cube"]["unit"]) == ("pix", "adu")
    assert fields["cube"]["attributes"] == {"CUBE": {"TELESCOP": "mine"}}
    assert found["index"]["remarks"] == {"samples/some": {"filled": 1}}


def test_every_mistake_is_a_line(tmp_path: Path, source: Path) -> None:
    columns = {
        "a": field("STARS/name"),
        "b": field("STARS/list"),
        "c": field("STARS/y"),
        "d": field("images", stamp=[2]),
    }
    lines = refused(tmp_path / "out", "fits", source, columns)
    assert lines[:2] == [
        "expected numbers in 'STARS/name', got |S4 (F); map another dataset",
        "expected numbers in 'STARS/list', got object (F); map another dataset",
    ]
    assert lines[2].startswith("expected dataset 'STARS/y', got none (F); ")
    (line,) = refused(tmp_path / "out", "fits", source, {"a": field("1/some")})
    assert line.startswith("expected finite values in '1/some', got a missing value at (1,) and 0 more (F); declare")


@pytest.mark.parametrize("cut", [10, 3000])
def test_a_damaged_file_is_a_line(tmp_path: Path, source: Path, cut: int) -> None:
    bad = tmp_path / "bad.fits"
    bad.write_bytes(source.read_bytes()[:cut])
    (line,) = refused(tmp_path / "out", "fits", bad, {"x": field("1/x")})
    assert line.startswith("expected ")


def test_images_that_are_cut_off_are_not_left_out(tmp_path: Path) -> None:
    bad = tmp_path / "bad.fits"
    fits.HDUList(
        [fits.PrimaryHDU(np.ones((40, 40))), *(fits.ImageHDU(np.ones((40, 40 + k))) for k in range(3))]
    ).writeto(bad)
    bad.write_bytes(bad.read_bytes()[:-8000])
    (line,) = refused(tmp_path / "out", "fits", bad, {"x": field("images", stamp=[8, 8])})
    assert line.startswith("expected a readable fits file, got ")
    assert "truncated" in line
