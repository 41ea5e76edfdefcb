"""The kernels of `two_passes`, in Triton: only imported where a device runs them, or Triton's interpreter does.

`score` is a product of bytes: a noisy image is written as its nearest bytes and three digits of what is left, each multiplied
with the training images without rounding, and put together in float64. What it stores for every pair is a float32: the
logit counted from the largest of its tile of training images. `select` finds the largest of all and the tiles that have any
weight, and `average` multiplies the weights with the images of those tiles. None waits for the processor. `combine` multiplies
any weights with images.

Logits are in bits, ``log₂(e) (2 y·x − ‖x‖²) / 2σ²``. Rows are (part, noisy image) pairs, part by part.
"""

from __future__ import annotations

import triton
import triton.language as tl

from scorescope.posterior.device.attention_kernel import LOWEST, WEIGHT_UNIT

# A tile whose best weight is 2^-44 of the best of all is left out: a million such images are 1e-7.
NEGLIGIBLE = tl.constexpr(44.0)
NATS = tl.constexpr(0.6931471805599453)


@triton.jit(do_not_specialize=["count", "tiles"])
def score(  # type: ignore[no-untyped-def]
    images,
    places,
    sizes,
    norms,
    digits,
    unit,
    scale,
    logits,
    tops,
    count,
    stride,
    batch,
    width,
    tiles,
    WHOLE: tl.constexpr,
    ROWS: tl.constexpr,
    IMAGES: tl.constexpr,
    TERMS: tl.constexpr,
):
    """Logits of every training image in every part of noisy images.

    Args:
        images: int8 (count, stride): training images in centred grey levels.
        places: int32 (parts, width): where the values of a part are in an image; −1 where there is none.
        sizes: int32 (parts,): how many of them to look at.
        norms: float64 (count,): ‖x‖², looked at for whole images only.
        digits: int8 (4, parts, batch, width): nearest bytes, and three digits of the rest.
        unit: float64 (batch,): of the last digit.
        scale: float64 (batch,): ``log₂(e) / 2σ²``.
        logits: float32 (rows, tiles · IMAGES), written: counted from the largest of the tile.
        tops: float64 (rows, tiles), written: that largest one.
        count: training images.
        stride: values of an image.
        batch: noisy images, a multiple of ROWS.
        width: a multiple of TERMS.
        tiles: of training images.
        WHOLE: whether there is one part, the whole image.
        ROWS: noisy images of a program.
        IMAGES: training images of a program.
        TERMS: values at a time.
    """
    which, tile = tl.program_id(0), tl.program_id(1)
    parts = tl.num_programs(0) // (batch // ROWS)
    part = which % parts  # neighbouring programs share the bytes of the training images
    rows = (which // parts) * ROWS + tl.arange(0, ROWS)
    row = (part * batch + rows).to(tl.int64)
    plane = (parts * batch).to(tl.int64) * width
    i = tile * IMAGES + tl.arange(0, IMAGES)
    there = i < count
    # Positions from the first of these images on fit 32 bits, and so half the registers.
    line = tl.arange(0, IMAGES) * stride
    here = images + (tile * IMAGES).to(tl.int64) * stride
    squares = tl.zeros([IMAGES], tl.int32)
    near = tl.zeros([ROWS, IMAGES], tl.int32)
    high = tl.zeros([ROWS, IMAGES], tl.int32)
    middle = tl.zeros([ROWS, IMAGES], tl.int32)
    low = tl.zeros([ROWS, IMAGES], tl.int32)
    size = stride if WHOLE else tl.load(sizes + part)
    for term in range(0, size, TERMS):
        t = term + tl.arange(0, TERMS)
        if WHOLE:
            x = tl.load(here + line[:, None] + t[None, :], mask=there[:, None] & (t < stride)[None, :], other=0)
        else:
            place = tl.load(places + part * width + t)
            x = tl.load(here + line[:, None] + place[None, :], mask=there[:, None] & (place >= 0)[None, :], other=0)
            wide = x.to(tl.int32)
            squares += tl.sum(wide * wide, 1)
        turned = tl.trans(x)
        at = digits + row[:, None] * width + t[None, :]
        near = tl.dot(tl.load(at), turned, near, out_dtype=tl.int32)
        high = tl.dot(tl.load(at + plane), turned, high, out_dtype=tl.int32)
        middle = tl.dot(tl.load(at + 2 * plane), turned, middle, out_dtype=tl.int32)
        low = tl.dot(tl.load(at + 3 * plane), turned, low, out_dtype=tl.int32)
    norm = tl.load(norms + i, mask=there, other=0.0) if WHOLE else squares.to(tl.float64)
    rest = high.to(tl.float64) * 65536.0 + middle.to(tl.float64) * 256.0 + low.to(tl.float64)
    product = near.to(tl.float64) + rest * tl.load(unit + rows)[:, None]
    logit = (2.0 * product - norm[None, :]) * tl.load(scale + rows)[:, None]
    top = tl.max(tl.where(there[None, :], logit, -float("inf")), 1)
    relative = tl.where(there[None, :], (logit - top[:, None]).to(tl.float32), LOWEST)
    tl.store(tops + row * tiles + tile, top)
    tl.store(logits + row[:, None] * (tiles * IMAGES).to(tl.int64) + i[None, :], relative)


@triton.jit(do_not_specialize=["tiles"])
def select(  # type: ignore[no-untyped-def]
    tops, floor, largest, order, found, tiles, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    """The largest logit of every row, and the tiles of training images that have any weight for ROWS of them.

    Args:
        tops: float64 (rows, tiles): largest logits of tiles.
        floor: float64 (rows,): largest logits of other training images; −inf where there are none.
        largest: float64 (rows,), written: of all.
        order: int32 (rows / ROWS, tiles), written: the tiles that matter, in order.
        found: int32 (rows / ROWS,), written: how many they are.
        tiles: how many there are.
        ROWS: rows of a program.
        BLOCK: tiles at a time.
    """
    group = tl.program_id(0)
    row = (group * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    best = tl.load(floor + row)
    for start in range(0, tiles, BLOCK):
        k = start + tl.arange(0, BLOCK)
        top = tl.load(tops + row[:, None] * tiles + k[None, :], mask=(k < tiles)[None, :], other=-float("inf"))
        best = tl.maximum(best, tl.max(top, 1))
    tl.store(largest + row, best)
    number = 0
    for start in range(0, tiles, BLOCK):
        k = start + tl.arange(0, BLOCK)
        top = tl.load(tops + row[:, None] * tiles + k[None, :], mask=(k < tiles)[None, :], other=-float("inf"))
        matters = tl.max((top >= (best - NEGLIGIBLE)[:, None]).to(tl.int32), 0)
        place = number + tl.cumsum(matters, 0) - 1
        tl.store(order + group.to(tl.int64) * tiles + place, k, mask=matters > 0)
        number += tl.sum(matters, 0)
    tl.store(found + group, number)


@triton.jit(do_not_specialize=["count", "tiles"])
def average(  # type: ignore[no-untyped-def]
    images,
    kept,
    norms,
    logits,
    tops,
    largest,
    order,
    found,
    values,
    sums,
    count,
    stride,
    batch,
    kept_width,
    tiles,
    WHOLE: tl.constexpr,
    MOMENTS: tl.constexpr,
    ROWS: tl.constexpr,
    IMAGES: tl.constexpr,
    PIECES: tl.constexpr,
    KEPT: tl.constexpr,
):
    """Sums of weights and weighted values, over the training images of the tiles that matter.

    Args:
        images: as in `score`, and so are norms, logits, tops, count, stride, batch and tiles.
        kept: int32 (parts, kept_width): which values are averaged, −1 where there is none; not looked at for whole images.
        largest: float64 (rows,): what weights are counted from, ``2^(logit − largest)``.
        order: as in `select`, and so is found.
        values: float32 (splits, rows, kept_width), written: weighted values.
        sums: float64 (3, splits, rows), written: of the weights w, of ``w (logit − largest)`` in nats and of ``w ‖x‖²``.
        kept_width: a multiple of KEPT.
        WHOLE: whether there is one part, the whole image.
        MOMENTS: whether the last two of the sums are wanted.
        ROWS: noisy images of a program.
        IMAGES: training images at a time.
        PIECES: how many times so many are a tile.
        KEPT: values averaged by a program.
    """
    which, split = tl.program_id(0), tl.program_id(1)
    blocks = kept_width // KEPT
    block, group = which % blocks, which // blocks
    row = (group * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    v = block * KEPT + tl.arange(0, KEPT)
    if WHOLE:
        own, inside = v, v < stride
    else:
        own = tl.load(kept + (group // (batch // ROWS)).to(tl.int64) * kept_width + v)
        inside = own >= 0
    best = tl.load(largest + row)
    weight_sum = tl.zeros([ROWS], tl.float32)
    logit_sum = tl.zeros([ROWS], tl.float32)
    norm_sum = tl.zeros([ROWS], tl.float64)
    weighted = tl.zeros([ROWS, KEPT], tl.float32)
    line = tl.arange(0, IMAGES) * stride
    number, splits = tl.load(found + group), tl.num_programs(1)
    each = tl.cdiv(number, splits)
    for k in range(split * each * PIECES, tl.minimum(number, (split + 1) * each) * PIECES):
        tile = tl.load(order + group.to(tl.int64) * tiles + k // PIECES)
        first = tile * PIECES * IMAGES + k % PIECES * IMAGES
        i = first + tl.arange(0, IMAGES)
        there = i < count
        relative = tl.load(logits + row[:, None] * (tiles * PIECES * IMAGES).to(tl.int64) + i[None, :])
        below = relative + (tl.load(tops + row * tiles + tile) - best).to(tl.float32)[:, None]
        weight = tl.exp2(below)
        weight_sum += tl.sum(weight, 1)
        if MOMENTS:
            logit_sum += tl.sum(weight * tl.maximum(below, -200.0) * NATS, 1)
            norm = tl.load(norms + i, mask=there, other=0.0)
            norm_sum += tl.sum(weight.to(tl.float64) * norm[None, :], 1)
        scaled = weight * WEIGHT_UNIT
        coarse = scaled.to(tl.float16)
        fine = (scaled - coarse.to(tl.float32)).to(tl.float16)
        here = images + first.to(tl.int64) * stride
        y = tl.load(here + line[:, None] + own[None, :], mask=there[:, None] & inside[None, :], other=0)
        y = y.to(tl.float16)
        # Summed apart first: small weights, added one by one to a sum that a large one has made large, would be rounded off.
        weighted += tl.dot(coarse, y, tl.dot(fine, y))
    rows = (tl.num_programs(0) // blocks * ROWS).to(tl.int64)
    out = split * rows + row
    tl.store(values + out[:, None] * kept_width + v[None, :], weighted / WEIGHT_UNIT)
    if block == 0:
        tl.store(sums + out, weight_sum.to(tl.float64))
        if MOMENTS:
            tl.store(sums + splits * rows + out, logit_sum.to(tl.float64))
            tl.store(sums + 2 * splits * rows + out, norm_sum)


@triton.jit(do_not_specialize=["count", "splits"])
def combine(  # type: ignore[no-untyped-def]
    images,
    high,
    low,
    values,
    count,
    stride,
    width,
    rows,
    splits,
    ROWS: tl.constexpr,
    IMAGES: tl.constexpr,
    KEPT: tl.constexpr,
):
    """Sums of training images with weights of any sign.

    Args:
        images: int8 (count, stride): training images in centred grey levels.
        high: float16 (rows, width): weights, in units of a row's largest over WEIGHT_UNIT; zeros beyond `count`, and
        low: float16, the same shape: what float16 leaves of them.
        values: float32 (splits, rows, stride), written: weighted values, in those units.
        count: training images.
        stride: values of an image.
        width: a multiple of IMAGES.
        rows: a multiple of ROWS.
        splits: into how many ranges the training images are cut.
        ROWS: rows of a program.
        IMAGES: training images at a time.
        KEPT: values of a program.
    """
    which, split = tl.program_id(0), tl.program_id(1)
    blocks = tl.cdiv(stride, KEPT)
    row = ((which // blocks) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    v = (which % blocks) * KEPT + tl.arange(0, KEPT)
    weighted = tl.zeros([ROWS, KEPT], tl.float32)
    each = tl.cdiv(tl.cdiv(count, IMAGES), splits) * IMAGES
    first = split * each
    for start in range(first, tl.minimum(first + each, count), IMAGES):
        i = start + tl.arange(0, IMAGES)
        line = i.to(tl.int64) * stride
        y = tl.load(images + line[:, None] + v[None, :], mask=(i < count)[:, None] & (v < stride)[None, :], other=0)
        y = y.to(tl.float16)
        at = row[:, None] * width + i[None, :]
        weighted += tl.dot(tl.load(high + at), y, tl.dot(tl.load(low + at), y))
    out = (split * rows + row) * stride
    tl.store(values + out[:, None] + v[None, :], weighted, mask=(v < stride)[None, :])
