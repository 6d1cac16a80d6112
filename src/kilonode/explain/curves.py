"""Figures every training has."""

from __future__ import annotations

from matplotlib.figure import Figure

from kilonode.records import Json


def learning_curve(history: list[Json]) -> Figure:
    """Training and validation loss by epoch, the kept epoch marked."""
    figure = Figure(figsize=(6.0, 3.6), layout="constrained")
    axes = figure.subplots()
    epochs = [record["epoch"] for record in history]
    validation = [record["validation_loss"] for record in history]
    axes.plot(epochs, [record["train_loss"] for record in history], color="#999999", label="training, noise on")
    axes.plot(epochs, validation, color="#0072B2", label="validation, noise off")
    best = min(range(len(epochs)), key=validation.__getitem__)
    axes.plot(epochs[best], validation[best], "o", color="#D55E00", label=f"kept: epoch {epochs[best]}")
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss")
    axes.set_yscale("log")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
