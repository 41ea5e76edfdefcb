"""Drawing samples of a denoiser: by its flow, or by the ascent of a network that is not told the noise level."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scorescope.denoisers import Denoiser, NetworkDenoiser
from scorescope.foundation import track
from scorescope.lenses.settings import MeasurementConfig
from scorescope.lenses.subject import HIGHEST_SIGMA
from scorescope.noise import edm_sigmas
from scorescope.sampling import BlindState, blind_ascent, heun, last

Images = npt.NDArray[np.float32]
LOWEST_SIGMA = 0.002


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


def draw_samples(denoiser: Denoiser, count: int, centre: float, config: MeasurementConfig) -> Drawn:
    """Samples of a denoiser from a shared start.

    The noise is the same for every denoiser given one config.

    A blind network climbs by `blind_ascent` from its highest trained level around `centre`; whatever is told sigma
    follows its flow by Heun's method, a network within the levels that it was trained on.
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
    sample: Tensor = last(track(heun(denoiser, high * noise, sigmas), "sampling", config.flow_steps + 1)).noisy
    evaluations = np.full(count, 2 * config.flow_steps - 1)
    return Drawn(sample, np.ones(count, dtype=bool), np.zeros(count, dtype=bool), evaluations)


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
