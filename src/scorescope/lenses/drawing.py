"""Drawing samples of a denoiser: by its flow, or by the ascent of a network that is not told the noise level."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scorescope.data.images import ImageSet
from scorescope.denoisers import Denoiser, NetworkDenoiser
from scorescope.foundation import track
from scorescope.lenses.settings import MeasurementConfig
from scorescope.lenses.subject import HIGHEST_SIGMA, chosen
from scorescope.noise import edm_sigmas
from scorescope.sampling import BlindState, blind_ascent, heun, last

Images = npt.NDArray[np.float32]
LOWEST_SIGMA, DROWNING = 0.002, 10.0
_MOST_IMAGES = 2048


class Drawn(NamedTuple):
    """Samples, and how the search for each ended.

    Attributes:
        images: (n, C, H, W).
        converged: whether the noise fell to the level at which the search stops, bool (n,); all, where the noise is given.
        diverged: whether it grew without end instead, bool (n,); the others ran out of steps.
        steps: evaluations of the network, int64 (n,).
    """

    images: Tensor
    converged: npt.NDArray[np.bool_]
    diverged: npt.NDArray[np.bool_]
    steps: npt.NDArray[np.int64]


def draw_samples(
    denoiser: Denoiser, count: int, centre: float, config: MeasurementConfig, images: ImageSet | None = None
) -> Drawn:
    """Samples of a denoiser from a shared start.

    The noise is the same for every denoiser given one config.

    A blind network climbs by `blind_ascent` from its highest trained level around `centre`; whatever is told sigma
    follows its flow by Heun's method, a network within the levels that it was trained on. Where the highest of them does not
    drown the images, noise alone is not what the flow comes from: then it starts at their mean and covariance, and noise.

    Args:
        denoiser: any.
        count: how many.
        centre: mean intensity.
        config: noise levels and seed.
        images: training images, for starts that noise does not drown; without them, noise is all there is.
    """
    generator = torch.Generator().manual_seed(config.seed)
    noise = torch.randn((count, *denoiser.image_shape), generator=generator)
    trained = denoiser.sigma_range if isinstance(denoiser, NetworkDenoiser) else (0.0, HIGHEST_SIGMA)
    if isinstance(denoiser, NetworkDenoiser) and denoiser.blind:
        sigma = trained[1]
        states = blind_ascent(
            denoiser,
            centre + sigma * noise,
            generator,
            sigma_start=sigma,
            sigma_end=config.sigma_end,
            h=config.sampler_h,
            beta=config.sampler_beta,
            h_grows=config.sampler_h_grows,
        )
        final: BlindState = last(track(states, "sampling"))
        ended = (values.cpu().numpy() for values in (final.converged, final.diverged, final.steps))
        return Drawn(final.denoised, *ended)
    low, high = max(trained[0], LOWEST_SIGMA), min(trained[1], HIGHEST_SIGMA)
    sigmas = edm_sigmas(config.flow_steps, low, high)
    start = high * noise
    if images is not None and not drowns(high, images):
        start = start + like(images, count, generator)
    sample: Tensor = last(track(heun(denoiser, start, sigmas), "sampling", config.flow_steps + 1)).noisy
    evaluations = np.full(count, 2 * config.flow_steps - 1)
    return Drawn(sample, np.ones(count, dtype=bool), np.zeros(count, dtype=bool), evaluations)


def drowns(sigma: float, images: ImageSet) -> bool:
    """Whether noise is ten times what there is in the images: then what they are makes no difference to a start."""
    return sigma > DROWNING * float(_some(images).square().mean().sqrt())


def like(images: ImageSet, count: int, generator: torch.Generator) -> Tensor:
    """Draws of a Gaussian with the mean and covariance of (at most 2,048) images, (count, C, H, W).

    Each is the mean and a sum of all deviations from it, with weights from N(0, 1/N): no covariance matrix is made.
    """
    some = _some(images)
    weights = torch.randn((count, len(some)), generator=generator) / math.sqrt(len(some))
    mean = some.mean(0)
    return mean + (weights @ (some - mean).flatten(1)).reshape(count, *images.image_shape)


def start_words(denoiser: Denoiser, images: ImageSet | None) -> str:
    """What there is to be said of the start of a denoiser's flow: nothing where it is noise that drowns any image."""
    if not isinstance(denoiser, NetworkDenoiser) or denoiser.blind:
        return ""
    high = min(denoiser.sigma_range[1], HIGHEST_SIGMA)
    if images is None:
        if high >= DROWNING:  # no image in [-1, 1] is above that
            return ""
        return f"its noise ends at σ = {high:.3g}, which drowns no image: started from noise alone, for want of --data"
    if drowns(high, images):
        return ""
    return (
        f"its noise ends at σ = {high:.3g}, which does not drown the images: started from noise on draws of a Gaussian with"
        " their mean and covariance"
    )


def _some(images: ImageSet) -> Tensor:
    return chosen(images, min(_MOST_IMAGES, images.stored), 0)


def full_contrast(images: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    """Images (n, C, H, W), each stretched to [-1, 1]: a network without biases leaves the contrast of a sample open."""
    values = images.astype(np.float32)
    low = values.min((1, 2, 3), keepdims=True)
    width = np.maximum(values.max((1, 2, 3), keepdims=True) - low, 1e-3)
    return np.asarray(2 * (values - low) / width - 1, dtype=np.float32)


def guarded(denoiser: Denoiser, device: torch.device) -> Callable[[Tensor, float], Tensor]:
    """A denoiser of tensors in the processor's memory that computes on a device, and answers NaN with NaN."""

    def there(noisy: Tensor, sigma: float) -> Tensor:
        known = torch.isfinite(noisy).flatten(1).all(1).view(-1, 1, 1, 1)
        denoised: Tensor = denoiser(torch.where(known, noisy, 0.0).to(device), sigma)
        return torch.where(known, denoised.cpu(), math.nan)

    return there
