"""Write simulated frames as the original's HDF5 files, and as NetCDF after the CF conventions.

Shape legend: F frames, C = 16 channels, H rows, W columns.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from kilonode.cases.contract import Arrays
from kilonode.cases.extreme_weather import earth
from kilonode.cases.extreme_weather.labels import UNUSED
from kilonode.cases.extreme_weather.world import CHANNELS
from kilonode.records import complete

STANDARD = {
    "PRECT": "lwe_precipitation_rate",
    "PS": "surface_air_pressure",
    "PSL": "air_pressure_at_mean_sea_level",
    "QREFHT": "specific_humidity",
    "T200": "air_temperature",
    "T500": "air_temperature",
    "TMQ": "atmosphere_mass_content_of_water_vapor",
    "TREFHT": "air_temperature",
    "TS": "surface_temperature",
    "U850": "eastward_wind",
    "UBOT": "eastward_wind",
    "V850": "northward_wind",
    "VBOT": "northward_wind",
    "Z1000": "geopotential_height",
    "Z200": "geopotential_height",
    "ZBOT": "height",
}
"""CF standard names."""
UNITS = {"kg/kg": "1", "kg/m2": "kg m-2", "m/s": "m s-1"}
"""CF's spelling of units."""


def to_extreme_weather(path: Path, frames: Arrays) -> None:
    """Write labelled frames in the layout of ``climo_YYYY.h5``: ``images`` (F, 16, H, W), ``boxes`` (F, 15, 5).

    Parameters
    ----------
    path : Path
        The file; complete or not at all. Its attribute ``simulated`` is true.
    frames : Arrays
        The table ``frames`` of ``simulate.simulate``. Only frames that somebody looked at are written: the layout has
        no word for others.
    """
    looked = frames["labelled"].astype(bool)
    with complete(path) as temporary, h5py.File(temporary, "w") as file:
        file["images"] = frames["images"][looked]
        file["boxes"] = np.maximum(frames["boxes"][looked], UNUSED)
        file.attrs["simulated"] = True


def to_netcdf(path: Path, frames: Arrays, start: str = "2000-01-01") -> None:
    """Write frames as one CF-1.10 variable a channel, with time, latitude and longitude.

    Parameters
    ----------
    path : Path
        The file; complete or not at all.
    frames : Arrays
        The table ``frames``.
    start : str
        Date of hour 0, which means nothing: the weather is simulated.
    """
    import xarray

    grid = earth.globe(*frames["images"].shape[-2:])
    lat = {"units": "degrees_north", "standard_name": "latitude"}
    lon = {"units": "degrees_east", "standard_name": "longitude"}
    time = {"units": f"hours since {start}", "standard_name": "time", "calendar": "standard"}
    variables = {}
    for number, (name, (unit, long_name, _)) in enumerate(CHANNELS.items()):
        words = {"units": UNITS.get(unit, unit), "long_name": long_name, "standard_name": STANDARD[name]}
        variables[name] = (("time", "lat", "lon"), frames["images"][:, number], words)
    coordinates = {
        "time": ("time", frames["time"].astype(np.float64), time),
        "lat": ("lat", grid.lat, lat),
        "lon": ("lon", grid.lon, lon),
    }
    attributes = {"Conventions": "CF-1.10", "title": "simulated weather", "source": "kilonode extreme_weather"}
    with complete(path) as temporary:
        xarray.Dataset(variables, coordinates, attributes).to_netcdf(temporary, engine="h5netcdf")
