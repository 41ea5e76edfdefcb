"""Leakage: how much more often samples are nearer to the training than to the control images than unseen images are.

``share(X) = #{x in X : s_T(x) > s_C(x)} / |X|``, s_A(x) the similarity of x to its nearest of A, for two sets of the same size:
the larger is thinned. A model that copies nothing has the share of unseen images, whatever its samples look like, because blur,
contrast and density act on both sides alike. ``leakage = 2 (share(samples) − share(unseen))`` is 0 then, and 1 where every
sample is nearer to what was trained on than to what was not.

*Thinning without drawing.* If r of the |C| control images are nearer to x than its nearest training image, a random part of N
of them holds none of these with probability ``C(|C| − r, N) / C(|C|, N)``. That is the mean over all ways to thin, exactly, so
nothing is drawn.

*Which images were drawn into T and C.* Samples that crowd around few images, because the model makes few different ones or
because they are smooth in some features, are nearer to T if chance put those few into T. Let D_i be the share of samples that
are nearest to image i of T and C together, minus that of unseen images. Had T and C been dealt out anew, the difference of the
two shares would have the variance ``¼ Σ D_i²``. What of it counting so few samples does not account for is added to Newcombe's
interval. Samples already found to be copies are left out of D: they crowd around T because they are copies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from scorescope.probes.audit.search import Floats, Found, Vectors, search
from scorescope.probes.proportions import Interval, newcombe, z_of

Blocks = Callable[[], Iterator[tuple[int, Vectors]]]


@dataclass(frozen=True)
class Sides:
    """On which side n images lie.

    Attributes:
        nearer: how surely each is nearer to the training than to the control images, the larger set thinned: in [0, 1]; a tie
            counts half, (n,).
        training: what was found in T.
        control: what was found in C.
    """

    nearer: Floats
    training: Found
    control: Found


@dataclass(frozen=True)
class Leakage:
    """Leakage with its interval, and what it was made of.

    Attributes:
        leakage: with its 95 % interval, in [−1, 1].
        samples: share of the samples nearer to the training than to the control images.
        unseen: the same of calibration images.
        by_chance: standard deviation of leakage over how images were dealt out to T and C, beyond that of counting.
    """

    leakage: Interval
    samples: float
    unseen: float
    by_chance: float


def none_of(marked: npt.ArrayLike, total: int, drawn: int) -> Floats:
    """The chance that `drawn` of `total` things, drawn without replacement, hold none of the marked ones.

    Args:
        marked: how many are marked, int (n,), at most `total`.
        total: how many there are.
        drawn: how many are drawn, at most `total`.
    """
    left = total - np.asarray(marked, dtype=np.float64)
    possible = left >= drawn
    safe = np.where(possible, left, drawn)
    logarithm = gammaln(safe + 1) - gammaln(safe - drawn + 1) - gammaln(total + 1) + gammaln(total - drawn + 1)
    return np.where(possible, np.exp(logarithm), 0.0)


def sides(
    queries: Vectors,
    training: tuple[Blocks, int],
    control: tuple[Blocks, int],
    *,
    k: int = 1,
    mirrored: bool = False,
    words: str = "",
) -> Sides:
    """Search both sets for each query, and say how surely it is nearer to the training images.

    Args:
        queries: unit vectors (n, F).
        training: what gives the blocks of T's vectors, and how many there are.
        control: the same of C.
        k: how many of the nearest are kept.
        mirrored: whether each set's second half are the mirror images of its first.
        words: for progress bars.
    """
    swapped = training[1] > control[1]
    (small, few), (large, many) = (control, training) if swapped else (training, control)
    near = search(queries, small(), k=k, words=f"{words}, smaller set" if words else "")
    bar = near.similarity[:, 0]
    far = search(queries, large(), k=k, threshold=bar, words=f"{words}, larger set" if words else "")
    # Images are thinned, not entries: an image and its mirror image stay together.
    total, drawn = (many // 2, few // 2) if mirrored else (many, few)
    above, not_below = np.minimum(far.above, total), np.minimum(far.above + far.equal, total)
    nearer = (none_of(above, total, drawn) + none_of(not_below, total, drawn)) / 2
    return Sides(1 - nearer, far, near) if swapped else Sides(nearer, near, far)


def leakage(samples: Sides, unseen: Sides, copies: npt.NDArray[np.bool_] | None = None, level: float = 0.95) -> Leakage:
    """Leakage from the sides on which samples, and unseen images, lie.

    Args:
        samples: of the m samples.
        unseen: of the h calibration images.
        copies: which samples are surely copies, bool (m,); none by default.
        level: of the interval.
    """
    mine, theirs = float(samples.nearer.mean()), float(unseen.nearer.mean())
    counted = newcombe(mine, len(samples.nearer), theirs, len(unseen.nearer), level)
    dealt = _dealt_out(samples, unseen, np.zeros(len(samples.nearer), bool) if copies is None else copies)
    wide = z_of(level) * dealt
    low = counted.value - math.hypot(counted.value - counted.low, wide)
    high = counted.value + math.hypot(counted.high - counted.value, wide)
    return Leakage(Interval(counted.value, low, high).scaled(2).clipped(-1, 1), mine, theirs, 2 * dealt)


def samples_for(half_width: float, calibration: int | None = None, level: float = 0.95) -> int | None:
    """How many samples bring leakage within a half-width.

    Args:
        half_width: wanted, in units of leakage.
        calibration: how many calibration images there are; as many as samples by default.
        level: of the interval.

    Returns:
        The number; None where the calibration images alone make the interval wider.
    """
    variance = (half_width / (2 * z_of(level))) ** 2 / 0.25  # 1/m + 1/h, for shares around ½
    if calibration is None:
        return math.ceil(2 / variance)
    rest = variance - 1 / calibration
    return math.ceil(1 / rest) if rest > 0 else None


def _dealt_out(samples: Sides, unseen: Sides, copies: npt.NDArray[np.bool_]) -> float:
    """Standard deviation of the difference of the two shares over dealing out T and C, less what counting accounts for."""
    m, h = len(samples.nearer), len(unseen.nearer)
    kept = ~copies
    part = float(kept.mean())
    if part == 0:
        return 0.0
    mine, theirs = _crowding(samples, kept) / m, _crowding(unseen, np.ones(h, bool)) / h
    size = max(len(mine), len(theirs))
    mine, theirs = (np.pad(one, (0, size - len(one))) for one in (mine, theirs))
    difference = float(((mine - part * theirs) ** 2).sum())
    # Counting alone makes each D_i as uncertain as a proportion: the sum of those variances.
    counting = float((mine * (part - mine)).sum()) / (part * m) + part**2 * float((theirs * (1 - theirs)).sum()) / h
    return 0.5 * math.sqrt(max(0.0, difference - counting))


def _crowding(one: Sides, kept: npt.NDArray[np.bool_]) -> Floats:
    """How many of the kept images have each image of T and C together as their nearest: even places are T's, odd ones C's."""
    of_training = np.bincount(2 * one.training.index[kept, 0], one.nearer[kept])
    of_control = np.bincount(2 * one.control.index[kept, 0] + 1, 1 - one.nearer[kept])
    size = max(len(of_training), len(of_control))
    return np.asarray(
        np.pad(of_training, (0, size - len(of_training))) + np.pad(of_control, (0, size - len(of_control)))
    )
