"""Images, networks and denoisers from what a person names, or has already: the first step of every command and notebook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scorescope.app.choices import NETWORK, ModelChoice, word_for
from scorescope.data import DataSplit, ImageSet, load_images
from scorescope.denoisers import Denoiser, NetworkDenoiser, denoisers
from scorescope.denoisers.opened import denoiser_of
from scorescope.foundation import UserError
from scorescope.foundation.devices import available_device
from scorescope.jobs.explain import Opened
from scorescope.networks import open_checkpoint
from scorescope.networks.readers.unsupported import note_on_channels
from scorescope.posterior.processes import check_same_images
from scorescope.probes.opening_check import open_checked

Images = DataSplit | ImageSet | str | Path
"""Images as functions take them: opened, or the name of a built-in data set, or a store's folder."""
Asked = Denoiser | ModelChoice | str | Path
"""A denoiser as functions take it: opened, or a name in `scorescope list denoisers`, or a checkpoint."""


@dataclass(frozen=True)
class Chosen:
    """A denoiser that was asked for.

    Attributes:
        denoiser: ready to use.
        word: what pictures and sentences call it.
        origin: a sentence that says what it is, and what was assumed.
    """

    denoiser: Denoiser
    word: str
    origin: str

    @property
    def network(self) -> NetworkDenoiser | None:
        """The denoiser, if it is a network."""
        return self.denoiser if isinstance(self.denoiser, NetworkDenoiser) else None


def images(data: Images, **options: Any) -> DataSplit:
    """Training images and, where there are any, test images.

    Args:
        data: a store's folder, or the name of a built-in data set, maybe with options ("disks:n=100"); or opened images.
        options: of a built-in data set, by name.

    Raises:
        UserError: as `scorescope.data.load_images`.
    """
    if isinstance(data, DataSplit):
        return data
    return DataSplit(data, None) if isinstance(data, ImageSet) else load_images(data, **options)


def open_network(
    path: Path | str,
    *,
    architecture: str | None = None,
    arguments: dict[str, Any] | None = None,
    class_label: int | None = None,
    device: str = "cpu",
    images: ImageSet | None = None,
) -> NetworkDenoiser:
    """A checkpoint of any kind, as a denoiser; its `origin` says what was opened and what was assumed.

    Args:
        path: of the checkpoint. Nothing in it is run.
        architecture: name in ``scorescope list networks``, for a state dictionary whose parameters' names do not tell.
        arguments: what a state dictionary does not say, by name.
        class_label: the class that all images are to be of, for a network that knows classes.
        device: where it runs.
        images: images that it must take; whether it denoises them is looked at, where something was assumed of it.

    Raises:
        UserError: it cannot be opened, or takes other images than these.
    """
    place, given = available_device(device), arguments or {}
    if images is None:
        opened = open_checkpoint(path, architecture, given)
        _check_pixels(path, opened.config.image_shape)
    else:
        opened = open_checked(path, architecture, given, images, place, class_label)
        check_shape(path, opened.config.image_shape, images)
    return denoiser_of(opened, Path(path).name, class_label).to(place)


def denoiser(name: str, images: Images) -> Denoiser:
    """The training-free denoiser of that name, of these training images; see ``scorescope list denoisers``.

    Raises UserError for an unknown name, with the nearest one.
    """
    return chosen(name, images).denoiser


def chosen(asked: Asked, data: Images | None = None, device: str = "cpu") -> Chosen:
    """The denoiser that was asked for.

    Args:
        asked: see `Asked`.
        data: the training images; a training-free denoiser is made of them, and a network must take them.
        device: where a network runs that is opened here.

    Raises:
        UserError: an unknown name, a checkpoint that cannot be opened, images that do not fit, or none where they are needed.
    """
    training = images(data).train if data is not None else None
    if training is not None:
        check_same_images(training)
    if isinstance(asked, Denoiser):
        if training is not None:
            check_shape(asked.name, asked.image_shape, training)
        origin = asked.origin if isinstance(asked, NetworkDenoiser) else ""
        return Chosen(asked, asked.name, origin or f"{asked.name}.")
    if isinstance(asked, str) and not asked.startswith(NETWORK) and (asked in denoisers or not Path(asked).exists()):
        if training is None:
            raise UserError(f"{asked} is made of training images: say which with --data")
        return Chosen(denoisers[asked].build(training), asked, f"{asked} of {training.name}.")
    choice = asked if isinstance(asked, ModelChoice) else ModelChoice(Path(str(asked).removeprefix(NETWORK)))
    network = open_network(
        choice.path,
        architecture=choice.architecture,
        arguments=choice.arguments,
        class_label=choice.class_label,
        device=device,
        images=training,
    )
    return Chosen(network, word_for(choice), network.origin)


def opened_for_explain(models: Sequence[Any], data: Images, held_out: Images | None, device: str) -> Opened:
    """Networks and images for `scorescope.jobs.explain`, from any mixture of what is opened and what is named.

    Raises UserError for what cannot be opened, and for networks and images that do not fit.
    """
    split = images(data)
    if held_out is not None:
        split = DataSplit(split.train, images(held_out).train)
    networks = [chosen(model, split.train, device) for model in models]
    for one in networks:
        if one.network is None:
            raise UserError(f"{one.word} is no network: a model is a checkpoint, or what scorescope.open returned")
    return Opened(tuple(one.network for one in networks if one.network is not None), split)


def check_shape(path: Path | str, image_shape: tuple[int, int, int], images: ImageSet) -> None:
    """Raise UserError if a network takes other images than these, or none at all."""
    _check_pixels(path, image_shape)
    if image_shape != images.image_shape:
        raise UserError(
            f"{path} takes images of {shape_words(image_shape)}, {images.name} holds"
            f" {shape_words(images.image_shape)}: import the data with --size and --grey or --color to fit"
        )


def _check_pixels(path: Path | str, image_shape: tuple[int, int, int]) -> None:
    if note := note_on_channels(image_shape[0]):
        raise UserError(f"{path} does not denoise pixels: {note}")


def shape_words(image_shape: tuple[int, int, int]) -> str:
    """(1, 28, 28) as "28×28 grey"."""
    channels, height, width = image_shape
    kind = {1: "grey", 3: "colour"}.get(channels, f"{channels}-channel")
    return f"{height}×{width} {kind}"
