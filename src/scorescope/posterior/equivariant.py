"""The posterior over windows taken from every place of the training images, for the pixel at a window's centre.

For the window N(p) around a pixel p, the logits of all windows of training images that may stand for it are
``−‖y_N(p) − x_i,N(q)‖²/2σ²``, over images i and places q, and the estimate is the mean of the pixels x_i[q] (Kamb &
Ganguli, arXiv 2412.20292). Which places q may stand for p:

- *equivariant*: all where the window lies inside the training image; the noisy image goes on around its edges;
- *border*: those that touch the border as p does, that is, have the same distance from each edge or are, like p, at least
  half a window away from it. Windows are cut at the border, which is what zeros outside both images come to.

One pass over the store: weights are counted from the nearest distance so far, and all displacements q → p are gone through
for a few images at a time, after which the sums move to float64. Distances are float32: a logit of size L is known to about
L · 1e-7, which is too little to tell two windows apart only where none is like the noisy one and σ is a few grey levels.

The border case is the equivariant one for pixels away from the border. Rows near it are compared with themselves only,
moved sideways; columns near it likewise, with rows and columns exchanged; and in the corners nothing moves, which is the
posterior of `windows`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scorescope.data.images import ImageSet
from scorescope.posterior import equivariant_kernels as kernels
from scorescope.posterior.gathered import Contributions, Gathered
from scorescope.posterior.processes import merge_normalizers, merge_sums, own_part
from scorescope.posterior.units import from_levels
from scorescope.posterior.vector import LANES
from scorescope.posterior.windows import Window, WindowPosterior
from scorescope.posterior.workers import in_parallel, worker_count

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Sums = tuple[Singles, Singles]

IMAGES_AT_A_TIME = 64
MOST_SWEEPS = 32
# The spread of pixel values around mid-grey, in grey levels: when σ is above it ``x² − 2xy`` is smaller than ``(y − x)²``.
_PIXEL_SPREAD = 64.0
_MOST_RISE = 80.0


@dataclass(frozen=True)
class _Band:
    """Windows of one height, and the displacements at which they are compared; see `kernels.accumulate`.

    Attributes:
        moves: int64 (moves, 4): down, right, first training row, number of rows.
        height: of the windows.
        centre: the row of a window whose pixel is kept.
    """

    moves: npt.NDArray[np.int64]
    height: int
    centre: int


class EquivariantPosterior:
    """Posterior means of centre pixels under the windows at many places of a training set.

    Args:
        images: the training set.
    """

    def __init__(self, images: ImageSet) -> None:
        self.images = images

    def mean(self, noisy: Floats, sigma: Floats, sides: Sequence[int]) -> Floats:
        """The equivariant case: noisy images go on around their edges.

        Args:
            noisy: B noisy images as centred grey levels, float64 (B, d).
            sigma: noise levels in grey levels, float64 (B,).
            sides: B sides of windows in pixels, at least 1; an even one counts as the next odd one, and they are cut to the
                largest odd ones inside the image.

        Returns:
            Images in [-1, 1], float64 (B, d).
        """
        asked = zip(self._shaped(noisy), sigma, sides, strict=True)
        sweeps = [self._equivariant(image, level, side) for image, level, side in asked]
        self._go_through(sweeps)
        return from_levels(np.stack([sweep.mean().reshape(-1) for sweep in sweeps]))

    def contributions(self, noisy: Floats, sigma: float, side: int, top: int) -> Contributions:
        """Whose weights every pixel of the equivariant case is made of, over all places together, by a second pass.

        Args:
            noisy: one noisy image as centred grey levels, float64 (d,).
            sigma: noise level in grey levels.
            side: of the windows, as in `mean`.
            top: k, how many images are named at a pixel.
        """
        _, height, width = self.images.image_shape
        sweep = self._equivariant(self._shaped(noisy)[0], sigma, side)
        self._go_through([sweep])
        gathered = Gathered.empty(len(self.images), height * width, top)
        scale = sweep.reciprocals()
        first, last = own_part(len(self.images), kernels.GROUP)
        for start in range(first, last, IMAGES_AT_A_TIME):
            pixels = np.array(self.images.read(start, min(start + IMAGES_AT_A_TIME, last)), order="C")
            gathered.add(_weights_apart(sweep, pixels) * scale, start)
        return gathered.merged().contributions(from_levels(sweep.mean()))

    def border_mean(self, noisy: Floats, sigma: Floats, sides: Sequence[int]) -> Floats:
        """The border case: windows touch the border alike.

        Args:
            noisy: as in `mean`.
            sigma: as in `mean`.
            sides: as in `mean`, but windows are cut at the border, and so may be larger than the image.

        Returns:
            Images in [-1, 1], float64 (B, d).
        """
        channels, height, width = self.images.image_shape
        windows = [Window.around(side, height, width) for side in sides]
        unmoved = WindowPosterior(self.images).mean(noisy, sigma, windows)
        along, across = [], []
        for row, (image, level, window) in enumerate(zip(self._shaped(noisy), sigma, windows, strict=True)):
            up, left = window.pad_rows, window.pad_columns
            if width > 2 * left:
                bands = [*_inner_band(height, width, up), *_edge_bands(height, width, up)]
                along.append((row, _Sweep(image, level, left, bands), slice(left, width - left)))
            if height > 2 * up and left > 0:
                turned = _Sweep(image.transpose(0, 2, 1), level, up, _edge_bands(width, height, left), turned=True)
                across.append((row, turned, slice(up, height - up)))
        self._go_through([sweep for _, sweep, _ in along + across])
        total = unmoved.reshape(-1, channels, height, width)
        for row, sweep, inner in across:
            total[row, :, inner] = from_levels(sweep.mean().transpose(0, 2, 1)[:, inner])
        for row, sweep, inner in along:
            total[row, :, :, inner] = from_levels(sweep.mean()[..., inner])
        return total.reshape(noisy.shape)

    def _equivariant(self, noisy: Floats, sigma: float, side: int) -> _Sweep:
        """One noisy image (C, H, W) against all places where a window of a side fits."""
        _, height, width = self.images.image_shape
        rows, columns = min(side // 2, (height - 1) // 2), min(side // 2, (width - 1) // 2)
        moves = [(down, right, 0, height) for down in range(height) for right in range(0, width, LANES)]
        return _Sweep(noisy, sigma, columns, [_Band(np.array(moves), 2 * rows + 1, rows)])

    def _shaped(self, noisy: Floats) -> Floats:
        return noisy.reshape(-1, *self.images.image_shape)

    def _go_through(self, sweeps: list[_Sweep]) -> None:
        """Add this process's training images to all sweeps, some of them at a time."""
        first, last = own_part(len(self.images), kernels.GROUP)
        for sweep in range(0, len(sweeps), MOST_SWEEPS):
            for start in range(first, last, IMAGES_AT_A_TIME):
                pixels = np.array(self.images.read(start, min(start + IMAGES_AT_A_TIME, last)), order="C")
                _add(sweeps[sweep : sweep + MOST_SWEEPS], pixels)


