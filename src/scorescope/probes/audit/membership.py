"""Membership: do the errors of a denoiser tell its training images from images that it has not seen?

Each image has a score, larger where the image is more likely to have been trained on: minus the logarithm of its denoising
error, or minus that of the noise that the network sees in the clean image at low noise (SimA, arXiv 2509.25003). From the
scores of training and control images come

- the area under the ROC curve, with DeLong's interval (DeLong, DeLong & Clarke-Pearson 1988);
- the share of training images found where 1 % of the control images are taken for one (Carlini et al. 2022, arXiv 2112.03570);
- one p-value for "this set was trained on" (Mann & Whitney's rank test, as CDI uses one for sets, arXiv 2411.12858).

The PSNR gap is the mean difference in decibel between the two sets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import mannwhitneyu, rankdata, t
from torch import Tensor

from scorescope.denoisers.base import Denoiser
from scorescope.probes.audit.search import Floats
from scorescope.probes.proportions import Interval, wilson, z_of

FALSE_POSITIVES = 0.01
AT_ONCE = 256


@dataclass(frozen=True)
class Membership:
    """How well scores tell training from control images.

    Attributes:
        auc: area under the ROC curve with its 95 % interval; ½ where they do not.
        true_positives: share of training images above the score that 1 % of the control images exceed, with its interval.
        p_value: of the rank test that training images do not score higher.
    """

    auc: Interval
    true_positives: Interval
    p_value: float


def membership(training: npt.ArrayLike, control: npt.ArrayLike) -> Membership:
    """Everything about scores of training images (n,) and control images (m,), at least two of each."""
    seen, unseen = np.asarray(training, dtype=np.float64), np.asarray(control, dtype=np.float64)
    p_value = float(mannwhitneyu(seen, unseen, alternative="greater").pvalue)
    return Membership(area_under_curve(seen, unseen), _found_at(seen, unseen, FALSE_POSITIVES), p_value)


def area_under_curve(training: npt.ArrayLike, control: npt.ArrayLike) -> Interval:
    """Probability that a training image scores higher than a control image, ties counting half, with DeLong's interval.

    The interval is taken on the logit scale, so that it stays within [0, 1]; at an area of 0 or 1, where no variance can be
    seen, it is Wilson's of the smaller set.
    """
    seen, unseen = np.asarray(training, dtype=np.float64), np.asarray(control, dtype=np.float64)
    n, m = len(seen), len(unseen)
    pooled = rankdata(np.concatenate([seen, unseen]))
    above = (pooled[:n] - rankdata(seen)) / m  # for each training image, the share of control images below it
    below = 1 - (pooled[n:] - rankdata(unseen)) / n
    area = float(above.mean())
    if not 0 < area < 1 or n < 2 or m < 2:
        return wilson(area, min(n, m))
    deviation = math.sqrt(above.var(ddof=1) / n + below.var(ddof=1) / m)
    half = z_of() * deviation / (area * (1 - area))
    centre = math.log(area / (1 - area))
    low, high = (1 / (1 + math.exp(-min(max(centre + side * half, -50), 50))) for side in (-1, 1))
    return Interval(area, low, high)


def gap(training: npt.ArrayLike, control: npt.ArrayLike) -> Interval:
    """Difference of two means with Welch's interval: PSNR of training images (n,) minus that of control images (m,), dB."""
    seen, unseen = np.asarray(training, dtype=np.float64), np.asarray(control, dtype=np.float64)
    n, m = len(seen), len(unseen)
    difference = float(seen.mean() - unseen.mean())
    if n < 2 or m < 2:
        return Interval(difference, -math.inf, math.inf)
    one, two = seen.var(ddof=1) / n, unseen.var(ddof=1) / m
    if one + two == 0:
        return Interval(difference, difference, difference)
    freedom = (one + two) ** 2 / (one**2 / (n - 1) + two**2 / (m - 1))
    half = float(t.ppf((1 + 0.95) / 2, freedom)) * math.sqrt(one + two)
    return Interval(difference, difference - half, difference + half)


def error_scores(psnr: npt.ArrayLike) -> Floats:
    """Scores from denoising errors: PSNR (S, B) at S levels -> (B,), the mean over levels, dB."""
    return np.asarray(np.asarray(psnr, dtype=np.float64).mean(0))


def noise_seen(denoiser: Denoiser, images: Tensor, sigmas: Sequence[float]) -> Floats:
    """Scores from the noise that a denoiser sees in clean images: minus the log of its mean size, over low levels.

    Args:
        denoiser: any.
        images: clean, (B, C, H, W) in [-1, 1].
        sigmas: low noise levels that the denoiser is told; no noise is added.

    Returns:
        float64 (B,).
    """
    scores = []
    with torch.no_grad():
        for batch in torch.split(images, AT_ONCE):
            seen = [
                ((batch - denoiser(batch, sigma).cpu()) / sigma).double().square().mean((1, 2, 3)) for sigma in sigmas
            ]
            scores.append(-0.5 * torch.stack(seen).clamp_min(1e-20).log().mean(0))
    return np.asarray(torch.cat(scores).numpy())


def _found_at(training: Floats, control: Floats, rate: float) -> Interval:
    """The share of training images above the control images' quantile, with the interval that both samples give.

    The level is itself an order statistic of the control images: it is moved to the ends of its own interval.
    """
    ordered = np.sort(control)
    count = len(ordered)
    ends = wilson(rate, count)
    shares = []
    for part in (rate, ends.high, ends.low):
        allowed = math.floor(part * count)
        shares.append(float((training > ordered[-1 - min(allowed, count - 1)]).mean()))
    value = shares[0]
    return Interval(value, wilson(shares[2], len(training)).low, wilson(shares[1], len(training)).high)
