"""Does a number move with a network's size and with its training? Trends over both, with intervals over networks.

A number is measured on networks of several sizes, trained on several classes of images, each at several steps of its one
training run. The unit is the network: its snapshots share their start, their images and their noise, so that they count as
one observation and not as many.

- *With training*: the least-squares slope over log2 steps of each network; a class's trend is the mean of its networks'.
- *With size*: the mean over steps of each network; a class's trend is the least-squares slope of those over log2 parameters.

How far networks lie from their class's trend is taken to be alike in all classes, and is estimated from all of them together,
since one class has few networks; intervals are Student's, with that estimate's degrees of freedom. A dependence of the trend
with training on the size, or a bend of the trend with size, counts as scatter, and makes intervals wider.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scorescope.foundation import UserError

Floats = npt.NDArray[np.float64]
FEWEST = 3


@dataclass(frozen=True)
class Trend:
    """Change of a number for each doubling.

    Attributes:
        value: the estimate.
        low: lower end of its interval.
        high: upper end.
    """

    value: float
    low: float
    high: float


def trends(
    values: npt.ArrayLike, parameters: npt.ArrayLike, steps: npt.ArrayLike, *, confidence: float = 0.95
) -> tuple[list[Trend], list[Trend]]:
    """The trends of each class: with training, and with size.

    Args:
        values: (C, P, T): class, size of the network, steps it was trained for.
        parameters: (P,) parameters of the networks, at least 3 and all different.
        steps: (T,) steps, at least 3 and all different.
        confidence: of the intervals, in (0, 1).

    Returns:
        Two lists of C trends, a doubling of the steps and a doubling of the parameters.

    Raises:
        UserError: fewer than 3 sizes or steps, or repeated ones; shapes that do not fit; values that are not finite.
    """
    measured = np.asarray(values, dtype=np.float64)
    size, length = (np.asarray(one, dtype=np.float64) for one in (parameters, steps))
    if measured.ndim != 3 or measured.shape[1:] != (len(size), len(length)) or not len(measured):
        raise UserError(f"trends need values (C, {len(size)}, {len(length)}), found {measured.shape}")
    for name, one in (("sizes", size), ("numbers of steps", length)):
        if len(np.unique(one)) < max(FEWEST, len(one)) or not (one > 0).all():
            raise UserError(f"trends need {FEWEST} different {name} above 0, found {one.tolist()}")
    if not np.isfinite(measured).all():
        raise UserError("trends need finite values: one of them is infinite or no number")
    by_network = measured @ _weights(length)  # (C, P)
    trained = by_network.mean(1)
    scatter, freedom = _scatter(by_network - trained[:, None], lost=1)
    with_training = _intervals(trained, scatter / math.sqrt(len(size)), freedom, confidence)
    level = measured.mean(2)  # (C, P)
    grown = level @ _weights(size)
    centred = np.log2(size) - np.log2(size).mean()
    scatter, freedom = _scatter(level - level.mean(1, keepdims=True) - grown[:, None] * centred, lost=2)
    with_size = _intervals(grown, scatter / math.sqrt(float(centred @ centred)), freedom, confidence)
    return with_training, with_size


def _weights(doubled: Floats) -> Floats:
    """What gives the least-squares slope over log2, as a sum of values times these."""
    centred = np.log2(doubled) - np.log2(doubled).mean()
    return np.asarray(centred / (centred @ centred))


def _scatter(residuals: Floats, lost: int) -> tuple[float, int]:
    """Standard deviation of residuals (C, P) with `lost` parameters fitted a class, and its degrees of freedom."""
    classes, networks = residuals.shape
    freedom = classes * (networks - lost)
    return math.sqrt(float(np.square(residuals).sum()) / freedom), freedom


def _intervals(values: Floats, error: float, freedom: int, confidence: float) -> list[Trend]:
    from scipy import stats

    half = error * float(stats.t.ppf((1 + confidence) / 2, freedom))
    return [Trend(float(value), float(value) - half, float(value) + half) for value in values]
