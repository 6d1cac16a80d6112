"""A folder of figures, complete or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

DPI = 110


def save(drawn: Mapping[str, Figure], folder: Path) -> None:
    """Write each figure as ``NAME.png``, under a temporary name of the folder until the last one is there."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for name, figure in drawn.items():
        figure.savefig(temporary / f"{name}.png", dpi=DPI)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.replace(folder)
