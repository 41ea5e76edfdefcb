"""Matrix products without rounding, as fast as the processor multiplies bytes.

A float matrix is written as ``scale · (d₂·256² + d₁·256 + d₀)`` with one scale a row and digits d in −128…127. Its
product with a matrix of bytes is then three byte products, each exact in 32-bit integers, and processors multiply bytes
several times faster than floats: the 24-bit product is both more accurate than a float32 product and faster.
"""

from __future__ import annotations

import functools
import logging

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Bytes = npt.NDArray[np.int8]

DIGITS = 3
LARGEST_DIGITS = 127 * (256**2 + 256 + 1)
# 128·128 · 131072 = 2³¹: one column fewer cannot overflow.
MOST_TERMS = 2**31 // 128**2 - 1
# 128·128 · 1024 = 2²⁴: sums of integers up to there are exact in float32.
_EXACT_FLOAT_TERMS = 1024
# PyTorch 2.13's byte product returns wrong numbers for a single term; so few are not worth it anyway.
_FEWEST_TERMS = 8

_log = logging.getLogger(__name__)


def to_digits(rows: npt.NDArray[np.float64]) -> tuple[Bytes, npt.NDArray[np.float64]]:
    """Write each row as digits: rows (B, d) -> digits int8 (3, B, d), highest first, and scale float64 (B,).

    ``rows ≈ scale · (digits[0]·65536 + digits[1]·256 + digits[2])`` within half a scale, that is within 6e-8 of the row's
    largest absolute value.
    """
    largest = np.abs(rows).max(axis=1)
    scale = np.where(largest > 0, largest, 1.0) / LARGEST_DIGITS
    whole = np.rint(rows / scale[:, None]).astype(np.int32)
    digits = np.empty((DIGITS, *rows.shape), dtype=np.int8)
    for place in (2, 1, 0):
        digits[place] = whole.astype(np.int8)  # wraps to the balanced lowest digit
        whole = (whole - digits[place]) >> 8
    return digits, scale


def from_digits(products: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """Put digit products (3, …) together: float64 (…), exact below 2⁵³."""
    whole: npt.NDArray[np.float64] = products[0] * 65536.0 + products[1] * 256.0 + products[2]
    return whole


def integer_product(a: Bytes, b: Bytes) -> npt.NDArray[np.integer]:
    """``a @ b`` for int8 (m, k) and int8 (k, n), exact; b may be a transposed view.

    Returns int32 (m, n), or int64 where k is so large that 32 bits could overflow.
    """
    result: npt.NDArray[np.integer] = integer_product_on(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    return result


def integer_product_on(a: Tensor, b: Tensor) -> Tensor:
    """The same for int8 tensors on any device."""
    if a.shape[1] > MOST_TERMS:
        starts = range(0, a.shape[1], MOST_TERMS)
        cuts = [slice(start, start + MOST_TERMS) for start in starts]
        return torch.stack([integer_product_on(a[:, cut].contiguous(), b[cut]).long() for cut in cuts]).sum(0)
    if a.shape[1] >= _FEWEST_TERMS and _byte_product_is_exact(a.device.type):
        return _byte_product(a, b)
    total = torch.zeros(a.shape[0], b.shape[1], dtype=torch.int32, device=a.device)
    for start in range(0, a.shape[1], _EXACT_FLOAT_TERMS):
        terms = slice(start, start + _EXACT_FLOAT_TERMS)
        total += (a[:, terms].float() @ b[terms].float()).int()
    return total


def _byte_product(a: Tensor, b: Tensor) -> Tensor:
    if a.device.type != "cuda":
        return torch._int_mm(a, b)
    # The device's kernel wants more than 16 rows, multiples of 8 elsewhere, and the second matrix column by column.
    rows, terms, columns = a.shape[0], a.shape[1], b.shape[1]
    more_rows, more_terms, more_columns = max(0, 24 - rows), -terms % 8, -columns % 8
    a = torch.nn.functional.pad(a, (0, more_terms, 0, more_rows))
    by_column = b.T
    if more_terms or more_columns:
        by_column = torch.nn.functional.pad(by_column, (0, more_terms, 0, more_columns))
    return torch._int_mm(a, by_column.contiguous().T)[:rows, :columns]


@functools.cache
def _byte_product_is_exact(device: str) -> bool:
    """Whether PyTorch multiplies bytes here, and without saturating (processors before VNNI add pairs in 16 bits)."""
    if not hasattr(torch, "_int_mm"):
        return False
    generator = torch.Generator().manual_seed(0)
    a = torch.randint(-128, 128, (24, 96), dtype=torch.int8, generator=generator)
    b = torch.randint(-128, 128, (96, 24), dtype=torch.int8, generator=generator)
    a[:8], a[8:12], b[:, :8], b[:, 8:12] = -128, 127, -128, 127
    expected = a.long() @ b.long()
    try:
        found = _byte_product(a.to(device), b.to(device)).cpu().long()
    except RuntimeError:
        found = torch.zeros_like(expected)
    exact = bool(torch.equal(found, expected))
    if not exact:
        _log.warning(
            "byte products are not exact on this %s: the posterior engine uses float32 products instead", device
        )
    return exact
