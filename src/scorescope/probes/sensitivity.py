"""Where in the noisy image a denoiser looks to make one output pixel.

The sensitivity heatmap of output pixel p is ``G(p, σ) = E Σ_c |∂D(y, σ)_{p,c} / ∂y|``, summed over the channels of both
pixels, averaged over noisy images ``y = x + σ n`` (Niedoba et al., ICML 2025, arXiv 2411.19339, section 4). How concentrated
it is, is told by the side of the square around p that holds a share of its sum.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scorescope.denoisers import Denoiser, NetworkDenoiser
from scorescope.foundation import UserError
from scorescope.foundation.progress import track
from scorescope.probes.jacobian import Jacobian
from scorescope.probes.linear_unet import LinearUNet, is_linear_unet
from scorescope.probes.linearization import PRODUCTS_AT_ONCE

# Passes that are kept, on a processor and on a device, which is not busy with fewer; less where its memory does not hold them.
COPIES, COPIES_ON_DEVICE, FEWEST_COPIES = 32, 128, 8
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
        pixels: output pixels (row, column); all by default.
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
        if pixels is None and is_linear_unet(denoiser):
            whole = LinearUNet(cast("NetworkDenoiser", denoiser), image, products_at_once=products_at_once).matrix()
            total += whole.abs_().reshape(channels, height * width, channels, height * width).sum((0, 2))
        else:
            asked = all_pixels(height, width) if pixels is None else pixels
            _add_heatmaps(total, denoiser, image, sigma, asked, products_at_once)
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


def _add_heatmaps(
    total: Tensor, denoiser: Denoiser, image: Tensor, sigma: float, pixels: Pixels, products_at_once: int
) -> None:
    """Add one image's heatmaps of some output pixels to `total`, (P, H·W)."""
    channels = len(image)
    rows = _rows(denoiser, image, sigma, min(products_at_once, channels * len(pixels)))
    at_a_time = max(1, products_at_once // channels)
    for start in range(0, len(pixels), at_a_time):
        part = pixels[start : start + at_a_time]
        looks = rows(_unit_outputs(part, image))  # (P·C, C, H, W)
        total[start : start + len(part)] += looks.abs().sum(1).reshape(len(part), channels, -1).sum(1)


def _rows(denoiser: Denoiser, image: Tensor, sigma: float, products_at_once: int) -> Callable[[Tensor], Tensor]:
    """``Jᵀ v`` for vectors (K, C, H, W) at one image, in the way that is fastest for the denoiser."""
    if isinstance(denoiser, NetworkDenoiser):
        copies = min(COPIES_ON_DEVICE if image.device.type == "cuda" else COPIES, products_at_once)
        while True:
            try:
                return _CopiesOfNetwork(denoiser, image, sigma, copies).rows
            except torch.cuda.OutOfMemoryError:
                if copies <= FEWEST_COPIES:
                    raise
                copies //= 2
    return Jacobian(denoiser, image, sigma, products_at_once=products_at_once).rows


class _CopiesOfNetwork:
    """A network's pass over many copies of one image, kept, and a backward pass through it for every batch of vectors.

    A convolution's plain backward pass is up to twice as fast as one that `torch.func.vmap` makes of it, above all with
    channels last in memory; the price is the memory of as many passes as there are copies.
    """

    def __init__(self, denoiser: NetworkDenoiser, image: Tensor, sigma: float, copies: int) -> None:
        own = copy.deepcopy(denoiser).requires_grad_(False)
        own.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        own.max_batch = copies
        with torch.enable_grad():
            self._copies = image.detach().expand(copies, *image.shape).clone().requires_grad_()
            self._denoised = own(self._copies, sigma)

    def rows(self, vectors: Tensor) -> Tensor:
        """``Jᵀ v``: (K, C, H, W) -> (K, C, H, W)."""
        found = []
        for part in torch.split(vectors, len(self._copies)):
            missing = len(self._copies) - len(part)
            filled = torch.cat([part, part.new_zeros(missing, *part.shape[1:])]) if missing else part
            (product,) = torch.autograd.grad(self._denoised, self._copies, filled, retain_graph=True)
            found.append(product[: len(part)])
        return torch.cat(found)


def _unit_outputs(pixels: Pixels, image: Tensor) -> Tensor:
    """One vector for each channel of each pixel, (P·C, C, H, W)."""
    channels, count = image.shape[0], len(pixels)
    place, channel = np.repeat(np.arange(count), channels), np.tile(np.arange(channels), count)
    row, column = np.repeat(np.asarray(pixels), channels, axis=0).T
    flat = np.ravel_multi_index((place, channel, channel, row, column), (count, channels, *image.shape))
    units = image.new_zeros(count * channels * image.numel())
    units[torch.from_numpy(flat).to(image.device)] = 1  # at once: a device would wait for every single one
    return units.reshape(-1, *image.shape)
