"""How far around a pixel a network looks: sides of the squares that hold given shares of its sensitivity heatmaps.

Around every output pixel stands a square of odd side; of a square that goes past the border only what is inside counts, and the
side is that of the whole square, so it can reach ``2 max(H, W) − 1``. Sides are averaged over all output pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scorescope.data import ImageSet
from scorescope.denoisers.heatmaps import Heatmaps, WienerHeatmaps
from scorescope.foundation.progress import track
from scorescope.probes.sensitivity import all_pixels, sides_holding

SHARES = (0.5, 0.75, 0.95)
Floats = npt.NDArray[np.float64]
PIXELS = {"centre": (0.5, 0.5), "between": (0.3, 0.6), "border": (0.5, 0.0), "corner": (0.0, 0.0)}


@dataclass(frozen=True)
class Concentration:
    """Sides at S noise levels.

    Attributes:
        name: whose heatmaps.
        sigmas: (S,).
        sides: of P output pixels, (S, P, shares), pixels of `SHARES`.
        examples: heatmaps of a few output pixels, (K, S, H, W), each as it is.
        pixels: what these pixels are called, K of them, with row and column.
    """

    name: str
    sigmas: Floats
    sides: Floats
    examples: Floats
    pixels: list[str]

    def mean(self, share: float) -> Floats:
        """The side that holds a share, averaged over output pixels, (S,)."""
        return np.asarray(self.sides[:, :, SHARES.index(share)].mean(1))

    def quartiles(self, share: float) -> tuple[Floats, Floats]:
        """Between which sides the middle half of the output pixels lies, (S,) each."""
        low, high = np.quantile(self.sides[:, :, SHARES.index(share)], [0.25, 0.75], axis=1)
        return low, high


def concentration(name: str, heatmaps: Heatmaps, sigmas: Sequence[float], size: tuple[int, int]) -> Concentration:
    """Measure heatmaps of images of some size (H, W) at some levels, around all output pixels."""
    height, width = size
    return concentration_around(
        name, lambda sigma: heatmaps.at(sigma).reshape(-1, height, width), sigmas, size, all_pixels(height, width)
    )


def concentration_around(
    name: str,
    maps_at: Callable[[float], npt.NDArray[Any]],
    sigmas: Sequence[float],
    size: tuple[int, int],
    pixels: Sequence[tuple[int, int]],
) -> Concentration:
    """Measure the heatmaps of some output pixels.

    Args:
        name: whose heatmaps.
        maps_at: noise level -> heatmaps of these pixels, (P, H, W).
        sigmas: noise levels.
        size: (H, W).
        pixels: P output pixels (row, column), those of `named_pixels` among them.
    """
    places = named_pixels(*size)
    sides, examples = [], []
    for sigma in track(list(sigmas), f"concentration of {name}"):
        maps = maps_at(sigma)
        sides.append(sides_holding(maps, pixels, SHARES))
        examples.append([maps[list(pixels).index(place)] for place in places.values()])
    return Concentration(
        name,
        np.array(sigmas, dtype=np.float64),
        np.array(sides, dtype=np.float64),
        np.swapaxes(np.array(examples), 0, 1),
        [f"{word} ({row}, {column})" for word, (row, column) in places.items()],
    )


def named_pixels(height: int, width: int) -> dict[str, tuple[int, int]]:
    """The output pixels whose heatmaps are shown: row and column by name."""
    return {word: (round(down * (height - 1)), round(across * (width - 1))) for word, (down, across) in PIXELS.items()}


def some_pixels(height: int, width: int, most: int) -> list[tuple[int, int]]:
    """Output pixels on a grid of at most `most`, and those of `named_pixels`; all of a small image."""
    if most >= height * width:
        return all_pixels(height, width)
    side = max(1, math.isqrt(most))
    rows, columns = (np.linspace(0, length - 1, side + 2).round().astype(int)[1:-1] for length in (height, width))
    grid = [(int(row), int(column)) for row in rows for column in columns]
    return list(dict.fromkeys([*named_pixels(height, width).values(), *grid]))


def of_the_wiener_filter(images: ImageSet, sigmas: Sequence[float]) -> Concentration:
    """The same of the best linear denoiser of the training images, which needs no network."""
    return concentration("gaussian", WienerHeatmaps(images), sigmas, images.image_shape[1:])
