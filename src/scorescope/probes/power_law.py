"""How a time grows with a size, where some runs ended before it came: a power law by maximum likelihood, with its interval.

``ln t = a + b ln N + s z``, z standard normal. A run in which the thing did not happen by step T says ``t > T`` and no more,
one in which it had happened by the first look says ``t < T``: both enter the likelihood by their probability, and none is left
out (Tobin 1958; Schmee & Hahn 1979). For each exponent b the likelihood is concave in ``a/s`` and ``1/s`` (Olsen 1978), so the
profile over b is found by Newton's method.

The interval holds the exponents at which twice the fall of the log-likelihood is at most ``n ln(1 + F/(n − 2))``, n the times
that were observed, F the 95 % quantile of F(1, n − 2). Without censoring that is exactly the t interval of least squares.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq, minimize_scalar
from scipy.special import log_ndtr
from scipy.stats import f as f_distribution

from scorescope.probes.intervals import LEVEL
from scorescope.probes.proportions import Interval

Floats = npt.NDArray[np.float64]
State = Literal["observed", "later", "earlier"]
LEAST_OBSERVED = 3
_FARTHEST = 20.0  # exponents beyond are as good as infinite
_SMALLEST_SPREAD = 1e-4


@dataclass(frozen=True)
class Reached:
    """When something happened in a run.

    Attributes:
        time: when; the last look where it had not happened, the first where it had happened before.
        state: ``observed``, ``later`` than `time`, or ``earlier``.
    """

    time: float
    state: State


@dataclass(frozen=True)
class PowerLaw:
    """``t ≈ time_at_one · N^exponent``.

    Attributes:
        exponent: with its 95 % interval, infinite at an end that censored runs leave open.
        time_at_one: t at N = 1.
        spread: standard deviation of ln t around the line.
        observed: how many times were observed, out of all.
        runs: how many runs there were.
    """

    exponent: Interval
    time_at_one: float
    spread: float
    observed: int
    runs: int


def first_reach(steps: npt.ArrayLike, values: npt.ArrayLike, level: float, *, rising: bool) -> Reached:
    """When values first reach a level, linear in the logarithm of the step between looks; NaNs are looks that failed.

    Args:
        steps: of the looks, positive, increasing, (T,).
        values: (T,).
        level: to be reached.
        rising: whether from below.

    Raises:
        ValueError: no value that is a number.
    """
    x, y = np.log(np.asarray(steps, dtype=np.float64)), np.asarray(values, dtype=np.float64)
    known = np.isfinite(y)
    x, y = x[known], (y[known] if rising else -y[known])
    if not len(y):
        raise ValueError("no look gave a number")
    wanted = level if rising else -level
    there = np.flatnonzero(y >= wanted)
    if not there.size:
        return Reached(math.exp(x[-1]), "later")
    k = int(there[0])
    if k == 0:
        return Reached(math.exp(x[0]), "earlier")
    return Reached(math.exp(x[k - 1] + (wanted - y[k - 1]) / (y[k] - y[k - 1]) * (x[k] - x[k - 1])), "observed")


def power_law(sizes: Sequence[float], reached: Sequence[Reached]) -> PowerLaw | None:
    """Fit the law to runs.

    Args:
        sizes: N of each run, positive.
        reached: when it happened in each.

    Returns:
        The law; None with fewer than three observed times, or all of them at one size.
    """
    states = np.array([one.state for one in reached])
    observed = states == "observed"
    x = np.log(np.asarray(sizes, dtype=np.float64))
    y = np.log([one.time for one in reached])
    count = int(observed.sum())
    if count < LEAST_OBSERVED or np.ptp(x[observed]) == 0:
        return None
    side = np.where(observed, 0, np.where(states == "later", 1, -1))
    centre = float(x.mean())

    def profile(exponent: float) -> tuple[float, float, float]:
        return _location_and_scale(y - exponent * (x - centre), side)

    found = minimize_scalar(
        lambda b: -profile(b)[0], bounds=(-_FARTHEST, _FARTHEST), method="bounded", options={"xatol": 1e-6}
    )
    best = float(found.x)
    top, location, spread = profile(best)
    allowed = count * math.log1p(float(f_distribution.ppf(LEVEL, 1, count - 2)) / (count - 2)) / 2

    def below(exponent: float) -> float:
        return profile(exponent)[0] - (top - allowed)

    low = brentq(below, -_FARTHEST, best) if below(-_FARTHEST) < 0 else -math.inf
    high = brentq(below, best, _FARTHEST) if below(_FARTHEST) < 0 else math.inf
    return PowerLaw(Interval(best, low, high), math.exp(location - best * centre), spread, count, len(reached))


def _location_and_scale(y: Floats, side: npt.NDArray[np.int_]) -> tuple[float, float, float]:
    """The highest log-likelihood of a normal sample with ends cut off, its mean and standard deviation.

    Newton's method on ``(α, γ) = (mean, 1) / spread``, in which the log-likelihood is concave.
    """
    seen, cut = side == 0, side[side != 0]
    values, bounds = y[seen], y[side != 0]
    shift, scale = float(values.mean()), max(float(values.std()), _SMALLEST_SPREAD)
    values, bounds = (values - shift) / scale, (bounds - shift) / scale
    # The spread may not fall below the smallest: times on one line would make the likelihood infinite.
    largest = scale / _SMALLEST_SPREAD

    def likelihood(alpha: float, gamma: float) -> float:
        residual = gamma * values - alpha
        ends = cut * (alpha - gamma * bounds)
        return float(len(values) * math.log(gamma) - (residual**2).sum() / 2 + log_ndtr(ends).sum())

    alpha, gamma = 0.0, min(1.0, largest)
    current = now = likelihood(alpha, gamma)
    for _ in range(100):
        residual = gamma * values - alpha
        ends = cut * (alpha - gamma * bounds)
        mills = np.exp(-(ends**2) / 2 - log_ndtr(ends)) / math.sqrt(2 * math.pi)
        weight = mills * (mills + ends)
        slope = np.array(
            [
                residual.sum() + (cut * mills).sum(),
                len(values) / gamma - (residual * values).sum() - (cut * mills * bounds).sum(),
            ]
        )
        cross = values.sum() + (weight * bounds).sum()
        curvature = np.array(
            [
                [len(values) + weight.sum(), -cross],
                [-cross, len(values) / gamma**2 + (values**2).sum() + (weight * bounds**2).sum()],
            ]
        )
        step = np.linalg.solve(curvature, slope)
        length = 1.0
        while length > 1e-10:
            trial = alpha + length * float(step[0]), min(gamma + length * float(step[1]), largest)
            if trial[1] > 0 and (now := likelihood(*trial)) >= current:
                break
            length /= 2
        else:
            break
        gained = now - current
        (alpha, gamma), current = trial, now
        if gained < 1e-12:
            break
    return current - len(values) * math.log(scale), shift + scale * float(alpha / gamma), scale / float(gamma)
