"""The smoothed closed form against its formula in the flow convention, in float64."""

import math

import numpy as np
import pytest
import torch
from tests.posterior import oracles

from scorescope.data.images import ImageSet
from scorescope.denoisers import ClosedFormDenoiser, OptimalDenoiser
from scorescope.foundation import UserError

SHAPE = (1, 4, 3)


def images():
    return ImageSet(np.random.default_rng(0).integers(0, 256, (30, *SHAPE)).astype(np.uint8))


def noisy_images(sigma, batch=3):
    noise = torch.randn(batch, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return images().tensor(range(batch)).double() + sigma * noise


@pytest.mark.parametrize("sigma", [0.002, 0.2, 1.5, 80.0])
@pytest.mark.parametrize("smoothing", [0.01, 0.3])
def test_matches_the_flow_formula(sigma, smoothing):
    denoiser = ClosedFormDenoiser(images(), smoothing, draws=5, seed=3)
    noisy, clean = noisy_images(sigma), oracles.values(images().pixels).reshape(30, -1)
    tau = 1 / (1 + sigma)
    found = denoiser(noisy, sigma).reshape(3, -1)
    for row in range(3):
        z, mean = tau * noisy[row].reshape(-1).numpy(), np.zeros(math.prod(SHAPE))
        for draw in denoiser.perturbations:
            distances = ((z + smoothing * draw - tau * clean) ** 2).sum(1)
            mean += oracles.softmax(-distances / (2 * (1 - tau) ** 2)) @ clean / 5
        np.testing.assert_allclose(found[row], mean, atol=2e-6)


def test_without_smoothing_it_is_the_optimal_denoiser():
    noisy = noisy_images(0.4)
    found = ClosedFormDenoiser(images(), 0.0, draws=3)(noisy, 0.4)
    torch.testing.assert_close(found, OptimalDenoiser(images())(noisy, 0.4), rtol=0, atol=1e-9)


def test_the_same_input_gives_the_same_output_and_another_seed_another():
    noisy = noisy_images(0.7)
    one = ClosedFormDenoiser(images(), 0.5)
    assert torch.equal(one(noisy, 0.7), ClosedFormDenoiser(images(), 0.5)(noisy, 0.7))
    assert not torch.allclose(one(noisy, 0.7), ClosedFormDenoiser(images(), 0.5, seed=1)(noisy, 0.7))


@pytest.mark.parametrize(
    ("arguments", "words"), [((-0.1,), "smoothing"), ((float("nan"),), "smoothing"), ((0.1, 0), "draw")]
)
def test_settings_out_of_range(arguments, words):
    with pytest.raises(UserError, match=words):
        ClosedFormDenoiser(images(), *arguments)
