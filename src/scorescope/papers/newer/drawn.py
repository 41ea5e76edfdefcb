"""Means over samples with their intervals, and lines of them: what the newer studies share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from scorescope.probes.intervals import mean_over_images
from scorescope.probes.proportions import Interval
from scorescope.study import charts


def mean_of(values: npt.ArrayLike) -> Interval:
    """The mean of one number a sample, (n,), with its 95 % bootstrap interval."""
    found = mean_over_images(np.asarray(values, dtype=np.float64)[None])
    return Interval(float(found.value[0]), float(found.low[0]), float(found.high[0]))


def line_of(
    name: str, x: npt.ArrayLike, found: Sequence[Interval], colour: str | None = None, dashed: bool = False
) -> charts.Series:
    """Numbers over x, (n,), with their intervals as a band."""
    value, low, high = ([getattr(one, end) for one in found] for end in ("value", "low", "high"))
    return charts.Series(name, x, value, low, high, colour=colour, dashed=dashed)
