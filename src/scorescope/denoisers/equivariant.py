"""Equivariance: pixels from the windows around them, wherever in the training images such a window is found.

A convolutional network without positions cannot tell where in the image it is. The best denoiser of that kind that sees
a window around every pixel is the equivariant local score (Kamb & Ganguli, arXiv 2412.20292): the posterior mean of a
window's centre when windows come from every place of every training image,
``D(y)_p = Σ_i,q w_i,q x_i[q]``, ``w = softmax_i,q(−‖y_N(p) − x_i,N(q)‖²/2σ²)``. It is a mosaic: neighbouring pixels can
come from different images and places, and so it makes images that were never seen.

Zero padding tells a network where the border is. The border local score therefore takes windows only from places that
touch the border in the same way as the pixel: in a corner from that corner alone.

Both cost operations in proportion to images × places × pixels, hardly more for a larger window: 0.8 million pairs of
windows of each noisy and each training image of 32×32, a thousand times the work of the local score, or about 0.4 processor
seconds for 1,000 training images. Where that is too much, use a subset of them (`ImageSet.subset`).
"""

from __future__ import annotations

from torch import Tensor

from scorescope.data.images import ImageSet
from scorescope.denoisers.patch_schedule import WindowSchedule, as_schedule
from scorescope.denoisers.registry import training_free
from scorescope.denoisers.training_set import Floats, TrainingSetDenoiser
from scorescope.posterior.device import DeviceEngine
from scorescope.posterior.equivariant import EquivariantPosterior


@training_free(
    "equivariant-local-score",
    explanation="patches from anywhere",
    source="Kamb & Ganguli, ICML 2025, arXiv 2412.20292",
    costly=True,
)
class EquivariantLocalScoreDenoiser(TrainingSetDenoiser):
    """Every pixel from the window around it, at every place inside every training image.

    The noisy image goes on around its edges, so that shifting it around shifts the result and does nothing else.

    Args:
        images: the training set; all of them are used, see the module on cost.
        schedule: window sides by noise level, or one side for all levels; that of `pspc-square` by default. An even side
            counts as the next odd one; sides are cut to the largest odd ones inside the image.
        temperature: divides the logits.

    Raises:
        UserError: a side below 1, temperature not positive and finite.
    """

    def __init__(
        self, images: ImageSet, schedule: WindowSchedule | int | None = None, *, temperature: float = 1.0
    ) -> None:
        super().__init__(images, temperature=temperature)
        self.schedule = as_schedule(schedule, images.image_shape)
        self.posterior = EquivariantPosterior(images)

    def posterior_mean(self, noisy: Floats, spread: Floats, sigma: list[float]) -> Floats:
        """See `TrainingSetDenoiser.posterior_mean`."""
        return self.posterior.mean(noisy, spread, [self.schedule.side(level) for level in sigma])

    def device_mean(self, engine: DeviceEngine, noisy: Tensor, spread: Tensor, sigma: list[float]) -> Tensor:
        """See `TrainingSetDenoiser.device_mean`."""
        return engine.equivariant.mean(noisy, spread, [self.schedule.side(level) for level in sigma])


@training_free(
    "border-local-score",
    explanation="patches from anywhere, borders from borders",
    source="Kamb & Ganguli, ICML 2025, arXiv 2412.20292",
    costly=True,
)
class BorderLocalScoreDenoiser(TrainingSetDenoiser):
    """Every pixel from the window around it, at the places of training images that touch the border as it does.

    Rows and columns less than half a window from an edge stand for themselves only, all others for one another. With windows
    that reach beyond the image from every pixel this is the local score, with windows of twice its size the optimal denoiser.

    Args:
        images: the training set; all of them are used, see the module on cost.
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
        self.posterior = EquivariantPosterior(images)

    def posterior_mean(self, noisy: Floats, spread: Floats, sigma: list[float]) -> Floats:
        """See `TrainingSetDenoiser.posterior_mean`."""
        return self.posterior.border_mean(noisy, spread, [self.schedule.side(level) for level in sigma])

    def device_mean(self, engine: DeviceEngine, noisy: Tensor, spread: Tensor, sigma: list[float]) -> Tensor:
        """See `TrainingSetDenoiser.device_mean`."""
        return engine.equivariant.border_mean(noisy, spread, [self.schedule.side(level) for level in sigma])
