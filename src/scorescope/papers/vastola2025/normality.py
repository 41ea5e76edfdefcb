"""Is a number that varies over training runs Gaussian? Skewness, excess kurtosis and a test, for many numbers at once.

The theory of vastola2025 keeps the mean and the covariance of the learned score over training runs; it is exact only where
that is Gaussian. Every coordinate of the output at every probe point is one number with R values, one a run. D'Agostino and
Pearson's K² combines skewness and kurtosis into one p-value; Holm's procedure keeps the chance of a single false rejection
among all numbers of a model below 5 %, and the share of p-values below 0.05 says how many deviate without that protection (5 %
would by chance).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from scorescope.foundation import UserError

LEVEL = 0.05
FEWEST_RUNS = 20
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Normality:
    """What R values of each of K numbers say.

    Attributes:
        skewness: (K,), 0 for a Gaussian.
        excess: excess kurtosis, (K,), 0 for a Gaussian.
        p_values: of K², (K,).
        rejected: whether Holm's procedure rejects, (K,).
        runs: R.
    """

    skewness: Array
    excess: Array
    p_values: Array
    rejected: npt.NDArray[np.bool_]
    runs: int

    @property
    def below_level(self) -> float:
        """Share of the p-values below 0.05; about 0.05 where everything is Gaussian."""
        return float((self.p_values < LEVEL).mean())

    @property
    def rejected_share(self) -> float:
        """Share of the numbers that are not Gaussian after correction for all of them."""
        return float(self.rejected.mean())

    @property
    def expected_skewness(self) -> float:
        """Root mean square of the skewness of R Gaussian values, √(6 (R − 2) / ((R + 1)(R + 3)))."""
        r = self.runs
        return float(np.sqrt(6 * (r - 2) / ((r + 1) * (r + 3))))

    @property
    def expected_excess(self) -> float:
        """Root mean square of their excess kurtosis, which has the mean −6/(R + 1)."""
        r = self.runs
        variance = 24 * r * (r - 2) * (r - 3) / ((r + 1) ** 2 * (r + 3) * (r + 5))
        return float(np.sqrt(variance + (6 / (r + 1)) ** 2))


def normality_of(values: npt.ArrayLike) -> Normality:
    """Test K numbers.

    Args:
        values: (R, …), R ≥ 20 runs; K is what the other dimensions make. Numbers that do not vary are left out.

    Raises:
        UserError: too few runs for the test, or no number that varies.
    """
    numbers = np.asarray(values, dtype=np.float64)
    numbers = numbers.reshape(len(numbers), -1)
    if len(numbers) < FEWEST_RUNS:
        raise UserError(f"a test of normality takes at least {FEWEST_RUNS} training runs, found {len(numbers)}")
    spread, size = numbers.std(0), np.abs(numbers).max(0)
    numbers = numbers[:, spread > 1e-9 * np.maximum(size, 1e-300)]
    if not numbers.shape[1]:
        raise UserError("no output varies over the training runs")
    p_values = np.asarray(stats.normaltest(numbers, axis=0).pvalue)
    return Normality(
        skewness=np.asarray(stats.skew(numbers, axis=0)),
        excess=np.asarray(stats.kurtosis(numbers, axis=0)),
        p_values=p_values,
        rejected=holm(p_values, LEVEL),
        runs=len(numbers),
    )


def holm(p_values: npt.ArrayLike, level: float) -> npt.NDArray[np.bool_]:
    """Holm's step-down procedure: which of K hypotheses are rejected with a family-wise error of `level`, (K,) bool."""
    given = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(given)
    passed = given[order] <= level / (len(given) - np.arange(len(given)))
    rejected = np.zeros(len(given), dtype=bool)
    rejected[order] = np.cumprod(passed).astype(bool)
    return rejected
