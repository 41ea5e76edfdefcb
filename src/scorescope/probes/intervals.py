"""How certain a mean over a few images is: percentile bootstrap over images (Efron & Tibshirani 1993, chapter 13).

Images are drawn again with replacement, the same draw for every noise level and every denoiser, so that what is compared
is compared on the same images. An interval holds the middle 95 % of what the draws give. It says how far other images would
change the number, not how far another training run would.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
DRAWS, LEVEL = 1000, 0.95


@dataclass(frozen=True)
class Estimate:
    """A number for each of S noise levels, with its 95 % interval.

    Attributes:
        value: (S,).
        low: (S,).
        high: (S,).
    """

    value: Floats
    low: Floats
    high: Floats


def redrawn_weights(count: int, *, draws: int = DRAWS, seed: int = 0) -> Floats:
    """How often each of `count` images is in each of the draws, divided by `count`: float64 (draws, count)."""
    chosen = np.random.default_rng(seed).integers(0, count, (draws, count))
    weights = np.zeros((draws, count))
    np.add.at(weights, (np.arange(draws)[:, None], chosen), 1 / count)
    return weights


def mean_over_images(values: npt.ArrayLike) -> Estimate:
    """The mean of S×B values over the B images, with its interval; NaN where a value is."""
    rows = np.asarray(values, dtype=np.float64)
    return _estimate(rows.mean(1), redrawn_weights(rows.shape[1]) @ rows.T)


def explained_over_images(to_mechanism: npt.ArrayLike, to_optimal: npt.ArrayLike, negligible: float) -> Estimate:
    """The explained deviation ``1 − mean(to_mechanism) / mean(to_optimal)`` with its interval.

    Args:
        to_mechanism: squared distances of the model to a mechanism, (S, B).
        to_optimal: to the optimal denoiser, on the same inputs, (S, B).
        negligible: mean distance to the optimal denoiser up to which the ratio means nothing and is NaN.
    """
    upper, lower = np.asarray(to_mechanism, dtype=np.float64), np.asarray(to_optimal, dtype=np.float64)
    gap = lower.mean(1)
    known = gap > negligible
    value, drawn = np.full(len(gap), np.nan), np.full((DRAWS, len(gap)), np.nan)
    weights = redrawn_weights(upper.shape[1])
    value[known] = 1 - upper.mean(1)[known] / gap[known]
    drawn[:, known] = 1 - (weights @ upper[known].T) / (weights @ lower[known].T)
    return _estimate(value, drawn)


def _estimate(value: Floats, drawn: Floats) -> Estimate:
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
    # The value itself always lies inside, also where a few images give a lopsided set of draws.
    return Estimate(value, np.minimum(low, value), np.maximum(high, value))
