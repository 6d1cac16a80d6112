"""Networks: the denoising autoencoder with a small code, and the supervised classifier of single flashes.

Inputs arrive as log1p(charge) over one scale, with unit root mean square and no shift: zero is "no light", and that
is what corruption writes.

Shape legend: B batch, C channels (flashes), H rings, W columns, F features of the code, K classes; h, w what is
left of H, W after two poolings; T filters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from kilonode.cases.contract import Batch, Model, chosen
from kilonode.cases.layers import Corruption, PeriodicConv2d

ORIGINAL_HW = (8, 24)
ORIGINAL_RANGE = 5.0  # input that becomes +1; log charge was divided by 10, about 6 of today's scales
DEFAULTS: dict[str, dict[str, Any]] = {
    "autoencoder": {
        "variant": "periodic", "periodic": True, "filters": 32, "code": 16, "corruption": 1 / 3, "mask": "shared",
    },
    "classifier": {"periodic": True, "filters": 16, "features": 64, "classes": 5},
}  # fmt: skip


def build(task: str, settings: Mapping[str, Any], shape: tuple[int, int, int]) -> Model:
    """Build the network of a task.

    Parameters
    ----------
    task : {"autoencoder", "classifier"}
        Which network.
    settings : Mapping
        ``task.model`` of case.yaml; see there. Missing keys take ``DEFAULTS``.
    shape : (int, int, int)
        (C, H, W) of an input. Any, but (C, 8, 24) for the ``original`` variant.

    Returns
    -------
    Model
        In training mode, initialised from torch's global generator.

    Raises
    ------
    ValueError
        An unknown task, setting or choice, or a shape the variant cannot take.
    """
    settings = chosen(task, settings, DEFAULTS)
    if task == "classifier":
        return Classifier(shape, settings["filters"], settings["features"], settings["classes"], settings["periodic"])
    for name, allowed in {"variant": ("periodic", "original"), "mask": ("shared", "independent")}.items():
        if settings[name] not in allowed:
            raise ValueError(f"model setting {name} needs one of {allowed}, got {settings[name]!r}")
    corruption = Corruption(settings["corruption"], per_channel=settings["mask"] == "independent")
    if settings["variant"] == "original":
        return OriginalAutoencoder(shape, settings["filters"], settings["code"], corruption)
    return Autoencoder(shape, settings["filters"], settings["code"], corruption, settings["periodic"])


class Encoder(nn.Module):
    """conv 5x5, pool 2, conv 3x3, pool 2, conv with the full remaining kernel (2x6 for 8x24)."""

    def __init__(self, shape: tuple[int, int, int], filters: int, features: int, periodic: bool) -> None:
        super().__init__()
        channels, height, width = shape
        self.sizes = [(height, width)]
        for _ in range(2):
            height, width = -(-height // 2), -(-width // 2)
            self.sizes.append((height, width))
        self.conv_1 = PeriodicConv2d(channels, filters, 5, periodic=periodic)
        self.conv_2 = PeriodicConv2d(filters, filters, 3, periodic=periodic)
        self.last = nn.Conv2d(filters, features, (height, width))

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, F)."""
        x_BThw = x_BCHW
        for conv in (self.conv_1, self.conv_2):
            # Largest first, then cut at zero: the same numbers as the other way around, with a quarter of the work.
            x_BThw = functional.relu(functional.max_pool2d(conv(x_BThw), 2, ceil_mode=True))
        code_BF: torch.Tensor = self.last(x_BThw).flatten(1)
        return code_BF


class Decoder(nn.Module):
    """The encoder backwards: full kernel, then twice upsampling by 2 and convolving; linear output.

    The second pair is done at the small size, one set of kernels for each of the four pixels that a pixel becomes
    (Shi et al. 2016, arXiv:1609.05158): what upsampling and a 5x5 convolution can do, at a third of the time.
    """

    def __init__(self, encoder: Encoder, channels: int, filters: int, features: int, periodic: bool) -> None:
        super().__init__()
        self.sizes = encoder.sizes
        self.first = nn.ConvTranspose2d(features, filters, self.sizes[-1])
        self.conv_1 = PeriodicConv2d(filters, filters, 3, periodic=periodic)
        self.conv_2 = PeriodicConv2d(filters, 4 * channels, 3, periodic=periodic)

    def forward(self, code_BF: torch.Tensor) -> torch.Tensor:
        """(B, F) -> (B, C, H, W)."""
        (height, width), (half_height, half_width), _ = self.sizes
        x_BThw = functional.relu(self.first(code_BF[:, :, None, None]))
        # Cropped by the row or column that pooling an odd size had made up.
        x_BThw = functional.interpolate(x_BThw, scale_factor=2.0)[..., :half_height, :half_width]
        x_BThw = functional.relu(self.conv_1(x_BThw))
        return functional.pixel_shuffle(self.conv_2(x_BThw), 2)[..., :height, :width]


class Denoiser(nn.Module):
    """What both autoencoders share: corrupt in training, compare with the uncorrupted input."""

    corruption: Corruption

    def losses(self, batch: Batch) -> torch.Tensor:
        """Mean squared error over all pixels of each sample, (B,)."""
        out_BCHW: torch.Tensor = self(self.corruption(batch.x, batch.key))
        return ((out_BCHW - batch.x) ** 2).flatten(1).mean(1)


