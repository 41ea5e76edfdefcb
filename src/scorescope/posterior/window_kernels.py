"""Compiled loops of the window posterior: the logits of every window of one noisy image against blocks of 16 images.

A window's squared distance is a sum over its pixels, so all windows together are a box filter of the per-pixel
squared differences. The filter doubles: sums over 1, 2, 4, … neighbours, and a side is the sum of the powers of two in
it. Unlike running sums it never subtracts, which at low noise would leave only rounding errors, and its cost grows with
the logarithm of the side, less than the number of windows falls.

For numerical reasons a pixel contributes ``(x − a)(x − b)`` with ``a + b = 2y`` instead of ``(x − y)²``: the two differ by a
constant that no weight depends on, and with a near y at low noise and near 0 at high noise the sums stay small.

Rows are filtered along the columns first, in strips that stay in the first-level cache, then along the rows.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from scorescope.posterior.exponential import exp32
from scorescope.posterior.lanes import LANES, add_product

STRIP = 8
UNSEEN = np.float32(-1e38)
_ABSENT = np.float32(1e30)
_ONE = np.float32(1.0)
_ZERO = np.float32(0.0)
# A window weight below e^-30 of the largest is left out: a million of them are 1e-7.
_NEGLIGIBLE = np.float32(-30.0)

# No contraction: both passes must round a logit the same way, or weights would not sum to one where logits are large.
_FAST = {"nnan", "nsz"}


@nb.njit(nogil=True, cache=True, fastmath=_FAST)
def box_sum(source, spare, total, length, step, side):  # type: ignore[no-untyped-def]
    """``total[p] = Σ_{k < side} source[p + k·step]`` for p < length; source and spare are overwritten."""
    extent, offset, width = length + (side - 1) * step, 0, 1
    while True:
        if side & width:
            if offset == 0:
                for p in range(length):
                    total[p] = source[p]
            else:
                ahead = source[offset * step :]
                for p in range(length):
                    total[p] += ahead[p]
            offset += width
        if 2 * width > side:
            return
        extent -= width * step
        ahead = source[width * step :]
        for p in range(extent):
            spare[p] = source[p] + ahead[p]
        source, spare = spare, source
        width *= 2


@nb.njit(nogil=True, cache=True, fastmath=_FAST)
def equalize(maxima, sums):  # type: ignore[no-untyped-def]
    """Give the 16 lanes of each window their common maximum; sums are rescaled. Both float32 (windows·16,)."""
    for window in range(maxima.size // LANES):
        largest = UNSEEN
        for lane in range(LANES):
            largest = max(largest, maxima[window * LANES + lane])
        for lane in range(LANES):
            p = window * LANES + lane
            sums[p] *= exp32(maxima[p] - largest)
            maxima[p] = largest


@nb.njit(nogil=True, cache=True, fastmath=_FAST)
def visit(blocks, count, near, far, shape, window, scale, maxima, sums, peaks, total, weigh, spread, work):  # type: ignore[no-untyped-def]
    """Go through blocks of training images for one noisy image, to find normalizers or to add weighted images.

    Args:
        blocks: int8 (blocks, C·H·W, 16).
        count: how many images there are in them.
        near: float32 (C·H·W,): a, above.
        far: float32 (C·H·W,): b, above.
        shape: (C, H, W).
        window: (height, width, rows of padding, columns of padding); padded pixels count for nothing.
        scale: float32, ``1 / 2σ²``.
        maxima: float32 (windows·16,): largest logit so far, in every lane; when weighing, the final one.
        sums: float32 (windows·16,): sums of exp(logit − maximum) so far; when weighing, their final reciprocals.
        peaks: float32 (blocks,): how far above the maxima so far the block's logits come, written; when weighing, blocks
            whose peak is negligible are passed over.
        total: float32 (C·H·W·16,): what weighted images are added to.
        weigh: False to update maxima, sums and peaks; True to add weighted images to total.
        spread: whether a window's weight goes to all its pixels, or to its centre (then there are H·W windows).
        work: float32 (4, size): room for intermediate results; `work_size` says how much.

    Returns:
        How many blocks were weighed.
    """
    channels, height, width = shape
    window_height, window_width, pad_rows, pad_columns = window
    rows = height + 2 * pad_rows - window_height + 1
    columns = width + 2 * pad_columns - window_width + 1
    row_length, area = width * LANES, height * width * LANES
    source, spare, boxed, field = work[0], work[1], work[2], work[3]
    weighed = 0
    for block in range(blocks.shape[0]):
        if weigh and peaks[block] < _NEGLIGIBLE:
            continue
        images = blocks[block].reshape(-1)
        missing = LANES - min(LANES, count - block * LANES)
        # Differences and their sums along columns, strip by strip, into field (rows, W, 16).
        for left in range(0, width, STRIP):
            across = min(STRIP, width - left)
            wide = across * LANES
            source[: pad_rows * wide] = _ZERO
            source[(pad_rows + height) * wide : (2 * pad_rows + height) * wide] = _ZERO
            source[pad_rows * wide : (pad_rows + height) * wide] = _ZERO
            for row in range(height):
                line = (pad_rows + row) * wide
                for channel in range(channels):
                    first = (channel * height + row) * width + left
                    for column in range(across):
                        pixel = first + column
                        add_product(source, line + column * LANES, images, pixel * LANES, near[pixel], far[pixel])
                if missing:
                    for column in range(across):
                        end = line + (column + 1) * LANES
                        source[end - missing : end] = _ABSENT
            box_sum(source, spare, boxed, rows * wide, wide, window_height)
            for row in range(rows):
                place = row * row_length + left * LANES
                field[place : place + wide] = boxed[row * wide : (row + 1) * wide]
        # Row by row: sums along the row are distances; then exponentials.
        line_length, windows_length = (width + 2 * pad_columns) * LANES, columns * LANES
        peak = UNSEEN
        for row in range(rows):
            source[: pad_columns * LANES] = _ZERO
            source[pad_columns * LANES : pad_columns * LANES + row_length] = field[
                row * row_length : (row + 1) * row_length
            ]
            source[pad_columns * LANES + row_length : line_length] = _ZERO
            box_sum(source, spare, boxed, windows_length, LANES, window_width)
            largest = maxima[row * windows_length : (row + 1) * windows_length]
            scaled = sums[row * windows_length : (row + 1) * windows_length]
            above = UNSEEN
            for p in range(windows_length):
                above = max(above, -scale * boxed[p] - largest[p])
            peak = max(peak, above)
            if not weigh:
                if above >= _NEGLIGIBLE:
                    for p in range(windows_length):
                        logit = -scale * boxed[p]
                        gap = logit - largest[p]
                        ratio = exp32(-abs(gap))
                        scaled[p] = scaled[p] * ratio + _ONE if gap > _ZERO else scaled[p] + ratio
                        largest[p] = max(largest[p], logit)
            elif spread:
                margin = (window_width - 1) * LANES
                source[:margin] = _ZERO
                source[margin + windows_length : 2 * margin + windows_length] = _ZERO
                for p in range(windows_length):
                    source[margin + p] = exp32(-scale * boxed[p] - largest[p]) * scaled[p]
                box_sum(source, spare, boxed, row_length, LANES, window_width)
                field[row * row_length : (row + 1) * row_length] = boxed[:row_length]
            else:
                for p in range(windows_length):
                    field[row * row_length + p] = exp32(-scale * boxed[p] - largest[p]) * scaled[p]
        if not weigh:
            peaks[block] = peak
            continue
        # The weight of an image at a pixel: that of the windows over it, summed along columns.
        weighed += 1
        if not spread:
            for channel in range(channels):
                goal, pixels = (
                    total[channel * area : (channel + 1) * area],
                    images[channel * area : (channel + 1) * area],
                )
                for p in range(area):
                    goal[p] += field[p] * np.float32(pixels[p])
            continue
        margin = window_height - 1
        for left in range(0, width, STRIP):
            wide = min(STRIP, width - left) * LANES
            source[: margin * wide] = _ZERO
            source[(margin + rows) * wide : (2 * margin + rows) * wide] = _ZERO
            for row in range(rows):
                place = row * row_length + left * LANES
                source[(margin + row) * wide : (margin + row + 1) * wide] = field[place : place + wide]
            box_sum(source, spare, boxed, height * wide, wide, window_height)
            for channel in range(channels):
                for row in range(height):
                    place = ((channel * height + row) * width + left) * LANES
                    goal, pixels = total[place : place + wide], images[place : place + wide]
                    share = boxed[row * wide : (row + 1) * wide]
                    for p in range(wide):
                        goal[p] += share[p] * np.float32(pixels[p])
    return weighed


def work_size(shape: tuple[int, int, int], window: tuple[int, int, int, int]) -> int:
    """How many floats each of the four work arrays of `visit` needs."""
    _, height, width = shape
    window_height, window_width, pad_rows, pad_columns = window
    tall = max(height + 2 * pad_rows, height + window_height - 1) * min(STRIP, width)
    long = max(width + 2 * pad_columns, width + window_width - 1)
    field = max(height + 2 * pad_rows - window_height + 1, height) * width
    return max(tall, long, field) * LANES
