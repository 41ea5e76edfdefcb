"""Origins: which window makes what the model makes of a pixel, and which patches of which training images are behind it?

Around every output pixel stand windows of several sides, at the same place of every training image (Kamb & Ganguli, arXiv
2412.20292); the last covers the whole image, and makes what the optimal denoiser makes. The window that explains a pixel is the
one whose posterior means are nearest to what the model makes of the 3×3 pixels around it, the smallest of equally near ones.
Behind it stand the training images that have the most weight in its exact posterior.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scorescope.data import ImageSet
from scorescope.denoisers import LocalScoreDenoiser, OptimalDenoiser
from scorescope.posterior.chosen_windows import chosen_windows
from scorescope.posterior.processes import from_first
from scorescope.posterior.units import sigma_to_levels, to_levels
from scorescope.probes.patches import all_sides

Floats = npt.NDArray[np.float64]
Arrays = dict[str, npt.NDArray[np.generic]]
Pixels = Sequence[tuple[int, int]]
AS_NEAR = 1e-3
"""Windows whose errors differ by less than this share come equally near: on flat ground all do, but for rounding."""


def pixel_grid(height: int, width: int, most: int) -> list[tuple[int, int]]:
    """Output pixels (row, column) on a regular grid of at most `most`, in row order; all of a small image."""
    side = max(1, int(np.sqrt(most)))
    rows, columns = (_spread(length, side) for length in (height, width))
    return [(row, column) for row in rows for column in columns]


def window_sides(height: int, width: int, count: int) -> list[int]:
    """`count` odd sides from 3 up, denser where small, the last of which covers the image from each of its pixels."""
    local = [side for side in all_sides(height, width) if side < max(height, width)]
    places = np.unique(np.geomspace(1, max(1, len(local)), max(1, count - 1)).round().astype(int)) - 1
    return [*(local[place] for place in places if place < len(local)), 2 * max(height, width) - 1]


def origins(
    training: ImageSet,
    optimal: OptimalDenoiser,
    noisy: Tensor,
    sigma: float,
    made: Tensor,
    pixels: Pixels,
    sides: Sequence[int],
    top: int,
) -> Arrays:
    """Which window makes what the model makes of every pixel, and the training images that have most weight in it.

    Args:
        training: the training images.
        optimal: their optimal denoiser.
        noisy: (B, C, H, W), on the device where it is computed.
        sigma: their noise level.
        made: what the model makes of them, (B, C, H, W).
        pixels: P output pixels.
        sides: K sides of windows, the last of which covers the image from everywhere.
        top: T, how many training images are named.

    Returns:
        ``errors`` (B, P, K), mean squared differences; ``best`` (B, P), which window is taken; ``entries`` (B, P, T), of the
        training set, −1 where there are fewer; ``weights`` (B, P, T); ``effective`` (B, P).
    """
    reference = made.cpu().double().numpy()
    local = [LocalScoreDenoiser(training, side) for side in sides[:-1]]
    with torch.no_grad():
        errors = np.stack([_around(one(noisy, sigma), reference, pixels) for one in (*local, optimal)], axis=-1)
    best = (errors <= (1 + AS_NEAR) * errors.min(-1, keepdims=True)).argmax(-1)  # (B, P): the first, the smallest
    values, spread = to_levels(from_first(noisy)), float(sigma_to_levels(torch.tensor(sigma, dtype=torch.float64)))
    found = []
    for image, nearest in zip(values, best, strict=True):
        boxes = [
            _box(*pixel, sides[place], *training.image_shape[1:]) for pixel, place in zip(pixels, nearest, strict=True)
        ]
        found.append(chosen_windows(training, image, spread, boxes, top))
    entries, weights = np.stack([one.entries for one in found]), np.stack([one.weights for one in found])
    effective = np.stack([one.effective_number for one in found])
    return {"errors": errors, "best": best, "entries": entries, "weights": weights, "effective": effective}


def _box(row: int, column: int, side: int, height: int, width: int) -> tuple[int, int, int, int]:
    """The window of a side around a pixel, cut at the border: first row and column, and those after the last."""
    reach = side // 2
    return max(0, row - reach), max(0, column - reach), min(height, row + reach + 1), min(width, column + reach + 1)


def _around(made: Tensor, reference: Floats, pixels: Pixels) -> Floats:
    """Mean squared differences over the 3×3 pixels around each, as far as they are in the image, (B, P)."""
    apart = np.square(made.cpu().double().numpy() - reference).mean(1)  # (B, H, W)
    near = [apart[:, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].mean((1, 2)) for row, column in pixels]
    return np.stack(near, axis=1)


def _spread(length: int, count: int) -> list[int]:
    """`count` whole numbers spread evenly over 0 … length − 1, none twice."""
    count = min(count, length)
    return [int((place + 0.5) * length / count) for place in range(count)]
