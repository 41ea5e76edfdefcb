"""An opened checkpoint as a denoiser."""

from __future__ import annotations

from scorescope.denoisers.network import NetworkDenoiser
from scorescope.networks import OpenedNetwork


def denoiser_of(opened: OpenedNetwork, name: str, class_label: int | None = None) -> NetworkDenoiser:
    """The network of a checkpoint, used as the checkpoint says.

    Args:
        opened: what `scorescope.networks.open_checkpoint` returned.
        name: what tables and plots call it.
        class_label: the class that all images are to be of, for networks that know classes.

    Raises:
        UserError: a class that the network does not know, or none where it needs one.
    """
    denoiser = NetworkDenoiser(
        opened.network, opened.preconditioning, opened.config.image_shape, opened.config.sigma_range, name=name
    )
    denoiser.origin, denoiser.config = opened.origin, opened.config
    return denoiser.with_class(class_label)
