"""The posterior over square windows of training images, every window by itself, for all windows of an image at once.

For a window C the logits are ``−‖C(y − x_i)‖²/2σ²``, from the pixels of the window alone and always at the same place in
both images; its posterior mean is ``E[x_C | y_C]``. Two passes over the store: the first finds every window's normalizer,
the second adds up training images, each pixel weighted by the windows that use it:

- *composite* (Niedoba et al. 2025, equation 9): a pixel is the average of the posterior means of all windows over it;
- *centre* (Kamb & Ganguli 2024): a pixel comes from the window centred at it, cut at the image's border.

An image that no window gives weight above e^-30 in the first pass is not looked at in the second.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scorescope.data.images import ImageSet
from scorescope.posterior import window_kernels as kernels
from scorescope.posterior.lanes import Block, read_blocks
from scorescope.posterior.processes import gather, merge_normalizers, merge_sums, own_part
from scorescope.posterior.units import LEVELS_PER_UNIT, centred, from_levels
from scorescope.posterior.vector import LANES
from scorescope.posterior.window_sums import Question, Work, window_places, work_for
from scorescope.posterior.workers import in_parallel

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]

BLOCKS_AT_A_TIME = 16
MOST_ROWS = 16
# The spread of pixel values around mid-grey, in grey levels: only steers which numerically equal form of a sum is used.
_PIXEL_SPREAD = 64.0


@dataclass(frozen=True)
class Window:
    """A window of height × width pixels, moved over an image padded by so many rows and columns on every side.

    Attributes:
        height: in pixels.
        width: in pixels.
        pad_rows: rows of nothing above and below.
        pad_columns: columns of nothing left and right.
        spread: whether its posterior mean is kept at all its pixels, or at its centre only.
    """

    height: int
    width: int
    pad_rows: int = 0
    pad_columns: int = 0
    spread: bool = True

    @property
    def size(self) -> tuple[int, int, int, int]:
        """Height, width, rows and columns of padding."""
        return self.height, self.width, self.pad_rows, self.pad_columns

    @classmethod
    def inside(cls, side: int, height: int, width: int) -> Window:
        """All windows of a side that fit into an image; a side beyond the image is cut to it."""
        return cls(min(side, height), min(side, width))

    @classmethod
    def around(cls, side: int, height: int, width: int) -> Window:
        """A window around every pixel, of odd side, cut at the border."""
        rows, columns = min(side // 2, height - 1), min(side // 2, width - 1)
        return cls(2 * rows + 1, 2 * columns + 1, rows, columns, spread=False)

    def count(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of windows over an image."""
        return height + 2 * self.pad_rows - self.height + 1, width + 2 * self.pad_columns - self.width + 1


@dataclass(frozen=True)
class WindowDescription:
    """What the training set says of every window of one noisy image.

    Attributes:
        indices: the k likeliest training images in descending order, int64 (rows, columns, k); −1 where fewer have any
            weight above e^-30.
        probabilities: their posterior weights, float64 (rows, columns, k).
        effective_number: exp of the entropy of the weights, (rows, columns).
        log_evidence: log density of the window's noisy pixels under the training set, nats, in units of [-1, 1],
            (rows, columns).
    """

    indices: npt.NDArray[np.int64]
    probabilities: Floats
    effective_number: Floats
    log_evidence: Floats


