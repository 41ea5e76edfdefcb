"""Locality that comes from the data: every pixel from what it is correlated with, as the Wiener filter sees it.

Lukoianov et al., arXiv 2509.09672: for every pixel-channel m the mask holds the pixel-channels n for which
``R_nm = W_nm / W_nn`` is large, W being the Wiener filter ``U diag(s / (s + σ²)) Uᵀ`` of the training set:

    M_nm = 1 where |R_nm| ≥ θ max|R|, else 0;    D_m(y, σ) = Σ_i w_im x_im,
    w_im = softmax_i(−Σ_n M_nm (y_n − x_in)² / 2σ²)

Without a threshold the masks are soft, ``M = R``. Where a pixel-channel n never varies its row of W is 0 and R_nn would be
0 / 0. It says nothing about any training image, so its row of R is that of the identity here: it is in its own mask only, and
keeps its constant value. A pixel-channel is always in its own mask, also where some pixel-channel that hardly ever varies
makes max|R| so large that 1 does not pass the threshold.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scorescope.data.images import ImageSet
from scorescope.denoisers.registry import training_free
from scorescope.denoisers.training_set import Floats, TrainingSetDenoiser
from scorescope.foundation import UserError
from scorescope.posterior.device import DeviceEngine, device_engine
from scorescope.posterior.device.regions import MaskMatrix
from scorescope.posterior.mask_cover import Masks
from scorescope.posterior.masks import MOST_ROWS, EntryPosterior
from scorescope.posterior.wiener import wiener_filter

# Masks are kept for so many noise levels: some MB each.
KEPT_LEVELS = 16


@training_free(
    "pca-locality",
    explanation="correlated pixels (masks from the Wiener filter)",
    source="Lukoianov et al., NeurIPS 2025, arXiv 2509.09672",
    costly=True,
)
class PcaLocalityDenoiser(TrainingSetDenoiser):
    """Every pixel-channel's posterior mean given the noisy pixel-channels that the Wiener filter links it with.

    Args:
        images: the training set.
        threshold: θ, from 0 to 1: which share of the largest ``|R|`` an entry needs to be in a mask. None makes the masks
            soft: R itself, which may be negative, weighs the squared differences.
        temperature: divides the logits.

    Raises:
        UserError: threshold outside [0, 1], temperature not positive and finite, images too large for a covariance matrix.
    """

    def __init__(self, images: ImageSet, threshold: float | None = 0.02, *, temperature: float = 1.0) -> None:
        super().__init__(images, temperature=temperature)
        if threshold is not None and not (math.isfinite(threshold) and 0 <= threshold <= 1):
            raise UserError(f"a mask's threshold is from 0 to 1, or None for soft masks, found {threshold}")
        self.threshold = threshold
        self.posterior = EntryPosterior(images)
        self._masks = functools.lru_cache(KEPT_LEVELS)(self._masks_at)
        self._matrix = functools.lru_cache(KEPT_LEVELS)(self._matrix_at)

    def masks(self, sigma: float) -> npt.NDArray[np.float32]:
        """The masks as weights, float32 (d, d): row m is that of pixel-channel m; sigma in units of [-1, 1]."""
        found = wiener_filter(self.images)
        matrix = found.matrix(sigma)
        own = np.arange(len(matrix))
        matrix /= np.where(found.constant, 1.0, matrix.diagonal())[:, None]
        matrix[own, own] = 1.0
        if self.threshold is None:
            return np.ascontiguousarray(matrix.T, dtype=np.float32)
        np.abs(matrix, out=matrix)
        least = self.threshold * matrix.max()
        members = np.greater_equal(matrix.T, least)
        members[own, own] = True
        return np.ascontiguousarray(members, dtype=np.float32)

    def posterior_mean(self, noisy: Floats, spread: Floats, sigma: list[float]) -> Floats:
        """See `TrainingSetDenoiser.posterior_mean`."""
        if self.threshold is None:
            return self._soft_mean(noisy, spread, sigma)
        pieces = []
        for first in range(0, len(noisy), MOST_ROWS):
            rows = slice(first, first + MOST_ROWS)
            masks = [self._masks(level) for level in sigma[rows]]
            pieces.append(self.posterior.mean(noisy[rows], spread[rows], masks))
        return np.concatenate(pieces)

    def device_mean(self, engine: DeviceEngine, noisy: Tensor, spread: Tensor, sigma: list[float]) -> Tensor:
        """See `TrainingSetDenoiser.device_mean`."""
        return engine.entries.mean(noisy, spread, [self._matrix(level, noisy.device) for level in sigma])

    def _matrix_at(self, sigma: float, device: torch.device) -> MaskMatrix:
        return MaskMatrix.of(self.masks(sigma).reshape(-1, *self.image_shape), device)

    def _soft_mean(self, noisy: Floats, spread: Floats, sigma: list[float]) -> Floats:
        denoised, levels = np.empty_like(noisy), np.array(sigma)
        for level in dict.fromkeys(sigma):
            rows = levels == level
            denoised[rows] = self.posterior.weighted_mean(noisy[rows], spread[rows], self.masks(level))
        return denoised

    def _masks_at(self, sigma: float) -> Masks:
        members = self.masks(sigma) > 0
        return Masks.of(members.reshape(-1, *self.image_shape))


@training_free(
    "pca-locality-batched",
    explanation="correlated pixels, weights normalized within batches of images",
    source="the published code of Lukoianov et al., NeurIPS 2025, arXiv 2509.09672",
    costly=True,
)
class BatchedPcaLocalityDenoiser(PcaLocalityDenoiser):
    """PCA locality as published code computes it: a posterior mean for each batch of training images, and their plain average.

    That is no posterior mean: a batch without any image like the noisy one counts as much as one that holds it, so that the
    estimate is blurred, the more so the smaller the noise. Masks are those of all images.

    Args:
        images: the training set; the order of its images matters here.
        threshold: θ, as for `PcaLocalityDenoiser`.
        batch: images within which weights sum to one; mirror images are in the batch of what they mirror.
        temperature: divides the logits.

    Raises:
        UserError: as `PcaLocalityDenoiser`, for no threshold (published code has none without), a batch below 1.
    """

    def __init__(
        self, images: ImageSet, threshold: float = 0.02, *, batch: int = 512, temperature: float = 1.0
    ) -> None:
        super().__init__(images, threshold, temperature=temperature)
        if threshold is None:
            raise UserError("weights normalized within batches go with a threshold from 0 to 1, found None")
        if batch < 1:
            raise UserError(f"a batch holds at least 1 image, found {batch}")
        starts = range(0, images.stored, batch)
        self.batches = [images.subset(range(start, min(start + batch, images.stored))) for start in starts]

    def posterior_mean(self, noisy: Floats, spread: Floats, sigma: list[float]) -> Floats:
        """See `TrainingSetDenoiser.posterior_mean`."""
        masks = [self._masks(level) for level in sigma]
        means = (EntryPosterior(images).mean(noisy, spread, masks) for images in self.batches)
        average: Floats = sum(means, start=np.zeros_like(noisy)) / len(self.batches)
        return average

    def device_mean(self, engine: DeviceEngine, noisy: Tensor, spread: Tensor, sigma: list[float]) -> Tensor:
        """See `TrainingSetDenoiser.device_mean`; each batch is an engine of its own there, one after the other."""
        masks = [self._matrix(level, noisy.device) for level in sigma]
        average = torch.zeros_like(noisy)
        for images in self.batches:
            average += device_engine(images, noisy.device).entries.mean(noisy, spread, masks) / len(self.batches)
        return average
