"""What the denoisers that weigh training images have in common: engine units, a temperature, NumPy inside."""

from __future__ import annotations

import math
from abc import abstractmethod

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scorescope.data.images import ImageSet
from scorescope.denoisers.base import Denoiser
from scorescope.foundation import UserError
from scorescope.posterior.processes import from_first
from scorescope.posterior.units import sigma_to_levels, to_levels

Floats = npt.NDArray[np.float64]

# Larger batches are split, so that float64 copies of them stay small; the engine goes over the data for fewer at a time anyway.
MOST_AT_ONCE = 256


class TrainingSetDenoiser(Denoiser):
    """A posterior mean over a training set.

    Args:
        images: the training set.
        temperature: divides the logits: above 1 the weights spread over more images, below 1 over fewer.

    Raises:
        UserError: temperature not positive and finite.
    """

    differentiable = False

    def __init__(self, images: ImageSet, *, temperature: float = 1.0) -> None:
        super().__init__(images.image_shape)
        if not (math.isfinite(temperature) and temperature > 0):
            raise UserError(f"temperature must be positive and finite, found {temperature}")
        self.images = images
        self.temperature = temperature

    def denoise(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        """See `Denoiser.denoise`."""
        # Processes that share the work must share the question, to the last bit.
        noisy, sigma = from_first(noisy), from_first(sigma)
        pieces = zip(torch.split(noisy, MOST_AT_ONCE), torch.split(sigma, MOST_AT_ONCE), strict=True)
        return torch.cat([self._denoise(part, levels) for part, levels in pieces])

    def _denoise(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        denoised = self.posterior_mean(*self.in_levels(noisy, sigma), sigma.tolist())
        return torch.from_numpy(denoised).reshape(noisy.shape).to(noisy.device, noisy.dtype)

    @abstractmethod
    def posterior_mean(self, noisy: Floats, spread: Floats, sigma: list[float]) -> Floats:
        """The estimate in [-1, 1], float64 (B, d).

        Args:
            noisy: grey levels centred at 128, float64 (B, d).
            spread: noise level that the weights use, in grey levels, temperature included, float64 (B,).
            sigma: noise levels in units of [-1, 1].
        """

    def in_levels(self, noisy: Tensor, sigma: Tensor) -> tuple[Floats, Floats]:
        """Noisy images as grey levels (B, d) and the noise level that their weights use (B,), in the engine's units."""
        levels = to_levels(noisy).reshape(len(noisy), -1)
        return levels, sigma_to_levels(sigma) * math.sqrt(self.temperature)
