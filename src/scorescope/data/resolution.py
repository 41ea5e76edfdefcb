"""The same images with fewer pixels: every new pixel is the average of the area that it covers.

Averaging over areas is linear and keeps the mean intensity, so an image set at several resolutions is one scene seen through
coarser and coarser pixels, whatever the ratio of the sides. Along one side it is a matrix: entry (i, j) is how much of the new
pixel i the old pixel j covers, as a share; rows sum to one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scorescope.data.images import ImageSet, Pixels
from scorescope.foundation import UserError

_BLOCK = 2048


def averaging_matrix(side: int, new_side: int) -> npt.NDArray[np.float64]:
    """Shares of old pixels in new ones along one side, float64 (new_side, side), rows summing to one."""
    edges = np.arange(new_side + 1) * (side / new_side)
    low = np.maximum(edges[:-1, None], np.arange(side))
    high = np.minimum(edges[1:, None], np.arange(side) + 1)
    return np.asarray(np.clip(high - low, 0, None) * (new_side / side))


def at_side(images: ImageSet, side: int) -> ImageSet:
    """Images with `side` × `side` pixels, averaged over areas, in memory; the set itself if they have that already.

    Args:
        images: square ones, without mirror images.
        side: at most theirs.

    Returns:
        uint8, rounded; labels and order are kept.

    Raises:
        UserError: images that are not square or have fewer pixels than asked for, a set with mirror images.
    """
    channels, height, width = images.image_shape
    if height != width or not 1 <= side <= height:
        raise UserError(
            f"{images.name} has images of {height}×{width}: they can be averaged to a square of side {side} only if they are"
            f" square, and only to sides of 1 to {height}"
        )
    if images.flips:
        raise UserError(f"{images.name}: average the images first, then add their mirror images")
    if side == height:
        return images
    weights = averaging_matrix(height, side).astype(np.float32)
    pixels: Pixels = np.empty((images.stored, channels, side, side), dtype=np.uint8)
    for start, block in images.chunks(_BLOCK):
        averaged = weights @ block.astype(np.float32) @ weights.T  # (B, C, side, side)
        pixels[start : start + len(block)] = np.rint(averaged).clip(0, 255)
    labels = None if images.labels is None else images.own_labels()
    return ImageSet(pixels, labels, name=f"{images.name} at {side}×{side}")
