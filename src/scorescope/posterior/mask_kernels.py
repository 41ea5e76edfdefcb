"""Compiled loops of the mask posterior: the logits of every mask of one noisy image against blocks of 16 images.

A pixel contributes ``(x − a)(x − b)`` with ``a + b = 2y`` instead of ``(x − y)²``: the two differ by a constant that no weight
depends on, and with a near y at low noise and near 0 at high noise the sums stay small. Sums over masks are sums over
the rectangles that they are made of (`mask_cover`).

Sums of weights are kept for each of the 16 lanes by itself, counted from a level that is raised where a logit comes far
above it; `equalize` gives the lanes a common level from time to time.
"""

from __future__ import annotations

from typing import NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt

from scorescope.posterior.vector import (
    LANES,
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

UNSEEN = np.float32(-1e38)
# A weight below e^-30 of the whole is left out: a million of them are 1e-7.
NEGLIGIBLE = np.float32(-30.0)
# Sums hold terms up to e^40 before they are counted from a new level; float32 ends at e^88.
_HEADROOM = np.float32(40.0)
# Added to the logits of lanes without an image: below all others, and above UNSEEN.
_CLOSED = np.float32(-1e30)
_ZERO = np.float32(0.0)


class Question(NamedTuple):
    """One noisy image.

    Attributes:
        near: a, above, float32 (C·H·W,), grey levels.
        far: b, above, float32 (C·H·W,).
        scale: ``1 / 2σ²``, float32.
    """

    near: Singles
    far: Singles
    scale: np.float32


@nb.njit(nogil=True, cache=True)
def normalize(blocks, count, question, plan, levels, sums, peaks, tables, lanes):  # type: ignore[no-untyped-def]
    """Add blocks of training images to the normalizers of all masks of one noisy image.

    Args:
        blocks: int8 (blocks, C·H·W, 16).
        count: how many images there are in them.
        question: the noisy image.
        plan: the masks, over pixels or pixel-channels.
        levels: float32 (masks·16,): what the sums are counted from, in every lane.
        sums: float32 (masks·16,): sums of exp(logit − level) so far.
        peaks: float32 (blocks,): how far above the levels the block's logits come, written.
        tables: room for the tables, see `Masks.room`.
        lanes: room for 16 values.
    """
    scale = question.scale
    for block in range(blocks.shape[0]):
        opened = _open(count - block * LANES, lanes)
        _fill(blocks[block].reshape(-1), question, plan, tables)
        peak = UNSEEN
        for mask in range(plan.starts.size - 1):
            logit = _logit(plan, mask, tables, scale, opened)
            place = mask * LANES
            level = load(levels, place)
            above = largest_lane(logit - level)
            peak = max(peak, above)
            if above > _HEADROOM:
                old, level = level, maximum(level, logit)
                store(levels, place, level)
                store(sums, place, load(sums, place) * exponential(old - level))
            store(sums, place, load(sums, place) + exponential(logit - level))
        peaks[block] = peak


@nb.njit(nogil=True, cache=True)
def average(blocks, count, question, plan, levels, sums, weighted, tables, lanes):  # type: ignore[no-untyped-def]
    """Add blocks of training images to the normalizers of all masks, and to the weighted sums of each mask's own entry.

    Mask m is that of pixel-channel m. Arguments are those of `normalize`, and

    Args:
        weighted: float32 (masks·16,): sums of exp(logit − level) times the image's value at the mask's entry.
    """
    scale = question.scale
    for block in range(blocks.shape[0]):
        opened = _open(count - block * LANES, lanes)
        images = blocks[block].reshape(-1)
        _fill(images, question, plan, tables)
        for mask in range(plan.starts.size - 1):
            logit = _logit(plan, mask, tables, scale, opened)
            _add_entry(logit, images, mask * LANES, levels, sums, weighted)


@nb.njit(nogil=True, cache=True)
def differences(blocks, question, target):  # type: ignore[no-untyped-def]
    """Every pixel-channel's product for blocks of images: int8 (blocks, d, 16) to float32 (d, blocks·16), flat."""
    count = blocks.shape[0]
    for block in range(count):
        images = blocks[block].reshape(-1)
        for place in range(blocks.shape[1]):
            store(target, (place * count + block) * LANES, _product(images, question, place))


@nb.njit(nogil=True, cache=True)
def average_sums(blocks, count, distances, scale, levels, sums, weighted, lanes, start, stop):  # type: ignore[no-untyped-def]
    """As `average` does, for masks start to stop, from their distances, float32 (masks·blocks·16,)."""
    negative = everywhere(-scale)
    for block in range(blocks.shape[0]):
        opened = _open(count - block * LANES, lanes)
        images = blocks[block].reshape(-1)
        for mask in range(start, stop):
            distance = load(distances, (mask * blocks.shape[0] + block) * LANES)
            logit = multiply_add(negative, distance, opened)
            _add_entry(logit, images, mask * LANES, levels, sums, weighted)


@nb.njit(nogil=True, cache=True)
def weigh(blocks, count, chosen, question, plan, levels, reciprocals, total, tables, shares, lanes):  # type: ignore[no-untyped-def]
    """Add training images, each pixel weighted by the posterior weights of all masks that hold it, to a total.

    Args:
        blocks: as in `normalize`, and so are count, question, plan, tables and lanes.
        count: how many images there are in the blocks.
        chosen: int64: which of the blocks have any weight.
        question: the noisy image.
        plan: the masks, over whole pixels.
        levels: float32 (masks·16,): of all training images, the same in every lane.
        reciprocals: float32 (masks·16,): of the sums of all training images.
        total: float32 (C·H·W·16,): what weighted images are added to.
        tables: room for the tables.
        shares: room for the weights, float32 (masks·16,).
        lanes: room for 16 values.
    """
    scale = question.scale
    for block in chosen:
        opened = _open(count - block * LANES, lanes)
        images = blocks[block].reshape(-1)
        _fill(images, question, plan, tables)
        for mask in range(plan.starts.size - 1):
            place = mask * LANES
            gap = _logit(plan, mask, tables, scale, opened) - load(levels, place)
            if largest_lane(gap) < NEGLIGIBLE:
                shares[place] = -1.0
            else:
                store(shares, place, exponential(gap) * load(reciprocals, place))
        _spread(plan, shares, tables)
        for first in range(0, blocks.shape[1] * LANES, plan.places * LANES):
            for p in range(0, plan.places * LANES, LANES):
                weighted = multiply_add(load(tables, p), load_bytes(images, first + p), load(total, first + p))
                store(total, first + p, weighted)


@nb.njit(nogil=True, cache=True)
def equalize(levels, values, lanes):  # type: ignore[no-untyped-def]
    """Count the sums of every mask from their logarithm, the same in all 16 lanes.

    Args:
        levels: float32 (masks·16,), overwritten.
        values: float32 (k, masks·16), overwritten: sums of weights, and other sums counted from the same levels.
        lanes: room for 16 values.
    """
    for place in range(0, levels.size, LANES):
        level = load(levels, place)
        largest = largest_lane(level)
        share = exponential(level - everywhere(largest))
        factor = 0.0
        for k in range(values.shape[0]):
            row = values[k]
            store(lanes, 0, share * load(row, place))
            total = 0.0
            for lane in range(LANES):
                total += lanes[lane]
            if k == 0:
                common = np.float32(largest + np.log(total))
                factor = np.exp(np.float64(largest) - common) / LANES
                store(levels, place, everywhere(common))
            store(row, place, everywhere(np.float32(total * factor)))


@nb.njit(nogil=True, cache=True)
def _open(filled, lanes):  # type: ignore[no-untyped-def]
    """Zero in lanes that hold an image, far below zero in the others."""
    for lane in range(LANES):
        lanes[lane] = _ZERO if lane < filled else _CLOSED
    return load(lanes, 0)


@nb.njit(nogil=True, cache=True)
def _product(images, question, pixel):  # type: ignore[no-untyped-def]
    x = load_bytes(images, pixel * LANES)
    return (x - load_everywhere(question.near, pixel)) * (x - load_everywhere(question.far, pixel))


@nb.njit(nogil=True, cache=True)
def _fill(images, question, plan, tables):  # type: ignore[no-untyped-def]
    """Make the tables of 16 images: every place's products, added up over channels where masks are of whole pixels."""
    places = plan.places
    for place in range(places):
        total = _product(images, question, place)
        for pixel in range(place + places, question.near.size, places):
            total = total + _product(images, question, pixel)
        store(tables, place * LANES, total)
    for k in range(plan.doublings.shape[0]):
        half, shift = plan.doublings[k, 0] * places * LANES, plan.doublings[k, 1] * LANES
        target = (k + 1) * places * LANES
        for p in range(0, places * LANES - shift, LANES):
            store(tables, target + p, load(tables, half + p) + load(tables, half + p + shift))
    store(tables, (plan.doublings.shape[0] + 1) * places * LANES, everywhere(_ZERO))


@nb.njit(nogil=True, cache=True)
def _logit(plan, mask, tables, scale, opened):  # type: ignore[no-untyped-def]
    """The logits of 16 images for one mask."""
    pieces = plan.pieces
    # Four sums side by side: one addition need not wait for another.
    a, b, c, d = everywhere(_ZERO), everywhere(_ZERO), everywhere(_ZERO), everywhere(_ZERO)
    for piece in range(plan.starts[mask], plan.starts[mask + 1], 4):
        a = a + load(tables, pieces[piece])
        b = b + load(tables, pieces[piece + 1])
        c = c + load(tables, pieces[piece + 2])
        d = d + load(tables, pieces[piece + 3])
    return multiply_add(everywhere(-scale), (a + b) + (c + d), opened)


@nb.njit(nogil=True, cache=True)
def _add_entry(logit, images, place, levels, sums, weighted):  # type: ignore[no-untyped-def]
    """Add 16 images to one mask's sums of weights and of weighted values."""
    level = load(levels, place)
    above = largest_lane(logit - level)
    if above > _HEADROOM:
        old, level = level, maximum(level, logit)
        keep = exponential(old - level)
        store(levels, place, level)
        store(sums, place, load(sums, place) * keep)
        store(weighted, place, load(weighted, place) * keep)
    weight = exponential(logit - level)
    store(sums, place, load(sums, place) + weight)
    store(weighted, place, multiply_add(weight, load_bytes(images, place), load(weighted, place)))


@nb.njit(nogil=True, cache=True)
def _spread(plan, shares, tables):  # type: ignore[no-untyped-def]
    """Every pixel's weight, in table 0: that of all masks that hold it. A negative share marks a mask without weight."""
    places, pieces, last = plan.places, plan.pieces, plan.doublings.shape[0]
    tables[: ((last + 1) * places + 1) * LANES] = 0
    for mask in range(plan.starts.size - 1):
        if shares[mask * LANES] < 0:
            continue
        share = load(shares, mask * LANES)
        for piece in range(plan.starts[mask], plan.starts[mask + 1]):
            place = pieces[piece]
            store(tables, place, load(tables, place) + share)
    for k in range(last - 1, -1, -1):
        half, shift = plan.doublings[k, 0] * places * LANES, plan.doublings[k, 1] * LANES
        source = (k + 1) * places * LANES
        for p in range(0, places * LANES - shift, LANES):
            share = load(tables, source + p)
            store(tables, half + p, load(tables, half + p) + share)
            store(tables, half + p + shift, load(tables, half + p + shift) + share)
