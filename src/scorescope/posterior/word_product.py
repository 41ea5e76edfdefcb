"""Exact products of words of 16 bits with bytes by our own kernels: padding, threads, and more terms than 32 bits hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from scorescope.posterior import word_kernels as kernels
from scorescope.posterior.workers import in_parallel, worker_count

Bytes = npt.NDArray[np.int8]
Words = npt.NDArray[np.int16]
Sums = npt.NDArray[Any]

# Words are digits of so many bits, sign included.
BITS = 12
# 2048·128 · 8192 = 2³¹: fewer terms cannot overflow.
MOST_TERMS = 8190


def word_rows(words: Words, matrix: Bytes) -> Sums:
    """``words @ matrixᵀ`` for int16 (m, k) of 12 bits and int8 (n, k): int32 (m, n), int64 where k is above 8190."""

    def product(terms: slice) -> Sums:
        first, second = _padded(words[:, terms]), matrix[:, terms]
        if len(second) < kernels.ROWS_AT_ONCE:
            second = np.resize(second, (kernels.ROWS_AT_ONCE, second.shape[1]))
        target = np.empty((len(first), len(second)), dtype=np.int32)
        # Every thread needs rows for a tile.
        parts = min(worker_count(), len(second) // kernels.ROWS_AT_ONCE)
        in_parallel(lambda start, stop: kernels.times_rows(first, second, target, start, stop), len(second), parts)
        return target[: len(words), : len(matrix)]

    return _summed(product, words.shape[1])


def word_columns(words: Words, matrix: Bytes) -> Sums:
    """``words @ matrix`` for int16 (m, k) of 12 bits and int8 (k, n): int32 (m, n), int64 where k is above 8190."""

    def product(terms: slice) -> Sums:
        first, second = _padded(words[:, terms], even=True), matrix[terms]
        wide = -(-second.shape[1] // kernels.COLUMNS_AT_ONCE) * kernels.COLUMNS_AT_ONCE
        target = np.zeros((len(first), wide), dtype=np.int32)

        def add(start: int, stop: int) -> None:
            room = np.empty(kernels.TERMS * kernels.PANEL, dtype=np.int16)
            kernels.times_columns(first, second, target, room, start, stop)

        in_parallel(add, -(-wide // kernels.PANEL))
        return target[: len(words), : second.shape[1]]

    return _summed(product, words.shape[1])


def _summed(product: Callable[[slice], Sums], terms: int) -> Sums:
    cuts = [slice(start, min(start + MOST_TERMS, terms)) for start in range(0, terms, MOST_TERMS)]
    if len(cuts) == 1:
        return np.ascontiguousarray(product(cuts[0]))
    total = product(cuts[0]).astype(np.int64)
    for cut in cuts[1:]:
        total += product(cut)
    return total


def _padded(words: Words, even: bool = False) -> Words:
    """With rows of zeros as the kernels want them, and a term of zeros where their number must be even."""
    more = kernels.rows_wanted(len(words)) - len(words), words.shape[1] % 2 if even else 0
    return np.ascontiguousarray(np.pad(words, ((0, more[0]), (0, more[1]))) if any(more) else words)
