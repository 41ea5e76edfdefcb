"""Training images side by side: sixteen at a time, one in each lane of a vector register.

A block holds the bytes of 16 images with the image as the last, fastest axis, (C·H·W, 16). Every operation on a block
(differences, window sums, exponentials) is then a plain loop over contiguous memory, for any window and image size, and
one transposition serves all noisy images of a batch.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types
from numba.extending import intrinsic

from scorescope.data.images import ImageSet, Pixels

LANES = 16
Block = npt.NDArray[np.int8]


def read_blocks(images: ImageSet, start: int, stop: int) -> Block:
    """Training images start to stop as int8 (blocks, C·H·W, 16), grey levels centred at 128.

    Lanes without an image, in the last block, hold zeros.
    """
    pixels: Pixels = images.read(start, stop)
    flat = np.ascontiguousarray(pixels).reshape(len(pixels), -1)
    blocks = np.empty((-(-len(flat) // LANES), flat.shape[1], LANES), dtype=np.int8)
    _transpose(flat, blocks)
    return blocks


@nb.njit(nogil=True, cache=True)
def _transpose(images, blocks):  # type: ignore[no-untyped-def]
    count = len(images)
    for block in range(blocks.shape[0]):
        first = block * LANES
        filled = min(LANES, count - first)
        if filled < LANES:
            blocks[block] = 0
            for lane in range(filled):
                for p in range(images.shape[1]):
                    blocks[block, p, lane] = np.int8(np.int32(images[first + lane, p]) - 128)
        else:
            for p in range(images.shape[1]):
                for lane in range(LANES):
                    blocks[block, p, lane] = np.int8(np.int32(images[first + lane, p]) - 128)


@intrinsic
def add_product(typing_context: Any, sums: Any, place: Any, pixels: Any, origin: Any, a: Any, b: Any) -> Any:
    """``sums[place + lane] += (x − a)(x − b)`` for the 16 lanes, with ``x = pixels[origin + lane]``.

    sums is a contiguous float32 array, pixels a contiguous int8 one, a and b are float32; no bounds are checked. Written
    as vector instructions because the compiler does not vectorize so short a loop over arrays that might overlap.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        sums_type, _, pixels_type, _, _, _ = signature.args
        target = context.make_array(sums_type)(context, builder, arguments[0]).data
        source = context.make_array(pixels_type)(context, builder, arguments[2]).data
        floats, bytes_ = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(ir.IntType(8), LANES)
        target = builder.bitcast(builder.gep(target, [arguments[1]]), floats.as_pointer())
        source = builder.bitcast(builder.gep(source, [arguments[3]]), bytes_.as_pointer())
        x = builder.sitofp(builder.load(source, align=1), floats)
        near, far = (builder.fsub(x, _in_all_lanes(builder, value), flags=["contract"]) for value in arguments[4:])
        product = builder.fmul(near, far, flags=["contract"])
        builder.store(builder.fadd(builder.load(target, align=4), product, flags=["contract"]), target, align=4)
        return context.get_dummy_value()

    return types.void(sums, types.intp, pixels, types.intp, types.float32, types.float32), generate


def _in_all_lanes(builder: Any, value: Any) -> Any:
    vector = ir.VectorType(ir.FloatType(), LANES)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(first, first, zeros)
