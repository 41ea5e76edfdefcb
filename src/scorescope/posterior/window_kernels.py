"""Compiled loops of the window posterior: normalizers of all windows of one noisy image, then what their weights give.

The first pass, `normalize`, counts the training images' weights in every window; the second, `weigh` or `collect`, adds
up the images by them. Logits come from the distances of `scorescope.posterior.window_sums`, 16 images at once.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from scorescope.posterior.exponential import exp32
from scorescope.posterior.vector import (
    LANES,
    everywhere,
    exponential,
    largest_lane,
    load,
    load_bytes,
    logarithm,
    maximum,
    multiply_add,
    store,
)
from scorescope.posterior.window_sums import GROUP, STRIP, column_sums, grid, row_sums, slide

UNSEEN = np.float32(-1e38)
# A window weight below e^-30 of the whole is left out: a million of them are 1e-7.
NEGLIGIBLE = np.float32(-30.0)
# What stands for smaller weights in a logarithm.
_LEAST_SHARE = np.float32(1e-30)
# Sums hold terms up to e^40 before they are counted from a new maximum; float32 ends at e^88.
_HEADROOM = np.float32(40.0)


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
def attribute(blocks, count, chosen, start, question, level, covered, spread, mass, entropy, tops, who, work):  # type: ignore[no-untyped-def]
    """Collect whose weights every pixel is made of: as `weigh`, but for the images themselves instead of their sum.

    A pixel's weight of an image is the mean of that image's weights over the windows that the pixel is made from.

    Args:
        blocks: as in `weigh`, and so are count, chosen, question, spread and work.
        count: how many images there are in the blocks.
        chosen: which of the blocks have any weight.
        start: index of the blocks' first training image.
        question: the noisy image and its windows.
        level: maxima and reciprocals of `weigh`.
        covered: float64 (H·W,): how many windows each pixel is made from.
        spread: see `weigh`.
        mass: float64 (N,): the sum of an image's weights over pixels is added.
        entropy: float32 (H·W·16,): ``−Σ m log m`` over images is added, in the lanes of their places.
        tops: float64 (H·W, k): largest weights so far, in descending order.
        who: int64 (H·W, k): the training images that have them.
        work: room for intermediate results.
    """
    pixels, last = len(covered), tops.shape[1] - 1
    smallest = everywhere(_LEAST_SHARE)
    masses = np.empty(LANES, dtype=np.float32)
    for block in chosen:
        filled, first = min(LANES, count - block * LANES), start + block * LANES
        column_sums(blocks[block].reshape(-1), filled, question, work)
        _shares(question, level[0], level[1], spread, work, work.shares)
        total = everywhere(np.float32(0.0))
        for pixel in range(pixels):
            p = pixel * LANES
            share = load(work.shares, p) * everywhere(np.float32(1.0 / covered[pixel]))
            store(work.shares, p, share)
            total = total + share
            store(entropy, p, load(entropy, p) - share * logarithm(maximum(share, smallest)))
            if largest_lane(share) > tops[pixel, last]:
                for lane in range(filled):
                    _insert(tops[pixel], who[pixel], np.float64(work.shares[p + lane]), first + lane)
        store(masses, 0, total)
        for lane in range(filled):
            mass[first + lane] += masses[lane]


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
