"""Posterior means of every window by itself: not put together into an image, but as patches.

For a window C of noisy image y this is ``E[x_C | y_C, σ]``, the building block of PSPC (Niedoba et al. 2025, section 5).
Windows of many sides share one reading of the training images, twice: for normalizers and for weights.
"""

from __future__ import annotations

import math

import numba as nb
import numpy as np
import numpy.typing as npt

from scorescope.data.images import ImageSet
from scorescope.posterior.processes import merge_sums
from scorescope.posterior.units import from_levels
from scorescope.posterior.vector import LANES, aligned, everywhere, load, load_bytes, multiply_add, store
from scorescope.posterior.window_kernels import weights_of
from scorescope.posterior.window_sums import column_sums, grid, row_sums, window_places
from scorescope.posterior.windows import BLOCKS_AT_A_TIME, Part, Window, WindowPass
from scorescope.posterior.workers import in_parallel

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]


def patch_means(images: ImageSet, noisy: Floats, sigma: Floats, sides: list[int]) -> list[Floats]:
    """Posterior means of all windows of some sides in noisy images.

    Args:
        images: the training set.
        noisy: B noisy images as centred grey levels, float64 (B, d).
        sigma: noise levels in grey levels, float64 (B,).
        sides: B window sides, one an image; sides beyond the image are cut to it. To look at one image at several sides,
            give it several times.

    Returns:
        For each noisy image the patches in [-1, 1], float64 (rows, columns, C, side, side).
    """
    channels, height, width = images.image_shape
    windows = [Window.inside(side, height, width) for side in sides]
    walk = WindowPass(images, noisy, sigma, windows)
    parts = walk.parts()
    pieces = in_parallel(lambda a, b: _weighted_patches(walk, parts[a]), len(parts))
    found = []
    for row, window in enumerate(windows):
        rows, columns = walk.grids[row]
        total = merge_sums(np.sum([piece[row] for piece in pieces], axis=0))
        patches = from_levels(total).reshape(rows * columns, channels, window.height, window.width)
        found.append(patches[window_places(images.image_shape, window.size)])
    return found


def _weighted_patches(walk: WindowPass, part: Part) -> list[Floats]:
    """Sums over one part for every noisy image, grey levels, (windows, patch pixels), windows as the kernels keep them."""
    channels = walk.images.image_shape[0]
    sizes = [channels * window.height * window.width for window in walk.windows]
    totals = [np.zeros((math.prod(grid), size)) for grid, size in zip(walk.grids, sizes, strict=True)]
    most = max(math.prod(grid) for grid in walk.grids)
    weights = aligned(BLOCKS_AT_A_TIME * most * LANES)
    lanes = aligned(max(sizes) * LANES)
    for row, blocks, count, chosen, _, work in walk.chosen(part):
        question, maxima, reciprocals = walk.questions[row], part.maxima[row], part.sums[row]
        _window_weights(blocks, count, chosen, question, maxima, reciprocals, weights, work)
        _add_patches(blocks, chosen, question, weights, lanes, totals[row])
    return totals


@nb.njit(nogil=True, cache=True)
def _window_weights(blocks, count, chosen, question, maxima, reciprocals, weights, work):  # type: ignore[no-untyped-def]
    """Weights of the chosen blocks' images for every window, float32 vectors (window, block)."""
    rows, columns, strip = grid(question.shape, question.window)
    for member in range(len(chosen)):
        block = chosen[member]
        column_sums(blocks[block].reshape(-1), count - block * LANES, question, work)
        for top in range(0, rows, strip):
            windows, first = row_sums(top, question.shape, question.window, work), top * columns
            weights_of(windows, first, question.scale, maxima, reciprocals, work.boxed)
            for k in range(windows):
                store(weights, ((first + k) * len(chosen) + member) * LANES, load(work.boxed, k * LANES))


@nb.njit(nogil=True, cache=True)
def _add_patches(blocks, chosen, question, weights, lanes, total):  # type: ignore[no-untyped-def]
    """Add the chosen blocks' patches, weighted, to total, float64 (windows, patch pixels)."""
    channels, height, width = question.shape
    tall, wide = question.window[0], question.window[1]
    rows, columns, strip = grid(question.shape, question.window)
    images, members, block_size = blocks.reshape(-1), len(chosen), blocks[0].size
    for row in range(rows):
        top = row // strip * strip
        for column in range(columns):
            place = top * columns + column * min(strip, rows - top) + row - top
            pixel = 0
            for channel in range(channels):
                for down in range(tall):
                    first = ((channel * height + row + down) * width + column) * LANES
                    for across in range(wide):
                        sum_ = everywhere(np.float32(0.0))
                        for member in range(members):
                            image = chosen[member] * block_size + first + across * LANES
                            weight = load(weights, (place * members + member) * LANES)
                            sum_ = multiply_add(weight, load_bytes(images, image), sum_)
                        store(lanes, pixel * LANES, sum_)
                        pixel += 1
            goal = total[place]
            for p in range(pixel):
                value = 0.0
                for lane in range(LANES):
                    value += lanes[p * LANES + lane]
                goal[p] += value
