"""The kernel of `dense`, in Triton: only imported where a device runs it, or Triton's interpreter does.

It is `attention_kernel` turned round: a row of a tile is a mask instead of a noisy image, so that one noisy image is enough to
fill matrix units, and training images are read as they lie instead of gathered. What differs from mask to mask is then also
``‖M x‖²``, a product of the mask with squares of bytes, each of which is two bytes: ``x² = 256 a + b``. With r the bytes
nearest to y and ``e = y − r``, what a logit needs of a squared distance is ``‖M x‖² − 2 (M r)·x``, integers without rounding,
and ``(M e)·x``, e in two float16 terms.
"""

from __future__ import annotations

import triton
import triton.language as tl

from scorescope.posterior.device.attention_kernel import FARTHEST, LOWEST


@triton.jit(do_not_specialize=["count", "splits"])
def attend_masks(  # type: ignore[no-untyped-def]
    images,
    members,
    blocks,
    sizes,
    kept,
    nearest,
    high,
    low,
    unit,
    scale,
    base,
    largest,
    total,
    values,
    count,
    stride,
    width,
    most,
    batch,
    splits,
    ROWS: tl.constexpr,
    IMAGES: tl.constexpr,
    TERMS: tl.constexpr,
):
    """Largest logits, sums of weights and weighted values of one value for each mask.

    Args:
        images: int8 (count, stride): training images in centred grey levels.
        members: int8 (masks, width): 1 where a value is in a mask, else 0.
        blocks: int32 (masks / ROWS, most): which TERMS values any of ROWS masks have a part in.
        sizes: int32 (masks / ROWS,): how many of them there are.
        kept: int32 (masks,): which value is averaged.
        nearest: int8 (batch, width): r.
        high: float16 (batch, width): e over its unit, and
        low: float16, the same shape: what float16 leaves of it.
        unit: float32 (batch,): of e.
        scale: float32 (batch,): ``log₂(e) / 2σ²``.
        base: int32 (splits, masks, batch), written: least ``‖M x‖² − 2 (M r)·x``.
        largest: float32 (splits, masks, batch), written: largest of ``scale · (base − that + 2 (M e)·x)``.
        total: float32 (splits, masks, batch), written: Σ 2^(that − largest).
        values: float32 (splits, masks, batch), written: the same with the value kept.
        count: training images.
        stride: values of an image.
        width: a multiple of TERMS.
        most: see `blocks`.
        batch: noisy images.
        splits: into how many ranges the training images are cut.
        ROWS: masks of a program.
        IMAGES: training images at a time.
        TERMS: values at a time.
    """
    group, split, question = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    m = group * ROWS + tl.arange(0, ROWS)
    masks = tl.num_programs(0) * ROWS
    own, size = tl.load(kept + m), tl.load(sizes + group)
    grow, factor = tl.load(unit + question), tl.load(scale + question)
    asked = question.to(tl.int64) * width
    row = m.to(tl.int64) * width
    least = tl.full([ROWS], FARTHEST, tl.int32)
    peak = tl.full([ROWS], LOWEST, tl.float32)
    weight_sum = tl.zeros([ROWS], tl.float32)
    weighted = tl.zeros([ROWS], tl.float32)
    each = tl.cdiv(tl.cdiv(count, IMAGES), splits) * IMAGES
    first = split * each
    last = tl.minimum(first + each, count)
    for start in range(first, last, IMAGES):
        i = start + tl.arange(0, IMAGES)
        there = i < last
        line = i.to(tl.int64) * stride
        coarse = tl.zeros([ROWS, IMAGES], tl.int32)
        fine = tl.zeros([ROWS, IMAGES], tl.int32)
        near = tl.zeros([ROWS, IMAGES], tl.int32)
        along = tl.zeros([ROWS, IMAGES], tl.float32)
        for k in range(size):
            t = tl.load(blocks + group * most + k) * TERMS + tl.arange(0, TERMS)
            x = tl.load(images + line[:, None] + t[None, :], mask=there[:, None] & (t < stride)[None, :], other=0)
            member = tl.load(members + row[:, None] + t[None, :])
            wide = x.to(tl.int16)
            square = wide * wide
            lower = square.to(tl.int8)  # wraps
            upper = ((square - lower.to(tl.int16)) >> 8).to(tl.int8)
            coarse = tl.dot(member, tl.trans(upper), coarse, out_dtype=tl.int32)
            fine = tl.dot(member, tl.trans(lower), fine, out_dtype=tl.int32)
            near = tl.dot(member * tl.load(nearest + asked + t)[None, :], tl.trans(x), near, out_dtype=tl.int32)
            half, chosen = tl.trans(x.to(tl.float16)), member.to(tl.float16)
            along = tl.dot(chosen * tl.load(high + asked + t)[None, :], half, along)
            along = tl.dot(chosen * tl.load(low + asked + t)[None, :], half, along)
        exact = tl.where(there[None, :], 256 * coarse + fine - 2 * near, FARTHEST)
        nearer = tl.minimum(least, tl.min(exact, 1))
        peak -= (least - nearer).to(tl.float32) * factor
        least = nearer
        logit = (2.0 * grow * along - (exact - least[:, None]).to(tl.float32)) * factor
        logit = tl.where(there[None, :], logit, LOWEST)
        higher = tl.maximum(peak, tl.max(logit, 1))
        weight = tl.where(there[None, :], tl.exp2(logit - higher[:, None]), 0.0)
        shrink = tl.exp2(peak - higher)
        peak = higher
        y = tl.load(images + line[None, :] + own[:, None], mask=there[None, :], other=0).to(tl.float32)
        weight_sum = weight_sum * shrink + tl.sum(weight, 1)
        weighted = weighted * shrink + tl.sum(weight * y, 1)
    out = (split.to(tl.int64) * masks + m) * batch + question
    tl.store(base + out, least)
    tl.store(largest + out, peak)
    tl.store(total + out, weight_sum)
    tl.store(values + out, weighted)
