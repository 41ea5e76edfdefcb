"""One denoiser in an interval of noise levels, another everywhere else: which levels decide what a sampler makes.

``D(y, σ) = A(y, σ)`` for ``low ≤ σ < high`` and ``B(y, σ)`` otherwise, image by image.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scorescope.denoisers.base import Denoiser
from scorescope.foundation import UserError


class SwappedDenoiser(Denoiser):
    """A denoiser of which another takes the place at some noise levels.

    Args:
        outside: which is used, except
        inside: which takes its place within the interval.
        low: its lowest level, ≥ 0, itself within.
        high: its highest level, itself without; may be infinite.

    Raises:
        UserError: denoisers of images of different shapes; an interval that is empty.
    """

    def __init__(self, outside: Denoiser, inside: Denoiser, low: float = 0.0, high: float = math.inf) -> None:
        super().__init__(outside.image_shape)
        if inside.image_shape != outside.image_shape:
            raise UserError(
                f"{inside.name} takes images (C, H, W) = {inside.image_shape} and cannot take the place of {outside.name},"
                f" which takes {outside.image_shape}"
            )
        if not 0 <= low < high:
            raise UserError(
                f"an interval of noise levels goes from 0 or more to a larger one, found {low:g} to {high:g}"
            )
        self.outside, self.inside, self.low, self.high = outside, inside, low, high
        self.name = f"{outside.name}, {inside.name} for σ from {low:g} to {high:g}"
        self.differentiable = outside.differentiable and inside.differentiable

    def denoise(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        """See `Denoiser.denoise`."""
        within = (sigma >= self.low) & (sigma < self.high)
        if bool(within.all()):
            return self._ask(self.inside, noisy, sigma)
        if not bool(within.any()):
            return self._ask(self.outside, noisy, sigma)
        denoised = torch.empty_like(noisy)
        for denoiser, rows in ((self.inside, within), (self.outside, ~within)):
            denoised[rows] = self._ask(denoiser, noisy[rows], sigma[rows])
        return denoised

    def _ask(self, denoiser: Denoiser, noisy: Tensor, sigma: Tensor) -> Tensor:
        answer: Tensor = denoiser(noisy, sigma)
        return answer
