"""Where the contours of a clean image are and which way they run, from its structure tensor.

The structure tensor is the outer product of the image's gradient with itself, averaged over a pixel or so around each place
(Förstner & Gülch 1987). Its larger eigenvalue is the mean square of the steepest change, in the direction across a contour;
the other eigenvector runs along it. A place is on a contour where the change is at least a third of the image's strongest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Floats = npt.NDArray[np.float64]
SMOOTHING = 0.7  # pixels, standard deviation
SHARE_OF_STRONGEST = 1 / 3
LEAST_CHANGE = 0.02  # a pixel, of a range of 2: below it an image has no contours


@dataclass(frozen=True)
class Contours:
    """The contours of one image.

    Attributes:
        on: whether each pixel is on a contour, (H, W) bool.
        along: the unit vector (down, right) along the contour at each pixel, up to its sign, (2, H, W) float64.
        strength: root of the larger eigenvalue of the structure tensor, change a pixel, (H, W) float64.
    """

    on: npt.NDArray[np.bool_]
    along: Floats
    strength: Floats

    @property
    def area(self) -> float:
        """Share of the pixels that are on a contour."""
        return float(self.on.mean())


def contours_of(image: npt.ArrayLike) -> Contours:
    """The contours of a clean image (C, H, W) in [-1, 1]; those of its channels together.

    Raises:
        ValueError: another shape.
    """
    values = np.asarray(image, dtype=np.float64)
    if values.ndim != 3:
        raise ValueError(f"contours are those of one image (C, H, W), not of {values.shape}")
    down, right = gradients(values)

    def averaged(products: Floats) -> Floats:
        mean: Floats = ndimage.gaussian_filter(products.sum(0), SMOOTHING, mode="nearest")
        return mean

    vertical, horizontal, mixed = averaged(down * down), averaged(right * right), averaged(down * right)
    # Of a symmetric 2×2 matrix: the angle of its larger eigenvector, and its larger eigenvalue.
    across = 0.5 * np.arctan2(2 * mixed, vertical - horizontal)
    half = np.hypot((vertical - horizontal) / 2, mixed)
    strength = np.sqrt(np.maximum((vertical + horizontal) / 2 + half, 0))
    strongest = float(np.quantile(strength, 0.99))
    on = strength >= max(SHARE_OF_STRONGEST * strongest, LEAST_CHANGE)
    return Contours(on, np.stack([-np.sin(across), np.cos(across)]), strength)


def gradients(values: Floats) -> tuple[Floats, Floats]:
    """Central differences (one-sided at the borders) down and to the right, of (..., H, W)."""
    down, right = np.gradient(values, axis=(-2, -1))
    return np.asarray(down), np.asarray(right)
