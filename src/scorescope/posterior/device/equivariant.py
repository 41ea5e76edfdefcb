"""The posterior over windows from every place of training images on a device: `posterior.equivariant` in tensors.

A noisy window y against all windows x of the same shape is a matrix product, ``‖y − x‖² = ‖ŷ − x‖² − 2 r·(x − ŷ) + ‖r‖²`` with
ŷ the nearest grey levels and r what is left of y: the first term is an exact product of bytes, small where windows match,
and the rounding of the second is small beside σ² at any noise level. Where the device has matrix units and Triton, that is
attention with every place of a training image as a key (`attention.moved_means`), and no window is laid out; elsewhere training
windows are laid out for a few images at a time, and their centre pixels are averaged in one pass (`running`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from scorescope.posterior.device import attention
from scorescope.posterior.device.centred import centre_means
from scorescope.posterior.device.local import NEGLIGIBLE
from scorescope.posterior.device.regions import Windows
from scorescope.posterior.device.running import RunningMeans
from scorescope.posterior.device.store import DeviceStore
from scorescope.posterior.device.units import from_levels
from scorescope.posterior.integer_product import integer_product_on
from scorescope.posterior.windows import Window

# So many noisy windows meet the training windows at a time.
MOST_QUESTIONS = 8192
_BYTES_PER_PAIR = 20
_LARGEST_BYTE, _SMALLEST_BYTE = 127, -128
# 255² · 32768 < 2³¹: longer windows have squared distances beyond 32 bits.
_MOST_SHORT_TERMS = 2**15


@dataclass(frozen=True)
class Band:
    """A part of images, and the windows in it that are compared with each other.

    Attributes:
        rows: the part's first row and the one after its last.
        columns: likewise.
        height: of the windows.
        width: of the windows.
        centre: row and column, in a window, of the pixel that is kept.
    """

    rows: tuple[int, int]
    columns: tuple[int, int]
    height: int
    width: int
    centre: tuple[int, int]

    def windows(self, images: Tensor) -> Tensor:
        """All windows of images (n, C, H, W), one after the other: (n·places, C·height·width)."""
        part = images[:, :, slice(*self.rows), slice(*self.columns)]
        views = part.unfold(2, self.height, 1).unfold(3, self.width, 1)  # (n, C, rows, columns, height, width)
        return views.permute(0, 2, 3, 1, 4, 5).reshape(-1, images.shape[1] * self.height * self.width)

    def kept(self, images: Tensor) -> Tensor:
        """The pixels kept of all windows, in the same order: a view (n, C, places down, places across)."""
        top, left = self.rows[0] + self.centre[0], self.columns[0] + self.centre[1]
        down, across = self.places
        return images[:, :, top : top + down, left : left + across]

    def places_in(self, shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """Where things are in an image of that shape (C, H, W), int32 each.

        Returns:
            Values of the window at the part's upper left, (C·height·width,); the value kept of every channel, (C,); and how
            far each place of the window is from there, (places,).
        """
        every = torch.arange(math.prod(shape), dtype=torch.int32).reshape(shape)
        top, left = self.rows[0], self.columns[0]
        window = every[:, top : top + self.height, left : left + self.width]
        kept = every[:, top + self.centre[0], left + self.centre[1]]
        down, across = self.places
        moves = every[0, :down, :across].flatten()
        return window.flatten(), kept.contiguous(), moves.contiguous()

    @property
    def places(self) -> tuple[int, int]:
        """How many places there are, down and across."""
        return self.rows[1] - self.rows[0] - self.height + 1, self.columns[1] - self.columns[0] - self.width + 1


class DeviceEquivariantPosterior:
    """Posterior means of centre pixels under the windows at many places of a training set, on a device.

    Args:
        store: the training set there.
    """

    def __init__(self, store: DeviceStore) -> None:
        self.store = store
        _, self._height, self._width = store.images.image_shape

    def mean(self, noisy: Tensor, sigma: Tensor, sides: Sequence[int]) -> Tensor:
        """The equivariant case: noisy images go on around their edges.

        Args:
            noisy: B noisy images as centred grey levels, float64 (B, d), on the device.
            sigma: noise levels in grey levels, float64 (B,), on the device.
            sides: B sides of windows in pixels, at least 1; an even one counts as the next odd one, and they are cut to the
                largest odd ones inside the image.

        Returns:
            Images in [-1, 1], float64 (B, d).
        """
        images = noisy.reshape(-1, *self.store.images.image_shape)
        means = torch.empty_like(images)
        most = (self._height - 1) // 2, (self._width - 1) // 2
        for rows, (up, left) in _alike([(min(side // 2, most[0]), min(side // 2, most[1])) for side in sides]):
            band = Band((0, self._height), (0, self._width), 2 * up + 1, 2 * left + 1, (up, left))
            around = functional.pad(images[rows], (left, left, up, up), mode="circular")
            whole = Band((0, around.shape[2]), (0, around.shape[3]), band.height, band.width, (up, left))
            means[rows] = self._compared(whole, around, sigma[rows], band)
        return from_levels(means).flatten(1)

    def border_mean(self, noisy: Tensor, sigma: Tensor, sides: Sequence[int]) -> Tensor:
        """The border case: windows touch the border alike.

        Args:
            noisy: as in `mean`.
            sigma: as in `mean`.
            sides: as in `mean`, but windows are cut at the border, and so may be larger than the image.

        Returns:
            Images in [-1, 1], float64 (B, d).
        """
        images = noisy.reshape(-1, *self.store.images.image_shape)
        windows = [Window.around(side, self._height, self._width) for side in sides]
        unmoved = [Windows(window, self._height, self._width) for window in windows]
        # In the corners nothing moves; everything else is written over.
        means = centre_means(self.store, images, sigma, unmoved)
        for rows, (up, left) in _alike([(window.pad_rows, window.pad_columns) for window in windows]):
            found = means[rows]
            for band in self._border_bands(up, left):
                band.kept(found)[:] = self._compared(band, images[rows], sigma[rows], band)
            means[rows] = found
        return from_levels(means).flatten(1)

    def _border_bands(self, up: int, left: int) -> list[Band]:
        """Rows and columns that touch the border alike and have more than one place; windows are cut at the border."""
        down, across = _reaches(self._height, up), _reaches(self._width, left)
        bands = []
        for rows, height, row in down:
            for columns, width, column in across:
                band = Band(rows, columns, height, width, (row, column))
                if band.places != (1, 1):
                    bands.append(band)
        return bands

    def _compared(self, asked: Band, noisy: Tensor, sigma: Tensor, band: Band) -> Tensor:
        """Posterior means of the centres of all `asked` windows of noisy images under the training windows of a band.

        Args:
            asked: where the noisy windows are; of the same height and width as those of the band.
            noisy: grey levels, float64 (B, C, H', W').
            sigma: in grey levels, float64 (B,).
            band: where the training windows are.

        Returns:
            Grey levels, float64 (B, C, places down, places across).
        """
        windows = asked.windows(noisy)
        down, across = asked.places
        if attention.may_move(windows.shape[1], noisy.shape[1]) and attention.runs_on(noisy.device):
            spread = sigma.repeat_interleave(down * across)
            where = [each.to(noisy.device) for each in band.places_in(self.store.images.image_shape)]
            pieces = zip(torch.split(windows, MOST_QUESTIONS), torch.split(spread, MOST_QUESTIONS), strict=True)
            means = torch.cat([attention.moved_means(self.store, *piece, *where) for piece in pieces])  # (B·places, C)
            return means.reshape(len(noisy), down, across, -1).permute(0, 3, 1, 2)
        scales = (0.5 / sigma**2).float().repeat_interleave(down * across)
        pieces = zip(torch.split(windows, MOST_QUESTIONS), torch.split(scales, MOST_QUESTIONS), strict=True)
        questions = [_Questions(some, scale, noisy.shape[1]) for some, scale in pieces]
        places = band.places[0] * band.places[1]
        per_image = places * (_BYTES_PER_PAIR * min(len(windows), MOST_QUESTIONS) + 10 * windows.shape[1])
        together = max(1, self.store.work_bytes // per_image)
        for _, chunk in self.store.chunks(self.store.chunk_images(per_image)):
            for images in torch.split(chunk, together):
                training = _Training(band.windows(images), band.kept(images))
                for each in questions:
                    each.add(training)
        means = torch.cat([each.running.mean() for each in questions], 1)  # (C, B·places)
        return means.reshape(-1, len(noisy), down, across).transpose(0, 1)


class _Training:
    """Windows of a few training images, int8 (m, k), their squared norms (m,) and centre pixels float32 (C, m)."""

    def __init__(self, windows: Tensor, kept: Tensor) -> None:
        self.windows = windows
        self.values = windows.float()
        self.norms = windows.short().square_().sum(1, dtype=torch.int64)
        self.centres = kept.transpose(0, 1).flatten(1).float()


class _Questions:
    """Noisy windows, float64 (P, k), with scales ``1 / 2σ²`` (P,), and the means of the training centres for each."""

    def __init__(self, windows: Tensor, scales: Tensor, channels: int) -> None:
        nearest = windows.round().clamp_(_SMALLEST_BYTE, _LARGEST_BYTE)
        rest = windows - nearest
        self.nearest, self.rest = nearest.to(torch.int8), rest.float()
        self.norms = nearest.square().sum(1).long()
        self.moved = (2 * rest * nearest).sum(1).float()
        self.scales = scales
        self.running = RunningMeans((len(windows),), channels, windows.device)

    def add(self, training: _Training) -> None:
        """Add the windows of a few training images."""
        logits = self._distances(training).mul_(-self.scales[:, None])
        running, peaks = self.running, logits.amax(1)
        if not bool((peaks >= running.largest + NEGLIGIBLE).any()):
            return
        running.count_from(torch.maximum(running.largest, peaks))
        weights = logits.sub_(running.largest[:, None]).exp_()
        running.total += weights.sum(1)
        running.values += training.centres @ weights.T

    def _distances(self, training: _Training) -> Tensor:
        """``‖ŷ − x‖² − 2 r·(x − ŷ)``, float32 (P, m)."""
        products = integer_product_on(self.nearest, training.windows.T)
        if self.nearest.shape[1] >= _MOST_SHORT_TERMS:
            products = products.long()
        exact = products.mul_(-2).add_(training.norms.to(products.dtype)).add_(self.norms.to(products.dtype)[:, None])
        distances = torch.addmm(exact.float(), self.rest, training.values.T, alpha=-2)
        return distances.add_(self.moved[:, None])


def _reaches(length: int, reach: int) -> list[tuple[tuple[int, int], int, int]]:
    """Windows along one axis that touch its ends alike: (part of the axis, length of the windows, place of the pixel kept)."""
    inner = [((0, length), 2 * reach + 1, reach)] if length > 2 * reach else []
    edges = []
    for place in range(length):
        if place < reach or place >= length - reach:
            first, last = max(0, place - reach), min(length, place + reach + 1)
            edges.append(((first, last), last - first, place - first))
    return inner + edges


def _alike(shapes: list[tuple[int, int]]) -> list[tuple[list[int], tuple[int, int]]]:
    """Which of the batch have the same shape."""
    found: dict[tuple[int, int], list[int]] = {}
    for row, shape in enumerate(shapes):
        found.setdefault(shape, []).append(row)
    return [(rows, shape) for shape, rows in found.items()]
