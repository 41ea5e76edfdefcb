"""Denoisers from what a command chose."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scorescope.app.choices import ModelChoice
from scorescope.data import ImageSet
from scorescope.denoisers import Denoiser, NetworkDenoiser, denoisers
from scorescope.denoisers.opened import denoiser_of
from scorescope.foundation import UserError
from scorescope.networks import OpenedNetwork, open_checkpoint
from scorescope.networks.readers.unsupported import note_on_channels
from scorescope.probes.opening_check import Opener, checked

if TYPE_CHECKING:
    import torch


def open_denoiser(choice: str | ModelChoice, images: ImageSet, device: torch.device) -> tuple[Denoiser, str]:
    """A registered denoiser of these training images, or a network; and a sentence that says what it is.

    Raises UserError for an unknown name, a checkpoint that cannot be opened, or images that do not fit it.
    """
    if isinstance(choice, ModelChoice):
        return open_network(choice, device, images)
    return denoisers[choice].build(images), f"{choice} of {images.name}."


def open_network(
    choice: ModelChoice, device: torch.device, images: ImageSet | None = None
) -> tuple[NetworkDenoiser, str]:
    """A checkpoint on a device, and a sentence that says what was opened and what was assumed.

    Raises UserError if it cannot be opened or takes other images than these.
    """
    opened = open_checkpoint(
        choice.path, choice.architecture, choice.arguments, sides=images.image_shape[1:] if images is not None else None
    )
    if images is not None:
        check_shape(choice.path, opened.config.image_shape, images)
        opened = checked(opened, images, again(choice, images, opened), device, choice.class_label)
    elif note := note_on_channels(opened.config.image_shape[0]):
        raise UserError(f"{choice.path} does not denoise pixels: {note}")
    network = denoiser_of(opened, choice.path.name, choice.class_label).to(device)
    return network, opened.origin


def check_shape(path: Path, image_shape: tuple[int, int, int], images: ImageSet) -> None:
    """Raises UserError if a network takes other images than these."""
    note = note_on_channels(image_shape[0])
    if note:
        raise UserError(f"{path} does not denoise pixels: {note}")
    if image_shape != images.image_shape:
        raise UserError(
            f"{path} takes images of {shape_words(image_shape)}, {images.name} holds"
            f" {shape_words(images.image_shape)}: import the data with --size and --grey or --color to fit"
        )


def again(choice: ModelChoice, images: ImageSet, opened: OpenedNetwork) -> Opener:
    """What opens the same checkpoint with more arguments than the user's own."""

    def open_with(more: Mapping[str, Any]) -> OpenedNetwork:
        arguments = {**choice.arguments, **more}
        return open_checkpoint(choice.path, choice.architecture, arguments, sides=images.image_shape[1:], like=opened)

    return open_with


def shape_words(image_shape: tuple[int, int, int]) -> str:
    """(1, 28, 28) as "28×28 grey"."""
    channels, height, width = image_shape
    kind = {1: "grey", 3: "colour"}.get(channels, f"{channels}-channel")
    return f"{height}×{width} {kind}"
