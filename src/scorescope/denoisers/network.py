"""A trained network as a denoiser."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from scorescope.denoisers.base import Denoiser
from scorescope.networks import NetworkConfig, Preconditioning, classes_of, load_network, preconditioning_from


class NetworkDenoiser(Denoiser):
    """A network, what turns its output into a denoised image, and the class that it is asked for.

    Args:
        network: a module; called as the preconditioning says. It is put into evaluation mode.
        preconditioning: an object, or a name in `scorescope.networks.preconditionings` for the one with published arguments.
        image_shape: (C, H, W).
        sigma_range: lowest and highest sigma it was trained on, in units of [-1, 1].
        name: what tables and plots call it.
        class_label: the class of all images, from 0; None for none. A network that needs a class can be held without one, but
            not called: see `with_class`.
        max_batch: how many images go through the network at once; larger batches are split, so that memory is bounded.

    Attributes:
        origin: for a network from a checkpoint, a sentence that says what was opened and what was assumed.
        config: what that checkpoint says of it.

    Raises:
        UserError: unknown preconditioning, or one that the network does not go with; a class that it does not know.
    """

    def __init__(
        self,
        network: nn.Module,
        preconditioning: str | Preconditioning,
        image_shape: tuple[int, int, int],
        sigma_range: tuple[float, float],
        *,
        name: str = "network",
        class_label: int | None = None,
        max_batch: int = 256,
    ) -> None:
        super().__init__(image_shape)
        self.preconditioning = preconditioning_from(preconditioning)
        self.preconditioning.check_fits(network)
        self.network = network.eval()
        self.blind = self.preconditioning.blind
        self.classes = classes_of(network)
        self.sigma_range = sigma_range
        self.name = name
        self.max_batch = max_batch
        self.origin = ""
        self.config: NetworkConfig | None = None
        self.class_label = class_label
        if class_label is not None:
            self.classes.check(class_label)

    @classmethod
    def open(cls, folder: Path | str, name: str | None = None, *, class_label: int | None = None) -> NetworkDenoiser:
        """Open a checkpoint folder. Raises UserError as `load_network` does, and for a class that it does not know."""
        network, config = load_network(folder)
        return cls(
            network,
            preconditioning_from(config.preconditioning, config.preconditioning_arguments),
            config.image_shape,
            config.sigma_range,
            name=name or Path(folder).name,
            class_label=class_label,
        )

    def with_class(self, class_label: int | None) -> NetworkDenoiser:
        """The same network (shared, not copied) asked for another class. Raises UserError for one that it does not know."""
        self.classes.check(class_label)
        other = copy.copy(self)
        other.class_label = class_label
        return other

    def checked(self, noisy: Tensor, sigma: float | Tensor | None) -> tuple[Tensor, Tensor]:
        """See `Denoiser.checked`; on the network's device."""
        weights = next(self.network.parameters(), None)
        return super().checked(noisy if weights is None else noisy.to(weights.device), sigma)

    def denoise(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        """See `Denoiser.denoise`. Raises UserError if the network needs a class and none was chosen."""
        self.classes.check(self.class_label)
        if len(noisy) <= self.max_batch:
            return self._denoise(noisy, sigma)
        pieces = zip(torch.split(noisy, self.max_batch), torch.split(sigma, self.max_batch), strict=True)
        return torch.cat([self._denoise(part, level) for part, level in pieces])

    def _denoise(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        labels = None
        if self.class_label is not None:
            labels = torch.full((len(noisy),), self.class_label, device=noisy.device)
        return self.preconditioning.denoise(self.network, noisy, sigma, labels)
