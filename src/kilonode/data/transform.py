"""From stored values to what a network sees: choose channels, transform, scale. Zero stays zero."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kilonode.data.stats import Stats
from kilonode.errors import DataError, near
from kilonode.records import Json

TRANSFORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": lambda x: x,
    # Light and charge are counts: negative values are electronics noise around "nothing".
    "log1p": lambda x: np.log1p(np.maximum(x, 0), dtype=np.result_type(x, np.float32)),  # bytes would give float16
}


class Scaler:
    """The input of one task: raw field -> float32 (N, C, H, W) with unit root mean square on the training split.

    One scale for all channels, no shift: a corrupted pixel then means "no signal" (science: charge scale).
    The scale is a function of the training split alone. With ``scale: none`` the stored unit stays, where a
    likelihood needs it (pixels in units of the sky noise).

    Parameters
    ----------
    settings : dict
        The task's ``input``: ``field``, ``transform`` and perhaps ``channels``, ``scale``.
    stats : dict
        ``stats.json`` of the store.

    Raises
    ------
    DataError
        The field is no input, or has no such channel.
    """

    def __init__(self, settings: Json, stats: Json) -> None:
        self.field: str = settings["field"]
        self.channels: list[int] | None = settings.get("channels")
        self._transform = TRANSFORMS[settings["transform"]]
        if self.field not in stats:
            raise DataError(f"expected an input, got {self.field!r} (input.field); {near(self.field, stats)}")
        rms = Stats.from_json(stats[self.field][settings["transform"]]).rms
        if self.channels is not None and max(self.channels) >= len(rms):
            raise DataError(
                f"expected channels below {len(rms)}, got {self.channels} (input.channels of field {self.field!r})"
            )
        if settings.get("scale") == "none":
            self.scale = 1.0
            return
        chosen = rms if self.channels is None else rms[self.channels]
        self.scale = float(np.sqrt(np.mean(chosen**2))) or 1.0

    def select(self, raw: np.ndarray) -> np.ndarray:
        """The chosen channels as (N, C, H, W), in stored units. A field of (N, H, W) has one channel."""
        images = raw[:, None] if raw.ndim == 3 else raw
        return images if self.channels is None else images[:, self.channels]

    def __call__(self, raw: np.ndarray) -> np.ndarray:
        """What the network sees, float32 (N, C, H, W)."""
        return (self._transform(self.select(raw)) / self.scale).astype(np.float32, copy=False)
