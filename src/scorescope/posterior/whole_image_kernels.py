"""Compiled loops of the whole-image posterior: from products to weights, and from weights back to images.

A weight within a chunk is written in fixed point relative to the chunk's largest, 22 bits. Rounding carries the
remainder on to the next image, so that the sum of many tiny weights is kept: their total is exact to 2⁻²², and what is
lost is only which of several negligible images holds it.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from scorescope.posterior.exponential import exp32

WEIGHT_ONE = 2**22
_FINE_ONE = np.float32(2.0**39)
_FINE_BITS = 17

# Differences of logits beyond this leave no trace: e^-80 of a million images is below 1e-28.
NEGLIGIBLE = 80.0

MAXIMUM, WEIGHT, WEIGHTED_LOGIT, WEIGHTED_NORM, STATISTICS = 0, 1, 2, 3, 4


@nb.njit(nogil=True, cache=True, fastmath={"contract", "nnan", "ninf", "nsz"})
def weigh(products, product_scale, norms, norm_scale, running, logits, digits, bits, used, statistics, start, stop):  # type: ignore[no-untyped-def]
    """Turn the digit products of a chunk of n images into logits and fixed-point weights, rows start to stop.

    Args:
        products: (D, B, n), one to three digits of `bits[0]` bits: noisy digits times images.
        product_scale: float64 (B,): what one unit of product adds to a logit.
        norms: float64 (n,): squared norms of the images.
        norm_scale: float64 (B,): what one unit of squared norm takes from a logit.
        running: float64 (B,): largest logit of earlier chunks; chunks far below it get no weight.
        logits: float64 (B, n), written, up to a constant a row.
        digits: (D, B, n), digits of `bits[1]` bits, written: weights relative to the chunk's largest, in units of
            1 / WEIGHT_ONE.
        bits: of a digit of the products, and of the weights.
        used: uint8 (n,): set to 1 where an image has weight in any of these rows.
        statistics: float64 (B, 4), written: largest logit, sum of weights, of weight times (logit − largest), of weight
            times squared norm.
        start: first row.
        stop: row after the last.
    """
    count = products.shape[2]
    weights = np.empty(count, dtype=np.float32)
    wholes = np.empty(count, dtype=np.int32)
    base = 2.0 ** bits[0]
    for row in range(start, stop):
        _logits(products, row, base, product_scale[row], norms, norm_scale[row], logits[row])
        logit = logits[row]
        largest = logit[0]
        for i in range(count):
            largest = max(largest, logit[i])
        statistics[row, MAXIMUM] = largest
        statistics[row, WEIGHT] = 0.0
        statistics[row, WEIGHTED_LOGIT] = 0.0
        statistics[row, WEIGHTED_NORM] = 0.0
        if largest < running[row] - NEGLIGIBLE:
            digits[:, row] = 0
            continue
        for i in range(count):
            weights[i] = exp32(np.float32(logit[i] - largest))
        carried, written = np.int64(0), np.int64(0)
        weighted_logit, weighted_norm = 0.0, 0.0
        for i in range(count):
            carried += np.int64(weights[i] * _FINE_ONE)
            whole = (carried >> _FINE_BITS) - written
            written += whole
            if whole != 0:
                used[i] = 1
                weighted_logit += whole * (logit[i] - largest)
                weighted_norm += whole * norms[i]
            wholes[i] = whole
        _split(wholes, bits[1], digits, row)
        statistics[row, WEIGHT] = written / WEIGHT_ONE
        statistics[row, WEIGHTED_LOGIT] = weighted_logit / WEIGHT_ONE
        statistics[row, WEIGHTED_NORM] = weighted_norm / WEIGHT_ONE


@nb.njit(nogil=True, cache=True, fastmath={"contract"})
def _logits(products, row, base, unit, norms, norm_unit, logit):  # type: ignore[no-untyped-def]
    """``unit · (products put together) − norm_unit · norms`` of one row."""
    count, last = logit.size, products.shape[0] - 1
    high, middle, low = products[0, row], products[min(1, last), row], products[last, row]
    if last == 0:
        for i in range(count):
            logit[i] = unit * low[i] - norm_unit * norms[i]
    elif last == 1:
        for i in range(count):
            logit[i] = unit * (high[i] * base + low[i]) - norm_unit * norms[i]
    else:
        square = base * base
        for i in range(count):
            logit[i] = unit * (high[i] * square + middle[i] * base + low[i]) - norm_unit * norms[i]


@nb.njit(nogil=True, cache=True)
def _split(wholes, bits, digits, row):  # type: ignore[no-untyped-def]
    """Write int32 (n,) as one to three balanced digits of so many bits into digits[:, row], highest first."""
    last, shift = digits.shape[0] - 1, np.int32(bits)
    half, mask = np.int32(1 << (bits - 1)), np.int32((1 << bits) - 1)
    high, middle, low = digits[0, row], digits[min(1, last), row], digits[last, row]
    if last == 0:
        for i in range(wholes.size):
            high[i] = wholes[i]
    elif last == 1:
        for i in range(wholes.size):
            rest = np.int32(wholes[i] + half)
            low[i] = (rest & mask) - half
            high[i] = rest >> shift
    else:
        for i in range(wholes.size):
            rest = np.int32(wholes[i] + half)
            low[i] = (rest & mask) - half
            rest = np.int32((rest >> shift) + half)
            middle[i] = (rest & mask) - half
            high[i] = rest >> shift


@nb.njit(nogil=True, cache=True, fastmath={"contract"})
def add_weighted(products, bits, keep, add, total, start, stop):  # type: ignore[no-untyped-def]
    """``total = keep · total + add · Σ weight · image``, rows start to stop of total (B, d).

    The sum is given by digit products (D, B, d), digits of so many bits in units of 1 / WEIGHT_ONE.
    """
    base, last = 2.0**bits, products.shape[0] - 1
    for row in range(start, stop):
        kept, unit, target = keep[row], add[row] / WEIGHT_ONE, total[row]
        high, middle, low = products[0, row], products[min(1, last), row], products[last, row]
        if last == 0:
            for p in range(target.size):
                target[p] = kept * target[p] + unit * low[p]
        elif last == 1:
            for p in range(target.size):
                target[p] = kept * target[p] + unit * (high[p] * base + low[p])
        else:
            square = base * base
            for p in range(target.size):
                target[p] = kept * target[p] + unit * (high[p] * square + middle[p] * base + low[p])


@nb.njit(nogil=True, cache=True)
def squared_norms(images, norms, start, stop):  # type: ignore[no-untyped-def]
    """Squared norms of int8 images (n, d) into float64 norms (n,), images start to stop."""
    for i in range(start, stop):
        image, total = images[i], np.int64(0)
        for block in range(0, image.size, 65536):
            part = np.int32(0)
            for p in range(block, min(block + 65536, image.size)):
                part += np.int32(image[p]) * np.int32(image[p])
            total += part
        norms[i] = total
