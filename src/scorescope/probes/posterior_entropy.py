"""How much a noisy image, or its middle, tells which training image it comes from; and the two levels that follow.

For a training image drawn at random and noise of level σ the posterior over N images has the entropy S, and what the
observation tells is ``I = ln N − S``: all of ln N where the posterior is one image. Two noise levels of a training set:

- *speciation* (Biroli et al., Nature Communications 2024, arXiv 2402.18491): ``σ_S² = Λ``, the largest eigenvalue of the
  covariance. Above it a noisy image does not even tell its kind; in their time t, where ``Λ e^(−2t) = 1``, the noise has
  variance 1 beside it.
- *collapse* (same paper): the level below which the posterior holds on to single images. Here: where the mean of S over noisy
  training images falls to ln 2, two images on average.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch

from scorescope.data.images import ImageSet
from scorescope.denoisers import OptimalDenoiser
from scorescope.noise import add_noise
from scorescope.posterior.moments import principal_components

Floats = npt.NDArray[np.float64]
# Collapse is looked for between these, to a hundredth of the level.
LOWEST, HIGHEST, PRECISION = 1e-3, 1e3, 0.01


def middle(images: ImageSet, side: int) -> ImageSet:
    """The squares of `side` pixels in the middle of the images, as a set in memory; of smaller images, all there is."""
    _, height, width = images.image_shape
    tall, wide = min(side, height), min(side, width)
    top, left = (height - tall) // 2, (width - wide) // 2
    parts = [pixels[..., top : top + tall, left : left + wide] for _, pixels in images.chunks(4096)]
    return ImageSet(np.concatenate(parts), name=f"{images.name}, middle {tall}×{wide}")


def posterior_entropy(denoiser: OptimalDenoiser, entries: npt.NDArray[np.int64], sigma: float, seed: int) -> Floats:
    """The entropy in nats of the posterior of noisy training images, one draw of noise each.

    Args:
        denoiser: the optimal denoiser of the training images.
        entries: which of them are made noisy, (B,).
        sigma: noise level in units of [-1, 1].
        seed: of the noise.

    Returns:
        float64 (B,), from 0 to ln N.
    """
    clean = denoiser.images.tensor(entries).double()
    noisy = add_noise(clean, sigma, torch.Generator().manual_seed(seed))
    return np.asarray(denoiser.describe(noisy, sigma, top=1).effective_number.log().numpy(), dtype=np.float64)


def gaussian_information(variances: npt.ArrayLike, sigma: float) -> float:
    """``½ Σ ln(1 + s_k/σ²)`` nats: what a noisy draw of a Gaussian with these variances along its axes tells of it."""
    return float(0.5 * np.log1p(np.asarray(variances, dtype=np.float64) / sigma**2).sum())


def speciation_level(images: ImageSet) -> float:
    """σ_S, the root of the largest eigenvalue of the covariance. Raises UserError as `principal_components` does."""
    variances = principal_components(images, 1).variances
    return math.sqrt(float(variances[0])) if len(variances) else 0.0


def collapse_level(images: ImageSet, *, count: int = 64, seed: int = 0) -> float:
    """The σ at which the mean posterior entropy of noisy training images is ln 2, by bisection; NaN for fewer than 3 images.

    Args:
        images: the training set.
        count: noisy training images that the entropy is averaged over, all of a smaller set.
        seed: of the images and the noise.
    """
    if len(images) < 3:
        return math.nan
    denoiser = OptimalDenoiser(images)
    entries = np.random.default_rng(seed).permutation(len(images))[:count]
    low, high = LOWEST, HIGHEST
    while math.log(high / low) > PRECISION:
        between = math.sqrt(low * high)
        above = posterior_entropy(denoiser, entries, between, seed).mean() > math.log(2)
        low, high = (low, between) if above else (between, high)
    return math.sqrt(low * high)
