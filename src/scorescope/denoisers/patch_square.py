"""Patches: an image put together from posterior means of square windows.

PSPC-Square (Niedoba et al., ICML 2025, arXiv 2411.19339, section 5): every window of side s(σ) gets the posterior mean
of its pixels given its noisy pixels alone, from the same place of every training image; a pixel is the average of the
windows over it, ``(Σ CᵀC)⁻¹ Σ Cᵀ E[x_C | y_C, σ]``. It can put together parts of different training images, which the
optimal denoiser cannot.

The local score (Kamb & Ganguli, arXiv 2412.20292) differs in what is kept: a pixel is the posterior mean of the window
centred at it, cut at the border, and of that window only the centre.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scorescope.data.images import ImageSet
from scorescope.denoisers.patch_schedule import WindowSchedule, as_schedule
from scorescope.denoisers.registry import training_free
from scorescope.denoisers.training_set import Floats, TrainingSetDenoiser
from scorescope.foundation import UserError
from scorescope.posterior.device import DeviceEngine, has_device_engine
from scorescope.posterior.processes import from_first
from scorescope.posterior.whole_image import WholeImagePosterior
from scorescope.posterior.windows import Window, WindowPosterior


@dataclass(frozen=True)
class PatchPosterior:
    """What the training set says of every window of B noisy images; windows are counted from the upper left.

    Attributes:
        indices: the k likeliest training images of a window in descending order, int64 (B, rows, columns, k): entries of
            the image set that the denoiser was made from; −1 where fewer have any weight above e^-30.
        probabilities: their posterior weights, (B, rows, columns, k).
        effective_number: exp of the entropy of the weights, (B, rows, columns).
        log_evidence: log density of the window's noisy pixels under the training set, nats, (B, rows, columns).
    """

    indices: Tensor
    probabilities: Tensor
    effective_number: Tensor
    log_evidence: Tensor


class WindowDenoiser(TrainingSetDenoiser):
    """Posterior means of windows whose side depends on the noise level.

    Args:
        images: the training set.
        schedule: window sides by noise level, or one side for all levels; the paper's, in proportion to the image, by
            default.
        temperature: divides the logits.

    Raises:
        UserError: a side below 1, temperature not positive and finite.
    """

    def __init__(
        self, images: ImageSet, schedule: WindowSchedule | int | None = None, *, temperature: float = 1.0
    ) -> None:
        super().__init__(images, temperature=temperature)
        self.schedule = as_schedule(schedule, images.image_shape)
        self.posterior = WindowPosterior(images)

    @abstractmethod
    def window(self, sigma: float) -> Window:
        """The window at a noise level in units of [-1, 1]."""

    def posterior_mean(self, noisy: Floats, spread: Floats, sigma: list[float]) -> Floats:
        """See `TrainingSetDenoiser.posterior_mean`."""
        return self.posterior.mean(noisy, spread, [self.window(level) for level in sigma])

    def device_mean(self, engine: DeviceEngine, noisy: Tensor, spread: Tensor, sigma: list[float]) -> Tensor:
        """See `TrainingSetDenoiser.device_mean`."""
        return engine.windows.mean(noisy, spread, [self.window(level) for level in sigma])

    def describe(self, noisy: Tensor, sigma: float, top: int = 8) -> PatchPosterior:
        """Name the likeliest training images of every window.

        Args:
            noisy: (B, C, H, W).
            sigma: one noise level, hence one window.
            top: k, how many training images to name.

        Raises:
            UserError: as `Denoiser.forward`; top below 1.
        """
        if top < 1:
            raise UserError(f"the number of training images to name must be at least 1, found {top}")
        noisy, levels = self.checked(noisy, sigma)
        asked, windows = (from_first(noisy), from_first(levels)), [self.window(sigma)] * len(noisy)
        if has_device_engine(noisy.device):
            engine = self.engine_on(noisy.device)
            found = engine.windows.describe(*self.in_levels_there(*asked), windows, top)
        else:
            found = self.posterior.describe(*self.in_levels(*asked), windows, top)

        def stacked(name: str) -> Tensor:
            return torch.from_numpy(np.stack([getattr(one, name) for one in found])).to(noisy.device)

        return PatchPosterior(
            stacked("indices"),
            *(stacked(name).to(noisy.dtype) for name in ("probabilities", "effective_number", "log_evidence")),
        )


@training_free(
    "pspc-square",
    explanation="patches (square windows)",
    source="Niedoba et al., ICML 2025, arXiv 2411.19339, section 5",
)
class SquarePatchDenoiser(WindowDenoiser):
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
        super().__init__(images, schedule, temperature=temperature)
        self.whole = WholeImagePosterior(images)

    def window(self, sigma: float) -> Window:
        """See `WindowDenoiser.window`."""
        _, height, width = self.image_shape
        return Window.inside(self.schedule.side(sigma), height, width)

    def posterior_mean(self, noisy: Floats, spread: Floats, sigma: list[float]) -> Floats:
        """See `TrainingSetDenoiser.posterior_mean`."""
        _, height, width = self.image_shape
        is_whole = np.array([self.window(level).count(height, width) == (1, 1) for level in sigma])
        denoised = np.empty_like(noisy)
        if is_whole.any():
            denoised[is_whole] = self.whole.mean(noisy[is_whole], spread[is_whole])
        if not is_whole.all():
            cut = [level for level, whole in zip(sigma, is_whole, strict=True) if not whole]
            denoised[~is_whole] = super().posterior_mean(noisy[~is_whole], spread[~is_whole], cut)
        return denoised

    def device_mean(self, engine: DeviceEngine, noisy: Tensor, spread: Tensor, sigma: list[float]) -> Tensor:
        """See `TrainingSetDenoiser.device_mean`."""
        _, height, width = self.image_shape
        whole = [row for row, level in enumerate(sigma) if self.window(level).count(height, width) == (1, 1)]
        cut = [row for row in range(len(sigma)) if row not in whole]
        denoised = torch.empty_like(noisy)
        if whole:
            denoised[whole] = engine.whole_image.mean(noisy[whole], spread[whole])
        if cut:
            denoised[cut] = super().device_mean(engine, noisy[cut], spread[cut], [sigma[row] for row in cut])
        return denoised


@training_free(
    "local-score",
    explanation="patches (a window around each pixel)",
    source="Kamb & Ganguli, ICML 2025, arXiv 2412.20292",
)
class LocalScoreDenoiser(WindowDenoiser):
    """Every pixel from the window around it, cut at the border, at the same place of every training image.

    Args:
        images: the training set.
        schedule: window sides by noise level, or one side for all levels; that of `pspc-square` by default. An even side
            counts as the next odd one.
        temperature: divides the logits.

    Raises:
        UserError: a side below 1, temperature not positive and finite.
    """

    def window(self, sigma: float) -> Window:
        """See `WindowDenoiser.window`."""
        _, height, width = self.image_shape
        return Window.around(self.schedule.side(sigma), height, width)
