"""Compiled products of words of 16 bits with bytes, exact in 32 bits: blocked so that operands come from fast caches."""

from __future__ import annotations

import numba as nb
import numpy as np

from scorescope.posterior.word_tiles import PAIRS, WORDS, along_columns, along_rows, pack_pairs

# Rows and columns of sums that fit into registers beside the factors: for many rows, and for the digits of one image.
_MANY, _FEW = 4, 2
_many_by_rows, _few_by_rows = along_rows(_MANY, 3), along_rows(_FEW, 3)
_many_by_columns, _few_by_columns = along_columns(_MANY, 2), along_columns(_FEW, 2)
ROWS_AT_ONCE = 3
COLUMNS_AT_ONCE = 2 * PAIRS

# So many rows of the second factor are used by all rows of the first before the next come: they stay in the second cache.
_BLOCK = 96
# Terms and columns that are packed at a time.
TERMS = 512
PANEL = 8 * COLUMNS_AT_ONCE


def rows_wanted(rows: int) -> int:
    """How many rows the first factor must have, rows of zeros added, where it has `rows`."""
    return -(-rows // _MANY) * _MANY if rows > _FEW else _FEW


@nb.njit(nogil=True, cache=True)
def times_rows(a, b, target, start, stop):  # type: ignore[no-untyped-def]
    """``a @ bᵀ`` for rows start to stop of b, at least `ROWS_AT_ONCE` of them.

    Args:
        a: int16 (m, k), m as `rows_wanted` says, contiguous.
        b: int8 (n, k), rows contiguous.
        target: int32 (m, n), contiguous, columns start to stop written.
        start: first row of b.
        stop: row of b after the last.
    """
    m, k = a.shape
    vectors, n, pitch = k // WORDS, target.shape[1], b.strides[0]
    first, second, goal = a.reshape(-1), _flat(b), target.reshape(-1)
    step = _MANY if m > _FEW else _FEW
    for block in range(start, stop, _BLOCK):
        for i in range(0, m, step):
            for column in range(block, min(block + _BLOCK, stop), ROWS_AT_ONCE):
                j = min(column, stop - ROWS_AT_ONCE)
                own, other, place = (first, i * k, k), (second, j * pitch, pitch), (goal, i * n + j, n)
                if step == _MANY:
                    _many_by_rows(own, other, vectors, place)
                else:
                    _few_by_rows(own, other, vectors, place)
                for r in range(i, i + step):
                    for c in range(j, j + ROWS_AT_ONCE):
                        for t in range(vectors * WORDS, k):
                            target[r, c] += np.int32(a[r, t]) * np.int32(b[c, t])


@nb.njit(nogil=True, cache=True)
def times_columns(a, b, target, room, start, stop):  # type: ignore[no-untyped-def]
    """Add ``a @ b`` to target, panels start to stop of `PANEL` columns.

    Args:
        a: int16 (m, k), m as `rows_wanted` says, k even, contiguous.
        b: int8 (k or k − 1, n), contiguous.
        target: int32 (m, n made a multiple of `COLUMNS_AT_ONCE`), contiguous.
        room: int16 (TERMS · PANEL,): packed factors.
        start: first panel.
        stop: panel after the last.
    """
    m, k = a.shape
    terms, n, wide = b.shape[0], b.shape[1], target.shape[1]
    first, second, goal = a.reshape(-1), b.reshape(-1), target.reshape(-1)
    step = _MANY if m > _FEW else _FEW
    for left in range(start * PANEL, min(stop * PANEL, wide), PANEL):
        across = min(PANEL, wide - left)
        for top in range(0, k, TERMS):
            pairs = min(TERMS, k - top) // 2
            for pair in range(pairs):
                _pack(second, top + 2 * pair, terms, n, left, across, room, pair, pairs)
            for i in range(0, m, step):
                for column in range(0, across, COLUMNS_AT_ONCE):
                    own, other = (first, i * k + top, k), (room, column * 2 * pairs, 2 * COLUMNS_AT_ONCE)
                    place = (goal, i * wide + left + column, wide)
                    if step == _MANY:
                        _many_by_columns(own, other, pairs, place)
                    else:
                        _few_by_columns(own, other, pairs, place)


@nb.njit(nogil=True, cache=True)
def _pack(source, term, terms, n, left, across, room, pair, pairs):  # type: ignore[no-untyped-def]
    """Two rows of bytes, column by column as words, zeros where there are none; columns of one tile stay together."""
    one, paired = term * n + left, term + 1 < terms
    other = one + n if paired else one
    for column in range(0, across, PAIRS):
        tile = column // COLUMNS_AT_ONCE * COLUMNS_AT_ONCE
        place = 2 * (tile * pairs + pair * COLUMNS_AT_ONCE + column - tile)
        if paired and left + column + PAIRS <= n:
            pack_pairs(source, one + column, other + column, room, place)
        else:
            for lane in range(PAIRS):
                inside = left + column + lane < n
                room[place + 2 * lane] = source[one + column + lane] if inside else 0
                room[place + 2 * lane + 1] = source[other + column + lane] if inside and paired else 0


@nb.njit(nogil=True, cache=True)
def _flat(b):  # type: ignore[no-untyped-def]
    """The bytes of a matrix with contiguous rows from its first on, gaps between rows included."""
    return np.lib.stride_tricks.as_strided(b, (b.strides[0] * (b.shape[0] - 1) + b.shape[1],), (1,))
