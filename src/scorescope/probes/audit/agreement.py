"""How alike two networks' samples from the same noise are, and how alike samples from different noise are anyway.

Two networks that share no training image and make the same image from the same noise have learned the same function
(Kadkhodaie et al. 2024). They need not have learned the truth: agreement is found where the learned density is still far from
that of the data (Maillard & Goldt, arXiv 2605.21402), so it is reported beside the verdict and is no part of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scorescope.probes.audit.search import Floats, Vectors
from scorescope.probes.proportions import Interval, z_of


@dataclass(frozen=True)
class Agreement:
    """Similarity of two networks' samples.

    Attributes:
        same_noise: mean over pairs from the same noise, with its 95 % interval.
        other_noise: mean over pairs from different noise, with its interval.
        beyond: the difference, with its interval.
    """

    same_noise: Interval
    other_noise: Interval
    beyond: Interval


def agreement(first: Vectors, second: Vectors) -> Agreement:
    """Agreement of samples in order of their noise: unit vectors (n, F) twice, n at least 3.

    Intervals are jackknifes over noises: without a noise all pairs are gone that it is in, in its row and in its column.
    """
    count = len(first)
    similar = (first.astype(np.float64) @ second.astype(np.float64).T).clip(-1, 1)
    same = np.diag(similar)
    others = similar.sum() - same.sum()
    without_same = (same.sum() - same) / (count - 1)
    gone = similar.sum(1) + similar.sum(0) - 2 * same
    without_other = (others - gone) / max(1, (count - 1) * (count - 2))
    mean_same, mean_other = float(same.mean()), float(others / (count * (count - 1)))
    return Agreement(
        _jackknife(mean_same, without_same),
        _jackknife(mean_other, without_other),
        _jackknife(mean_same - mean_other, without_same - without_other),
    )


def _jackknife(value: float, without: Floats) -> Interval:
    """The interval of a number from what it is without each of n noises (Efron & Tibshirani 1993, chapter 11)."""
    count = len(without)
    deviation = math.sqrt((count - 1) / count * float(((without - without.mean()) ** 2).sum()))
    half = z_of() * deviation
    return Interval(value, value - half, value + half)
