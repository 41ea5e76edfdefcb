"""Patches: an image put together from posterior means of square windows.

PSPC-Square (Niedoba et al., ICML 2025, arXiv 2411.19339, section 5): every window of side s(σ) gets the posterior mean
of its pixels given its noisy pixels alone, from the same place of every training image; a pixel is the average of the
windows over it, ``(Σ CᵀC)⁻¹ Σ Cᵀ E[x_C | y_C, σ]``. It can put together parts of different training images, which the
optimal denoiser cannot.

The local score (Kamb & Ganguli, arXiv 2412.20292) differs in what is kept: a pixel is the posterior mean of the window
centred at it, cut at the border, and of that window only the centre.
"""

from __future__ import annotations

import numpy as np

from scorescope.data.images import ImageSet
from scorescope.denoisers.patch_schedule import WindowSchedule, as_schedule
from scorescope.denoisers.registry import training_free
from scorescope.denoisers.training_set import Floats, TrainingSetDenoiser
from scorescope.posterior.whole_image import WholeImagePosterior
from scorescope.posterior.windows import Window, WindowPosterior


@training_free(
    "pspc-square",
    explanation="patches (square windows)",
    source="Niedoba et al., ICML 2025, arXiv 2411.19339, section 5",
)
class SquarePatchDenoiser(TrainingSetDenoiser):
    """The composite of posterior means of square windows; a window as large as the image is the optimal denoiser.

    Args:
        images: the training set.
        schedule: window sides by noise level, or one side for all levels; the paper's, in proportion to the image, by
            default. Sides beyond the image are cut to it.
        temperature: divides the logits.

    Raises:
        UserError: a side below 1, temperature not positive and finite.
    """

    def __init__(
        self, images: ImageSet, schedule: WindowSchedule | int | None = None, *, temperature: float = 1.0
    ) -> None:
        super().__init__(images, temperature=temperature)
        self.schedule = as_schedule(schedule, images.image_shape)
        self.whole = WholeImagePosterior(images)
        self.windows = WindowPosterior(images)

    def posterior_mean(self, noisy: Floats, spread: Floats, sigma: list[float]) -> Floats:
        """See `TrainingSetDenoiser.posterior_mean`."""
        _, height, width = self.image_shape
        windows = [Window.inside(self.schedule.side(level), height, width) for level in sigma]
        is_whole = np.array([window.count(height, width) == (1, 1) for window in windows])
        denoised = np.empty_like(noisy)
        if is_whole.any():
            denoised[is_whole] = self.whole.mean(noisy[is_whole], spread[is_whole])
        if not is_whole.all():
            cut = [window for window, whole in zip(windows, is_whole, strict=True) if not whole]
            denoised[~is_whole] = self.windows.mean(noisy[~is_whole], spread[~is_whole], cut)
        return denoised


@training_free(
    "local-score",
    explanation="patches (a window around each pixel)",
    source="Kamb & Ganguli, ICML 2025, arXiv 2412.20292",
)
class LocalScoreDenoiser(TrainingSetDenoiser):
    """Every pixel from the window around it, cut at the border, at the same place of every training image.

    Args:
        images: the training set.
        schedule: window sides by noise level, or one side for all levels; that of `pspc-square` by default. An even side
            counts as the next odd one.
        temperature: divides the logits.

    Raises:
        UserError: a side below 1, temperature not positive and finite.
    """

    def __init__(
        self, images: ImageSet, schedule: WindowSchedule | int | None = None, *, temperature: float = 1.0
    ) -> None:
        super().__init__(images, temperature=temperature)
        self.schedule = as_schedule(schedule, images.image_shape)
        self.windows = WindowPosterior(images)

    def posterior_mean(self, noisy: Floats, spread: Floats, sigma: list[float]) -> Floats:
        """See `TrainingSetDenoiser.posterior_mean`."""
        _, height, width = self.image_shape
        windows = [Window.around(self.schedule.side(level), height, width) for level in sigma]
        return self.windows.mean(noisy, spread, windows)
