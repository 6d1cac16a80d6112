"""From stored values to what a network sees: choose channels, transform, scale. Zero stays zero, but if asked."""

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
    likelihood needs it (pixels in units of the sky noise). With ``scale: standard`` each channel loses its mean and
    is divided by its deviation on the training split, where channels have units of their own.

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
        known = Stats.from_json(stats[self.field][settings["transform"]])
        rms = known.rms
        self.scale: float | np.ndarray = 1.0
        self._shift: np.ndarray | None = None
        if self.channels is not None and max(self.channels) >= len(rms):
            raise DataError(
                f"expected channels below {len(rms)}, got {self.channels} (input.channels of field {self.field!r})"
            )
        if settings.get("scale") == "none":
            return
        if settings.get("scale") == "standard":
            picked = slice(None) if self.channels is None else self.channels
            std = np.where(known.std > 1e-12 * rms, known.std, 1.0)[picked]
            self.scale, self._shift = std.astype(np.float32), known.mean[picked].astype(np.float32)
            return
        chosen = rms if self.channels is None else rms[self.channels]
        self.scale = float(np.sqrt(np.mean(chosen**2))) or 1.0

    def select(self, raw: np.ndarray) -> np.ndarray:
        """The chosen channels as (N, C, H, W), in stored units. A field of (N, H, W) has one channel."""
        images = raw[:, None] if raw.ndim == 3 else raw
        return images if self.channels is None else images[:, self.channels]

    def __call__(self, raw: np.ndarray) -> np.ndarray:
        """What the network sees, float32 (N, C, H, W)."""
        x = self._transform(self.select(raw))
        if self._shift is not None:
            each = (-1, *[1] * (x.ndim - 2))  # channels are the second axis, of images and of films
            x = (x - self._shift.reshape(each)) / np.reshape(self.scale, each)
            return x.astype(np.float32, copy=False)
        return (x / self.scale).astype(np.float32, copy=False)