class Part:
    """What one thread holds: a range of training images, and its normalizers for B noisy images."""

    def __init__(self, start: int, stop: int, windows: list[int]) -> None:
        self.start, self.stop = start, stop
        self.maxima = [np.full(n * LANES, kernels.UNSEEN, dtype=np.float32) for n in windows]
        self.sums = [np.zeros(n * LANES, dtype=np.float32) for n in windows]
        self.peaks = np.empty((len(windows), -(-(stop - start) // LANES)), dtype=np.float32)

    def blocks(self, images: ImageSet) -> Iterator[tuple[slice, Block, int]]:
        """Blocks of training images: which they are in the part, the blocks, how many images are in them."""
        step = BLOCKS_AT_A_TIME * LANES
        for start in range(self.start, self.stop, step):
            stop = min(start + step, self.stop)
            blocks = read_blocks(images, start, stop)
            first = (start - self.start) // LANES
            yield slice(first, first + len(blocks)), blocks, stop - start


class WindowPosterior:
    """Posterior means of all windows of noisy images under a training set.

    Args:
        images: the training set.
    """

    def __init__(self, images: ImageSet) -> None:
        self.images = images

    def mean(self, noisy: Floats, sigma: Floats, windows: list[Window]) -> Floats:
        """Average the windows' posterior means into images.

        Args:
            noisy: B noisy images as centred grey levels, float64 (B, d).
            sigma: noise levels in grey levels, float64 (B,).
            windows: B windows, one an image.

        Returns:
            Images in [-1, 1], float64 (B, d).
        """
        pieces = []
        for first in range(0, len(noisy), MOST_ROWS):
            rows = slice(first, first + MOST_ROWS)
            pieces.append(WindowPass(self.images, noisy[rows], sigma[rows], windows[rows]).mean())
        return np.concatenate(pieces)

    def describe(self, noisy: Floats, sigma: Floats, windows: list[Window], top: int) -> list[WindowDescription]:
        """Name the likeliest training images of every window, and how many share the weight; arguments as in `mean`."""
        found: list[WindowDescription] = []
        for first in range(0, len(noisy), MOST_ROWS):
            rows = slice(first, first + MOST_ROWS)
            found += WindowPass(self.images, noisy[rows], sigma[rows], windows[rows]).describe(top)
        return found


class WindowPass:
    """Two passes over the training set for a few noisy images."""

    def __init__(self, images: ImageSet, noisy: Floats, sigma: Floats, windows: list[Window]) -> None:
        self.images = images
        self.windows = windows
        _, height, width = images.image_shape
        self.grids = [window.count(height, width) for window in windows]
        self.noisy, self.sigma = noisy, sigma
        shrunk = noisy * (_PIXEL_SPREAD**2 / (_PIXEL_SPREAD**2 + sigma**2))[:, None]
        near: Singles = shrunk.astype(np.float32)
        far: Singles = (2 * noisy - near).astype(np.float32)
        scale: Singles = (0.5 / sigma**2).astype(np.float32)
        self.questions = [
            Question(near[row], far[row], scale[row], images.image_shape, window.size)
            for row, window in enumerate(windows)
        ]
        self.log_normalizers: list[Floats] = []

    def mean(self) -> Floats:
        parts = self.parts()
        pieces = in_parallel(lambda a, b: self._weighted(parts[a]), len(parts))
        total = merge_sums(np.stack(pieces).sum(axis=0))
        for row in range(len(self.windows)):
            total[row] /= np.tile(self._covered(row), self.images.image_shape[0])
        return from_levels(total)

    def attribute(self, top: int) -> tuple[Floats, tuple[Floats, Floats, Floats, npt.NDArray[np.int64]]]:
        """Whose weights the pixels of the first noisy image are made of.

        Args:
            top: k, how many images are named at a pixel.

        Returns:
            The composite in [-1, 1], (d,); and the share of every training image (N,), entropy of the weights at every pixel
            (H·W,), the largest of them (H·W, k), and whose they are (H·W, k).
        """
        parts = self.parts()
        pieces = in_parallel(lambda a, b: self._attributed(parts[a], top), len(parts))
        total = merge_sums(np.sum([piece[0] for piece in pieces], axis=0))
        mass, entropy = (merge_sums(np.sum([piece[k] for piece in pieces], axis=0)) for k in (1, 2))
        tops = np.concatenate([all_ for piece in pieces for all_ in gather(piece[3])], axis=1)
        who = np.concatenate([all_ for piece in pieces for all_ in gather(piece[4])], axis=1)
        order = np.argsort(-tops, axis=1, kind="stable")[:, :top]
        mean = from_levels(total / np.tile(self._covered(0), self.images.image_shape[0]))
        return mean, (mass, entropy, np.take_along_axis(tops, order, 1), np.take_along_axis(who, order, 1))

    def weights_of(self, entry: int) -> Floats:
        """The posterior weights of one training image in all windows of the first noisy image, (rows, columns).

        After `parts`, which finds the normalizers.
        """
        question = self.questions[0]
        image = centred(np.ascontiguousarray(self.images.take([entry])))[0].astype(np.float64)
        near, far = (side.astype(np.float64).reshape(question.shape) for side in (question.near, question.far))
        products = ((image - near) * (image - far)).sum(0)
        places = window_places(question.shape, question.window)
        logits = -float(question.scale) * _window_sums(products, self.windows[0])
        return np.asarray(np.exp(logits - self.log_normalizers[0][places]))

    def _covered(self, row: int) -> Floats:
        """How many windows each pixel is made from, (H·W,)."""
        _, height, width = self.images.image_shape
        if not self.windows[row].spread:
            return np.ones(height * width)
        rows, columns = self.grids[row]
        return np.outer(_coverage(height, rows), _coverage(width, columns)).reshape(-1).astype(np.float64)

    def describe(self, top: int) -> list[WindowDescription]:
        parts = self.parts()
        pieces = in_parallel(lambda a, b: self._collected(parts[a], top), len(parts))
        found = []
        for row, question in enumerate(self.questions):
            entropy = merge_sums(np.sum([piece[row][0] for piece in pieces], axis=0))
            tops = np.concatenate([all_ for piece in pieces for all_ in gather(piece[row][1])], axis=1)
            who = np.concatenate([all_ for piece in pieces for all_ in gather(piece[row][2])], axis=1)
            order = np.argsort(-tops, axis=1, kind="stable")[:, :top]
            places = window_places(question.shape, question.window)
            found.append(
                WindowDescription(
                    np.take_along_axis(who, order, 1)[places],
                    np.take_along_axis(tops, order, 1)[places],
                    np.exp(entropy)[places],
                    self.log_normalizers[row][places] + self._density_constant(row),
                )
            )
        return found

    def _density_constant(self, row: int) -> Floats:
        """What is missing from a window's log-normalizer to be a log density, (rows, columns)."""
        channels, height, width = self.images.image_shape
        # (x − y)² − (x − a)(x − b) = (y − a)²
        rest = ((self.noisy[row] - self.questions[row].near) ** 2).reshape(channels, height, width).sum(0)
        values = np.full((height, width), float(channels))
        spread = self.sigma[row] / LEVELS_PER_UNIT
        normalization = -0.5 * math.log(2 * math.pi * spread**2) * _window_sums(values, self.windows[row])
        left_out = _window_sums(rest, self.windows[row]) * float(self.questions[row].scale)
        return np.asarray(normalization - left_out - math.log(len(self.images)))

    def parts(self) -> list[Part]:
        """The first pass: this process's training images cut into parts, each with the normalizers of all."""
        first, last = own_part(len(self.images), LANES)
        blocks = -(-(last - first) // LANES)
        parts = in_parallel(lambda a, b: self._normalizers(first + a * LANES, min(first + b * LANES, last)), blocks)
        self._merge(parts)
        return parts

    def _normalizers(self, start: int, stop: int) -> Part:
        part = Part(start, stop, [math.prod(grid) for grid in self.grids])
        work = self._work()
        for places, blocks, count in part.blocks(self.images):
            for row, question in enumerate(self.questions):
                maxima, sums, peaks = part.maxima[row], part.sums[row], part.peaks[row, places]
                kernels.normalize(blocks, count, question, maxima, sums, peaks, work[row])
                kernels.equalize(maxima, sums)
        return part

    def _merge(self, parts: list[Part]) -> None:
        """Give all parts the normalizers of all training images: levels to count from, and reciprocals of the sums."""
        # One merge for all noisy images: what a collective costs is the waiting.
        maxima = [_first_lanes(part.maxima) for part in parts]
        sums = [np.concatenate(part.sums).reshape(-1, LANES).sum(1, dtype=np.float64) for part in parts]
        largest = np.max(maxima, axis=0, initial=kernels.UNSEEN)
        total = sum((s * np.exp(m - largest) for m, s in zip(maxima, sums, strict=True)), np.zeros(len(largest)))
        largest, total = merge_normalizers(largest, total)
        ends = np.cumsum([math.prod(grid) for grid in self.grids])[:-1]
        self.log_normalizers = np.split(largest + np.log(total), ends)
        for part in parts:
            part.maxima = [np.repeat(level.astype(np.float32), LANES) for level in np.split(largest, ends)]
            part.sums = [np.repeat((1 / sum_).astype(np.float32), LANES) for sum_ in np.split(total, ends)]

    def _weighted(self, part: Part) -> Floats:
        dimension = math.prod(self.images.image_shape)
        total = np.zeros((len(self.windows), dimension))
        lanes = np.zeros(dimension * LANES, dtype=np.float32)
        for row, blocks, count, chosen, _, work in self.chosen(part):
            maxima, reciprocals, spread = part.maxima[row], part.sums[row], self.windows[row].spread
            kernels.weigh(blocks, count, chosen, self.questions[row], maxima, reciprocals, lanes, spread, work)
            total[row] += lanes.reshape(-1, LANES).sum(1, dtype=np.float64)
            lanes[:] = 0
        return total

    def _collected(self, part: Part, top: int) -> list[tuple[Floats, Floats, npt.NDArray[np.int64]]]:
        """Entropy, largest weights and whose they are, for every noisy image, over one part."""
        counts = [math.prod(grid) for grid in self.grids]
        found = [(np.zeros(n), np.zeros((n, top)), np.full((n, top), -1, dtype=np.int64)) for n in counts]
        for row, blocks, count, chosen, start, work in self.chosen(part):
            maxima, reciprocals = part.maxima[row], part.sums[row]
            kernels.collect(blocks, count, chosen, start, self.questions[row], maxima, reciprocals, *found[row], work)
        return found

    def _attributed(self, part: Part, top: int) -> tuple[Floats, Floats, Floats, Floats, npt.NDArray[np.int64]]:
        """The first noisy image's weighted sum, and what `window_kernels.attribute` collects, over one part."""
        channels, height, width = self.images.image_shape
        pixels, spread = height * width, self.windows[0].spread
        mass, entropy = np.zeros(len(self.images)), np.zeros(pixels * LANES, dtype=np.float32)
        tops, who = np.zeros((pixels, top)), np.full((pixels, top), -1, dtype=np.int64)
        total, lanes = np.zeros(channels * pixels), np.zeros(channels * pixels * LANES, dtype=np.float32)
        question, level, covered = self.questions[0], (part.maxima[0], part.sums[0]), self._covered(0)
        for row, blocks, count, chosen, start, work in self.chosen(part):
            if row:
                continue
            kernels.weigh(blocks, count, chosen, question, *level, lanes, spread, work)
            total += lanes.reshape(-1, LANES).sum(1, dtype=np.float64)
            lanes[:] = 0
            kernels.attribute(
                blocks, count, chosen, start, question, level, covered, spread, mass, entropy, tops, who, work
            )
        return total, mass / pixels, entropy.reshape(-1, LANES).sum(1, dtype=np.float64), tops, who

    def chosen(self, part: Part) -> Iterator[tuple[int, Block, int, npt.NDArray[np.int64], int, Work]]:
        """The second pass over a part: for each noisy image the blocks that have any weight.

        Yields (noisy image, blocks, images in them, which have weight, index of the first image, room to work in).
        """
        work = self._work()
        for places, blocks, count in part.blocks(self.images):
            for row in range(len(self.windows)):
                chosen = np.flatnonzero(part.peaks[row, places] >= kernels.NEGLIGIBLE)
                if chosen.size:
                    yield row, blocks, count, chosen, part.start + places.start * LANES, work[row]

    def _work(self) -> list[Work]:
        return [work_for(question.shape, question.window) for question in self.questions]


def _first_lanes(values: list[Singles]) -> Floats:
    """Of arrays that are the same in every lane, one after the other, the values once, float64."""
    return np.concatenate(values).reshape(-1, LANES)[:, 0].astype(np.float64)


def _window_sums(values: Floats, window: Window) -> Floats:
    """Sums of values (H, W) over every window, (rows, columns), float64."""
    padded = np.pad(values, ((window.pad_rows,) * 2, (window.pad_columns,) * 2))
    views = np.lib.stride_tricks.sliding_window_view(padded, (window.height, window.width))
    return np.asarray(views.sum((2, 3)))


def _coverage(length: int, windows: int) -> npt.NDArray[np.int64]:
    """How many of the windows along one axis cover each of its pixels, (length,)."""
    side = length - windows + 1
    return np.convolve(np.ones(windows, dtype=np.int64), np.ones(side, dtype=np.int64))
