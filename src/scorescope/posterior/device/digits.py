"""Exact products of floats with stored bytes on a device: fixed-point digits, as in `posterior.integer_product`.

A row of floats is written as three digits of one byte each; its product with bytes is three byte products without
rounding, on hardware that multiplies bytes many times faster than float32. Where a device has no byte product the digits
are multiplied as floats, in pieces so short that nothing is rounded: TF32 and bfloat16 hold a byte exactly, so the
result does not depend on `torch.backends` settings either.
"""

from __future__ import annotations

import torch
from torch import Tensor

from scorescope.posterior.integer_product import DIGITS, LARGEST_DIGITS, integer_product_on

# A weight of 1 in fixed point; see `posterior.whole_image_kernels`.
WEIGHT_ONE = 2**22
_FINE_ONE = 2.0**39
_FINE_BITS = 17


def to_digits(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Write each row as digits: float64 (B, d) -> digits int8 (3, B, d), highest first, and scale float64 (B,).

    ``rows ≈ scale · (digits[0]·65536 + digits[1]·256 + digits[2])`` within half a scale.
    """
    largest = rows.abs().amax(1)
    scale = torch.where(largest > 0, largest, 1.0) / LARGEST_DIGITS
    return split_digits((rows / scale[:, None]).round_().int()), scale


def to_bytes_and_digits(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Write each row as its nearest bytes and digits of the rest: float64 (B, d) -> int8 (4, B, d), and a unit float64 (B,).

    ``rows ≈ bytes + unit · (digits[0]·65536 + digits[1]·256 + digits[2])``, and the rest is small where noise is, where small
    differences decide.
    """
    nearest = rows.round().clamp_(-128, 127)
    digits, unit = to_digits(rows - nearest)
    return torch.cat([nearest.to(torch.int8)[None], digits]), unit


def split_digits(whole: Tensor) -> Tensor:
    """Integers of any shape up to 2²³ in size as balanced digits, int8 (3, …), highest first."""
    digits = torch.empty((DIGITS, *whole.shape), dtype=torch.int8, device=whole.device)
    for place in (2, 1, 0):
        digits[place] = whole.to(torch.int8)  # wraps to the balanced lowest digit
        whole = (whole - digits[place]) >> 8
    return digits


def digit_products(digits: Tensor, matrix: Tensor) -> Tensor:
    """Digits int8 (D, B, k) times bytes int8 (k, n), exact: int32 or int64 (D, B, n)."""
    return integer_product_on(digits.reshape(-1, digits.shape[2]), matrix).reshape(*digits.shape[:2], -1)


def from_digits(products: Tensor) -> Tensor:
    """Put digit products (3, …) together: float64 (…), exact below 2⁵³."""
    whole = products[2].double()
    return whole.add_(products[1], alpha=256).add_(products[0], alpha=65536)


def to_fixed_point(weights: Tensor) -> Tensor:
    """Weights in [0, 1], float32 (B, n), in units of 2⁻²², int64 (B, n), so that sums of tiny ones survive.

    Rounding carries the remainder on to the next image: the sum of any first so many is exact to one unit.
    """
    written = (weights.double() * _FINE_ONE).long().cumsum_(1) >> _FINE_BITS
    return torch.diff(written, dim=1, prepend=torch.zeros_like(written[:, :1]))
