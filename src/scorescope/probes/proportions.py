"""How certain a share is: intervals of one proportion and of the difference of two.

Wilson's interval of one proportion (1927) and Newcombe's hybrid interval of the difference of two independent ones (1998,
method 10) cover at about their stated rate for small counts as well, and never leave their range. Both also take means of
numbers between 0 and 1 in place of counts: such a mean varies no more than a proportion of the same size, so the interval
covers at least as often.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from scorescope.probes.intervals import LEVEL


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
