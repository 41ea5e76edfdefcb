"""The one idea: whatever maps ``(noisy, sigma)`` to an estimate of the clean image is a `Denoiser`.

For ``noisy = clean + sigma * n``, ``n ~ N(0, I)``, the best estimate in mean square is the posterior mean
``E[clean | noisy]``, and the score of the noisy density is ``(D(noisy, sigma) − noisy) / sigma²`` (Miyasawa 1961).
A network, the training set itself, a Gaussian, patches: each is one class with one method, `denoise`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from scorescope.foundation import UserError


class Denoiser(nn.Module, ABC):
    """An estimate of the clean image from a noisy one.

    Args:
        image_shape: (C, H, W) of the images it takes.

    Attributes:
        name: what tables and plots call it.
        blind: whether it works without being told sigma; only such a denoiser may be called without one.
        differentiable: whether gradients flow through `denoise` to `noisy`.
    """

    name: str = "denoiser"
    blind: bool = False
    differentiable: bool = True

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.image_shape = image_shape

    def forward(self, noisy: Tensor, sigma: float | Tensor | None = None) -> Tensor:
        """Denoise a batch.

        Args:
            noisy: float (B, C, H, W), clean images in [-1, 1] plus noise.
            sigma: standard deviation of the noise: a number, or a tensor (), (1,) or (B,), one level an image.
                May be left out only if the denoiser is `blind`.

        Returns:
            The estimate of the clean images, (B, C, H, W), dtype and device of `noisy`.

        Raises:
            UserError: wrong shape, non-finite pixels, sigma not positive and finite.
        """
        return self.denoise(*self.checked(noisy, sigma)).to(noisy.device)

    def checked(self, noisy: Tensor, sigma: float | Tensor | None) -> tuple[Tensor, Tensor]:
        """The noisy images and one sigma an image, (B,), after the checks that `forward` promises, where it computes."""
        if noisy.ndim != 4 or tuple(noisy.shape[1:]) != self.image_shape:
            raise UserError(
                f"{self.name} takes images (B, {', '.join(map(str, self.image_shape))}), found {tuple(noisy.shape)}"
            )
        if not noisy.is_floating_point():
            raise UserError(f"{self.name} takes float images in [-1, 1], found {noisy.dtype}")
        if not bool(torch.isfinite(noisy).all()):
            raise UserError(f"{self.name}: the noisy images hold NaN or infinite values")
        return noisy, self._levels(noisy, sigma)

    @abstractmethod
    def denoise(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        """The estimate itself, for checked input: noisy (B, C, H, W), sigma (B,) > 0 -> (B, C, H, W)."""

    def _levels(self, noisy: Tensor, sigma: float | Tensor | None) -> Tensor:
        if sigma is None:
            if not self.blind:
                raise UserError(f"{self.name} must be told sigma, the standard deviation of the noise")
            sigma = math.nan  # a blind denoiser never looks at it
        levels = torch.as_tensor(sigma, dtype=noisy.dtype, device=noisy.device).reshape(-1)
        if levels.numel() not in (1, len(noisy)):
            raise UserError(
                f"{self.name}: {levels.numel()} values of sigma for {len(noisy)} images; give one, or one an image"
            )
        if not self.blind and not bool((torch.isfinite(levels) & (levels > 0)).all()):
            raise UserError(f"{self.name}: sigma must be positive and finite, found {levels.tolist()[:4]}")
        return levels.expand(len(noisy))


def score(denoiser: Denoiser, noisy: Tensor, sigma: float | Tensor) -> Tensor:
    """The score ``∇ log p_sigma(noisy) = (D(noisy, sigma) − noisy) / sigma²``, (B, C, H, W) (Miyasawa 1961)."""
    levels = torch.as_tensor(sigma, dtype=noisy.dtype, device=noisy.device).reshape(-1, 1, 1, 1)
    estimate: Tensor = denoiser(noisy, sigma)
    return (estimate - noisy) / levels**2


def float64_device(device: torch.device) -> torch.device:
    """Where float64 is computed for tensors on a device: there, or in memory for Apple's devices, which have no float64."""
    return torch.device("cpu") if device.type == "mps" else device
