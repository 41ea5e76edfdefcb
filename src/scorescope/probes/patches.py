"""How far posterior means of patches are from the patches of what a denoiser makes, for patches of every side.

For side s and all ``(H−s+1)(W−s+1)`` windows C: the mean over C of ``‖E[x_C | y_C, σ] − C D(y, σ)‖²`` a value (Niedoba et al.,
ICML 2025, arXiv 2411.19339, figure 4). Against the optimal denoiser on forward inputs it says from which side on a patch
knows as much as the image; against a network on the states of its own sampling, which side the network acts like.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scorescope.data.images import ImageSet
from scorescope.denoisers import Denoiser, WindowSchedule
from scorescope.foundation import UserError
from scorescope.foundation.progress import track
from scorescope.posterior.patch_means import patch_means
from scorescope.posterior.processes import from_first
from scorescope.posterior.units import sigma_to_levels, to_levels

Floats = npt.NDArray[np.float64]


def all_sides(height: int, width: int, smallest: int = 3) -> list[int]:
    """Odd sides from `smallest` up, and the whole image."""
    whole = max(height, width)
    return [*range(min(smallest, whole), whole, 2), whole]


def patch_errors(images: ImageSet, noisy: Tensor, sigma: float, reference: Tensor, sides: Sequence[int]) -> Floats:
    """Mean squared errors between patch posterior means and the same patches of reference images.

    All sides of an image are measured in one pass over the training set (two readings).

    Args:
        images: the training set.
        noisy: (B, C, H, W), in units of [-1, 1].
        sigma: their noise level.
        reference: what a denoiser made of them, (B, C, H, W).
        sides: of the windows; sides beyond the image are cut to it.

    Returns:
        float64 (B, S), a mean over windows, pixels and channels.

    Raises:
        UserError: no sides, a side below 1, shapes that do not fit, noisy images that are not finite, sigma not positive.
    """
    if not sides or min(sides) < 1:
        raise UserError(f"patch sides are at least 1, found {list(sides)}")
    if tuple(noisy.shape[1:]) != images.image_shape or noisy.shape != reference.shape:
        raise UserError(
            f"{images.name} holds images {images.image_shape}: noisy images and references must be (B, C, H, W) of that"
            f" shape, found {tuple(noisy.shape)} and {tuple(reference.shape)}"
        )
    if not bool(torch.isfinite(noisy).all()) or not (math.isfinite(sigma) and sigma > 0):
        raise UserError("patch errors need finite noisy images and a positive, finite sigma")
    values = to_levels(from_first(noisy)).reshape(len(noisy), -1)
    spread = np.repeat(sigma_to_levels(torch.tensor([sigma], dtype=torch.float64)), len(sides))
    targets = reference.detach().cpu().double().numpy()
    errors = np.empty((len(noisy), len(sides)))
    for row in range(len(noisy)):
        repeated = np.repeat(values[row : row + 1], len(sides), axis=0)
        for place, patches in enumerate(patch_means(images, repeated, spread, list(sides))):
            window = patches.shape[-2:]
            wanted = np.lib.stride_tricks.sliding_window_view(targets[row], window, axis=(1, 2))  # (C, R, K, h, w)
            errors[row, place] = np.square(patches - np.moveaxis(wanted, 0, 2)).mean()
    return errors


def choose_schedule(
    images: ImageSet,
    denoiser: Denoiser,
    inputs: Sequence[Tensor],
    sigmas: Sequence[float],
    sides: Sequence[int] | None = None,
) -> tuple[WindowSchedule, Floats]:
    """The window schedule whose patch posterior means are nearest to a network, level by level.

    Args:
        images: the network's training set.
        denoiser: the network.
        inputs: noisy images (B, C, H, W) for each level: the states of the network's own sampling, as in the paper.
        sigmas: S noise levels.
        sides: to choose from; `all_sides` by default.

    Returns:
        The schedule, and the mean errors that it was chosen by, (S, sides).

    Raises:
        UserError: as `patch_errors` and the denoiser.
    """
    _, height, width = images.image_shape
    sides = all_sides(height, width) if sides is None else list(sides)
    errors = np.empty((len(sigmas), len(sides)))
    for level, (noisy, sigma) in enumerate(track(list(zip(inputs, sigmas, strict=True)), "patches of every side")):
        with torch.no_grad():
            reference = denoiser(noisy, sigma)
        errors[level] = patch_errors(images, noisy, sigma, reference, sides).mean(0)
    best = tuple(int(sides[place]) for place in errors.argmin(1))
    return WindowSchedule(tuple(float(sigma) for sigma in sigmas), best), errors
