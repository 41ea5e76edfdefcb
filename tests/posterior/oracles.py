"""The definitions, written out in float64 with loops: what the engine is tested against."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def values(pixels: npt.NDArray[np.uint8]) -> Array:
    """uint8 to [-1, 1], float64."""
    return pixels.astype(np.float64) / 127.5 - 1


def softmax(logits: Array) -> Array:
    """Along the last axis."""
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def posterior_weights(noisy: Array, clean: Array, sigma: float) -> Array:
    """softmax_i(−‖y − x_i‖²/2σ²) of one noisy image or part of one against N, any shape."""
    distances = ((noisy[None] - clean) ** 2).reshape(len(clean), -1).sum(1)
    return softmax(-distances / (2 * sigma**2))


def optimal(noisy: Array, clean: Array, sigma: float) -> Array:
    """Posterior mean (C, H, W) of one noisy image."""
    return np.tensordot(posterior_weights(noisy, clean, sigma), clean, axes=1)


def gaussian(noisy: Array, clean: Array, sigma: float) -> Array:
    """Wiener filter by solving with the full covariance, divisor N."""
    flat = clean.reshape(len(clean), -1)
    mean = flat.mean(0)
    covariance = (flat - mean).T @ (flat - mean) / len(flat)
    filtered = covariance @ np.linalg.solve(covariance + sigma**2 * np.eye(len(mean)), noisy.reshape(-1) - mean)
    return (mean + filtered).reshape(noisy.shape)


def square_patches(noisy: Array, clean: Array, sigma: float, side: int) -> Array:
    """Average over all windows of a side, at the pixels they cover, of their posterior means."""
    _, height, width = noisy.shape
    tall, wide = min(side, height), min(side, width)
    total, covered = np.zeros_like(noisy), np.zeros_like(noisy)
    for top in range(height - tall + 1):
        for left in range(width - wide + 1):
            part = (..., slice(top, top + tall), slice(left, left + wide))
            weights = posterior_weights(noisy[part], clean[part], sigma)
            total[part] += np.tensordot(weights, clean[part], axes=1)
            covered[part] += 1
    return total / covered
