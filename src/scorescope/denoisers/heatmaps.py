"""Sensitivity heatmaps: for every pixel of a denoised image, how much each pixel of the noisy one matters to it.

``G(p, q; σ) = E Σ_c Σ_c' |∂D(y, σ)_{c,p} / ∂y_{c',q}|`` (Niedoba et al., ICML 2025, arXiv 2411.19339, section 4). For a network
it is measured on noisy images; for a linear denoiser the derivative is the matrix itself and nothing is to be averaged,
so that the Wiener filter gives heatmaps from the training images alone.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from scorescope.data.images import ImageSet
from scorescope.foundation import UserError
from scorescope.posterior.wiener import wiener_filter

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


class Heatmaps(ABC):
    """A heatmap for every pixel, at any noise level."""

    @abstractmethod
    def at(self, sigma: float) -> Floats:
        """Heatmaps (H, W, H, W), float64, none negative, first two axes the denoised pixel; sigma in units of [-1, 1]."""


class GivenHeatmaps(Heatmaps):
    """Heatmaps that were measured; between the noise levels that there are, the level nearest in log σ decides.

    Args:
        values: float of any precision, (H, W, H, W) for all noise levels, or (levels, H, W, H, W).
        sigmas: the noise levels of the latter, in units of [-1, 1].

    Raises:
        UserError: another shape, values that are negative or not finite, sigmas that are not positive and finite or not one
            a level.
    """

    def __init__(self, values: Tensor | npt.NDArray[Any], sigmas: Sequence[float] | None = None) -> None:
        array = values.detach().to("cpu").numpy() if isinstance(values, Tensor) else np.asarray(values)
        if sigmas is None:
            array, sigmas = array[None], (1.0,)
        if array.ndim != 5 or array.shape[1:3] != array.shape[3:] or 0 in array.shape:
            raise UserError(
                "heatmaps are (H, W, H, W) for all noise levels, or (levels, H, W, H, W) with one sigma a level, "
                f"found {tuple(values.shape)}"
            )
        if len(sigmas) != len(array):
            raise UserError(f"heatmaps at {len(array)} noise levels need as many sigmas, found {len(sigmas)}")
        if not all(math.isfinite(sigma) and sigma > 0 for sigma in sigmas):
            raise UserError(f"noise levels of heatmaps are positive and finite, found {list(sigmas)[:4]}")
        if not (np.isfinite(array).all() and (array >= 0).all()):
            raise UserError("heatmaps must be finite and not negative: they are averages of absolute derivatives")
        self.values = array
        self.sigmas = tuple(float(sigma) for sigma in sigmas)

    def at(self, sigma: float) -> Floats:
        """See `Heatmaps.at`."""
        nearest = min(range(len(self.sigmas)), key=lambda k: abs(math.log(self.sigmas[k] / sigma)))
        return np.asarray(self.values[nearest], dtype=np.float64)


class WienerHeatmaps(Heatmaps):
    """Those of the training set's Wiener filter, ``Σ_{c,c'} |W(σ)_{cp,c'q}|``, the best linear denoiser.

    Args:
        images: the training set.
    """

    def __init__(self, images: ImageSet) -> None:
        self.images = images

    def at(self, sigma: float) -> Floats:
        """See `Heatmaps.at`."""
        channels, height, width = self.images.image_shape
        matrix = np.abs(wiener_filter(self.images).matrix(sigma))
        pixels = matrix.reshape(channels, height * width, channels, height * width).sum((0, 2))
        return np.asarray(pixels.reshape(height, width, height, width))


def as_heatmaps(heatmaps: Heatmaps | Tensor | npt.NDArray[Any] | None, images: ImageSet) -> Heatmaps:
    """Heatmaps as they are, from an array for all noise levels, or, for None, those of the Wiener filter.

    Raises UserError as `GivenHeatmaps` does, and if they are for images of another size.
    """
    if heatmaps is None:
        return WienerHeatmaps(images)
    found = heatmaps if isinstance(heatmaps, Heatmaps) else GivenHeatmaps(heatmaps)
    size = images.image_shape[1:]
    if isinstance(found, GivenHeatmaps) and found.values.shape[1:3] != size:
        raise UserError(f"{images.name}: images of {size} need heatmaps {size * 2}, found {found.values.shape[1:]}")
    return found


def masks_of_share(heatmaps: Floats, share: float) -> Bools:
    """Each pixel's mask: pixels of its heatmap in descending order until they hold a share of the heatmap's sum.

    Of equal pixels the last in the image comes first. A heatmap without any weight gives its own pixel. A pixel that no mask
    holds joins its own mask, so that there is an estimate of every pixel.

    Args:
        heatmaps: float64 (H, W, H, W), none negative.
        share: above 0, at most 1.

    Returns:
        bool (H·W, 1, H, W).
    """
    height, width = heatmaps.shape[:2]
    rows = heatmaps.reshape(height * width, height * width)
    masks = np.zeros(rows.shape, dtype=bool)
    for pixel, heatmap in enumerate(rows):
        order = np.argsort(heatmap, kind="stable")[::-1]
        held = np.cumsum(heatmap[order])
        count = int(np.searchsorted(held, share * held[-1])) + 1
        masks[pixel, order[:count] if held[-1] > 0 else pixel] = True
    alone = np.flatnonzero(~masks.any(0))
    masks[alone, alone] = True
    return masks.reshape(-1, 1, height, width)
