"""Patches of any shape: an image put together from posterior means of masks that follow a network's sensitivity.

PSPC-Flex (Niedoba et al., ICML 2025, arXiv 2411.19339, section 5): there is one mask a pixel, the pixels that the network
looks at to estimate it, in descending order until they hold a share λ(σ) of the pixel's sensitivity heatmap. Every mask gets
the posterior mean of its pixels given its noisy pixels alone, and a pixel is the average over the masks that hold it,
``(Σ CᵀC)⁻¹ Σ Cᵀ E[x_C | y_C, σ]``. A share of 1 is the whole image: the optimal denoiser.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scorescope.data.images import ImageSet
from scorescope.denoisers.heatmaps import Heatmaps, as_heatmaps, masks_of_share
from scorescope.denoisers.registry import training_free
from scorescope.denoisers.share_schedule import ShareSchedule
from scorescope.denoisers.training_set import Floats, TrainingSetDenoiser
from scorescope.posterior.device import DeviceEngine
from scorescope.posterior.device.regions import MaskMatrix
from scorescope.posterior.mask_cover import Masks
from scorescope.posterior.masks import CompositePosterior
from scorescope.posterior.whole_image import WholeImagePosterior

# Masks are kept for so many noise levels.
KEPT_LEVELS = 32


@training_free(
    "pspc-flex",
    explanation="patches (masks that follow sensitivity)",
    source="Niedoba et al., ICML 2025, arXiv 2411.19339, section 5",
    needs="training images; by default the sensitivity is that of their Wiener filter, better a network's own heatmaps",
    costly=True,
)
class FlexPatchDenoiser(TrainingSetDenoiser):
    """The composite of posterior means of one mask a pixel.

    Args:
        images: the training set.
        heatmaps: sensitivity of each pixel: `Heatmaps`, or an array (H, W, H, W) for all noise levels, first two axes the
            denoised pixel. By default those of the training set's Wiener filter at each noise level: what the best linear
            denoiser looks at, a stand-in for a network's.
        shares: λ by noise level, or one for all levels; the paper's by default.
        temperature: divides the logits.

    Raises:
        UserError: heatmaps of another shape, negative or not finite, a share outside (0, 1], temperature not positive and
            finite.
    """

    def __init__(
        self,
        images: ImageSet,
        heatmaps: Heatmaps | Tensor | npt.NDArray[Any] | None = None,
        shares: ShareSchedule | float | None = None,
        *,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(images, temperature=temperature)
        self.heatmaps = as_heatmaps(heatmaps, images)
        schedule = ShareSchedule.paper() if shares is None else shares
        self.schedule = schedule if isinstance(schedule, ShareSchedule) else ShareSchedule.constant(schedule)
        self.whole = WholeImagePosterior(images)
        self.posterior = CompositePosterior(images)
        self._masks = functools.lru_cache(KEPT_LEVELS)(self._masks_at)
        self._matrix = functools.lru_cache(KEPT_LEVELS)(self._matrix_at)

    def masks(self, sigma: float) -> npt.NDArray[np.bool_]:
        """Each pixel's mask at a noise level in units of [-1, 1], bool (H, W, H, W), first two axes the pixel."""
        _, height, width = self.image_shape
        share = self.schedule.share(sigma)
        if share >= 1:
            return np.ones((height, width, height, width), dtype=bool)
        return masks_of_share(self.heatmaps.at(sigma), share).reshape(height, width, height, width)

    def posterior_mean(self, noisy: Floats, spread: Floats, sigma: list[float]) -> Floats:
        """See `TrainingSetDenoiser.posterior_mean`."""
        whole = np.array([self.schedule.share(level) >= 1 for level in sigma])
        denoised = np.empty_like(noisy)
        if whole.any():
            denoised[whole] = self.whole.mean(noisy[whole], spread[whole])
        if not whole.all():
            masks = [self._masks(level) for level, all_ in zip(sigma, whole, strict=True) if not all_]
            denoised[~whole] = self.posterior.mean(noisy[~whole], spread[~whole], masks)
        return denoised

    def device_mean(self, engine: DeviceEngine, noisy: Tensor, spread: Tensor, sigma: list[float]) -> Tensor:
        """See `TrainingSetDenoiser.device_mean`."""
        whole = [row for row, level in enumerate(sigma) if self.schedule.share(level) >= 1]
        cut = [row for row in range(len(sigma)) if row not in whole]
        denoised = torch.empty_like(noisy)
        if whole:
            denoised[whole] = engine.whole_image.mean(noisy[whole], spread[whole])
        if cut:
            masks = [self._matrix(sigma[row], noisy.device) for row in cut]
            denoised[cut] = engine.composites.mean(noisy[cut], spread[cut], masks)
        return denoised

    def _matrix_at(self, sigma: float, device: torch.device) -> MaskMatrix:
        _, height, width = self.image_shape
        return MaskMatrix.of(self.masks(sigma).reshape(-1, 1, height, width), device)

    def _masks_at(self, sigma: float) -> Masks:
        _, height, width = self.image_shape
        return Masks.of(self.masks(sigma).reshape(-1, 1, height, width))
