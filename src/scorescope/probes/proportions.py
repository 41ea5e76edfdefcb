"""How certain a share is: intervals of one proportion, of the difference of two, and of a share over a background.

Wilson's interval of one proportion (1927) and Newcombe's hybrid interval of the difference of two independent ones (1998,
method 10) cover at about their stated rate for small counts as well, and never leave their range. Both also take means of
numbers between 0 and 1 in place of counts: such a mean varies no more than a proportion of the same size, so the interval
covers at least as often.

Where a few of a hundred count, their ends are not the ones they claim: of three or four observations over a background of one
in a hundred, Newcombe's lower end is above 0 twice as often as it says. `mixture` is exact instead, after Clopper & Pearson
(1934), with the background known from a sample of its own.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import betainc, betaincinv

from scorescope.probes.intervals import LEVEL

NODES = 256
"""Points at which the unknown background of `mixture` is averaged over."""


@dataclass(frozen=True)
class Interval:
    """A number with its interval.

    Attributes:
        value: the number.
        low: lower end.
        high: upper end.
    """

    value: float
    low: float
    high: float

    def scaled(self, factor: float) -> Interval:
        """The same of `factor`, which is positive, times the number."""
        return Interval(self.value * factor, self.low * factor, self.high * factor)

    def clipped(self, low: float, high: float) -> Interval:
        """The same with all three brought into a range."""
        return Interval(*(min(max(one, low), high) for one in (self.value, self.low, self.high)))

    def words(self, form: str = ".2f") -> str:
        """The number and its interval as a sentence has them: "0.42 (0.30 to 0.54)"."""
        value, low, high = (format(one, form).replace("-", "−") for one in (self.value, self.low, self.high))
        return f"{value} ({low} to {high})"


def z_of(level: float = LEVEL) -> float:
    """The standard normal quantile of a two-sided interval: 1.96 for 95 %."""
    return NormalDist().inv_cdf((1 + level) / 2)


def wilson(share: float, count: float, level: float = LEVEL) -> Interval:
    """Wilson's interval of a proportion.

    Args:
        share: the proportion observed, in [0, 1].
        count: how many independent observations; a fraction where they are not quite independent.
        level: how often the interval covers.
    """
    if count <= 0:
        return Interval(share, 0.0, 1.0)
    z2 = z_of(level) ** 2 / count
    centre = (share + z2 / 2) / (1 + z2)
    half = math.sqrt(max(share * (1 - share) * z2 + z2 * z2 / 4, 0.0)) / (1 + z2)
    return Interval(share, max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share)))


def newcombe(first: float, first_count: float, second: float, second_count: float, level: float = LEVEL) -> Interval:
    """Newcombe's interval of ``first − second``, two proportions of independent observations; arguments as `wilson`."""
    one, two = wilson(first, first_count, level), wilson(second, second_count, level)
    difference = first - second
    down = math.hypot(first - one.low, two.high - second)
    up = math.hypot(one.high - first, second - two.low)
    return Interval(difference, difference - down, difference + up)


@functools.lru_cache(maxsize=4096)
def mixture(found: int, count: int, above: int, below: int, level: float = LEVEL) -> Interval:
    """The exact interval of a share π, where the others are found by chance, with a probability that a sample of them tells.

    Of `count` observations each is found with probability ``π + (1 − π) U``. Over draws of the sample that set the level, U has
    the distribution Beta(`above`, `below`), as the share beyond an order statistic has. With α = 1 − `level`, the lower end is
    the smallest π at which so many or more are found with probability α/2, the upper end the largest at which so few or fewer
    are: each is wrong in at most α/2 of draws of both samples.

    Args:
        found: how many of the observations.
        count: how many observations.
        above: rank of the order statistic from the top, positive.
        below: size of the sample, plus one, less that rank; positive.
        level: of the interval.
    """
    nodes, weights = _nodes(above, below)
    tail = (1 - level) / 2

    def at_least(many: int, share: float) -> float:
        """Probability that so many or more are found."""
        if many <= 0:
            return 1.0
        return float(weights @ betainc(many, count - many + 1, share + (1 - share) * nodes))

    def end(many: int, wanted: float) -> float:
        """The share at which `many` or more are found with a probability that grows with it."""
        return float(brentq(lambda share: at_least(many, share) - wanted, 0.0, 1.0, xtol=1e-9))

    low = 0.0 if at_least(found, 0.0) >= tail else end(found, tail)
    # So few or fewer: not one more.
    high = 1.0 if found == count else 0.0 if at_least(found + 1, 0.0) >= 1 - tail else end(found + 1, 1 - tail)
    chance = above / (above + below)
    value = (found / count - chance) / (1 - chance)
    return Interval(min(max(value, low), high), low, high)


@functools.lru_cache(maxsize=64)
def _nodes(above: int, below: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Quantiles of Beta(above, below), and their weights in a mean over it."""
    places, weights = np.polynomial.legendre.leggauss(NODES)
    return betaincinv(above, below, (places + 1) / 2), weights / 2
