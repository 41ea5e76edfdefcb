"""How alike two samples from the same noise are: the error, and the three quantities that the literature calls r².

For a sample a and the reference b (the network's), both with all their pixels and channels as one list of d numbers:

- *coefficient of determination*: ``1 − Σ (a − b)² / Σ (b − b̄)²``, b̄ the mean of the reference. It asks for the same values:
  wrong brightness or contrast costs, and a sample that is worse than a flat image of the right brightness is negative
  (Lukoianov et al., arXiv 2509.09672).
- *Pearson correlation*: ``Σ (a − ā)(b − b̄) / √(Σ (a − ā)² Σ (b − b̄)²)``: brightness and contrast are free (Kamb & Ganguli,
  arXiv 2412.20292, whose script computes this and calls it r²).
- *squared Pearson correlation*: its square, what is left unexplained by the best line through the pixels. It is never below
  the coefficient of determination, and is high for a negative picture, too.

One number is not another: 0.6, 0.72 and 0.85 may be the same pair of images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
# Of the largest possible sum of squares: an image with less spread than that is flat, up to rounding.
_FLAT = 1e-12


@dataclass(frozen=True)
class Agreement:
    """Of n samples with their references, each (n,); NaN where a sample is not finite or the quantity is not defined.

    Attributes:
        mse: mean squared difference of images clipped to [−1, 1] and moved to [0, 1].
        determination: coefficient of determination, at most 1.
        squared_correlation: squared Pearson correlation, in [0, 1].
        correlation: Pearson correlation, in [−1, 1].
    """

    mse: Floats
    determination: Floats
    squared_correlation: Floats
    correlation: Floats


QUANTITIES = {
    "mse": "MSE in [0, 1]",
    "determination": "coefficient of determination",
    "squared_correlation": "squared Pearson correlation",
    "correlation": "Pearson correlation",
}
"""Attribute of `Agreement` -> what it is called."""


def agreement(samples: npt.ArrayLike, references: npt.ArrayLike) -> Agreement:
    """Compare every sample with its reference.

    Args:
        samples: (n, C, H, W), images in [−1, 1]; clipped to that range first, as is done before they are looked at.
        references: the same shape, clipped likewise; the coefficient of determination is of these.

    Raises:
        ValueError: different shapes.
    """
    made, wanted = (_clipped(values) for values in (samples, references))
    if made.shape != wanted.shape:
        raise ValueError(f"samples and references have one shape, not {made.shape} and {wanted.shape}")
    difference = np.square(made - wanted)
    deviation, aim = (values - values.mean(1, keepdims=True) for values in (made, wanted))
    own, spread = np.square(deviation).sum(1), np.square(aim).sum(1)
    flat = _FLAT * made.shape[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        determination = np.where(spread > flat, 1 - difference.sum(1) / spread, np.nan)
        correlation = np.where((own > flat) & (spread > flat), (deviation * aim).sum(1) / np.sqrt(own * spread), np.nan)
    correlation = np.clip(correlation, -1.0, 1.0)  # up to rounding
    return Agreement(difference.mean(1) / 4, determination, np.square(correlation), correlation)


def _clipped(values: npt.ArrayLike) -> Floats:
    images = np.asarray(values, dtype=np.float64)
    return np.clip(images.reshape(len(images), -1), -1.0, 1.0)
