"""Training images side by side: sixteen at a time, one in each lane of a vector register.

A block holds the bytes of 16 images with the image as the last, fastest axis, (C·H·W, 16). Every operation on a block
(differences, window sums, exponentials) is then a plain loop over contiguous memory, for any window and image size, and
one transposition serves all noisy images of a batch.
"""

from __future__ import annotations

import numba as nb
import numpy as np
import numpy.typing as npt

from scorescope.data.images import ImageSet, Pixels
from scorescope.posterior.vector import LANES

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
