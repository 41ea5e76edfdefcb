"""Matrix products of bytes without rounding, by PyTorch: its byte product, or float32 products in pieces that are exact.

Processors and devices with instructions for it multiply bytes several times faster than floats; on others the same call is
a hundred times slower than a float32 product, so the processor's engine measures before it uses one (`exact_product`).
"""

from __future__ import annotations

import functools
import logging

import torch
from torch import Tensor

DIGITS = 3
LARGEST_DIGITS = 127 * (256**2 + 256 + 1)
# 128·128 · 131072 = 2³¹: one column fewer cannot overflow.
MOST_TERMS = 2**31 // 128**2 - 1
# 128·128 · 1024 = 2²⁴: sums of integers up to there are exact in float32.
_EXACT_FLOAT_TERMS = 1024
# PyTorch 2.13's byte product returns wrong numbers for a single term; so few are not worth it anyway.
_FEWEST_TERMS = 8

_log = logging.getLogger(__name__)


def integer_product_on(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b`` for int8 (m, k) and int8 (k, n) on any device, exact; b may be a transposed view.

    Returns int32 (m, n), or int64 where k is so large that 32 bits could overflow.
    """
    return byte_product(a, b) if _byte_product_is_exact(a.device.type) else product_in_pieces(a, b)


def byte_product(a: Tensor, b: Tensor) -> Tensor:
    """The same by PyTorch's byte product, exact where `_byte_product_is_exact` says so."""
    if a.shape[1] > MOST_TERMS:
        return _in_cuts(byte_product, a, b)
    if a.shape[1] < _FEWEST_TERMS:
        return product_in_pieces(a, b)
    if a.device.type != "cuda":
        # PyTorch 2.13 returns wrong numbers for a first matrix that lies column by column, and for one whose rows overlap.
        return torch._int_mm(a.contiguous(), b if _lies_plainly(b) else b.contiguous())
    # The device's kernel wants more than 16 rows, multiples of 8 elsewhere, and the second matrix column by column.
    rows, terms, columns = a.shape[0], a.shape[1], b.shape[1]
    more_rows, more_terms, more_columns = max(0, 24 - rows), -terms % 8, -columns % 8
    a = torch.nn.functional.pad(a, (0, more_terms, 0, more_rows))
    by_column = b.T
    if more_terms or more_columns:
        by_column = torch.nn.functional.pad(by_column, (0, more_terms, 0, more_columns))
    return torch._int_mm(a, by_column.contiguous().T)[:rows, :columns]


def _lies_plainly(matrix: Tensor) -> bool:
    """Whether a matrix lies row by row or column by column, whatever lies between its rows or columns."""
    (rows, columns), (down, across) = matrix.shape, matrix.stride()
    return (across == 1 and down >= columns) or (down == 1 and across >= rows)


def product_in_pieces(a: Tensor, b: Tensor) -> Tensor:
    """The same by float32 products of so few terms that none is rounded."""
    if a.shape[1] > MOST_TERMS:
        return _in_cuts(product_in_pieces, a, b)
    total = torch.zeros(a.shape[0], b.shape[1], dtype=torch.int32, device=a.device)
    for start in range(0, a.shape[1], _EXACT_FLOAT_TERMS):
        terms = slice(start, start + _EXACT_FLOAT_TERMS)
        total += (a[:, terms].float() @ b[terms].float()).int()
    return total


def _in_cuts(product, a: Tensor, b: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
    cuts = [slice(start, start + MOST_TERMS) for start in range(0, a.shape[1], MOST_TERMS)]
    return torch.stack([product(a[:, cut].contiguous(), b[cut]).long() for cut in cuts]).sum(0)


def has_byte_product(device: str) -> bool:
    """Whether PyTorch multiplies bytes on such a device, and without rounding."""
    return _byte_product_is_exact(device)


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
        found = byte_product(a.to(device), b.to(device)).cpu().long()
    except RuntimeError:
        found = torch.zeros_like(expected)
    exact = bool(torch.equal(found, expected))
    if not exact:
        _log.warning("byte products are not exact on this %s: the posterior engine uses others instead", device)
    return exact
