"""Numbers with their uncertainty: means over runs, and the share of an effect that goes when its supposed cause is removed.

Runs are few (three seeds, eight networks), so intervals are Student's, which are honest for two runs and wide.

If an effect has the size E with the cause and E₀ without, in run s, the cause accounts for the share ``1 − E₀/E`` of it:
1 if nothing is left without it, 0 if it makes no difference, negative if the effect is larger without. Runs are paired (same
seed, same draws), and ratios are averaged as logarithms, so that a run counts alike however large its effect is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

LEVEL = 0.95
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A number and the interval that holds it with probability 0.95; NaNs where it cannot be known.

    Attributes:
        value: the number.
        low: lower end.
        high: upper end.
    """

    value: float
    low: float
    high: float

    @property
    def interval(self) -> tuple[float, float] | None:
        """(low, high) as a `Claim` takes it; None where it is not known."""
        return (self.low, self.high) if math.isfinite(self.low) and math.isfinite(self.high) else None

    def words(self, form: str = ".2f") -> str:
        """ "0.31 (0.20 to 0.42)"."""
        said = (
            f"{self.value:{form}} ({self.low:{form}} to {self.high:{form}})"
            if self.interval
            else f"{self.value:{form}}"
        )
        return said.replace("-", "−")


def mean_over_runs(values: npt.ArrayLike) -> Estimate:
    """Mean of independent runs with Student's interval; of one run the interval is not known.

    Args:
        values: (S,), one a run.
    """
    runs = np.asarray(values, dtype=np.float64).ravel()
    value = float(runs.mean())
    if len(runs) < 2:
        return Estimate(value, math.nan, math.nan)
    half = float(stats.t.ppf(0.5 + LEVEL / 2, len(runs) - 1) * runs.std(ddof=1) / math.sqrt(len(runs)))
    return Estimate(value, value - half, value + half)


def removed_share(with_cause: npt.ArrayLike, without: npt.ArrayLike) -> Estimate:
    """The share of an effect that is gone without its cause, ``1 − E₀/E`` in the geometric mean over paired runs.

    Args:
        with_cause: E > 0, (S,).
        without: E₀ > 0, (S,), of the same runs.

    Raises:
        ValueError: an effect that is not positive, or runs that are not paired.
    """
    effect, left = np.asarray(with_cause, dtype=np.float64).ravel(), np.asarray(without, dtype=np.float64).ravel()
    if effect.shape != left.shape or not ((effect > 0).all() and (left > 0).all()):
        raise ValueError(f"a share takes paired positive effects, found {effect} and {left}")
    ratio = mean_over_runs(np.log(left / effect))
    return Estimate(1 - math.exp(ratio.value), 1 - math.exp(ratio.high), 1 - math.exp(ratio.low))


def removed_share_of_means(
    with_cause: npt.ArrayLike, without: npt.ArrayLike, generator: np.random.Generator, draws: int = 2000
) -> Estimate:
    """The share ``1 − mean E₀ / mean E`` of an effect that can be zero in single runs, by the bootstrap over paired runs.

    Args:
        with_cause: E ≥ 0, (S,).
        without: E₀ ≥ 0, (S,), of the same runs.
        generator: of the resampled runs.
        draws: how often runs are drawn anew.

    Returns:
        NaNs if there is no effect with the cause either.
    """
    effect, left = np.asarray(with_cause, dtype=np.float64).ravel(), np.asarray(without, dtype=np.float64).ravel()
    if not effect.mean() > 0:
        return Estimate(math.nan, math.nan, math.nan)
    chosen = generator.integers(len(effect), size=(draws, len(effect)))
    means = effect[chosen].mean(1)
    shares = 1 - left[chosen].mean(1)[means > 0] / means[means > 0]
    low, high = np.quantile(shares, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    return Estimate(float(1 - left.mean() / effect.mean()), float(low), float(high))
