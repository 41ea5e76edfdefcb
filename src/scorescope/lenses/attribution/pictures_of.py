"""Pictures of an attribution: which image each pixel comes from, as flat colours, and put together from those images."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.colors import to_rgb

from scorescope.data.images import ImageSet
from scorescope.lenses.attribution.tracing import Traced
from scorescope.study import palette

Singles = npt.NDArray[np.float32]
Entries = npt.NDArray[np.int64]
COLOURS = (palette.BLUE, palette.ORANGE, palette.GREEN, palette.PURPLE, palette.GOLD, palette.TEAL)
OTHER = (0.62, 0.64, 0.66)
FRAME = 2  # pixels of a framed image's border, at 28 pixels


def most_used(estimates: list[Traced], levels: list[int]) -> Entries:
    """The training images that come first at most pixels of some levels' estimates, as many as there are colours."""
    firsts = np.concatenate([estimates[level].entries[level, ..., 0].reshape(-1) for level in levels])
    entries, counts = np.unique(firsts[firsts >= 0], return_counts=True)
    return np.asarray(entries[np.argsort(-counts, kind="stable")][: len(COLOURS)], dtype=np.int64)


def colour_map(estimate: Traced, level: int, named: Entries) -> Singles:
    """Every pixel in the colour of the image that has most of its weight, (3, H, W): grey where that is no named one.

    The paler, the smaller that weight.
    """
    first, weight = estimate.entries[level, ..., 0], estimate.weights[level, ..., 0]
    colours = np.broadcast_to(np.array(OTHER), (*first.shape, 3)).copy()
    for entry, colour in zip(named, COLOURS, strict=False):
        colours[first == entry] = to_rgb(colour)
    strength = (0.25 + 0.75 * np.sqrt(weight))[..., None]
    shown = 1 - strength * (1 - colours)
    return np.asarray(2 * np.moveaxis(shown, -1, 0) - 1, dtype=np.float32)


def put_together(images: ImageSet, estimate: Traced, level: int) -> Singles:
    """Every pixel taken from the image that has most of its weight, (C, H, W)."""
    first = np.maximum(estimate.entries[level, ..., 0], 0)
    unique, places = np.unique(first, return_inverse=True)
    pixels = images.tensor(unique).numpy()
    height, width = first.shape
    rows, columns = np.mgrid[:height, :width]
    return np.asarray(pixels[places.reshape(first.shape), :, rows, columns].transpose(2, 0, 1))


def in_colour(images: Singles) -> Singles:
    """Images (…, C, H, W) of one channel or three as three."""
    return np.broadcast_to(images, (*images.shape[:-3], 3, *images.shape[-2:])) if images.shape[-3] == 1 else images


def framed(image: Singles, colour: str) -> Singles:
    """An image (C, H, W) with a border in a colour, drawn over its outermost pixels: (3, H, W)."""
    found = in_colour(image).copy()
    width = max(1, round(FRAME * found.shape[-1] / 28))
    edge = np.ones(found.shape[1:], dtype=bool)
    edge[width:-width, width:-width] = False
    found[:, edge] = (2 * np.array(to_rgb(colour)) - 1)[:, None]
    return found
