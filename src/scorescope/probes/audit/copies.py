"""Which samples are copies: conformal p-values, the false discovery rate, and what share of all samples are copies.

A statistic t of nearness is computed for every sample g and for every calibration image h, which the model has not seen. If
g is no copy it is one more unseen image, and its rank among them is uniform: ``p(g) = (1 + #{h : t(h) ≥ t(g)}) / (|H| + 1)``
is at most α with probability at most α, whatever the data, the features or the statistic (Vovk, Gammerman & Shafer 2005).
Benjamini & Hochberg (1995) turn m of them into a list of which no more than a stated share is expected to be wrong; p-values
that share their calibration images are positively dependent, for which it holds (Bates et al. 2023, arXiv 2104.08279).

Statistics, for the distances ``d² = 2 − 2 s`` of unit vectors:

- *similarity* to the nearest training image;
- *margin*: ``log d_C² − log d_T²``, how much nearer the nearest training image is than the nearest control image;
- *ratio*: ``log mean d_T,k² − log d_T²``, how much nearer the nearest is than the k nearest are (Carlini et al. 2023, arXiv
  2301.13188).

A smooth sample is similar to everything, which only the last two forgive: which statistic is used is decided by what it finds
of planted copies, among those that do not take smoothed unseen images for copies, before any sample is looked at
(`planting.choose_statistic`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from scorescope.probes.audit.search import Floats
from scorescope.probes.proportions import Interval, mixture

Statistic = Literal["similarity", "margin", "ratio"]
STATISTICS: tuple[Statistic, ...] = ("margin", "ratio", "similarity")
NEIGHBOURS = 20
FDR = 0.05
CHANCE = 0.01
"""Share of unseen images that lie above the level from which the share of copies is counted."""
SMALLEST = 1e-3
"""Squared distance that counts as none: what an 8-bit file or a mild JPEG leaves."""


def statistic(
    kind: Statistic, training: npt.ArrayLike, control: npt.ArrayLike | None, smallest: float = SMALLEST
) -> Floats:
    """How near images are to the training set, larger for nearer.

    Args:
        kind: one of `STATISTICS`.
        training: similarities to the k nearest training images, decreasing, (n, k); −2 where there are fewer.
        control: similarity to the nearest control image, (n,); None without control images.
        smallest: squared distance that counts as none.

    Raises:
        ValueError: a margin without control images, or a ratio with fewer than two training images.
    """
    near = np.asarray(training, dtype=np.float64)
    distance = np.log(np.maximum(2 - 2 * near[:, 0], 0) + smallest)
    if kind == "similarity":
        return -distance
    if kind == "margin":
        if control is None:
            raise ValueError("a margin is one over control images")
        return np.asarray(np.log(np.maximum(2 - 2 * np.asarray(control, dtype=np.float64), 0) + smallest) - distance)
    there = near > -1.5
    if near.shape[1] < 2 or not there[:, 1].all():
        raise ValueError("a ratio takes at least two training images")
    squared = np.where(there, np.maximum(2 - 2 * near, 0) + smallest, 0)
    return np.asarray(np.log(squared[:, 1:].sum(1) / there[:, 1:].sum(1)) - distance)


def conformal(samples: npt.ArrayLike, calibration: npt.ArrayLike) -> Floats:
    """The p-value of every sample: (m,) and (h,) statistics -> (m,) in [1/(h + 1), 1]."""
    ranked = np.sort(np.asarray(calibration, dtype=np.float64))
    mine = np.asarray(samples, dtype=np.float64)
    as_near = len(ranked) - np.searchsorted(ranked, mine, side="left")
    return np.asarray((1 + as_near) / (len(ranked) + 1))


def q_values(p: npt.ArrayLike) -> Floats:
    """For every p-value the smallest false discovery rate at which Benjamini & Hochberg reject it: (m,) -> (m,)."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    count = len(values)
    scaled = values[order] * count / np.arange(1, count + 1)
    q = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    found = np.empty(count)
    found[order] = q
    return found


def calibration_needed(fdr: float, samples: int = 1) -> int:
    """How many calibration images a single copy among `samples` samples needs to be found: ``samples / fdr − 1``."""
    return math.ceil(samples / fdr - 1e-9) - 1


@dataclass(frozen=True)
class CopiedShare:
    """What share of samples are copies.

    Attributes:
        share: with its 95 % interval, in [0, 1]. The lower end holds whatever the copies are like; the upper end counts
            those that the statistic can see.
        level: value of the statistic from which a sample is counted.
        chance: share of calibration images above it.
    """

    share: Interval
    level: float
    chance: float


def copied_share(samples: npt.ArrayLike, calibration: npt.ArrayLike, chance: float = CHANCE) -> CopiedShare:
    """The share of samples that are copies, from how many more lie above a high level than unseen images do.

    The level is the statistic of the calibration image that a share `chance` of them exceeds, the b-th highest. Unseen images
    lie above it with a probability U that is itself unknown; over draws of h calibration images U has the distribution
    Beta(b, h + 1 − b), whatever that of the statistic. If a share π of samples are copies above the level, a sample lies above
    it with probability ``π + (1 − π) U``. From the number that do follows an exact interval of π (`mixture`).

    Args:
        samples: statistics (m,).
        calibration: statistics (h,).
        chance: in (0, 1).
    """
    mine, ranked = np.asarray(samples, dtype=np.float64), np.sort(np.asarray(calibration, dtype=np.float64))
    beyond = max(1, math.floor(chance * (len(ranked) + 1)))
    level = float(ranked[-beyond])
    share = mixture(int((mine > level).sum()), len(mine), beyond, len(ranked) + 1 - beyond)
    return CopiedShare(share, level, beyond / (len(ranked) + 1))
