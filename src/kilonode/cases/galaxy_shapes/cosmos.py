"""Real galaxies under a network that was trained on simulated ones, against the same fitted Gaussian.

    python -m kilonode.cases.galaxy_shapes.cosmos RAW_FOLDER WEIGHTS RECORD

reads what ``kilonode ingest`` made of the COSMOS stamps (``cosmos.yaml``) and writes a record of the comparison. The
stamps are taken as they are, 0.03 arcsec a pixel: there the galaxies and the telescope's resolution have about as many
pixels as the simulated ones. Each is placed on 69 x 69 pixels and divided by its own sky noise, which its border shows;
pixels beyond a stamp are zero, and count for neither side.

Shape legend: N galaxies, n = 69 x 69 pixels, H, W rows and columns of one stamp.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import safetensors.torch

from kilonode.cases.galaxy_shapes import models, scores
from kilonode.cases.galaxy_shapes.galaxies import SIDE
from kilonode.cases.galaxy_shapes.measures import duel
from kilonode.errors import UserError
from kilonode.records import Json, conditions, figure, write_json

PHOTON = 1 / np.sqrt(145.0)
"""Variance of one unit of light in units of the sky's: the simulation's, because the files do not say theirs."""
NORMAL_MAD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""


@dataclass(frozen=True)
class Stamps:
    """Galaxies in units of their sky's noise."""

    x: np.ndarray
    """float32 (N, n), zero beyond the stamp."""
    weight: np.ndarray
    """float32 (N, n), 1 on the stamp."""
    noise: np.ndarray
    """(N,) standard deviation of the sky, the source's unit."""
    kept: np.ndarray
    """(N,) share of the light that lies on the 69 x 69 pixels."""


def stamps(images: list[np.ndarray]) -> Stamps:
    """Place images (H, W) of any size about the centre of 69 x 69 pixels.

    Raises
    ------
    UserError
        A border without noise: its unit is unknown.
    """
    x, weight = (np.zeros((len(images), SIDE, SIDE), np.float32) for _ in range(2))
    noise, kept = np.empty(len(images)), np.empty(len(images))
    for number, image in enumerate(images):
        border = np.concatenate([image[0], image[-1], image[1:-1, 0], image[1:-1, -1]])
        noise[number] = NORMAL_MAD * np.median(np.abs(border - np.median(border)))
        if not noise[number] > 0:
            raise UserError(f"expected sky noise on the border of a stamp, got none (image {number}); leave it out")
        theirs, ours = zip(*(_overlap(length) for length in image.shape), strict=True)
        x[number][ours] = image[theirs] / noise[number]
        weight[number][ours] = 1
        kept[number] = image[theirs].sum() / image.sum()
    return Stamps(x.reshape(len(x), -1), weight.reshape(len(x), -1), noise, kept)


def _overlap(length: int) -> tuple[slice, slice]:
    """Where an axis of this length and one of 69, centre on centre, have pixels in common: its part, ours."""
    common = min(length, SIDE)
    return tuple(slice((whole - common) // 2, (whole - common) // 2 + common) for whole in (length, SIDE))  # type: ignore[return-value]


def read(folder: Path) -> list[np.ndarray]:
    """The images of every raw shard in a folder, in order, with the pixels the source had."""
    images = []
    for path in sorted(folder.glob("shard_*.h5")):
        with h5py.File(path, "r") as file:
            table = file["galaxies"]
            values, offsets, sizes = (table[name][()] for name in ("pixels/values", "pixels/offsets", "size"))
        for start, stop, size in zip(offsets[:-1], offsets[1:], sizes, strict=True):
            images.append(values[start:stop].reshape(size))
    if not images:
        raise UserError(f"expected raw shards of kilonode ingest, got none ({folder}); run it with cosmos.yaml")
    return images


def network(weights: Path) -> Any:
    """The trained network; its sizes are those of its weights."""
    tensors = safetensors.torch.load_file(weights)
    sizes = {
        "latent": tensors["encoder.posterior.weight"].shape[0] // 2,
        "width": tensors["encoder.convolutions.0.weight"].shape[0],
    }
    model: Any = models.build("density", sizes, (1, SIDE, SIDE))
    model.load_state_dict(tensors)
    return model.eval()


def compare(model: Any, found: Stamps) -> list[Json]:
    """Win rates and differences in nats of the network over the fitted Gaussian, as ML and with BIC's penalty."""
    photon = np.full(len(found.x), PHOTON)
    gauss = scores.gaussian(found.x, photon, found.weight)
    bounds = scores.of_network(model, found.x, found.weight)
    less = np.array([scores.penalty(gauss.params.shape[1], int(count)) for count in found.weight.sum(axis=1)])
    each = np.arange(len(found.x))  # every galaxy is its own group
    rows = duel("code", "gaussian", bounds.usual - gauss.log_likelihood, each)
    rows += duel("code", "gaussian_bic", bounds.usual - gauss.log_likelihood + less, each)
    rows += duel("code_given_code", "gaussian", bounds.given_code - gauss.log_likelihood, each)
    snr = np.linalg.norm(np.where(found.x > 0, found.x, 0), axis=1)
    for name, values in {"kept_light": found.kept, "snr": snr}.items():
        rows.append(figure("", float(np.median(values)), question="stamps", metric=f"median_{name}", method="data"))
    for row in rows:
        row["name"] = f"galaxy_shapes/cosmos/{row['question']}/{row['metric']}/{row['method']}"
    return rows


def main(arguments: list[str]) -> None:
    """Score, write the record and print its numbers."""
    if len(arguments) != 3:
        raise UserError("expected RAW_FOLDER WEIGHTS RECORD, got other arguments; see docs/notes/galaxy_shapes.md")
    folder, weights, record = map(Path, arguments)
    if not weights.is_file():
        raise UserError(f"expected weights of a trained network, got nothing ({weights}); train galaxy_shapes first")
    rows = compare(network(weights), stamps(read(folder)))
    write_json(
        record, {"bench": "cosmos", "figures": rows, "conditions": conditions(seeds=[], simulated=False, photon=PHOTON)}
    )
    for row in rows:
        print(row["name"], f"{row['value']:.3f}", row["interval"] or "")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
