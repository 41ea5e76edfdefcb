"""PSPC-Flex and PCA locality the plain way: batches of training images, broadcasting, a dense product with the masks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

BATCH = 100


def flex_reference(
    noisy: Tensor, images_uint8: Tensor, sigma: float, masks: Tensor, masks_subset: Sequence[int]
) -> Tensor:
    """Posterior means of some of the masks, each at its pixels, added up into images: a loop over the masks.

    Args:
        noisy: float32 (B, C, H, W).
        images_uint8: training images, uint8 (N, C, H, W).
        sigma: noise level.
        masks: bool (masks, H, W).
        masks_subset: which of them; all make the composite, up to the division by how many hold a pixel.

    Returns:
        (B, C, H, W): at every pixel the sum over these masks that hold it.
    """
    images = images_uint8.float() / 127.5 - 1
    total = torch.zeros_like(noisy)
    for number in masks_subset:
        mask = masks[number]
        part = noisy[:, :, mask]  # (B, C, pixels)
        logits = []
        for start in range(0, len(images), BATCH):
            difference = part[:, None] - images[start : start + BATCH][:, :, mask][None]  # (B, 100, C, pixels)
            logits.append(-difference.square().sum((2, 3)) / (2 * sigma**2))
        weights = torch.cat(logits, 1).softmax(1)  # (B, N)
        for start in range(0, len(images), BATCH):
            share = weights[:, start : start + BATCH, None, None]
            total[:, :, mask] += (share * images[start : start + BATCH][:, :, mask][None]).sum(1)
    return total


def pca_reference(noisy: Tensor, images_uint8: Tensor, sigma: float, masks: Tensor) -> Tensor:
    """Posterior means of all pixel-channels, each from its mask: a dense einsum, then softmax and average.

    Args:
        noisy: float32 (B, C, H, W).
        images_uint8: training images, uint8 (N, C, H, W).
        sigma: noise level.
        masks: float32 (d, d), row m the weights of pixel-channel m.

    Returns:
        (B, C, H, W).
    """
    flat, logits = noisy.flatten(1), []
    for start in range(0, len(images_uint8), BATCH):
        images = images_uint8[start : start + BATCH].flatten(1).float() / 127.5 - 1
        squared = (flat[:, None] - images[None]).square()  # (B, 100, d)
        logits.append(-torch.einsum("bkn,mn->bkm", squared, masks) / (2 * sigma**2))
    weights = torch.cat(logits, 1).softmax(1)  # (B, N, d)
    total = torch.zeros_like(flat)
    for start in range(0, len(images_uint8), BATCH):
        images = images_uint8[start : start + BATCH].flatten(1).float() / 127.5 - 1
        total += torch.einsum("bkn,kn->bn", weights[:, start : start + BATCH], images)
    return total.reshape(noisy.shape)
