"""Where in the noisy image a denoiser looks to make one output pixel.

The sensitivity heatmap of output pixel p is ``G(p, σ) = E Σ_c |∂D(y, σ)_{p,c} / ∂y|``, summed over the channels of both
pixels, averaged over noisy images ``y = x + σ n`` (Niedoba et al., ICML 2025, arXiv 2411.19339, section 4). How concentrated
it is, is told by the side of the square around p that holds a share of its sum.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scorescope.denoisers import Denoiser
from scorescope.foundation import UserError
from scorescope.foundation.progress import track
from scorescope.probes.jacobian import PRODUCTS_AT_ONCE, Jacobian

Floats = npt.NDArray[np.float64]
Pixels = Sequence[tuple[int, int]]


def sensitivity(
    denoiser: Denoiser,
    noisy: Tensor,
    sigma: float,
    pixels: Pixels | None = None,
    *,
    products_at_once: int = PRODUCTS_AT_ONCE,
) -> Tensor:
    """Average sensitivity heatmaps, exact derivatives.

    Args:
        denoiser: must be differentiable.
        noisy: the images averaged over, float (B, C, H, W).
        sigma: their noise level.
        pixels: output pixels (row, column); all by default, which costs no more than C·H of them one by one.
        products_at_once: how many derivatives are computed together.

    Returns:
        float32 (P, H, W), output pixel first; P = H·W in row order for all pixels.

    Raises:
        UserError: no images, a pixel outside the image, a denoiser that is not differentiable.
    """
    channels, height, width = denoiser.image_shape
    if not len(noisy):
        raise UserError("a sensitivity heatmap is an average over noisy images, and there are none")
    for row, column in pixels or ():
        if not (0 <= row < height and 0 <= column < width):
            raise UserError(f"pixel ({row}, {column}) is outside images of {height}×{width}")
    total = torch.zeros(height * width if pixels is None else len(pixels), height * width, device=noisy.device)
    for image in track(noisy, f"sensitivity at σ = {sigma:.3g}"):
        jacobian = Jacobian(denoiser, image, sigma, products_at_once=products_at_once)
        if pixels is None:
            for first, block in jacobian.all_columns():
                inputs = (first + torch.arange(len(block), device=noisy.device)) % (height * width)
                looks = block.abs().sum(1).reshape(len(block), -1)  # (K, output pixels)
                total.index_add_(1, inputs, looks.T.to(total.dtype))
        else:
            rows = jacobian.rows(_unit_outputs(pixels, image))
            total += rows.abs().sum(1).reshape(len(pixels), channels, -1).sum(1)
    return (total / len(noisy)).reshape(-1, height, width)


def sides_holding(heatmaps: Floats, pixels: Pixels, shares: Sequence[float]) -> npt.NDArray[np.int64]:
    """Sides of the smallest squares around each pixel that hold given shares of its heatmap.

    A square has odd side ``2r + 1`` and the pixel at its centre; where it goes past the image's border only what is inside
    counts, so the side that holds everything is at most ``2 max(H, W) − 1``.

    Args:
        heatmaps: not negative, (P, H, W).
        pixels: P centres (row, column).
        shares: S shares in (0, 1].

    Returns:
        int64 (P, S). Of a heatmap that is zero everywhere, 1.

    Raises:
        UserError: a share outside (0, 1], heatmaps that are negative or not finite.
    """
    for share in shares:
        if not 0 < share <= 1:
            raise UserError(f"a share is above 0 and at most 1, found {share}")
    if not (np.isfinite(heatmaps).all() and (heatmaps >= 0).all()):
        raise UserError("heatmaps must be finite and not negative")
    _, height, width = heatmaps.shape
    rows, columns = np.arange(height)[:, None], np.arange(width)[None, :]
    sides = np.empty((len(heatmaps), len(shares)), dtype=np.int64)
    for place, (heatmap, (row, column)) in enumerate(zip(heatmaps, pixels, strict=True)):
        radius = np.maximum(abs(rows - row), abs(columns - column))
        held = np.cumsum(np.bincount(radius.ravel(), weights=heatmap.ravel().astype(np.float64)))
        # Shares are compared with a little slack: a share of 1 must not ask for the last rounding error.
        wanted = np.asarray(shares) * held[-1] * (1 - 1e-12)
        sides[place] = 2 * np.searchsorted(held, wanted) + 1
    return sides


def all_pixels(height: int, width: int) -> list[tuple[int, int]]:
    """Every pixel (row, column) in row order."""
    return [(row, column) for row in range(height) for column in range(width)]


def _unit_outputs(pixels: Pixels, image: Tensor) -> Tensor:
    """One vector for each channel of each pixel, (P·C, C, H, W)."""
    channels = image.shape[0]
    units = image.new_zeros(len(pixels), channels, *image.shape)
    for place, (row, column) in enumerate(pixels):
        for channel in range(channels):
            units[place, channel, channel, row, column] = 1
    return units.flatten(0, 1)
