"""Posterior means of single windows against their definition in float64."""

import numpy as np
import pytest
from tests.posterior import oracles

from scorescope.data.images import ImageSet
from scorescope.posterior.patch_means import patch_means
from scorescope.posterior.units import LEVELS_PER_UNIT


@pytest.mark.parametrize("shape", [(1, 9, 9), (3, 5, 12), (2, 1, 4)])
@pytest.mark.parametrize("sigma", [0.05, 0.6, 80.0])
def test_every_window_of_several_sides_in_one_pass(shape, sigma):
    rng = np.random.default_rng(0)
    images = ImageSet(rng.integers(0, 256, (300, *shape)).astype(np.uint8))
    clean = oracles.values(images.pixels)
    sides = [1, 2, 3, 5, 20]
    one = clean[7] + sigma * rng.standard_normal(shape)
    noisy = np.stack([one] * len(sides)).reshape(len(sides), -1) * LEVELS_PER_UNIT - 0.5
    found = patch_means(images, noisy, np.full(len(sides), sigma * LEVELS_PER_UNIT), sides)
    _, height, width = shape
    for side, patches in zip(sides, found, strict=True):
        tall, wide = min(side, height), min(side, width)
        assert patches.shape == (height - tall + 1, width - wide + 1, shape[0], tall, wide)
        for row in range(patches.shape[0]):
            for column in range(patches.shape[1]):
                part = (..., slice(row, row + tall), slice(column, column + wide))
                weights = oracles.posterior_weights(one[part], clean[part], sigma)
                np.testing.assert_allclose(patches[row, column], np.tensordot(weights, clean[part], 1), atol=2e-5)
