"""Compiled loops of the whole-image posterior: from byte products to weights, and from weights back to images.

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
def weigh(products, product_scale, norms, norm_scale, running, logits, digits, used, statistics, start, stop):  # type: ignore[no-untyped-def]
    """Turn the byte products of a chunk of n images into logits and fixed-point weights, rows start to stop.

    Args:
        products: int (3, B, n): noisy digits times images.
        product_scale: float64 (B,): what one unit of product adds to a logit.
        norms: float64 (n,): squared norms of the images.
        norm_scale: float64 (B,): what one unit of squared norm takes from a logit.
        running: float64 (B,): largest logit of earlier chunks; chunks far below it get no weight.
        logits: float64 (B, n), written, up to a constant a row.
        digits: int8 (3, B, n), written: weights relative to the chunk's largest, in units of 1 / WEIGHT_ONE.
        used: uint8 (n,): set to 1 where an image has weight in any of these rows.
        statistics: float64 (B, 4), written: largest logit, sum of weights, of weight times (logit − largest), of weight
            times squared norm.
        start: first row.
        stop: row after the last.
    """
    count = products.shape[2]
    weights = np.empty(count, dtype=np.float32)
    for row in range(start, stop):
        unit, norm_unit = product_scale[row], norm_scale[row]
        high, middle, low, logit = products[0, row], products[1, row], products[2, row], logits[row]
        for i in range(count):
            logit[i] = unit * (high[i] * 65536.0 + middle[i] * 256.0 + low[i]) - norm_unit * norms[i]
        largest = logit[0]
        for i in range(count):
            largest = max(largest, logit[i])
        statistics[row, MAXIMUM] = largest
        statistics[row, WEIGHT] = 0.0
        statistics[row, WEIGHTED_LOGIT] = 0.0
        statistics[row, WEIGHTED_NORM] = 0.0
        top, mid, bottom = digits[0, row], digits[1, row], digits[2, row]
        if largest < running[row] - NEGLIGIBLE:
            for i in range(count):
                top[i] = 0
                mid[i] = 0
                bottom[i] = 0
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
            bottom[i] = np.int8(whole)
            whole = (whole - bottom[i]) >> 8
            mid[i] = np.int8(whole)
            top[i] = np.int8((whole - mid[i]) >> 8)
        statistics[row, WEIGHT] = written / WEIGHT_ONE
        statistics[row, WEIGHTED_LOGIT] = weighted_logit / WEIGHT_ONE
        statistics[row, WEIGHTED_NORM] = weighted_norm / WEIGHT_ONE


@nb.njit(nogil=True, cache=True, fastmath={"contract"})
def add_weighted(products, keep, add, total, start, stop):  # type: ignore[no-untyped-def]
    """``total = keep · total + add · Σ weight · image`` from digit products (3, B, d), rows start to stop of total (B, d)."""
    for row in range(start, stop):
        kept, unit = keep[row], add[row] / WEIGHT_ONE
        high, middle, low, target = products[0, row], products[1, row], products[2, row], total[row]
        for p in range(target.size):
            target[p] = kept * target[p] + unit * (high[p] * 65536.0 + middle[p] * 256.0 + low[p])


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
