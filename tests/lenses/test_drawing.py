"""Where the flow of a denoiser starts: in noise, or in the data's mean and covariance where noise does not drown it."""

import numpy as np
import pytest
import torch

from scorescope.data.images import ImageSet
from scorescope.denoisers import GaussianDenoiser, NetworkDenoiser
from scorescope.lenses.drawing import draw_samples, drowns, like, start_words
from scorescope.lenses.settings import MeasurementConfig
from scorescope.networks import SongUNet, preconditioning_from

HIGHEST = 1.5


def bright_images():
    """Two strongly varying directions about a bright mean."""
    rng = np.random.default_rng(0)
    waves = rng.normal(size=(2, 1, 4, 4))
    pixels = 190 + np.einsum("nk,kcij->ncij", rng.normal(size=(300, 2)) * [25, 12], waves)
    return ImageSet(np.clip(pixels, 0, 255).astype(np.uint8))


class _Gaussian(NetworkDenoiser):
    """The Gaussian denoiser of the images as a network that was trained to a low highest level."""

    def __init__(self, images, highest):
        network = SongUNet(4, 1, 1, model_channels=4, channel_mult=[1], num_blocks=1, attn_resolutions=[])
        super().__init__(network, preconditioning_from("edm"), images.image_shape, (0.002, highest))
        self.exact = GaussianDenoiser(images)

    def denoise(self, noisy, sigma):
        return self.exact.denoise(noisy, sigma)


def test_draws_have_the_mean_and_covariance_of_the_images():
    images = bright_images()
    drawn = like(images, 40_000, torch.Generator().manual_seed(0)).flatten(1).double()
    some = images.tensor().flatten(1).double()
    assert torch.allclose(drawn.mean(0), some.mean(0), atol=0.01)
    covariance = torch.cov(some.T, correction=0)
    assert torch.linalg.norm(torch.cov(drawn.T) - covariance) < 0.03 * torch.linalg.norm(covariance)


def test_a_flow_from_a_low_level_ends_in_the_data_s_own_distribution():
    """The Gaussian denoiser's flow maps N(μ, Σ + σ²) to N(μ, Σ); from noise alone it misses both."""
    images = bright_images()
    denoiser = _Gaussian(images, HIGHEST)
    some = images.tensor().flatten(1).double()
    found = {}
    for given in (images, None):
        config = MeasurementConfig(flow_steps=24)
        found[given is None] = draw_samples(denoiser, 4000, 0.0, config, given).images.flatten(1).double()
    deviations = {alone: float((drawn.mean(0) - some.mean(0)).abs().max()) for alone, drawn in found.items()}
    assert deviations[False] < 0.03
    assert deviations[True] > 0.1
    total = float(torch.cov(some.T, correction=0).trace())
    assert float(torch.cov(found[False].T).trace()) == pytest.approx(total, rel=0.05)


def test_noise_that_drowns_the_images_is_all_there_is():
    images = bright_images()
    denoiser = _Gaussian(images, 80.0)
    config = MeasurementConfig(flow_steps=6)
    drawn = [draw_samples(denoiser, 5, 0.0, config, given).images for given in (images, None)]
    assert torch.equal(*drawn)
    assert start_words(denoiser, images) == start_words(denoiser, None) == ""
    assert drowns(80.0, images)
    assert not drowns(HIGHEST, images)


def test_what_a_flow_starts_from_is_said():
    images = bright_images()
    low = _Gaussian(images, HIGHEST)
    assert "σ = 1.5, which does not drown the images" in start_words(low, images)
    assert "for want of --data" in start_words(low, None)
    assert start_words(GaussianDenoiser(images), images) == ""
