"""Compiled loops of the window posterior: the logits of every window of one noisy image against blocks of 16 images.

A window's squared distance is a sum over its pixels, so all windows together are a box filter of the per-pixel
squared differences. A sliding sum takes three additions an element whatever the side: cut the line into blocks as long as
the side; a window is the end of one block and the beginning of the next, a suffix sum and a prefix sum. Unlike the
difference of two running sums it never subtracts, which at low noise would leave only rounding errors.

For numerical reasons a pixel contributes ``(x − a)(x − b)`` with ``a + b = 2y`` instead of ``(x − y)²``: the two differ by a
constant that no weight depends on, and with a near y at low noise and near 0 at high noise the sums stay small.

Everything is laid out in strips, so that what slides has a few independent neighbours beside it: pixels as (row, 8
columns), for sums along columns; their results as (column, up to 8 rows), for sums along rows.
"""

from __future__ import annotations

from typing import NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt

from scorescope.posterior.exponential import exp32
from scorescope.posterior.vector import (
    LANES,
    aligned,
    everywhere,
    exponential,
    largest_lane,
    load,
    load_bytes,
    load_everywhere,
    maximum,
    multiply_add,
    store,
)

Singles = npt.NDArray[np.float32]

STRIP = 8
# So many blocks' weights are added to the total at once: it is read and written that much less often.
GROUP = 4
UNSEEN = np.float32(-1e38)
_ABSENT = np.float32(1e30)
_ZERO = np.float32(0.0)
# A window weight below e^-30 of the whole is left out: a million of them are 1e-7.
NEGLIGIBLE = np.float32(-30.0)
# Sums hold terms up to e^40 before they are counted from a new maximum; float32 ends at e^88.
_HEADROOM = np.float32(40.0)


class Question(NamedTuple):
    """One noisy image and its windows.

    Attributes:
        near: a, above, float32 (C·H·W,), grey levels.
        far: b, above, float32 (C·H·W,).
        scale: ``1 / 2σ²``, float32.
        shape: (C, H, W).
        window: (height, width, rows of padding, columns of padding); padded pixels count for nothing.
    """

    near: Singles
    far: Singles
    scale: np.float32
    shape: tuple[int, int, int]
    window: tuple[int, int, int, int]


class Work(NamedTuple):
    """Room for intermediate results of one thread, float32 arrays; see `work_for`."""

    source: Singles
    prefix: Singles
    field: Singles
    boxed: Singles
    spread: Singles
    shares: Singles


