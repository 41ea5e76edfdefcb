"""Compiled loops of the equivariant posterior: every window of a noisy image against every place of training images.

Windows at q of a training image and at p = q + δ of the noisy image share their pixels' squared differences with all other
pairs that have the same displacement δ: the distances of one δ are a box filter of one image of differences, a few
operations a pair instead of one for every value in the window. The differences of a row are summed along it, the sums of
as many rows as a window has are kept, and each new row completes a row of windows, which is weighed at once.

The sixteen lanes of a vector are sixteen neighbouring displacements along a row: the training pixel is the same in all
of them, the noisy pixels are neighbours in memory, and so are the sums that the weights go into. Four training images go
together, because they share those noisy pixels and those sums. What the inner loops touch fits into the fastest caches.

A pixel contributes ``(y − x)²`` at low noise and ``x² − 2xy`` at high noise, which differ by a constant that no weight
depends on: so the sums stay small beside σ², and float32 knows them well enough.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from scorescope.posterior.vector import (
    LANES,
    aligned,
    everywhere,
    exponential,
    largest_lane,
    load,
    load_everywhere,
    maximum,
    minimum,
    multiply_add,
    store,
)
from scorescope.posterior.window_kernels import NEGLIGIBLE, UNSEEN

GROUP = 4
_WIDE = GROUP * LANES
# The distance of what was not seen yet, and what a pixel adds where there is none: beyond all that are, and below infinity.
UNSEEN_DISTANCE = np.float32(1e38)
_ABSENT = np.float32(1e30)
_ZERO = np.float32(0.0)
# Sums hold terms up to e^40 before they are counted from a nearer distance; float32 ends at e^88.
_HEADROOM = np.float32(40.0)


@nb.njit(nogil=True, cache=True)
def pack(pixels, far, turned, packed):  # type: ignore[no-untyped-def]
    """Lay out training images as the kernels read them, four side by side.

    Args:
        pixels: uint8 (n, C, H, W).
        far: whether the last entry of a pixel is Σ x² over its channels (high noise) or 0 (low noise).
        turned: whether rows and columns change places.
        packed: float32 (groups, H, W, C + 1, 4), or W, H if turned; written: grey levels centred at 128. Where there is no
            image the last entry is so large that no window gets weight.
    """
    count, channels = pixels.shape[0], pixels.shape[1]
    for i in range(packed.shape[0] * GROUP):
        target = packed[i // GROUP, :, :, :, i % GROUP]
        for row in range(target.shape[0]):
            for column in range(target.shape[1]):
                squares = _ZERO if i < count else _ABSENT
                for channel in range(channels):
                    value = _ZERO
                    if i < count:
                        value = np.float32(
                            pixels[i, channel, column, row] if turned else pixels[i, channel, row, column]
                        )
                        value -= np.float32(128.0)
                    target[row, column, channel] = value
                    if far:
                        squares += value * value
                target[row, column, channels] = squares


@nb.njit(nogil=True, cache=True)
def accumulate(packed, noisy, far, moves, window, centre, scale, nearest, sums):  # type: ignore[no-untyped-def]
    """Add training images to the sums of all pixels of one noisy image.

    Args:
        packed: float32 (groups, H, W, C + 1, 4), as `pack` makes it.
        noisy: float32 (H, C, pitch): rows continued to the right, around the image, by as many pixels as there are
            displacements; at high noise multiplied by −2.
        far: whether this is high noise.
        moves: int64 (moves, 4): displacement down and right of the first lane (not negative), first training row, number
            of rows. Noisy rows are counted around the image.
        window: (height, width).
        centre: (row, column) of the pixel of the window that is kept.
        scale: float32, ``1 / 2σ²``.
        nearest: float32 (H·pitch,): the distance that the sums at each pixel are counted from, one of the smallest so far;
            pixels continued as in noisy.
        sums: float32 ((1 + C)·H·pitch,): sums of exp(scale · (nearest − distance)), and of those times the training pixels.
    """
    groups, height, width, entries, _ = packed.shape
    channels, pitch = noisy.shape[1], noisy.shape[2]
    images, values = packed.reshape(-1), noisy.reshape(-1)
    tall, side = window
    columns = width - side + 1
    grid = (columns, columns * _WIDE, tall, channels, height * pitch)
    line, recent, logits = aligned(width * _WIDE), aligned(tall * grid[1]), aligned(grid[1])
    beyond = np.empty(LANES, dtype=np.float32)
    for group in range(groups):
        for move in range(len(moves)):
            down, right, top, rows = moves[move, 0], moves[move, 1], moves[move, 2], moves[move, 3]
            for lane in range(LANES):
                beyond[lane] = _ZERO if right + lane < width else _ABSENT
            for row in range(top, top + rows):
                pixel = (group * height + row) * width * entries * GROUP
                target = (row + down) % height * channels * pitch + right
                _differences(images, pixel, values, target, channels, pitch, far, beyond, line)
                _sum_along(line, columns, side, recent, (row - top) % tall * grid[1])
                first = row - tall + 1
                if first < top:
                    continue
                target = (first + centre[0] + down) % height * pitch + right + centre[1]
                above = _logits(recent, grid, scale, nearest, target, logits)
                if above < NEGLIGIBLE:
                    continue
                if above > _HEADROOM:
                    _approach(recent, grid, scale, nearest, sums, target)
                    _logits(recent, grid, scale, nearest, target, logits)
                pixel = ((group * height + first + centre[0]) * width + centre[1]) * entries * GROUP
                _weigh(logits, grid, images, pixel, sums, target)


@nb.njit(nogil=True, cache=True)
def attribute(packed, noisy, far, moves, window, centre, scale, nearest, weights):  # type: ignore[no-untyped-def]
    """Add each training image's weights at all pixels of one noisy image, over all places: as `accumulate`, image by image.

    Args:
        packed: as in `accumulate`, and so are noisy, far, moves, window, centre and scale.
        noisy: the noisy image.
        far: whether this is high noise.
        moves: the displacements.
        window: (height, width).
        centre: (row, column) of the pixel that is kept.
        scale: ``1 / 2σ²``.
        nearest: float32 (H·pitch,): what the weights are counted from; stays as it is.
        weights: float32 (images·H·pitch,): ``exp(scale · (nearest − distance))`` is added.
    """
    groups, height, width, entries, _ = packed.shape
    channels, pitch = noisy.shape[1], noisy.shape[2]
    images, values = packed.reshape(-1), noisy.reshape(-1)
    tall, side = window
    columns, area = width - side + 1, height * pitch
    grid = (columns, columns * _WIDE, tall, channels, area)
    line, recent, logits = aligned(width * _WIDE), aligned(tall * grid[1]), aligned(grid[1])
    beyond = np.empty(LANES, dtype=np.float32)
    for group in range(groups):
        for move in range(len(moves)):
            down, right, top, rows = moves[move, 0], moves[move, 1], moves[move, 2], moves[move, 3]
            for lane in range(LANES):
                beyond[lane] = _ZERO if right + lane < width else _ABSENT
            for row in range(top, top + rows):
                pixel = (group * height + row) * width * entries * GROUP
                target = (row + down) % height * channels * pitch + right
                _differences(images, pixel, values, target, channels, pitch, far, beyond, line)
                _sum_along(line, columns, side, recent, (row - top) % tall * grid[1])
                first = row - tall + 1
                if first < top:
                    continue
                target = (first + centre[0] + down) % height * pitch + right + centre[1]
                if _logits(recent, grid, scale, nearest, target, logits) >= NEGLIGIBLE:
                    _add_apart(logits, grid, group * GROUP * area + target, weights)


@nb.njit(nogil=True, cache=True)
def _add_apart(logits, grid, target, weights):  # type: ignore[no-untyped-def]
    """Add the weights of a row of windows to those of their own images, which lie `grid[4]` apart."""
    for place in range(0, grid[1], _WIDE):
        at = target
        for image in range(place, place + _WIDE, LANES):
            store(weights, at, load(weights, at) + exponential(load(logits, image)))
            at += grid[4]
        target += 1


@nb.njit(nogil=True, cache=True)
def _differences(images, pixel, noisy, target, channels, pitch, far, beyond, line):  # type: ignore[no-untyped-def]
    """What the pixels of a row contribute to distances, summed over channels: line (W, 4 images) of vectors."""
    absent = load(beyond, 0)
    for place in range(0, line.size, _WIDE):
        last = pixel + channels * GROUP
        a = absent + load_everywhere(images, last)
        b = absent + load_everywhere(images, last + 1)
        c = absent + load_everywhere(images, last + 2)
        d = absent + load_everywhere(images, last + 3)
        at = target
        if far:
            for x in range(pixel, last, GROUP):
                y = load(noisy, at)
                a = multiply_add(y, load_everywhere(images, x), a)
                b = multiply_add(y, load_everywhere(images, x + 1), b)
                c = multiply_add(y, load_everywhere(images, x + 2), c)
                d = multiply_add(y, load_everywhere(images, x + 3), d)
                at += pitch
        else:
            for x in range(pixel, last, GROUP):
                y = load(noisy, at)
                p, q = y - load_everywhere(images, x), y - load_everywhere(images, x + 1)
                r, s = y - load_everywhere(images, x + 2), y - load_everywhere(images, x + 3)
                a, b, c, d = multiply_add(p, p, a), multiply_add(q, q, b), multiply_add(r, r, c), multiply_add(s, s, d)
                at += pitch
        _store_four(line, place, a, b, c, d)
        pixel = last + GROUP
        target += 1


@nb.njit(nogil=True, cache=True)
def _sum_along(line, columns, side, recent, slot):  # type: ignore[no-untyped-def]
    """Sums over `side` neighbours of a line, for every column of windows, into recent from `slot` on."""
    for place in range(0, columns * _WIDE, _WIDE):
        a, b, c, d = _load_four(line, place)
        for at in range(place + _WIDE, place + side * _WIDE, _WIDE):
            p, q, r, s = _load_four(line, at)
            a, b, c, d = a + p, b + q, c + r, d + s
        _store_four(recent, slot + place, a, b, c, d)


@nb.njit(nogil=True, cache=True)
def _distances(recent, grid, place):  # type: ignore[no-untyped-def]
    """The sums of as many rows as a window has, in one column of windows: four vectors, one an image."""
    a, b, c, d = _load_four(recent, place)
    for at in range(place + grid[1], grid[2] * grid[1], grid[1]):
        p, q, r, s = _load_four(recent, at)
        a, b, c, d = a + p, b + q, c + r, d + s
    return a, b, c, d


@nb.njit(nogil=True, cache=True)
def _logits(recent, grid, scale, nearest, target, logits):  # type: ignore[no-untyped-def]
    """Logits of a row of windows, counted from `nearest`, (columns, 4 images) of vectors; returns the largest."""
    factor, peak = everywhere(scale), everywhere(UNSEEN)
    for place in range(0, grid[1], _WIDE):
        a, b, c, d = _distances(recent, grid, place)
        # The difference of two like distances is exact; that of two logits would be rounded twice.
        least = load(nearest, target)
        a, b, c, d = factor * (least - a), factor * (least - b), factor * (least - c), factor * (least - d)
        peak = maximum(peak, maximum(maximum(a, b), maximum(c, d)))
        _store_four(logits, place, a, b, c, d)
        target += 1
    return largest_lane(peak)


@nb.njit(nogil=True, cache=True)
def _approach(recent, grid, scale, nearest, sums, target):  # type: ignore[no-untyped-def]
    """Count the sums from smaller distances where those of a row of windows are smaller."""
    for place in range(0, grid[1], _WIDE):
        a, b, c, d = _distances(recent, grid, place)
        old = load(nearest, target)
        new = minimum(old, minimum(minimum(a, b), minimum(c, d)))
        store(nearest, target, new)
        factor, at = exponential(everywhere(scale) * (new - old)), target
        for _ in range(1 + grid[3]):
            store(sums, at, load(sums, at) * factor)
            at += grid[4]
        target += 1


@nb.njit(nogil=True, cache=True)
def _weigh(logits, grid, images, pixel, sums, target):  # type: ignore[no-untyped-def]
    """Add a row of windows to the sums: their weights, and the pixels kept times the weights."""
    for place in range(0, grid[1], _WIDE):
        a, b, c, d = _load_four(logits, place)
        a, b, c, d = exponential(a), exponential(b), exponential(c), exponential(d)
        store(sums, target, load(sums, target) + ((a + b) + (c + d)))
        at = target
        for _ in range(grid[3]):
            at += grid[4]
            total = a * load_everywhere(images, pixel)
            total = multiply_add(b, load_everywhere(images, pixel + 1), total)
            total = multiply_add(c, load_everywhere(images, pixel + 2), total)
            total = multiply_add(d, load_everywhere(images, pixel + 3), total)
            store(sums, at, load(sums, at) + total)
            pixel += GROUP
        pixel += GROUP
        target += 1


@nb.njit(nogil=True, cache=True)
def _load_four(array, place):  # type: ignore[no-untyped-def]
    return (
        load(array, place),
        load(array, place + LANES),
        load(array, place + 2 * LANES),
        load(array, place + 3 * LANES),
    )


@nb.njit(nogil=True, cache=True)
def _store_four(array, place, a, b, c, d):  # type: ignore[no-untyped-def]
    store(array, place, a)
    store(array, place + LANES, b)
    store(array, place + 2 * LANES, c)
    store(array, place + 3 * LANES, d)
