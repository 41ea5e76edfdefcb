"""The posterior over arbitrary parts of training images, every mask by itself, for all masks of an image at once.

For a mask M the logits are ``−‖M(y − x_i)‖²/2σ²``, from the masked values alone, at the same place in both images. What is
kept of a mask's posterior mean differs:

- *composite* (Niedoba et al. 2025, equation 9): a pixel is the average of the posterior means of all masks that hold it.
  Two passes over the store: the first finds every mask's normalizer, the second adds up training images, each pixel
  weighted by the masks that hold it. An image that no mask gives weight above e^-30 in the first is not looked at again;
- *own entry* (Lukoianov et al. 2025): there is one mask a pixel-channel, and of its posterior mean only that entry is kept:
  one number a mask, so one pass is enough. Masks may be weights, ``−Σ_n w_n (y − x_i)_n² / 2σ²``, also negative ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch

from scorescope.data.images import ImageSet
from scorescope.posterior import mask_kernels as kernels
from scorescope.posterior.lanes import Block, read_blocks
from scorescope.posterior.mask_cover import Masks
from scorescope.posterior.processes import merge_maxima, merge_normalizers, merge_sums, own_part, process_count
from scorescope.posterior.units import from_levels
from scorescope.posterior.vector import LANES
from scorescope.posterior.workers import in_parallel

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]

BLOCKS_AT_A_TIME = 32
MOST_ROWS = 16
# Dense weights: so many distances are computed at a time, and a row's distances are as many as there are pixel-channels.
_DISTANCES = 2**22
# The spread of pixel values around mid-grey, in grey levels: only steers which numerically equal form of a sum is used.
_PIXEL_SPREAD = 64.0


class _Part:
    """What one thread holds: a range of training images, and sums of weights of each noisy image's masks over it.

    Args:
        start: first training image.
        stop: training image after the last.
        masks: how many masks each noisy image has.
        sums: how many sums are kept a mask: of the weights, and of weighted values.
    """

    def __init__(self, start: int, stop: int, masks: Sequence[int], sums: int) -> None:
        self.start, self.stop = start, stop
        self.levels = [np.full(n * LANES, kernels.UNSEEN, dtype=np.float32) for n in masks]
        self.values = [np.zeros((sums, n * LANES), dtype=np.float32) for n in masks]
        self.peaks = np.empty((len(masks), -(-(stop - start) // LANES)), dtype=np.float32)
        self.lanes = np.empty(LANES, dtype=np.float32)

    def blocks(self, images: ImageSet) -> Iterator[tuple[slice, Block, int]]:
        """Blocks of training images: which they are in the part, the blocks, how many images are in them."""
        step = BLOCKS_AT_A_TIME * LANES
        for start in range(self.start, self.stop, step):
            stop = min(start + step, self.stop)
            blocks = read_blocks(images, start, stop)
            first = (start - self.start) // LANES
            yield slice(first, first + len(blocks)), blocks, stop - start

    def totals(self, row: int) -> tuple[Floats, Floats]:
        """Level (masks,) and sums (k, masks) counted from it, of one noisy image, all lanes together."""
        levels = self.levels[row].reshape(-1, LANES).astype(np.float64)
        values = self.values[row].reshape(len(self.values[row]), -1, LANES)
        largest = levels.max(1)
        return largest, (values * np.exp(levels - largest[:, None])).sum(2)


def questions(noisy: Floats, sigma: Floats) -> list[kernels.Question]:
    """What the kernels need of noisy images (B, d) in centred grey levels, at sigma (B,)."""
    shrunk = noisy * (_PIXEL_SPREAD**2 / (_PIXEL_SPREAD**2 + sigma**2))[:, None]
    near: Singles = shrunk.astype(np.float32)
    far: Singles = (2 * noisy - near).astype(np.float32)
    scale: Singles = (0.5 / sigma**2).astype(np.float32)
    return [kernels.Question(near[row], far[row], scale[row]) for row in range(len(noisy))]


def _parts(images: ImageSet) -> tuple[int, int, int]:
    """This process's training images: first, last, blocks."""
    first, last = own_part(len(images), LANES)
    return first, last, -(-(last - first) // LANES)


class CompositePosterior:
    """Posterior means of masks over whole pixels, averaged where masks overlap.

    Args:
        images: the training set.
    """

    def __init__(self, images: ImageSet) -> None:
        self.images = images

    def mean(self, noisy: Floats, sigma: Floats, masks: Sequence[Masks]) -> Floats:
        """Average the masks' posterior means into images.

        Args:
            noisy: B noisy images as centred grey levels, float64 (B, d).
            sigma: noise levels in grey levels, float64 (B,).
            masks: B sets of masks over whole pixels; every pixel is in at least one mask of each.

        Returns:
            Images in [-1, 1], float64 (B, d).
        """
        pieces = []
        for first in range(0, len(noisy), MOST_ROWS):
            rows = slice(first, first + MOST_ROWS)
            pieces.append(self._mean(questions(noisy[rows], sigma[rows]), masks[rows]))
        return from_levels(np.concatenate(pieces))

    def _mean(self, asked: list[kernels.Question], masks: Sequence[Masks]) -> Floats:
        first, last, blocks = _parts(self.images)

        def normalize(a: int, b: int) -> _Part:
            return self._normalized(first + a * LANES, min(first + b * LANES, last), asked, masks)

        parts = in_parallel(normalize, blocks)
        for row in range(len(asked)):
            _share_normalizers(parts, row)
        weighted = in_parallel(lambda a, b: self._weighted(parts[a], asked, masks), len(parts))
        total = merge_sums(np.sum(weighted, axis=0))  # (B, C, H·W)
        for row, kinds in enumerate(masks):
            total[row] /= kinds.covered
        return total.reshape(len(asked), -1)

    def _normalized(self, start: int, stop: int, asked: list[kernels.Question], masks: Sequence[Masks]) -> _Part:
        part = _Part(start, stop, [len(kinds) for kinds in masks], 1)
        tables = _tables(masks)
        for places, blocks, count in part.blocks(self.images):
            for row, (question, kinds) in enumerate(zip(asked, masks, strict=True)):
                levels, values, peaks = part.levels[row], part.values[row], part.peaks[row, places]
                kernels.normalize(blocks, count, question, kinds.plan, levels, values[0], peaks, tables, part.lanes)
                kernels.equalize(levels, values, part.lanes)
        return part

    def _weighted(self, part: _Part, asked: list[kernels.Question], masks: Sequence[Masks]) -> Floats:
        channels, height, width = self.images.image_shape
        total = np.zeros((len(asked), channels, height * width))
        lanes = np.zeros(channels * height * width * LANES, dtype=np.float32)
        tables = _tables(masks)
        shares = np.empty(max(len(kinds) for kinds in masks) * LANES, dtype=np.float32)
        for places, blocks, count in part.blocks(self.images):
            for row, (question, kinds) in enumerate(zip(asked, masks, strict=True)):
                chosen = np.flatnonzero(part.peaks[row, places] >= kernels.NEGLIGIBLE)
                if not chosen.size:
                    continue
                levels, reciprocals = part.levels[row], part.values[row][0]
                kernels.weigh(
                    blocks,
                    count,
                    chosen,
                    question,
                    kinds.plan,
                    levels,
                    reciprocals,
                    lanes,
                    tables,
                    shares,
                    part.lanes,
                )
                total[row] += lanes.reshape(channels, -1, LANES).sum(2, dtype=np.float64)
                lanes[:] = 0
        return total


class EntryPosterior:
    """Posterior means of pixel-channels, each from its own mask over the pixel-channels.

    Args:
        images: the training set.
    """

    def __init__(self, images: ImageSet) -> None:
        self.images = images
        self.dimension = math.prod(images.image_shape)

    def mean(self, noisy: Floats, sigma: Floats, masks: Sequence[Masks]) -> Floats:
        """Posterior means from binary masks.

        Args:
            noisy: B noisy images as centred grey levels, float64 (B, d).
            sigma: noise levels in grey levels, float64 (B,).
            masks: B sets of d masks over pixel-channels, mask m being that of pixel-channel m. An empty mask makes all
                training images equally likely.

        Returns:
            Images in [-1, 1], float64 (B, d).
        """
        pieces = []
        for first in range(0, len(noisy), MOST_ROWS):
            rows = slice(first, first + MOST_ROWS)
            pieces.append(self._mean(questions(noisy[rows], sigma[rows]), masks[rows]))
        return from_levels(np.concatenate(pieces))

    def weighted_mean(self, noisy: Floats, sigma: Floats, weights: Singles) -> Floats:
        """Posterior means from weights instead of masks.

        Args:
            noisy: as in `mean`.
            sigma: as in `mean`.
            weights: float32 (d, d): row m holds the weights of all pixel-channels in the distance of pixel-channel m.

        Returns:
            Images in [-1, 1], float64 (B, d).
        """
        first, last, _ = _parts(self.images)
        asked = questions(noisy, sigma)
        part = _Part(first, last, [self.dimension] * len(noisy), 2)
        matrix = torch.from_numpy(weights)
        step = max(1, min(BLOCKS_AT_A_TIME, _DISTANCES // (self.dimension * LANES))) * LANES
        for start in range(first, last, step):
            stop = min(start + step, last)
            blocks = read_blocks(self.images, start, stop)
            for row, question in enumerate(asked):
                self._add_weighted(blocks, stop - start, question, matrix, part.levels[row], part.values[row])
        return from_levels(np.stack([_entries([part], row) for row in range(len(noisy))]))

    def _mean(self, asked: list[kernels.Question], masks: Sequence[Masks]) -> Floats:
        first, last, blocks = _parts(self.images)

        def averaged(a: int, b: int) -> _Part:
            return self._averaged(first + a * LANES, min(first + b * LANES, last), asked, masks)

        parts = in_parallel(averaged, blocks)
        return np.stack([_entries(parts, row) for row in range(len(asked))])

    def _averaged(self, start: int, stop: int, asked: list[kernels.Question], masks: Sequence[Masks]) -> _Part:
        part = _Part(start, stop, [len(kinds) for kinds in masks], 2)
        tables = _tables(masks)
        for _, blocks, count in part.blocks(self.images):
            for row, (question, kinds) in enumerate(zip(asked, masks, strict=True)):
                levels, values = part.levels[row], part.values[row]
                kernels.average(blocks, count, question, kinds.plan, levels, values[0], values[1], tables, part.lanes)
                kernels.equalize(levels, values, part.lanes)
        return part

    def _add_weighted(
        self,
        blocks: Block,
        count: int,
        question: kernels.Question,
        weights: torch.Tensor,
        levels: Singles,
        values: Singles,
    ) -> None:
        """Add blocks of training images to the sums of all entries: a matrix product gives all distances."""
        columns = len(blocks) * LANES
        products = np.empty((self.dimension, columns), dtype=np.float32)
        kernels.differences(blocks, question, products.reshape(-1))
        distances = (weights @ torch.from_numpy(products)).numpy().reshape(-1)

        def add(start: int, stop: int) -> None:
            lanes, own = np.empty(LANES, dtype=np.float32), slice(start * LANES, stop * LANES)
            kernels.average_sums(
                blocks, count, distances, question.scale, levels, values[0], values[1], lanes, start, stop
            )
            shares = np.ascontiguousarray(values[:, own])
            kernels.equalize(levels[own], shares, lanes)
            values[:, own] = shares

        in_parallel(add, self.dimension)


def _tables(masks: Sequence[Masks]) -> Singles:
    return np.empty(max(kinds.room for kinds in masks), dtype=np.float32)


def _share_normalizers(parts: list[_Part], row: int) -> None:
    """Give all parts the normalizers of all training images: levels to count from, and reciprocals of the sums."""
    found = [part.totals(row) for part in parts]
    largest = np.max([level for level, _ in found], axis=0)
    total = np.sum([sums[0] * np.exp(level - largest) for level, sums in found], axis=0)
    largest, total = merge_normalizers(largest, total)
    for part in parts:
        part.levels[row] = np.repeat(largest.astype(np.float32), LANES)
        part.values[row] = np.repeat((1 / total).astype(np.float32), LANES)[None]


def _entries(parts: list[_Part], row: int) -> Floats:
    """Posterior means of all entries of one noisy image, in grey levels, from the sums of all parts and processes."""
    found = [part.totals(row) for part in parts]
    largest = np.max([level for level, _ in found], axis=0)
    if process_count() > 1:
        largest = merge_maxima(largest)
    sums = merge_sums(np.sum([sums * np.exp(level - largest) for level, sums in found], axis=0))
    entries: Floats = sums[1] / sums[0]
    return entries
