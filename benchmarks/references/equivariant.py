"""The equivariant local score the plain way: training patches cut out, and the noisy image convolved with all of them."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad, unfold


def equivariant_local_score(noisy: Tensor, images: Tensor, sigma: float, side: int, batch: int = 10) -> Tensor:
    """Posterior means of centre pixels over the patches at all places inside training images.

    Args:
        noisy: (B, C, H, W).
        images: training images, float32 (N, C, H, W).
        sigma: noise level.
        side: of the windows, odd.
        batch: training images whose patches are convolved with at once.

    Returns:
        (B, C, H, W).
    """
    channels, middle = noisy.shape[1], side // 2
    padded = pad(noisy, (middle,) * 4, mode="circular")
    norms = conv2d(padded.square(), torch.ones(1, channels, side, side, device=noisy.device))  # (B, 1, H, W)
    largest = torch.full_like(norms, -math.inf)
    weight, total = torch.zeros_like(norms), torch.zeros_like(noisy)
    for start in range(0, len(images), batch):
        patches = unfold(images[start : start + batch], side).transpose(1, 2).reshape(-1, channels, side, side)
        products = conv2d(padded, patches)  # (B, patches, H, W)
        distances = norms - 2 * products + patches.square().sum((1, 2, 3))[:, None, None]
        logits = -distances / (2 * sigma**2)
        raised = torch.maximum(largest, logits.amax(1, keepdim=True))
        weights, keep = (logits - raised).exp(), (largest - raised).exp()
        weight = keep * weight + weights.sum(1, keepdim=True)
        total = keep * total + torch.einsum("bqhw,qc->bchw", weights, patches[:, :, middle, middle])
        largest = raised
    return total / weight
