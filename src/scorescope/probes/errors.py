"""Denoising errors: mean squared error and peak signal-to-noise ratio, forward and reverse inputs to measure them on.

The dynamic range of images in [-1, 1] is 2: ``PSNR = 10 log10(4 / MSE)``, and the noisy input itself has
``20 log10(2 / σ)``. Forward inputs are ``x + σ n``; reverse inputs are the states that a network's own flow visits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scorescope.denoisers.base import Denoiser
from scorescope.noise import add_noise
from scorescope.sampling import State, heun

RANGE = 2.0
Array = npt.NDArray[np.float64]


def squared_error(estimate: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference a pixel, for each image: (B, C, H, W) twice -> (B,) float64."""
    return (estimate.double() - target.double()).square().mean((1, 2, 3))


def psnr(mse: Tensor) -> Tensor:
    """``10 log10(4 / mse)`` in dB, elementwise, for images in [-1, 1]."""
    return 10 * torch.log10(RANGE**2 / mse)


def input_psnr(sigma: float) -> float:
    """PSNR in dB of a noisy image, ``20 log10(2 / sigma)``."""
    return 20 * math.log10(RANGE / sigma)


def denoising_psnr(denoiser: Denoiser, clean: Tensor, sigmas: Sequence[float], seed: int) -> Array:
    """PSNR of each denoised image at each level.

    Args:
        denoiser: any.
        clean: (B, C, H, W) in [-1, 1].
        sigmas: S levels.
        seed: of the noise; level i uses the same noise for every denoiser that is given the same seed and images.

    Returns:
        float64 (S, B), dB.
    """
    rows = []
    with torch.no_grad():
        for noisy, sigma in zip(forward_inputs(clean, sigmas, seed), sigmas, strict=True):
            rows.append(psnr(squared_error(denoiser(noisy, sigma), clean)).cpu().numpy())
    return np.stack(rows)


def forward_inputs(clean: Tensor, sigmas: Sequence[float], seed: int) -> list[Tensor]:
    """``clean + σ n`` at every level, fresh noise a level: S tensors (B, C, H, W)."""
    generator = torch.Generator(device=clean.device).manual_seed(seed)
    return [add_noise(clean, sigma, generator) for sigma in sigmas]


def reverse_inputs(
    denoiser: Callable[[Tensor, float], Tensor],
    image_shape: tuple[int, int, int],
    sigmas: Sequence[float],
    count: int,
    seed: int,
    centre: float = 0.0,
) -> list[State]:
    """The states that a denoiser's own probability flow visits, by Heun's method.

    Args:
        denoiser: whose flow.
        image_shape: (C, H, W).
        sigmas: S decreasing levels; the flow starts at the first from ``centre + sigmas[0] · n``.
        count: how many trajectories.
        seed: of the starting noise.
        centre: mean of the start; matters where the highest level does not drown the images.

    Returns:
        S states, one a level, with ``noisy`` (count, C, H, W).
    """
    generator = torch.Generator().manual_seed(seed)
    start = centre + sigmas[0] * torch.randn((count, *image_shape), generator=generator)
    return [state for state in heun(denoiser, start, sigmas) if state.sigma > 0]
