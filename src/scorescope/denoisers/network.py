"""A trained network as a denoiser."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from scorescope.denoisers.base import Denoiser
from scorescope.networks import load_network, preconditionings


class NetworkDenoiser(Denoiser):
    """A network and what turns its output into a denoised image.

    Args:
        network: a module; called as the preconditioning says. It is put into evaluation mode.
        preconditioning: name in `scorescope.networks.preconditionings`.
        image_shape: (C, H, W).
        sigma_range: lowest and highest sigma it was trained on, in units of [-1, 1].
        name: what tables and plots call it.
        max_batch: how many images go through the network at once; larger batches are split, so that memory is bounded.

    Raises:
        UserError: unknown preconditioning.
    """

    def __init__(
        self,
        network: nn.Module,
        preconditioning: str,
        image_shape: tuple[int, int, int],
        sigma_range: tuple[float, float],
        *,
        name: str = "network",
        max_batch: int = 256,
    ) -> None:
        super().__init__(image_shape)
        self.network = network.eval()
        self.preconditioning = preconditionings[preconditioning]
        self.blind = self.preconditioning.blind
        self.sigma_range = sigma_range
        self.name = name
        self.max_batch = max_batch

    @classmethod
    def open(cls, folder: Path | str, name: str | None = None) -> NetworkDenoiser:
        """Open a checkpoint folder. Raises UserError as `load_network` does."""
        network, config = load_network(folder)
        return cls(
            network, config.preconditioning, config.image_shape, config.sigma_range, name=name or Path(folder).name
        )

    def denoise(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        """See `Denoiser.denoise`."""
        if len(noisy) <= self.max_batch:
            return self.preconditioning.denoise(self.network, noisy, sigma)
        pieces = zip(torch.split(noisy, self.max_batch), torch.split(sigma, self.max_batch), strict=True)
        return torch.cat([self.preconditioning.denoise(self.network, part, level) for part, level in pieces])
