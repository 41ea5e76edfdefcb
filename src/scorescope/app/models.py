"""Denoisers and devices from the words of a command line."""

from __future__ import annotations

from pathlib import Path

import torch

from scorescope.data import ImageSet
from scorescope.denoisers import Denoiser, NetworkDenoiser, denoisers
from scorescope.foundation import UserError
from scorescope.studies.train import CHECKPOINT

NETWORK = "network:"


def open_denoiser(word: str, images: ImageSet, device: torch.device) -> Denoiser:
    """A registered denoiser of these training images, or the network of ``network:PATH``.

    Raises UserError for an unknown name, a checkpoint that cannot be opened, or images that do not fit it.
    """
    if not word.startswith(NETWORK):
        return denoisers[word].build(images)
    return open_network(Path(word.removeprefix(NETWORK)), device, images)


def open_network(folder: Path, device: torch.device, images: ImageSet | None = None) -> NetworkDenoiser:
    """A checkpoint on a device. Raises UserError if it cannot be opened or takes other images than these."""
    folder = checkpoint_in(folder)
    network = NetworkDenoiser.open(folder).to(device)
    if images is not None and network.image_shape != images.image_shape:
        raise UserError(
            f"{folder} takes images of {shape_words(network.image_shape)}, {images.name} holds"
            f" {shape_words(images.image_shape)}: import the data with --size and --grey or --color to fit"
        )
    return network


def checkpoint_in(path: Path) -> Path:
    """The checkpoint that a path means: itself, or the ``network/`` of a training run's folder."""
    return path / CHECKPOINT if (path / CHECKPOINT).is_dir() else path


def shape_words(image_shape: tuple[int, int, int]) -> str:
    """(1, 28, 28) as "28×28 grey"."""
    channels, height, width = image_shape
    kind = {1: "grey", 3: "colour"}.get(channels, f"{channels}-channel")
    return f"{height}×{width} {kind}"