def work_for(shape: tuple[int, int, int], window: tuple[int, int, int, int]) -> Work:
    """Room for windows (height, width, rows of padding, columns of padding) over images (C, H, W)."""
    _, height, width = shape
    rows, columns, strip = grid(shape, window)
    strips = -(-rows // strip)
    wide = -(-width // STRIP) * STRIP
    sizes = (height * STRIP, STRIP, strips * strip * width, columns * strip, rows * wide, GROUP * height * width)
    return Work(*(aligned(size * LANES) for size in sizes))


@nb.njit(nogil=True, cache=True)
def grid(shape, window):  # type: ignore[no-untyped-def]
    """How many rows and columns of windows there are, and how many of the rows lie in a strip."""
    rows = shape[1] + 2 * window[2] - window[0] + 1
    columns = shape[2] + 2 * window[3] - window[1] + 1
    strips = -(-rows // STRIP)
    return rows, columns, -(-rows // strips)


@nb.njit(nogil=True, cache=True)
def window_places(shape, window):  # type: ignore[no-untyped-def]
    """Where the kernels keep each window: int64 (rows, columns), strips of rows one after the other, column by column."""
    rows, columns, strip = grid(shape, window)
    places = np.empty((rows, columns), dtype=np.int64)
    for row in range(rows):
        top = row // strip * strip
        for column in range(columns):
            places[row, column] = top * columns + column * min(strip, rows - top) + row - top
    return places


@nb.njit(nogil=True, cache=True)
def slide(source, line, window, prefix, target, goal):  # type: ignore[no-untyped-def]
    """Sums over neighbours along a line of vectors, for some lines side by side.

    Output q of line k is ``Σ_{j < side} source[q − lead + j, k]`` with zeros outside the line.

    Args:
        source: float32 vectors; overwritten.
        line: (length, how many lines, vectors from one place to the next).
        window: (side, zeros before the line, zeros after it); fewer zeros than the side.
        prefix: room for a vector a line.
        target: float32 vectors, written.
        goal: (group, a, b, c): output q of line k is vector ``(q // group) · a + (q % group) · b + k · c``.
    """
    length, inner, pitch = line
    side, lead, trail = window
    group, group_pitch, place_pitch, line_pitch = goal
    step = line_pitch * LANES
    for start in range(0, length + trail, side):
        stop = min(start + side, length + trail)
        for end in range(start, stop):
            here = end * pitch * LANES
            if end < length:
                for k in range(0, inner * LANES, LANES):
                    value = load(source, here + k)
                    store(prefix, k, value if end == start else load(prefix, k) + value)
            q, begin = end - side + 1 + lead, end - side + 1
            if q < 0:
                continue
            place = ((q // group) * group_pitch + (q % group) * place_pitch) * LANES
            tail = begin * pitch * LANES
            if begin < 0 or begin == start:
                for k in range(inner):
                    store(target, place + k * step, load(prefix, k * LANES))
            elif start >= length:
                for k in range(inner):
                    store(target, place + k * step, load(source, tail + k * LANES))
            else:
                for k in range(inner):
                    store(target, place + k * step, load(source, tail + k * LANES) + load(prefix, k * LANES))
        # The block's suffix sums, in place, for the windows that begin in it and end in the next.
        for row in range(min(stop, length) - 2, start, -1):
            here = row * pitch * LANES
            below = here + pitch * LANES
            for k in range(0, inner * LANES, LANES):
                store(source, here + k, load(source, here + k) + load(source, below + k))


@nb.njit(nogil=True, cache=True)
def equalize(maxima, sums):  # type: ignore[no-untyped-def]
    """Count the sums of all windows from their normalizer so far, the same in all 16 lanes. Both float32 (windows·16,)."""
    for window in range(maxima.size // LANES):
        first, largest = window * LANES, UNSEEN
        for lane in range(LANES):
            largest = max(largest, maxima[first + lane])
        total = 0.0
        for lane in range(LANES):
            total += sums[first + lane] * exp32(maxima[first + lane] - largest)
        level = np.float32(largest + np.log(total))
        share = np.float32(total * np.exp(np.float64(largest) - level) / LANES)
        for lane in range(LANES):
            maxima[first + lane] = level
            sums[first + lane] = share


@nb.njit(nogil=True, cache=True)
def column_sums(images, filled, question, work):  # type: ignore[no-untyped-def]
    """Per-pixel products of 16 images summed along columns, into work.field: strips of rows, each (column, row)."""
    near, far, window = question.near, question.far, question.window
    channels, height, width = question.shape
    _, _, strip = grid(question.shape, window)
    for left in range(0, width, STRIP):
        across = min(STRIP, width - left)
        for row in range(height):
            for column in range(across):
                total = everywhere(_ZERO)
                for channel in range(channels):
                    pixel = (channel * height + row) * width + left + column
                    x = load_bytes(images, pixel * LANES)
                    total = multiply_add(x - load_everywhere(near, pixel), x - load_everywhere(far, pixel), total)
                place = (row * across + column) * LANES
                store(work.source, place, total)
                if filled < LANES:
                    work.source[place + filled : place + LANES] = _ABSENT
        slide(
            work.source,
            (height, across, across),
            (window[0], window[2], window[2]),
            work.prefix,
            work.field[left * strip * LANES :],
            (strip, width * strip, 1, strip),
        )


@nb.njit(nogil=True, cache=True)
def row_sums(top, shape, window, work):  # type: ignore[no-untyped-def]
    """Distances of the strip of windows from row `top` on, into work.boxed as (column, row); returns how many."""
    rows, columns, strip = grid(shape, window)
    width, inner = shape[2], min(strip, rows - top)
    slide(
        work.field[top * width * LANES :],
        (width, inner, strip),
        (window[1], window[3], window[3]),
        work.prefix,
        work.boxed,
        (columns, 0, inner, 1),
    )
    return columns * inner


@nb.njit(nogil=True, cache=True)
def normalize(blocks, count, question, maxima, sums, peaks, work):  # type: ignore[no-untyped-def]
    """Add blocks of training images to the normalizers of all windows of one noisy image.

    Args:
        blocks: int8 (blocks, C·H·W, 16).
        count: how many images there are in them.
        question: the noisy image and its windows.
        maxima: float32 (windows·16,): what the sums are counted from, in every lane; windows lie as `window_places` says.
        sums: float32 (windows·16,): sums of exp(logit − maximum) so far.
        peaks: float32 (blocks,): how far above the maxima the block's logits come, written.
        work: room for intermediate results.
    """
    shape, window, scale = question.shape, question.window, question.scale
    rows, columns, strip = grid(shape, window)
    boxed = work.boxed
    for block in range(blocks.shape[0]):
        column_sums(blocks[block].reshape(-1), count - block * LANES, question, work)
        peak = UNSEEN
        for top in range(0, rows, strip):
            windows, first = row_sums(top, shape, window, work), top * columns * LANES
            above = _logits(boxed, windows, scale, maxima[first:])
            peak = max(peak, above)
            if above < NEGLIGIBLE:
                continue
            if above > _HEADROOM:
                _raise(boxed, windows, maxima[first:], sums[first:])
            for p in range(0, windows * LANES, LANES):
                weight = exponential(load(boxed, p) - load(maxima, first + p))
                store(sums, first + p, load(sums, first + p) + weight)
        peaks[block] = peak


@nb.njit(nogil=True, cache=True)
def _logits(boxed, count, scale, maxima):  # type: ignore[no-untyped-def]
    """Turn distances into logits, in place; returns the largest of logit minus maximum."""
    peak, negative = everywhere(UNSEEN), everywhere(-scale)
    for p in range(0, count * LANES, LANES):
        logit = negative * load(boxed, p)
        store(boxed, p, logit)
        peak = maximum(peak, logit - load(maxima, p))
    return largest_lane(peak)


@nb.njit(nogil=True, cache=True)
def weights_of(windows, first, scale, maxima, reciprocals, boxed):  # type: ignore[no-untyped-def]
    """Turn the distances of some windows, `first` and following, into posterior weights, in place."""
    negative, start = everywhere(-scale), first * LANES
    for p in range(0, windows * LANES, LANES):
        weight = exponential(negative * load(boxed, p) - load(maxima, start + p))
        store(boxed, p, weight * load(reciprocals, start + p))


@nb.njit(nogil=True, cache=True)
def _raise(logits, count, maxima, sums):  # type: ignore[no-untyped-def]
    """Count the sums from larger maxima where logits are above them."""
    for p in range(0, count * LANES, LANES):
        old = load(maxima, p)
        new = maximum(old, load(logits, p))
        store(sums, p, load(sums, p) * exponential(old - new))
        store(maxima, p, new)


@nb.njit(nogil=True, cache=True)
def weigh(blocks, count, chosen, question, maxima, reciprocals, total, spread, work):  # type: ignore[no-untyped-def]
    """Add training images, weighted by the posterior of all windows of one noisy image, to a total.

    Args:
        blocks: as in `normalize`, and so are count, question and work.
        count: how many images there are in the blocks.
        chosen: int64: which of the blocks have any weight.
        question: the noisy image and its windows.
        maxima: float32 (windows·16,): of all training images, the same in every lane.
        reciprocals: float32 (windows·16,): of the sums of all training images.
        total: float32 (C·H·W·16,): what weighted images are added to.
        spread: whether a window's weight goes to all its pixels, or to its centre (then there are H·W windows).
        work: room for intermediate results.
    """
    channels, height, width = question.shape
    area = height * width * LANES
    for group in range(0, len(chosen), GROUP):
        members = chosen[group : group + GROUP]
        for member in range(len(members)):
            block = members[member]
            column_sums(blocks[block].reshape(-1), count - block * LANES, question, work)
            _shares(question, maxima, reciprocals, spread, work, work.shares[member * area :])
        _add_weighted(blocks.reshape(-1), members, blocks[0].size, channels, area, work.shares, total)


@nb.njit(nogil=True, cache=True)
def _add_weighted(images, members, block_size, channels, area, shares, total):  # type: ignore[no-untyped-def]
    """``total += Σ_members share · image``, the weight at a pixel being that of all its channels."""
    for channel in range(channels):
        first = channel * area
        if len(members) == GROUP:
            a, b, c, d = (
                members[0] * block_size + first,
                members[1] * block_size + first,
                members[2] * block_size + first,
                members[3] * block_size + first,
            )
            for p in range(0, area, LANES):
                sum_ = multiply_add(load(shares, p), load_bytes(images, a + p), load(total, first + p))
                sum_ = multiply_add(load(shares, area + p), load_bytes(images, b + p), sum_)
                sum_ = multiply_add(load(shares, 2 * area + p), load_bytes(images, c + p), sum_)
                store(total, first + p, multiply_add(load(shares, 3 * area + p), load_bytes(images, d + p), sum_))
        else:
            for k in range(len(members)):
                image, share = members[k] * block_size + first, k * area
                for p in range(0, area, LANES):
                    sum_ = multiply_add(load(shares, share + p), load_bytes(images, image + p), load(total, first + p))
                    store(total, first + p, sum_)


@nb.njit(nogil=True, cache=True)
def _shares(question, maxima, reciprocals, spread, work, shares):  # type: ignore[no-untyped-def]
    """The weight of 16 images at every pixel, (H·W) vectors: that of the windows over it, or of the one around it."""
    shape, window, scale = question.shape, question.window, question.scale
    rows, columns, strip = grid(shape, window)
    _, height, width = shape
    boxed = work.boxed
    for top in range(0, rows, strip):
        windows = row_sums(top, shape, window, work)
        weights_of(windows, top * columns, scale, maxima, reciprocals, boxed)
        inner = windows // columns
        if spread:
            slide(
                boxed,
                (columns, inner, inner),
                (window[1], window[1] - 1, window[1] - 1),
                work.prefix,
                work.spread[top * STRIP * LANES :],
                (STRIP, rows * STRIP, 1, STRIP),
            )
        else:
            for column in range(columns):
                for k in range(inner):
                    store(shares, ((top + k) * width + column) * LANES, load(boxed, (column * inner + k) * LANES))
    if spread:
        for left in range(0, width, STRIP):
            slide(
                work.spread[left * rows * LANES :],
                (rows, min(STRIP, width - left), STRIP),
                (window[0], window[0] - 1, window[0] - 1),
                work.prefix,
                shares[left * LANES :],
                (height, 0, width, 1),
            )


@nb.njit(nogil=True, cache=True)
def collect(blocks, count, chosen, start, question, maxima, reciprocals, entropy, tops, who, work):  # type: ignore[no-untyped-def]
    """Collect each window's largest weights and the entropy of all of them.

    Args:
        blocks: as in `weigh`, and so are count, chosen, question, maxima, reciprocals and work.
        count: how many images there are in the blocks.
        chosen: which of the blocks have any weight.
        start: index of the blocks' first training image.
        question: the noisy image and its windows.
        maxima: see `weigh`.
        reciprocals: see `weigh`.
        entropy: float64 (windows,): ``−Σ w log w`` is added.
        tops: float64 (windows, k): largest weights so far, in descending order.
        who: int64 (windows, k): the training images that have them.
        work: room for intermediate results.
    """
    shape, window, scale = question.shape, question.window, question.scale
    rows, columns, strip = grid(shape, window)
    for block in chosen:
        filled = min(LANES, count - block * LANES)
        column_sums(blocks[block].reshape(-1), filled, question, work)
        for top in range(0, rows, strip):
            windows, first = row_sums(top, shape, window, work), top * columns
            _logits(work.boxed, windows, scale, maxima[first * LANES :])
            for k in range(windows):
                place = first + k
                for lane in range(filled):
                    gap = work.boxed[k * LANES + lane] - maxima[place * LANES]
                    if gap >= NEGLIGIBLE:
                        weight = np.exp(np.float64(gap)) * reciprocals[place * LANES]
                        entropy[place] -= weight * np.log(weight)
                        _insert(tops[place], who[place], weight, start + block * LANES + lane)


@nb.njit(nogil=True, cache=True)
def _insert(tops, who, weight, image):  # type: ignore[no-untyped-def]
    """Put a weight in its place among the largest, if it is one of them."""
    place = len(tops)
    while place > 0 and weight > tops[place - 1]:
        place -= 1
    for later in range(len(tops) - 1, place, -1):
        tops[later] = tops[later - 1]
        who[later] = who[later - 1]
    if place < len(tops):
        tops[place] = weight
        who[place] = image
