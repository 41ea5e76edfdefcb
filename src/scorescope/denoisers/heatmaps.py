"""Sensitivity heatmaps: for every pixel of a denoised image, how much each pixel of the noisy one matters to it.

``G(p, q; σ) = E Σ_c Σ_c' |∂D(y, σ)_{c,p} / ∂y_{c',q}|`` (Niedoba et al., ICML 2025, arXiv 2411.19339, section 4). For a network
it is measured on noisy images; for a linear denoiser the derivative is the matrix itself and nothing is to be averaged,
so that the Wiener filter gives heatmaps from the training images alone.
"""

from __future__ import annotations

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from scorescope.data.images import ImageSet
from scorescope.foundation import UserError, new_file
from scorescope.posterior.wiener import wiener_filter

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
SIGMA_FILE = "sigma="


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
        return np.asarray(self.values[_nearest(self.sigmas, sigma)], dtype=np.float64)


class StoredHeatmaps(Heatmaps):
    """Heatmaps in a folder, one file a noise level, opened when a level is asked for; the level nearest in log σ decides.

    Args:
        folder: with files ``sigma=VALUE.npy``, float of any precision, (H, W, H, W), as `store_heatmaps` writes them.
        only: the levels to choose from, in units of [-1, 1]; all that are there by default.

    Raises:
        UserError: no such folder, no such file in it, or none for one of the levels in `only`.
    """

    def __init__(self, folder: Path | str, only: Sequence[float] | None = None) -> None:
        self.folder = Path(folder)
        self.files: dict[float, Path] = {}
        for path in sorted(self.folder.glob(f"{SIGMA_FILE}*.npy")):
            with contextlib.suppress(ValueError):
                self.files[float(path.stem.removeprefix(SIGMA_FILE))] = path
        if not self.files:
            raise UserError(
                f"{folder} holds no heatmaps: files {SIGMA_FILE}VALUE.npy of shape (H, W, H, W), one a noise level"
            )
        missing = [sigma for sigma in only or () if float(sigma) not in self.files]
        if missing:
            raise UserError(f"{folder} holds no heatmaps for σ = {missing[0]}; it has {sorted(self.files)}")
        self.sigmas = tuple(sorted(self.files if only is None else map(float, only), reverse=True))

    @property
    def size(self) -> tuple[int, ...]:
        """(H, W) of the images that they are for."""
        shape: tuple[int, ...] = np.load(self.files[self.sigmas[0]], mmap_mode="r").shape
        return shape[:2]

    def at(self, sigma: float) -> Floats:
        """See `Heatmaps.at`. Raises UserError for a file of another shape, or with negative values."""
        path = self.files[self.sigmas[_nearest(self.sigmas, sigma)]]
        try:
            values = np.load(path)
            return GivenHeatmaps(values).at(1.0)
        except (ValueError, OSError, UserError) as error:
            raise UserError(f"{path} holds no heatmaps (H, W, H, W): {error}") from error


def store_heatmaps(folder: Path | str, sigma: float, values: npt.NDArray[Any]) -> Path:
    """Write heatmaps (H, W, H, W) of one noise level where `StoredHeatmaps` reads them, float32; returns the file."""
    path = Path(folder) / f"{SIGMA_FILE}{sigma!r}.npy"
    with new_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, values.astype(np.float32))
    return path


def _nearest(sigmas: Sequence[float], sigma: float) -> int:
    return min(range(len(sigmas)), key=lambda k: abs(math.log(sigmas[k] / sigma)))


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
    if isinstance(found, StoredHeatmaps) and found.size != size:
        raise UserError(f"{images.name}: images of {size} need heatmaps of that size, {found.folder} has {found.size}")
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
