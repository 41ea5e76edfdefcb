"""How fast a denoiser's error falls with the noise: the slope of output PSNR against input PSNR.

If the mean squared error falls as ``σ^{2s}``, output PSNR is a straight line of slope s in input PSNR. Images that are
C^α on either side of a C^α contour have coefficients in the best geometry-adaptive basis whose tail beyond the M largest
holds an energy of order ``M^{-α}``; keeping those above σ then leaves an error of order ``σ^{2α/(α+1)}``, and no denoiser
does better on the whole class, so the optimal slope is ``α / (α + 1)``. In wavelets, which do not follow the contour, the
tail is of order ``M^{-1}`` whatever α ≥ 1 is, and the slope 1/2.

A slope is only defined over a range of noise: at low noise every pixel counts and it tends to 1, at high noise the image
is lost and it tends to 0 or to the slope of its mean. So the range is an argument, and is said with the number.

Source: Kadkhodaie et al., ICLR 2024, https://arxiv.org/abs/2310.02557, section 3.2; Korostelev & Tsybakov 1993.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from scorescope.foundation import UserError

Array = npt.NDArray[np.float64]
WAVELET_SLOPE = 0.5


@dataclass(frozen=True)
class Slope:
    """A straight line through output PSNR over a range of input PSNR.

    Attributes:
        value: its slope, dB a dB.
        interval: (low, high) of the slope, from resampling the images.
        intercept: output PSNR of the line at an input PSNR of 0 dB.
        fitted: lowest and highest input PSNR among the levels that were used, dB.
        levels: how many levels were used.
        images: how many images.
        residual: root mean square distance of the mean curve from the line, dB: how straight it is.
    """

    value: float
    interval: tuple[float, float]
    intercept: float
    fitted: tuple[float, float]
    levels: int
    images: int
    residual: float

    def line(self, input_psnr: npt.ArrayLike) -> Array:
        """The line at input PSNRs, dB."""
        return self.intercept + self.value * np.asarray(input_psnr, dtype=np.float64)


def optimal_slope(alpha: float) -> float:
    """``α / (α + 1)``, the slope that no denoiser of C^α images exceeds as σ → 0."""
    return alpha / (alpha + 1)


def fit_slope(
    input_psnr: npt.ArrayLike,
    output_psnr: npt.ArrayLike,
    low: float,
    high: float,
    generator: torch.Generator,
    *,
    confidence: float = 0.95,
    draws: int = 2000,
) -> Slope:
    """The least-squares slope of mean output PSNR over ``low ≤ input PSNR ≤ high``, with a bootstrap interval over images.

    The fit is linear in the outputs, so that the slope of the mean curve is the mean of the images' own slopes, and
    resampling images resamples those.

    Args:
        input_psnr: (S,) dB.
        output_psnr: (S, B) dB, one column an image.
        low: dB.
        high: dB.
        generator: source of the resampling.
        confidence: of the interval, in (0, 1); its ends are percentiles.
        draws: resamplings.

    Raises:
        UserError: fewer than 3 levels in the range, fewer than 2 images, shapes that do not fit, values not finite.
    """
    x, y = np.asarray(input_psnr, dtype=np.float64), np.asarray(output_psnr, dtype=np.float64)
    if x.ndim != 1 or y.ndim != 2 or len(x) != len(y):
        raise UserError(f"a slope needs input PSNR (S,) and output PSNR (S, B), found {x.shape} and {y.shape}")
    if not 0 < confidence < 1 or draws < 1:
        raise UserError(f"confidence must be in (0, 1) and draws at least 1, found {confidence} and {draws}")
    within = (x >= low) & (x <= high)
    if within.sum() < 3 or y.shape[1] < 2:
        raise UserError(
            f"a slope needs 3 levels between {low:g} and {high:g} dB and 2 images, found {within.sum()} and {y.shape[1]}:"
            " measure more levels, or widen the range"
        )
    x, y = x[within], y[within]
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise UserError("a slope needs finite PSNRs: one of them is infinite or no number")
    centred = x - x.mean()
    if not centred.any():
        raise UserError(f"a slope needs levels that differ, found {len(x)} at {x[0]:g} dB")
    slopes = centred @ y / (centred @ centred)  # (B,), one an image
    count = y.shape[1]
    chosen = torch.randint(count, (draws, count), generator=generator, device=generator.device).cpu().numpy()
    resampled = slopes[chosen].mean(1)
    tail = (1 - confidence) / 2
    ends = np.quantile(resampled, [tail, 1 - tail])
    value, mean = float(slopes.mean()), y.mean(1)
    intercept = float(mean.mean() - value * x.mean())
    residual = math.sqrt(float(np.square(mean - intercept - value * x).mean()))
    return Slope(
        value=value,
        interval=(float(min(ends[0], value)), float(max(ends[1], value))),
        intercept=intercept,
        fitted=(float(x.min()), float(x.max())),
        levels=len(x),
        images=count,
        residual=residual,
    )