class Autoencoder(Denoiser):
    """The ``periodic`` variant: columns go around, everywhere and for any shift.

    Circular convolutions alone are equivariant to shifts by the pooled stride, and the full-width kernel to none.
    So the input is first turned to face its light (``facing``) and the output turned back: the code is that of the
    turned detector, and a shift by any number of columns changes nothing.
    """

    def __init__(
        self, shape: tuple[int, int, int], filters: int, features: int, corruption: Corruption, periodic: bool
    ) -> None:
        super().__init__()
        self.periodic = periodic
        self.corruption = corruption
        self.encoder = Encoder(shape, filters, features, periodic)
        self.decoder = Decoder(self.encoder, shape[0], filters, features, periodic)

    def features(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Give the code, (B, F)."""
        code_BF: torch.Tensor = self.encoder(turn(x_BCHW, facing(x_BCHW)) if self.periodic else x_BCHW)
        return code_BF

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Reconstruct: (B, C, H, W)."""
        out_BCHW: torch.Tensor
        if not self.periodic:
            out_BCHW = self.decoder(self.encoder(x_BCHW))
            return out_BCHW
        column_B = facing(x_BCHW)
        out_BCHW = self.decoder(self.encoder(turn(x_BCHW, column_B)))
        return turn(out_BCHW, -column_B)


class OriginalAutoencoder(Denoiser):
    """The article's repository, layer by layer; 357,138 parameters for two channels, 128 filters, 16 numbers.

    Zero padding, and columns lost on the way: the seam is visible. It worked on [-1, 1] with a tanh at the end. Here
    -1 is zero charge, set after corruption, so that a lost pixel is dark and not of middling charge; +1 is
    ``ORIGINAL_RANGE``, beyond which no output reaches.

    Source
    ------
    NERSC/dayabay-learn, networks/LasagneConv.py.
    """

    def __init__(self, shape: tuple[int, int, int], filters: int, features: int, corruption: Corruption) -> None:
        super().__init__()
        if tuple(shape[1:]) != ORIGINAL_HW:
            raise ValueError(f"variant 'original' needs shape (C, 8, 24), got {tuple(shape)}; use variant 'periodic'")
        channels = shape[0]
        self.corruption = corruption
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, filters, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(filters, filters, 3, padding=(1, 0)), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(filters, features, (2, 5)),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(features, filters, (2, 4), stride=2), nn.ReLU(),
            nn.ConvTranspose2d(filters, filters, (2, 5), stride=2), nn.ReLU(),
            nn.ConvTranspose2d(filters, channels, (2, 4), stride=2), nn.Tanh(),
        )  # fmt: skip

    def features(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Give the code, (B, F)."""
        code_BF: torch.Tensor = self.encoder(2 / ORIGINAL_RANGE * x_BCHW - 1).flatten(1)
        return code_BF

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Reconstruct: (B, C, 8, 24)."""
        out_BCHW: torch.Tensor = self.decoder(self.features(x_BCHW)[:, :, None, None])
        return ORIGINAL_RANGE / 2 * (out_BCHW + 1)


class Classifier(nn.Module):
    """The same encoder, one wide layer, then one logit a class."""

    def __init__(self, shape: tuple[int, int, int], filters: int, features: int, classes: int, periodic: bool) -> None:
        super().__init__()
        self.periodic = periodic
        self.encoder = Encoder(shape, filters, features, periodic)
        self.logits = nn.Linear(features, classes)

    def features(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Give the penultimate layer, (B, F)."""
        turned_BCHW = turn(x_BCHW, facing(x_BCHW)) if self.periodic else x_BCHW
        return functional.relu(self.encoder(turned_BCHW))

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Logits, (B, K)."""
        logits_BK: torch.Tensor = self.logits(self.features(x_BCHW))
        return logits_BK

    def losses(self, batch: Batch) -> torch.Tensor:
        """Cross-entropy of each sample, (B,)."""
        assert batch.y is not None, "the classifier needs labels; give the task a target"
        return functional.cross_entropy(self(batch.x), batch.y, reduction="none")


def facing(x_BCHW: torch.Tensor) -> torch.Tensor:
    """Find the column most light comes from: the nearest to the phase of the first wave around.

    The last channel decides: of a pair the delayed flash, whose energy is always about the same. The sum of both would
    mix two places: after 20 epochs on 6,000 pairs, a linear probe told shuffled pairs with AUC 0.76 instead of 0.92
    (one seed, 16 filters).
    Each column's score is summed in an order that starts from that column, so a shifted input gives the same
    numbers to the last bit and the shifted answer.

    Returns
    -------
    int64 (B,)
        In [0, W).
    """
    width = x_BCHW.shape[-1]
    light_BW = x_BCHW.detach()[:, -1].sum(1)
    wave_W = torch.cos(2 * torch.pi / width * torch.arange(width, device=x_BCHW.device)).to(x_BCHW.dtype)
    ahead_BWW = torch.cat([light_BW, light_BW[:, :-1]], 1).unfold(1, width, 1)
    return (ahead_BWW * wave_W).sum(-1).argmax(1)


def turn(x_BCHW: torch.Tensor, column_B: torch.Tensor) -> torch.Tensor:
    """Roll each sample so that its given column becomes column 0."""
    width = x_BCHW.shape[-1]
    index_BW = (column_B[:, None] + torch.arange(width, device=x_BCHW.device)) % width
    return x_BCHW.gather(3, index_BW[:, None, None, :].expand(x_BCHW.shape))
