"""Linear datamodeling scores: how well sums of attributions tell what networks trained on parts of the data do.

An attribution τ_i of a test point predicts that of networks trained on subsets S those with the larger ``Σ_{i ∈ S} τ_i`` have
the smaller loss at it. The score (LDS) is Spearman's rank correlation, over networks, between that sum and the measured
negative loss, mean over test points (Park et al., ICML 2023, arXiv 2303.14186, definition 2.3). 0 is chance; what two networks
on the same subset tell of each other is the most that can be reached.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

Floats = npt.NDArray[np.float64]
RESAMPLES, LEVEL = 1000, 0.95


@dataclass(frozen=True)
class DatamodelingScore:
    """The score of one method.

    Attributes:
        value: mean over test points, in [-1, 1].
        by_point: of each test point, (P,).
        over_points: bootstrap interval of `value` when other test points had been drawn.
        over_networks: bootstrap interval when other subsets, and networks on them, had been drawn.
    """

    value: float
    by_point: Floats
    over_points: tuple[float, float]
    over_networks: tuple[float, float]


def predicted(attributions: npt.ArrayLike, subsets: npt.NDArray[np.bool_]) -> Floats:
    """Sums of attributions over subsets: (P, N) and (M, N) -> (M, P)."""
    return np.asarray(subsets.astype(np.float64) @ np.asarray(attributions, dtype=np.float64).T)


def rank_correlation(first: npt.ArrayLike, second: npt.ArrayLike) -> Floats:
    """Spearman's correlation down the columns: (M, P) twice -> (P,); ties share their mean rank, 0 where all are tied."""
    ranks = [rankdata(np.asarray(values), axis=0) for values in (first, second)]
    a, b = (values - values.mean(0) for values in ranks)
    size = np.sqrt((a**2).sum(0) * (b**2).sum(0))
    return np.asarray(np.where(size > 0, (a * b).sum(0) / np.where(size > 0, size, 1.0), 0.0))


def datamodeling_score(
    predictions: npt.ArrayLike, losses: npt.ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES
) -> DatamodelingScore:
    """How well predictions rank networks by their losses.

    Args:
        predictions: of M networks at P test points, larger where a smaller loss is expected, (M, P).
        losses: what was measured, (M, P).
        seed: of the bootstrap.
        resamples: how often points, and networks, are drawn again.

    Raises:
        ValueError: other shapes, or fewer than three networks.
    """
    expected, measured = np.asarray(predictions, dtype=np.float64), -np.asarray(losses, dtype=np.float64)
    if expected.shape != measured.shape or expected.ndim != 2 or len(expected) < 3:
        raise ValueError(f"predictions and losses are (networks ≥ 3, points), not {expected.shape}, {measured.shape}")
    random = np.random.default_rng(seed)
    networks, points = expected.shape
    by_point = rank_correlation(expected, measured)
    of_points = by_point[random.integers(0, points, (resamples, points))].mean(1)
    of_networks = []
    for rows in random.integers(0, networks, (resamples, networks)):
        of_networks.append(rank_correlation(expected[rows], measured[rows]).mean())
    value = float(by_point.mean())
    # Networks that are drawn twice are ties, which lower a rank correlation: that much is put back.
    drawn = np.array(of_networks) + value - np.mean(of_networks)
    return DatamodelingScore(value, by_point, _middle(of_points), _middle(drawn))


def _middle(values: Floats) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
