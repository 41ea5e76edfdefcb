"""Copies, agreement and recovery of factors: three numbers for networks on N images, and the N at which they rise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from scorescope.lenses.audit.counting import Copies
from scorescope.papers.newer.drawn import mean_of
from scorescope.probes.intervals import LEVEL, redrawn_weights
from scorescope.probes.proportions import Interval
from scorescope.probes.similarity import directions

Floats = npt.NDArray[np.float64]
HALF, ENOUGH = 0.5, 10


@dataclass(frozen=True)
class Numbers:
    """What was found at one N.

    Attributes:
        size: N.
        copies: network -> the copies among its samples; nothing where copies cannot be told from other members.
        explained: network -> share of each sample's variance that its nearest member explains, (n,).
        factors: network -> of those members, (n, P).
        agreement: q of every pair of samples from the same noise, (n,).
        recovery: Q of every sample, network A's before B's, (2n,).
    """

    size: int
    copies: Mapping[str, Copies]
    explained: Mapping[str, Floats]
    factors: Mapping[str, Floats]
    agreement: Floats
    recovery: Floats

    def values(self, name: str) -> Floats:
        """m, q or Q of every sample."""
        if name == "m":
            if not self.copies:
                return np.full(2 * len(self.agreement), math.nan)
            chance = next(iter(self.copies.values())).chance
            above = np.concatenate([one.above for one in self.copies.values()]).astype(np.float64)
            return (above - chance) / (1 - chance)
        return self.agreement if name == "q" else self.recovery

    def mean(self, name: str) -> Interval:
        """Their mean, with its interval; a share of copies below what chance puts there is 0."""
        if name == "m" and not self.copies:
            return Interval(math.nan, math.nan, math.nan)
        found = mean_of(self.values(name))
        return found.clipped(0.0, 1.0) if name == "m" else found

    def without_copies(self) -> Interval | None:
        """The mean of Q over samples that are no copies; None where there are fewer than ten, or nobody can tell."""
        if not self.copies:
            return None
        above = np.concatenate([one.above for one in self.copies.values()])
        others = self.recovery[~above]
        return mean_of(others) if len(others) >= ENOUGH else None


def recovered(explained: npt.ArrayLike, floor: float, copied: npt.ArrayLike) -> Floats:
    """Q of every sample: ``1 − (1 − explained) / (1 − floor)``, from 0 to 1, and 0 for copies; (n,) each."""
    gained = 1 - (1 - np.asarray(explained, dtype=np.float64)) / max(1 - floor, 1e-12)
    return np.where(np.asarray(copied, dtype=bool), 0.0, gained.clip(0, 1))


def beyond_chance(first: Tensor, second: Tensor) -> Floats:
    """q of every pair: ``(s_i − s̄) / (1 − s̄)``, s̄ the mean similarity of samples from different noise; (n, C, H, W) twice."""
    similar = (directions(first) @ directions(second).T).double().numpy()
    same = np.diag(similar)
    count = len(same)
    other = (similar.sum() - same.sum()) / (count * (count - 1))
    return np.asarray((same - other) / (1 - other))


def first_reach(sizes: npt.ArrayLike, values: npt.ArrayLike, level: float = HALF) -> float:
    """ln N at which rising values first reach a level, linear in ln N; NaN where they do not, or are there at the first N."""
    x, y = np.log(np.asarray(sizes, dtype=np.float64)), np.asarray(values, dtype=np.float64)
    there = np.flatnonzero(y >= level)
    if not there.size or there[0] == 0:
        return math.nan
    k = int(there[0])
    return float(x[k - 1] + (level - y[k - 1]) / (y[k] - y[k - 1]) * (x[k] - x[k - 1]))


def doublings_between(sizes: list[int], early: list[Floats], late: list[Floats]) -> tuple[Interval, float]:
    """By how many doublings of N the mean of `late` reaches one half after that of `early`, and in what share of draws both do.

    Args:
        sizes: N, increasing.
        early: values of samples for each N, (n,) each.
        late: the same of the other number.

    Returns:
        The number with its bootstrap interval over samples, drawn anew at every N, and the share of draws in which it is known.
    """

    def between(first: list[float], second: list[float]) -> float:
        return (first_reach(sizes, second) - first_reach(sizes, first)) / math.log(2)

    value = between([float(one.mean()) for one in early], [float(one.mean()) for one in late])
    means = [
        np.stack([redrawn_weights(len(one), seed=7 * place + shift) @ one for place, one in enumerate(values)])
        for shift, values in enumerate((early, late))
    ]
    drawn = np.array([between(list(a), list(b)) for a, b in zip(means[0].T, means[1].T, strict=True)])
    known = drawn[np.isfinite(drawn)]
    if not math.isfinite(value) or not known.size:
        return Interval(value, math.nan, math.nan), known.size / len(drawn)
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, min(float(low), value), max(float(high), value)), known.size / len(drawn)
