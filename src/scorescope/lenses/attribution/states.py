"""The noisy images at which a sample is attributed: along the model's own flow, or a given image with noise of every level."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scorescope.data.images import ImageSet
from scorescope.denoisers.network import NetworkDenoiser
from scorescope.lenses.attribution.settings import AttributionSettings
from scorescope.lenses.drawing import drowns, like
from scorescope.lenses.subject import HIGHEST_SIGMA, LOWEST_SIGMA, chosen, mean_intensity
from scorescope.noise import add_noise, edm_sigmas
from scorescope.probes.errors import squared_error
from scorescope.sampling import State, heun
from scorescope.training.randomness import mixed

Singles = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class States:
    """One sample and S noisy images on the way to it.

    Attributes:
        sample: (C, H, W), in [-1, 1] but for what a sampler overshoots.
        sigmas: (S,), high to low.
        noisy: (S, C, H, W).
        denoised: the model's answers, (S, C, H, W).
        drawn: whether the model drew the sample; else it was given, and noise was added to it.
    """

    sample: Singles
    sigmas: Floats
    noisy: Singles
    denoised: Singles
    drawn: bool


@dataclass(frozen=True)
class Familiarity:
    """How well a model denoises an image that was given, beside training images with the same noise.

    Attributes:
        error: of the image: mean over levels of the squared error in units of the median training image's.
        training: the same of some training images, (n,).
    """

    error: float
    training: Floats

    @property
    def strange(self) -> bool:
        """Whether the error is beyond that of every training image by as much as the largest is beyond their median."""
        return self.error > float(self.training.max() + (self.training.max() - np.median(self.training)))


def levels(network: NetworkDenoiser, settings: AttributionSettings) -> list[float]:
    """The noise levels of the flow, high to low: within what the network was trained on, and within [0.03, 80]."""
    low = max(LOWEST_SIGMA, network.sigma_range[0])
    high = min(HIGHEST_SIGMA, network.sigma_range[1])
    return [float(sigma) for sigma in edm_sigmas(settings.flow_steps, low, high)]


def looked_at(sigmas: list[float], settings: AttributionSettings) -> list[int]:
    """Which levels are looked at: of those not below the lowest every so many-th from the first on, and the last."""
    count = sum(sigma >= settings.lowest for sigma in sigmas) or 1
    return sorted({*range(0, count, settings.every), count - 1})


def drawn_states(
    network: NetworkDenoiser, training: ImageSet, settings: AttributionSettings, device: torch.device
) -> States:
    """A sample that the model draws by its flow (Heun's method), and the states on the way.

    The flow starts from noise around the training images' mean intensity; where the highest level that the network knows does
    not drown them, and the network is told the level, from noise on draws of a Gaussian with their mean and covariance.
    """
    sigmas = levels(network, settings)
    generator = torch.Generator().manual_seed(settings.seed)
    start = sigmas[0] * torch.randn((1, *network.image_shape), generator=generator)
    if network.blind or drowns(sigmas[0], training):
        start = start + mean_intensity(training, settings.seed)
    else:
        start = start + like(training, 1, generator)
    there = on_device(network, device)
    states: list[State] = list(heun(there, start, sigmas))
    kept = [states[place] for place in looked_at(sigmas, settings)]
    return States(
        states[-1].noisy[0].numpy(),  # the flow's last step lands on the model's answer
        np.array([state.sigma for state in kept]),
        np.concatenate([state.noisy.numpy() for state in kept]),
        np.concatenate([state.denoised.numpy() for state in kept]),
        drawn=True,
    )


def given_states(
    network: NetworkDenoiser, image: Tensor, settings: AttributionSettings, device: torch.device
) -> States:
    """An image (C, H, W) with noise of every level added to it, for it has no trajectory."""
    sigmas = levels(network, settings)
    kept = [sigmas[place] for place in looked_at(sigmas, settings)]
    noisy = [noised(image[None], sigma, settings.seed) for sigma in kept]
    there = on_device(network, device)
    with torch.no_grad():
        denoised = [there(one, sigma).numpy() for one, sigma in zip(noisy, kept, strict=True)]
    return States(
        image.numpy(),
        np.array(kept),
        np.concatenate([one.numpy() for one in noisy]),
        np.concatenate(denoised),
        drawn=False,
    )


def familiarity(
    network: NetworkDenoiser, states: States, training: ImageSet, settings: AttributionSettings, device: torch.device
) -> Familiarity:
    """How well the model denoises a given image, beside training images with the same noise."""
    clean = torch.cat([torch.from_numpy(states.sample)[None], chosen(training, settings.familiar, settings.seed)])
    there, rows = on_device(network, device), []
    with torch.no_grad():
        for sigma in states.sigmas:
            noisy = torch.cat([noised(one[None], float(sigma), settings.seed) for one in clean])
            errors = squared_error(there(noisy, float(sigma)), clean).numpy()
            rows.append(errors / max(float(np.median(errors[1:])), 1e-12))
    mean = np.mean(rows, axis=0)
    return Familiarity(float(mean[0]), mean[1:])


def noised(image: Tensor, sigma: float, seed: int) -> Tensor:
    """An image (1, C, H, W) with the noise of one level: the same noise for every image."""
    generator = torch.Generator().manual_seed(mixed(seed, round(1e6 * sigma)))
    return add_noise(image, sigma, generator)


def on_device(network: NetworkDenoiser, device: torch.device) -> Callable[[Tensor, float], Tensor]:
    """The network as a function of tensors in the processor's memory."""

    def there(noisy: Tensor, sigma: float) -> Tensor:
        denoised: Tensor = network(noisy.to(device), sigma)
        return denoised.cpu().float()

    return there
