"""The cases, found by globbing: a folder with a ``case.yaml`` is a case."""

from __future__ import annotations

from pathlib import Path

HOME = Path(__file__).parent
SMALL = "reactor_neutrinos"
"""What benchmarks train unless told otherwise: numpy alone simulates it, in seconds."""
SHORT = "ecog_speech"
"""What the tuner is measured on: a trial of its toy tier takes less than a second, so that every delay shows."""


def names() -> list[str]:
    """All case names, sorted."""
    return sorted(path.parent.name for path in HOME.glob("*/case.yaml"))
