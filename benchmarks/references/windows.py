"""PSPC-Square and the local score the plain way: a loop over windows, inside it batches of training images, broadcasting."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

BATCH = 100


def square_patches(
    noisy: Tensor, images: Tensor, sigma: float, side: int, corners: Sequence[tuple[int, int]]
) -> Tensor:
    """Posterior means of the windows whose upper left corners are given, added up into images.

    Args:
        noisy: (B, C, H, W).
        images: training images, float32 (N, C, H, W).
        sigma: noise level.
        side: of the windows.
        corners: (row, column) of each window; all of them make the composite, up to the division by their number.

    Returns:
        (B, C, H, W): at every pixel the sum over the windows that cover it.
    """
    total = torch.zeros_like(noisy)
    for top, left in corners:
        window = (slice(None), slice(None), slice(top, top + side), slice(left, left + side))
        part = noisy[window]  # (B, C, s, s)
        logits = []
        for start in range(0, len(images), BATCH):
            difference = part[:, None] - images[start : start + BATCH][window][None]  # (B, 100, C, s, s)
            logits.append(-difference.square().sum((2, 3, 4)) / (2 * sigma**2))
        weights = torch.cat(logits, 1).softmax(1)  # (B, N)
        for start in range(0, len(images), BATCH):
            share = weights[:, start : start + BATCH, None, None, None]
            total[window] += (share * images[start : start + BATCH][window][None]).sum(1)
    return total


def local_score(noisy: Tensor, images: Tensor, sigma: float, side: int, pixels: Sequence[tuple[int, int]]) -> Tensor:
    """Posterior means of some pixels, each from the window around it, cut at the border.

    Args:
        noisy: (B, C, H, W).
        images: training images, float32 (N, C, H, W).
        sigma: noise level.
        side: of the windows, odd.
        pixels: (row, column) of each.

    Returns:
        (B, C, pixels).
    """
    half, found = side // 2, []
    for row, column in pixels:
        rows, columns = slice(max(0, row - half), row + half + 1), slice(max(0, column - half), column + half + 1)
        window = (slice(None), slice(None), rows, columns)
        part, logits = noisy[window], []
        for start in range(0, len(images), BATCH):
            difference = part[:, None] - images[start : start + BATCH][window][None]  # (B, 100, C, h, w)
            logits.append(-difference.square().sum((2, 3, 4)) / (2 * sigma**2))
        found.append(torch.cat(logits, 1).softmax(1) @ images[:, :, row, column])
    return torch.stack(found, 2)
