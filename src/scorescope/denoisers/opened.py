"""An opened checkpoint as a denoiser."""

from __future__ import annotations

from scorescope.denoisers.network import NetworkDenoiser
from scorescope.foundation import UserError
from scorescope.networks import OpenedNetwork
from scorescope.networks.readers.unsupported import note_on_channels


def denoiser_of(opened: OpenedNetwork, name: str, class_label: int | None = None) -> NetworkDenoiser:
    """The network of a checkpoint, used as the checkpoint says.

    Args:
        opened: what `scorescope.networks.open_checkpoint` returned.
        name: what tables and plots call it.
        class_label: the class that all images are to be of, for networks that know classes.

    Raises:
        UserError: a class that the network does not know, or none where it needs one; its images are no pixels.
    """
    if note := note_on_channels(opened.config.image_shape[0]):
        raise UserError(f"{name} does not denoise pixels: {note}")
    denoiser = NetworkDenoiser(
        opened.network, opened.preconditioning, opened.config.image_shape, opened.config.sigma_range, name=name
    )
    denoiser.origin, denoiser.config = opened.origin, opened.config
    return denoiser.with_class(class_label)
