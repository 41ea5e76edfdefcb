"""Four ways to multiply integers with bytes without rounding: each is the fastest on some processor.

Integers of up to 24 bits are written as digits that a way's product takes, and the digits' products put together,
``Σ_j 2^(bits·(D−1−j)) · product_j``. All ways give the same integers, so no result depends on which one ran.

- *bytes*: digits of 8 bits by PyTorch's byte product, where the processor has instructions for it (VNNI, AMX, Arm's dot);
- *words*: digits of 12 bits by kernels of our own (`word_kernels`), where 16-bit words are multiplied in pairs (AVX2);
- *float64*: the integers as they are, by the linear algebra library that PyTorch brings;
- *float32 in pieces*: digits of 8 bits, of so few terms at a time that their sums are exact in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from scorescope.posterior.integer_product import byte_product, has_byte_product, product_in_pieces
from scorescope.posterior.word_product import BITS as WORD_BITS
from scorescope.posterior.word_product import word_columns, word_rows

Bytes = npt.NDArray[np.int8]
Whole = npt.NDArray[np.signedinteger]
# int8, int16 or float64; their products int32, int64 or float64.
Digits = npt.NDArray[Any]
Products = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

# Of a whole number as `exact_product.to_whole` makes it, and of a centred byte; sign included.
WHOLE_BITS, BYTE_BITS = 24, 8
# Bytes are made float64 so many at a time: what is multiplied stays in the second cache.
_FLOAT64_VALUES = 2**18


@dataclass(frozen=True)
class Way:
    """One way to multiply.

    Attributes:
        name: what tables call it.
        bits: of a digit, sign included.
        dtype: of a digit.
        exact: whether it is exact on this processor.
        multiply_rows: digits (m, k) and bytes (n, k) to ``digits @ bytesᵀ``, (m, n).
        multiply_columns: digits (m, k) and bytes (k, n) to ``digits @ bytes``, (m, n).
    """

    name: str
    bits: int
    dtype: type[np.generic]
    exact: Callable[[], bool]
    multiply_rows: Callable[[Digits, Bytes], Products]
    multiply_columns: Callable[[Digits, Bytes], Products]

    def places(self, bits: int) -> int:
        """How many digits an integer of so many bits has."""
        return -(-bits // self.bits)

    def digits(self, whole: Whole, bits: int) -> Digits:
        """Integers (B, k) of so many bits as digits (D, B, k), highest first."""
        digits = np.empty((self.places(bits), *whole.shape), dtype=self.dtype)
        half = 1 << (self.bits - 1)
        for place in range(len(digits) - 1, 0, -1):
            digits[place] = ((whole + half) & (2 * half - 1)) - half
            whole = (whole + half) >> self.bits
        digits[0] = whole
        return digits

    def rows(self, digits: Digits, matrix: Bytes) -> Products:
        """Digits (D, B, k) times the rows of bytes (n, k): (D, B, n)."""
        return self.multiply_rows(_flat(digits), matrix).reshape(*digits.shape[:2], -1)

    def columns(self, digits: Digits, matrix: Bytes) -> Products:
        """Digits (D, B, k) times the columns of bytes (k, n): (D, B, n)."""
        return self.multiply_columns(_flat(digits), matrix).reshape(*digits.shape[:2], -1)

    def together(self, products: Products) -> Floats:
        """Products of digits (D, …) as those of the integers: float64 (…), exact below 2⁵³."""
        total: Floats = products[0].astype(np.float64)
        for product in products[1:]:
            total *= 2.0**self.bits
            total += product
        return total


def _flat(digits: Digits) -> Digits:
    return digits.reshape(-1, digits.shape[2])


def _byte_rows(digits: Digits, matrix: Bytes) -> Products:
    return np.asarray(byte_product(torch.from_numpy(digits), torch.from_numpy(matrix).T).numpy())


def _byte_columns(digits: Digits, matrix: Bytes) -> Products:
    return np.asarray(byte_product(torch.from_numpy(digits), torch.from_numpy(matrix)).numpy())


def _piece_rows(digits: Digits, matrix: Bytes) -> Products:
    return np.asarray(product_in_pieces(torch.from_numpy(digits), torch.from_numpy(matrix).T).numpy())


def _piece_columns(digits: Digits, matrix: Bytes) -> Products:
    return np.asarray(product_in_pieces(torch.from_numpy(digits), torch.from_numpy(matrix)).numpy())


def _float64_rows(digits: Digits, matrix: Bytes) -> Products:
    a, b = torch.from_numpy(digits), torch.from_numpy(matrix)
    step = max(16, _FLOAT64_VALUES // max(1, b.shape[1]))
    found = [a @ b[start : start + step].double().T for start in range(0, len(b), step)]
    return np.asarray(torch.cat(found, 1).numpy())


def _float64_columns(digits: Digits, matrix: Bytes) -> Products:
    a, b = torch.from_numpy(digits), torch.from_numpy(matrix)
    step = max(16, _FLOAT64_VALUES // max(1, b.shape[1]))
    total = torch.zeros(len(a), b.shape[1], dtype=torch.float64)
    for start in range(0, len(b), step):
        total.addmm_(a[:, start : start + step], b[start : start + step].double())
    return np.asarray(total.numpy())


def _always() -> bool:
    return True


BYTES = Way("bytes", 8, np.int8, lambda: has_byte_product("cpu"), _byte_rows, _byte_columns)
WORDS = Way("words", WORD_BITS, np.int16, _always, word_rows, word_columns)
FLOAT64 = Way("float64", 24, np.float64, _always, _float64_rows, _float64_columns)
PIECES = Way("float32 in pieces", 8, np.int8, _always, _piece_rows, _piece_columns)
WAYS = (BYTES, WORDS, FLOAT64, PIECES)
