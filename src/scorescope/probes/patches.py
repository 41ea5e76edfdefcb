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
from scorescope.denoisers import Denoiser, FlexPatchDenoiser, Heatmaps, ShareSchedule, WindowSchedule
from scorescope.foundation import UserError
from scorescope.foundation.progress import track
from scorescope.posterior.device import DeviceEngine, device_engine, has_device_engine
from scorescope.posterior.device.units import to_levels as to_levels_there
from scorescope.posterior.patch_means import patch_means
from scorescope.posterior.processes import from_first
from scorescope.posterior.units import LEVELS_PER_UNIT, sigma_to_levels, to_levels
from scorescope.posterior.windows import Window

Floats = npt.NDArray[np.float64]
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


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
    if has_device_engine(noisy.device):
        return errors_on_device(device_engine(images, noisy.device), noisy, sigma, reference, sides)
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


def errors_on_device(
    engine: DeviceEngine, noisy: Tensor, sigma: float, reference: Tensor, sides: Sequence[int]
) -> Floats:
    """As `patch_errors`, where the noisy images are: all images of a side together.

    Args:
        engine: of the training set, there.
        noisy: as in `patch_errors`, and so are sigma, reference and sides.
    """
    asked = to_levels_there(from_first(noisy)).flatten(1)
    spread = torch.full((len(noisy),), sigma * LEVELS_PER_UNIT, dtype=torch.float64, device=noisy.device)
    wanted, found = reference.detach().to(noisy.device, torch.float64), []
    _, height, width = engine.store.images.image_shape
    for side in sides:
        window = Window.inside(side, height, width)
        patches = engine.windows.patch_means(asked, spread, window)  # (B, R, K, C, h, w)
        targets = wanted.unfold(2, window.height, 1).unfold(3, window.width, 1).permute(0, 2, 3, 1, 4, 5)
        found.append((patches - targets).square_().flatten(1).mean(1))
    return torch.stack(found, 1).cpu().numpy()


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
    return best_sides(sigmas, sides, errors), errors


def best_sides(sigmas: Sequence[float], sides: Sequence[int], errors: Floats) -> WindowSchedule:
    """The schedule of the sides with the least error: (S,) levels, (K,) sides, errors (S, K); of equal ones the first."""
    best = tuple(int(sides[place]) for place in errors.argmin(1))
    return WindowSchedule(tuple(float(sigma) for sigma in sigmas), best)


def share_errors(
    images: ImageSet, heatmaps: Heatmaps, noisy: Tensor, sigma: float, reference: Tensor, shares: Sequence[float]
) -> Floats:
    """Mean squared errors between PSPC-Flex, with masks of several shares λ, and reference images.

    Unlike sides, shares are compared by whole images: the masks of one share overlap in another way than those of another, and
    what is to be near the network is what they are put together to.

    Args:
        images: the training set.
        heatmaps: what the masks are made of: the network's own.
        noisy: (B, C, H, W), in units of [-1, 1].
        sigma: their noise level.
        reference: what a denoiser made of them, (B, C, H, W).
        shares: K of them, above 0, at most 1; 1 is the optimal denoiser.

    Returns:
        float64 (B, K), a mean over pixels and channels.

    Raises:
        UserError: no shares; as `FlexPatchDenoiser`.
    """
    if not shares:
        raise UserError("there are no shares to choose from")
    errors = np.empty((len(noisy), len(shares)))
    with torch.no_grad():
        for place, share in enumerate(shares):
            made = FlexPatchDenoiser(images, heatmaps, float(share))(noisy, sigma)
            errors[:, place] = (made.double() - reference.double()).square().mean((1, 2, 3)).cpu().numpy()
    return errors


def best_shares(sigmas: Sequence[float], shares: Sequence[float], errors: Floats) -> ShareSchedule:
    """The schedule of the shares with the least error: (S,) levels, (K,) shares, errors (S, K); of equal ones the first."""
    best = tuple(float(shares[place]) for place in errors.argmin(1))
    return ShareSchedule(tuple(float(sigma) for sigma in sigmas), best)


def choose_shares(
    images: ImageSet,
    denoiser: Denoiser,
    heatmaps: Heatmaps,
    inputs: Sequence[Tensor],
    sigmas: Sequence[float],
    shares: Sequence[float] = SHARES,
) -> tuple[ShareSchedule, Floats]:
    """The share schedule λ(σ) with which PSPC-Flex is nearest to a network, level by level.

    Args:
        images: the network's training set.
        denoiser: the network.
        heatmaps: its sensitivity heatmaps.
        inputs: noisy images (B, C, H, W) for each level: the states of the network's own sampling.
        sigmas: S noise levels.
        shares: to choose from.

    Returns:
        The schedule, and the mean errors that it was chosen by, (S, shares).

    Raises:
        UserError: as `share_errors` and the denoiser.
    """
    errors = np.empty((len(sigmas), len(shares)))
    for level, (noisy, sigma) in enumerate(track(list(zip(inputs, sigmas, strict=True)), "masks of every share")):
        with torch.no_grad():
            reference = denoiser(noisy, sigma)
        errors[level] = share_errors(images, heatmaps, noisy, sigma, reference, shares).mean(0)
    return best_shares(sigmas, shares, errors), errors
