"""Products of float rows with bytes, exact up to the 24 bits that the rows are written in.

A float row is written as ``scale · whole``, one scale a row and integers below 2²³ in size. Integers times bytes are
integers, and there is always a way to multiply them without rounding that is about as fast as a float32 product, which
rounds (`product_ways`); the fastest one is used (`product_race`).
"""

from __future__ import annotations

import numpy as np

from scorescope.posterior.integer_product import LARGEST_DIGITS
from scorescope.posterior.product_race import fastest_way
from scorescope.posterior.product_ways import BYTE_BITS, WHOLE_BITS, Bytes, Floats, Products, Whole


def to_whole(rows: Floats) -> tuple[Whole, Floats]:
    """Write each row as integers: rows (B, d) -> whole int32 (B, d) and scale float64 (B,).

    ``rows ≈ scale · whole`` within half a scale, that is within 6e-8 of the row's largest absolute value.
    """
    largest = np.abs(rows).max(axis=1)
    scale = np.where(largest > 0, largest, 1.0) / LARGEST_DIGITS
    return np.rint(rows / scale[:, None]).astype(np.int32), scale


def times_rows(whole: Whole, matrix: Bytes) -> Floats:
    """``whole @ matrixᵀ``: integers of 24 bits (B, k), bytes int8 (n, k) with contiguous rows -> float64 (B, n), exact."""
    way = fastest_way("rows", len(whole), WHOLE_BITS)
    return way.together(way.rows(way.digits(whole, WHOLE_BITS), matrix))


def times_columns(whole: Whole, matrix: Bytes) -> Floats:
    """``whole @ matrix``: integers of 24 bits (B, k), contiguous bytes int8 (k, n) -> float64 (B, n), exact."""
    way = fastest_way("columns", len(whole), WHOLE_BITS)
    return way.together(way.columns(way.digits(whole, WHOLE_BITS), matrix))


def byte_times_byte(a: Bytes, b: Bytes) -> Products:
    """``a @ b``: int8 (m, k) and int8 (k, n), both contiguous, exact: int32, int64 or float64 (m, n)."""
    way = fastest_way("columns", len(a), BYTE_BITS)
    return np.asarray(way.columns(way.digits(a, BYTE_BITS), b)[0])
