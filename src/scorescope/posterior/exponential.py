"""exp in float32, written so that the compiler turns a loop of it into vector instructions.

``exp(x) = 2^n exp(r)`` with n the integer nearest to ``x / ln 2`` and ``|r| ≤ ln 2 / 2``; exp(r) is a polynomial through
Chebyshev points, and 2^n is made by writing n into the exponent bits. The relative error is below 3e-7.
"""

from __future__ import annotations

import math
from typing import Any

import numba as nb
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types
from numba.extending import intrinsic

_DEGREE = 6


def _coefficients() -> list[np.float32]:
    half = math.log(2) / 2
    fitted = np.polynomial.Chebyshev.interpolate(np.exp, _DEGREE, domain=[-half, half])
    return [np.float32(c) for c in fitted.convert(kind=np.polynomial.Polynomial).coef]


_C0, _C1, _C2, _C3, _C4, _C5, _C6 = _coefficients()
_LOWEST = np.float32(-87.0)
_LOG2_E = np.float32(1 / math.log(2))
# ln 2 in two parts, the first with few bits, so that n · ln 2 is exact to float32 after subtraction.
_LN2_HIGH = np.float32(round(math.log(2) * 2**12) / 2**12)
_LN2_LOW = np.float32(math.log(2) - float(_LN2_HIGH))
# Adding 1.5 · 2²³ rounds to an integer and leaves it in the low bits of the float.
_ROUNDER = np.float32(1.5 * 2**23)
_ONE_BITS = np.int32(127 << 23)
_SHIFT = np.int32(23)


@intrinsic
def _bits_of(typing_context: Any, value: Any) -> Any:
    """The bits of a float32 as int32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), generate


@intrinsic
def _float_of(typing_context: Any, bits: Any) -> Any:
    """The float32 that has these bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


@nb.njit(fastmath={"contract"}, forceinline=True)
def exp32(x: np.float32) -> np.float32:
    """exp(x) for float32 x ≤ 87; arguments below −87 give exp(−87), about 1e-38."""
    x = max(x, _LOWEST)
    rounded = x * _LOG2_E + _ROUNDER
    n = rounded - _ROUNDER
    r = x - n * _LN2_HIGH
    r = r - n * _LN2_LOW
    mantissa = _C0 + r * (_C1 + r * (_C2 + r * (_C3 + r * (_C4 + r * (_C5 + r * _C6)))))
    scale = _float_of(np.int32(np.int32(_bits_of(rounded) << _SHIFT) + _ONE_BITS))
    return np.float32(mantissa * scale)
