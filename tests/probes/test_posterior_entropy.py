"""Posterior entropies and the two levels against their definitions in float64."""

import math

import numpy as np
import pytest
import torch

from scorescope.data import ImageSet
from scorescope.denoisers import OptimalDenoiser
from scorescope.noise import add_noise
from scorescope.probes.posterior_entropy import (
    collapse_level,
    gaussian_information,
    middle,
    posterior_entropy,
    speciation_level,
)


def drawn(count, side, seed=0, spread=40):
    """Images of independent pixels."""
    values = 128 + spread * np.random.default_rng(seed).standard_normal((count, 1, side, side))
    return ImageSet(np.clip(values, 0, 255).astype(np.uint8))


def flat(images):
    return images.tensor().double().flatten(1).numpy()


@pytest.mark.parametrize("sigma", [0.1, 0.8, 5.0])
def test_entropy_is_its_definition(sigma):
    images = drawn(40, 3)
    entries = np.array([3, 17, 39])
    noisy = add_noise(images.tensor(entries).double(), sigma, torch.Generator().manual_seed(5)).flatten(1).numpy()
    logits = -np.square(noisy[:, None] - flat(images)[None]).sum(2) / (2 * sigma**2)
    weights = np.exp(logits - logits.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    expected = -(weights * np.log(np.maximum(weights, 1e-300))).sum(1)
    assert posterior_entropy(OptimalDenoiser(images), entries, sigma, 5) == pytest.approx(expected, abs=1e-6)


def test_information_of_a_gaussian_is_a_ratio_of_volumes():
    axes = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]
    variances = np.array([3.0, 1.0, 0.2, 0.0])
    covariance = axes @ np.diag(variances) @ axes.T
    volumes = [np.linalg.slogdet(matrix)[1] for matrix in (covariance + 0.49 * np.eye(4), 0.49 * np.eye(4))]
    assert gaussian_information(variances, 0.7) == pytest.approx((volumes[0] - volumes[1]) / 2)


def test_speciation_is_the_largest_spread(digits):
    images = digits.subset(range(400))
    largest = np.linalg.eigvalsh(np.cov(flat(images).T, bias=True))[-1]
    assert speciation_level(images) == pytest.approx(math.sqrt(largest), rel=1e-6)


def test_collapse_is_where_two_images_are_left(digits):
    images = digits.subset(range(300))
    level = collapse_level(images, count=32, seed=2)
    entries = np.random.default_rng(2).permutation(300)[:32]
    around = [posterior_entropy(OptimalDenoiser(images), entries, level * f, 2).mean() for f in (0.98, 1.02)]
    assert around[0] < math.log(2) < around[1]
    assert math.isnan(collapse_level(images.subset([0, 1])))


def test_more_images_collapse_later(digits):
    levels = [collapse_level(digits.subset(range(size)), count=40) for size in (30, 200, 1500)]
    assert levels == sorted(levels, reverse=True)


def test_the_middle_of_images():
    pixels = np.arange(2 * 3 * 6 * 5, dtype=np.uint8).reshape(2, 3, 6, 5)
    found = middle(ImageSet(pixels), 3)
    assert np.array_equal(found.read(0, 2), pixels[:, :, 1:4, 1:4])
    assert middle(ImageSet(pixels), 9).image_shape == (3, 6, 5)
