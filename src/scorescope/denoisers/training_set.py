"""What the denoisers that weigh training images have in common: units, a temperature, and where they compute.

Noisy images in the processor's memory go to the compiled engine, as NumPy arrays; those on a device with an engine of its
own (`posterior.device`) stay there.
"""

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
from scorescope.posterior.device import DeviceEngine, device_engine, has_device_engine
from scorescope.posterior.device.units import to_levels as to_levels_there
from scorescope.posterior.processes import from_first
from scorescope.posterior.units import LEVELS_PER_UNIT, sigma_to_levels, to_levels

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
        self._engine: DeviceEngine | None = None

    def denoise(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        """See `Denoiser.denoise`."""
        # Processes that share the work must share the question, to the last bit.
        noisy, sigma = from_first(noisy), from_first(sigma)
        pieces = zip(torch.split(noisy, MOST_AT_ONCE), torch.split(sigma, MOST_AT_ONCE), strict=True)
        return torch.cat([self._denoise(part, levels) for part, levels in pieces])

    def _denoise(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        if has_device_engine(noisy.device):
            engine = self.engine_on(noisy.device)
            denoised = self.device_mean(engine, *self.in_levels_there(noisy, sigma), sigma.tolist())
        else:
            denoised = torch.from_numpy(self.posterior_mean(*self.in_levels(noisy, sigma), sigma.tolist()))
        return denoised.reshape(noisy.shape).to(noisy.device, noisy.dtype)

    @abstractmethod
    def posterior_mean(self, noisy: Floats, spread: Floats, sigma: list[float]) -> Floats:
        """The estimate in [-1, 1], float64 (B, d).

        Args:
            noisy: grey levels centred at 128, float64 (B, d).
            spread: noise level that the weights use, in grey levels, temperature included, float64 (B,).
            sigma: noise levels in units of [-1, 1].
        """

    @abstractmethod
    def device_mean(self, engine: DeviceEngine, noisy: Tensor, spread: Tensor, sigma: list[float]) -> Tensor:
        """The same on a device: all tensors, the result too, are there.

        Args:
            engine: the posteriors under the training set.
            noisy: as in `posterior_mean`.
            spread: as in `posterior_mean`.
            sigma: as in `posterior_mean`.
        """

    def engine_on(self, device: torch.device) -> DeviceEngine:
        """The engine on a device, kept, with the training images there, until another device is asked for."""
        if self._engine is None or self._engine.store.device != device:
            self._engine = device_engine(self.images, device)
        return self._engine

    def in_levels(self, noisy: Tensor, sigma: Tensor) -> tuple[Floats, Floats]:
        """Noisy images as grey levels (B, d) and the noise level that their weights use (B,), in the engine's units."""
        levels = to_levels(noisy).reshape(len(noisy), -1)
        return levels, sigma_to_levels(sigma) * math.sqrt(self.temperature)

    def in_levels_there(self, noisy: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """The same, float64 tensors where the noisy images are."""
        spread = sigma.detach().double() * (LEVELS_PER_UNIT * math.sqrt(self.temperature))
        return to_levels_there(noisy).flatten(1), spread