class _Sweep:
    """The sums of one noisy image, (C, H, W) in grey levels, over windows of some bands.

    Args:
        noisy: the image; with rows and columns exchanged if `turned`.
        sigma: noise level in grey levels.
        reach: columns of a window on either side of its centre.
        bands: what is compared with what.
        turned: whether rows and columns are exchanged.
    """

    def __init__(self, noisy: Floats, sigma: float, reach: int, bands: list[_Band], *, turned: bool = False) -> None:
        channels, self.height, self.width = noisy.shape
        self.turned, self.far = turned, bool(sigma > _PIXEL_SPREAD)
        self.reach, self.bands = reach, bands
        self.scale = float(np.float32(0.5 / sigma**2))
        # Columns go on around the image for as many displacements as the lanes of the last vector reach.
        self.around = np.arange(self.width + -(-self.width // LANES) * LANES) % self.width
        values = noisy[..., self.around].transpose(1, 0, 2) * (-2.0 if self.far else 1.0)
        self.noisy = np.ascontiguousarray(values, dtype=np.float32)
        self.nearest = np.full((self.height, self.width), kernels.UNSEEN_DISTANCE, dtype=np.float32)
        self.total = np.zeros((1 + channels, self.height, self.width))

    def sums(self, packed: Singles, part: int, parts: int) -> Sums:
        """The sums of some training images over one of so many parts of the displacements, and what they are counted from."""
        nearest = np.ascontiguousarray(self.nearest[:, self.around])
        sums = np.zeros((len(self.total), *nearest.shape), dtype=np.float32)
        for band in self.bands:
            kernels.accumulate(packed, *self._compared(band, part, parts), nearest.reshape(-1), sums.reshape(-1))
        return nearest, sums

    def _compared(self, band: _Band, part: int, parts: int) -> tuple[Any, ...]:
        """What both kernels are told of the noisy image, one band of displacements and the windows."""
        moves = np.ascontiguousarray(band.moves[part::parts])
        window, centre = (band.height, 2 * self.reach + 1), (band.centre, self.reach)
        return self.noisy, self.far, moves, window, centre, np.float32(self.scale)

    def weights_apart(self, packed: Singles, part: int, parts: int) -> Singles:
        """Weights of each training image at every pixel, counted from `nearest`, over one of the parts of the displacements.

        float32 (images, H, W).
        """
        nearest = np.ascontiguousarray(self.nearest[:, self.around])
        weights = np.zeros((len(packed) * kernels.GROUP, *nearest.shape), dtype=np.float32)
        for band in self.bands:
            kernels.attribute(packed, *self._compared(band, part, parts), nearest.reshape(-1), weights.reshape(-1))
        folded = np.zeros((len(weights), self.height, self.width), dtype=np.float32)
        for first in range(0, len(self.around), self.width):
            copy = weights[..., first : first + self.width]
            folded[..., : copy.shape[-1]] += copy
        return folded

    def reciprocals(self) -> Floats:
        """What turns weights counted from `nearest` into posterior weights, over the images of all processes: (H, W)."""
        level = -self.scale * self.nearest.astype(np.float64)
        largest, weight = merge_normalizers(level, self.total[0])
        return np.asarray(np.exp(level - largest) / weight)

    def add(self, parts: Sequence[Sums]) -> None:
        """Add sums to the total, and count it from where it is about 1, so that what adds nothing to it can be told."""
        pieces = [(self.nearest.astype(np.float64), self.total)]
        for nearest, sums in parts:
            for first in range(0, len(self.around), self.width):
                copy = slice(first, first + self.width)
                missing = ((0, 0), (0, self.width - nearest[:, copy].shape[1]))
                distance = np.pad(nearest[:, copy], missing, constant_values=kernels.UNSEEN_DISTANCE)
                pieces.append((distance.astype(np.float64), np.pad(sums[..., copy], ((0, 0), *missing))))
        least = np.min([distance for distance, _ in pieces], axis=0)
        total = sum(np.exp(self.scale * (least - distance)) * sums for distance, sums in pieces)
        nearer = (least - np.log(np.where(total[0] > 0, total[0], 1.0)) / self.scale).astype(np.float32)
        # Rounded to float32, a very large distance may come out far from where it should be.
        rise = self.scale * (least - nearer)
        self.nearest = np.where(np.abs(rise) < _MOST_RISE, nearer, least).astype(np.float32)
        self.total = np.exp(self.scale * (self.nearest - least)) * total

    def mean(self) -> Floats:
        """The posterior means of all pixels that the bands reach, over the images of all processes: (C, H, W)."""
        level = -self.scale * self.nearest.astype(np.float64)
        largest, weight = merge_normalizers(level, self.total[0])
        values = merge_sums(np.exp(level - largest) * self.total[1:])
        mean: Floats = values / np.where(weight > 0, weight, 1.0)
        return mean


def _add(sweeps: list[_Sweep], pixels: npt.NDArray[np.uint8]) -> None:
    """Add training images to sweeps; every thread takes a part of the displacements of each."""
    packed = {layout: _packed(pixels, *layout) for layout in {(sweep.far, sweep.turned) for sweep in sweeps}}
    parts = worker_count()

    def share(part: int, _: int) -> list[Sums]:
        return [sweep.sums(packed[sweep.far, sweep.turned], part, parts) for sweep in sweeps]

    for sweep, sums in zip(sweeps, zip(*in_parallel(share, parts, parts), strict=True), strict=True):
        sweep.add(sums)


def _weights_apart(sweep: _Sweep, pixels: npt.NDArray[np.uint8]) -> Singles:
    """Weights of some training images, one by one, at every pixel of a sweep: float32 (n, H, W); in threads."""
    packed, parts = _packed(pixels, sweep.far, sweep.turned), worker_count()
    pieces = in_parallel(lambda part, _: sweep.weights_apart(packed, part, parts), parts, parts)
    return np.asarray(np.sum(pieces, axis=0)[: len(pixels)])


def _packed(pixels: npt.NDArray[np.uint8], far: bool, turned: bool) -> Singles:
    count, channels, height, width = pixels.shape
    rows, columns = (width, height) if turned else (height, width)
    packed = np.empty((-(-count // kernels.GROUP), rows, columns, channels + 1, kernels.GROUP), dtype=np.float32)
    kernels.pack(pixels, far, turned, packed)
    return packed


def _inner_band(height: int, width: int, reach: int) -> list[_Band]:
    """Rows at least `reach` away from the border, each compared with all of them; none if there are no such rows."""
    inner = height - 2 * reach
    moves = [
        (down % height, right, max(0, -down), height - abs(down))
        for down in range(1 - inner, inner)
        for right in range(0, width, LANES)
    ]
    return [_Band(np.array(moves), 2 * reach + 1, reach)] if moves else []


def _edge_bands(height: int, width: int, reach: int) -> list[_Band]:
    """Rows nearer to the border than `reach`, each compared with itself, moved sideways; its window is cut at the border."""
    bands = []
    for row in range(height):
        if reach <= row < height - reach:
            continue
        top, bottom = max(0, row - reach), min(height, row + reach + 1)
        moves = [(0, right, top, bottom - top) for right in range(0, width, LANES)]
        bands.append(_Band(np.array(moves), bottom - top, row - top))
    return bands
