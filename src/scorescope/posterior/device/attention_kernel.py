"""The kernel of `attention`, in Triton: only imported where a device runs it, or Triton's interpreter does.

A program takes one part of the image, some noisy images and some training images, or training images at some places each.
Keys are gathered from the training images' bytes as they lie. A squared distance is written ``‖x − y‖² = ‖x − r‖² − 2 x·e +
const`` with r the bytes nearest to y and ``e = y − r``: the first term is a product of bytes, exact in 32-bit integers, and the
second is small at low noise, where differences of distances decide; e is two float16 terms, as x is one exactly. Distances
become floats only after the least ``‖x − r‖²`` so far was taken from them, as integers, so that float32 holds the differences
of those that matter. Weights are counted from the largest logit so far, as in FlashAttention, and are two float16 terms where
they meet the images again.
"""

from __future__ import annotations

import triton
import triton.language as tl

# Weights are multiplied by this before they are float16, so that small ones keep their digits.
WEIGHT_UNIT = tl.constexpr(2.0**14)
LOWEST = tl.constexpr(-1e30)
FARTHEST = tl.constexpr(2**30)


@triton.jit(do_not_specialize=["count", "splits"])
def attend(  # type: ignore[no-untyped-def]
    images,
    places,
    sizes,
    kept,
    nearest,
    nearest_norm,
    high,
    low,
    unit,
    scale,
    base,
    largest,
    total,
    values,
    shifts,
    count,
    across,
    stride,
    batch,
    width,
    kept_width,
    splits,
    ROWS: tl.constexpr,
    IMAGES: tl.constexpr,
    TERMS: tl.constexpr,
    KEPT: tl.constexpr,
    SHIFTED: tl.constexpr,
):
    """Largest logits, sums of weights and weighted values of parts of noisy images.

    Args:
        images: int8 (count, stride): training images in centred grey levels.
        places: int32 (parts, width): where the values of a part are in an image; −1 where there is none.
        sizes: int32 (parts,): how many of them to look at.
        kept: int32 (parts, kept_width): which values of the training images are averaged; −1 where there is none.
        nearest: int8 (parts, batch, width): r at the places.
        nearest_norm: int32 (parts, batch): ‖r‖².
        high: float16 (parts, batch, width): e over its unit, and
        low: float16, the same shape: what float16 leaves of it.
        unit: float32 (batch,): of e.
        scale: float32 (batch,): ``log₂(e) / 2σ²``.
        base: int32 (splits, parts, batch), written: least ‖x − r‖².
        largest: float32 (splits, parts, batch), written: largest of ``scale · (base − ‖x − r‖² + 2 x·e)``.
        total: float32 (splits, parts, batch), written: Σ 2^(that − largest).
        values: float32 (splits, parts, batch, kept_width), written: the same with the values kept.
        shifts: int32 (across,): what is added to places, a training image being compared at each of these shifts.
        count: training images times shifts.
        across: shifts of an image.
        stride: values of an image.
        batch: noisy images, a multiple of ROWS.
        width: a multiple of TERMS.
        kept_width: a multiple of KEPT.
        splits: into how many ranges the training images are cut.
        ROWS: noisy images of a program.
        IMAGES: training images at a time.
        TERMS: values of a part at a time.
        KEPT: values averaged by a program.
        SHIFTED: whether there are shifts; else the places are what they are.
    """
    part, split = tl.program_id(0), tl.program_id(1)
    tile = tl.program_id(2)
    tiles = kept_width // KEPT
    rows = (tile // tiles) * ROWS + tl.arange(0, ROWS)
    v = (tile % tiles) * KEPT + tl.arange(0, KEPT)
    parts = tl.num_programs(0)
    size = tl.load(sizes + part)
    own = tl.load(kept + part * kept_width + v)
    row = (part * batch + rows).to(tl.int64)
    norm = tl.load(nearest_norm + row)
    grow, factor = tl.load(unit + rows), tl.load(scale + rows)
    least = tl.full([ROWS], FARTHEST, tl.int32)
    peak = tl.full([ROWS], LOWEST, tl.float32)
    weight_sum = tl.zeros([ROWS], tl.float32)
    weighted = tl.zeros([ROWS, KEPT], tl.float32)
    each = tl.cdiv(tl.cdiv(count, IMAGES), splits) * IMAGES
    first = split * each
    last = tl.minimum(first + each, count)
    for start in range(first, last, IMAGES):
        i = start + tl.arange(0, IMAGES)
        there = i < last
        line = (i // across).to(tl.int64) * stride
        if SHIFTED:
            line += tl.load(shifts + i % across)
        squares = tl.zeros([IMAGES], tl.int32)
        near = tl.zeros([ROWS, IMAGES], tl.int32)
        along = tl.zeros([ROWS, IMAGES], tl.float32)
        for term in range(0, size, TERMS):
            t = term + tl.arange(0, TERMS)
            place = tl.load(places + part * width + t)
            x = tl.load(images + line[:, None] + place[None, :], mask=there[:, None] & (place >= 0)[None, :], other=0)
            wide = x.to(tl.int32)
            squares += tl.sum(wide * wide, 1)
            at = row[:, None] * width + t[None, :]
            near = tl.dot(tl.load(nearest + at), tl.trans(x), near, out_dtype=tl.int32)
            half = tl.trans(x.to(tl.float16))
            along = tl.dot(tl.load(high + at), half, along)
            along = tl.dot(tl.load(low + at), half, along)
        exact = tl.where(there[None, :], squares[None, :] + norm[:, None] - 2 * near, FARTHEST)
        nearer = tl.minimum(least, tl.min(exact, 1))
        peak -= (least - nearer).to(tl.float32) * factor
        least = nearer
        logit = (2.0 * grow[:, None] * along - (exact - least[:, None]).to(tl.float32)) * factor[:, None]
        logit = tl.where(there[None, :], logit, LOWEST)
        higher = tl.maximum(peak, tl.max(logit, 1))
        weight = tl.exp2(logit - higher[:, None])
        weight = tl.where(there[None, :], weight, 0.0)
        shrink = tl.exp2(peak - higher)
        peak = higher
        weight_sum = weight_sum * shrink + tl.sum(weight, 1)
        scaled = weight * WEIGHT_UNIT
        coarse = scaled.to(tl.float16)
        fine = (scaled - coarse.to(tl.float32)).to(tl.float16)
        y = tl.load(images + line[:, None] + own[None, :], mask=there[:, None] & (own >= 0)[None, :], other=0)
        y = y.to(tl.float16)
        weighted = tl.dot(fine, y, weighted * shrink[:, None])
        weighted = tl.dot(coarse, y, weighted)
    out = (split * parts + part) * batch + rows
    tl.store(values + out.to(tl.int64)[:, None] * kept_width + v[None, :], weighted / WEIGHT_UNIT)
    if tile % tiles == 0:
        tl.store(base + out, least)
        tl.store(largest + out, peak)
        tl.store(total + out, weight_sum)
