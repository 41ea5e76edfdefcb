"""Squared distances of every window of one noisy image to blocks of 16 training images, as sliding sums, compiled.

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

from scorescope.posterior.vector import (
    LANES,
    aligned,
    everywhere,
    load,
    load_bytes,
    load_everywhere,
    multiply_add,
    store,
)

Singles = npt.NDArray[np.float32]

STRIP = 8
# So many blocks' weights are added to the total at once: it is read and written that much less often.
GROUP = 4
_ABSENT = np.float32(1e30)
_ZERO = np.float32(0.0)


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
