"""How far apart two stacks of denoised images are, image by image: mean squared difference, and cosine."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Images = npt.NDArray[np.floating]
SHORTEST = 1e-6


def squared_difference(first: Images, second: Images) -> Floats:
    """Mean squared difference a value, (S, B, C, H, W) twice -> float64 (S, B); NaN where a value is."""
    difference = np.asarray(first, dtype=np.float64) - second
    return np.asarray(np.square(difference).mean((2, 3, 4)))


def cosine(first: Images, second: Images) -> Floats:
    """Cosine of images that are centred by their own mean, (S, B, C, H, W) twice -> (S, B).

    Brightness and contrast do not count: of images on the same background an uncentred cosine is large for any two. An image
    without contrast has no direction, and NaN is its cosine with any.
    """
    return angle(first - first.mean((2, 3, 4), keepdims=True), second - second.mean((2, 3, 4), keepdims=True))


def angle(first: Images, second: Images) -> Floats:
    """Cosine of arrays as they are, (S, B, C, H, W) twice -> (S, B); NaN where one of them is 0."""
    a, b = (np.asarray(values, dtype=np.float64).reshape(*values.shape[:2], -1) for values in (first, second))
    lengths = np.linalg.norm(a, axis=2) * np.linalg.norm(b, axis=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(lengths > SHORTEST**2, (a * b).sum(2) / lengths, np.nan))
