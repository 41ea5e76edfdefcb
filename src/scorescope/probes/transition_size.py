"""At which number of training images something changes: a sign change of a curve over N, interpolated in log N.

Something that is measured for networks of growing N holds from some N on: two networks make each other's samples rather than
their training images, or the gap between seen and unseen images is gone. With ``e(N)`` the *excess*, positive as long as it
does not hold yet, N* is where e falls through zero for the last time,

    ln N* = ln N_i + (ln N_{i+1} − ln N_i) e_i / (e_i − e_{i+1}),   N_i the largest N with e_i > 0.

What is measured on a few images is uncertain, so the same is done for means over images drawn again, and N* has an interval.
That interval takes the straight lines between sizes for granted: what is certain is between which two sizes N* lies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scorescope.probes.intervals import LEVEL

Floats = npt.NDArray[np.float64]
BELOW, ABOVE = 0.0, math.inf


@dataclass(frozen=True)
class TransitionSize:
    """N* and what is known of it.

    Attributes:
        value: N*; 0 if the excess is nowhere positive, infinite if it is at the largest N.
        low: lower end of the 95 % interval, with the same meaning of 0 and infinity.
        high: upper end.
        sizes: every N that was tried, increasing.
    """

    value: float
    low: float
    high: float
    sizes: tuple[int, ...]

    @property
    def inside(self) -> bool:
        """Whether the sizes that were tried contain it."""
        return BELOW < self.value < ABOVE

    @property
    def between(self) -> tuple[int, int]:
        """The two neighbouring sizes between which it lies. Raises ValueError if the sizes do not contain it."""
        if not self.inside:
            raise ValueError(f"{self.words()}: it lies between no two of them")
        above = next(place for place, size in enumerate(self.sizes) if size >= self.value)
        return self.sizes[max(above - 1, 0)], self.sizes[above]

    def words(self) -> str:
        """It and its interval, as a sentence says them."""
        if not self.inside:
            said = "below the smallest" if self.value == BELOW else "above the largest"
            tried = self.sizes[0] if self.value == BELOW else self.sizes[-1]
            maybe = "" if self.low == self.high else f" (95 % interval {self.interval_words()})"
            return f"N* is {said} N tried, {tried:,}{maybe}"
        low, high = self.between
        return f"N* = {_rounded(self.value)}, between {low:,} and {high:,} (95 % interval {self.interval_words()})"

    def value_words(self) -> str:
        """It alone, as a table says it."""
        return self._said(self.value)

    def interval_words(self) -> str:
        """The interval; an end that the sizes tried do not contain is said to be so."""
        return f"{self._said(self.low)} to {self._said(self.high)}" if self.low < self.high else self._said(self.low)

    def _said(self, value: float) -> str:
        if value == BELOW:
            return f"below {self.sizes[0]:,}"
        return f"above {self.sizes[-1]:,}" if value == ABOVE else _rounded(value)


def crossings(sizes: Sequence[int], excess: npt.ArrayLike) -> Floats:
    """Where curves over N fall through zero for the last time.

    Args:
        sizes: S numbers of images, increasing.
        excess: (..., S), finite.

    Returns:
        (...): N*, 0 for a curve that is nowhere positive, infinity for one that is positive at the largest N.
    """
    values = np.asarray(excess, dtype=np.float64)
    if values.shape[-1] != len(sizes) or list(sizes) != sorted(set(sizes)) or not np.isfinite(values).all():
        raise ValueError(
            f"a crossing needs one finite number for each of increasing sizes, not {values.shape} for {sizes}"
        )
    rows = values.reshape(-1, len(sizes))
    logs = np.log(np.asarray(sizes, dtype=np.float64))
    found = np.full(len(rows), BELOW)
    for row, curve in enumerate(rows):
        positive = np.flatnonzero(curve > 0)
        if not positive.size:
            continue
        last = int(positive[-1])
        if last == len(sizes) - 1:
            found[row] = ABOVE
        else:
            share = curve[last] / (curve[last] - curve[last + 1])
            found[row] = math.exp(logs[last] + share * (logs[last + 1] - logs[last]))
    return found.reshape(values.shape[:-1])


def transition_size(sizes: Sequence[int], excess: npt.ArrayLike, drawn: npt.ArrayLike) -> TransitionSize:
    """N* with its interval.

    Args:
        sizes: S numbers of images, increasing.
        excess: (S,), of all images.
        drawn: (R, S), of R sets of images drawn again.
    """
    value = float(crossings(sizes, excess))
    low, high = middle(crossings(sizes, drawn))
    return TransitionSize(value, min(low, value), max(high, value), tuple(sizes))


def middle(values: Floats) -> tuple[float, float]:
    """The ends of the middle 95 % of values that may be infinite: each end is one of the values."""
    tail = (1 - LEVEL) / 2
    ordered = np.sort(values)
    last = len(ordered) - 1
    return float(ordered[math.floor(tail * last)]), float(ordered[math.ceil((1 - tail) * last)])


def _rounded(size: float) -> str:
    """Two significant digits: the interval is never narrow enough for more."""
    digits = max(0, math.floor(math.log10(size)) - 1)
    return f"{round(size / 10**digits) * 10**digits:,}" if size >= 10 else f"{size:.2g}"
