"""Both levels of a training set against their definitions, and what a part of a set says of all of it."""

import math

import numpy as np
import pytest

from scorescope.data import ImageSet
from scorescope.probes.noise_landmarks import noise_landmarks
from scorescope.probes.posterior_entropy import collapse_level


def flat(images):
    return images.tensor().double().flatten(1).numpy()


def entropy_at(sigma, images, seed=0, inputs=64):
    """The mean posterior entropy of noisy training images, float64, with the probe's own images and noise."""
    generator = np.random.default_rng(seed)
    x = flat(images)
    order = generator.permutation(len(x))
    chosen = x[order[:inputs]]
    noisy = chosen + sigma * generator.standard_normal(chosen.shape)
    logits = -np.square(noisy[:, None] - x[None]).sum(2) / (2 * sigma**2)
    weights = np.exp(logits - logits.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    return -(weights * np.log(np.maximum(weights, 1e-300))).sum(1).mean()


def test_levels_are_their_definitions(digits):
    images = digits.subset(range(300))
    found = noise_landmarks(images)
    assert entropy_at(found.collapse * 0.98, images) < math.log(2) < entropy_at(found.collapse * 1.02, images)
    largest = np.linalg.eigvalsh(np.cov(flat(images).T, bias=True))[-1]
    assert found.speciation == pytest.approx(math.sqrt(largest), rel=1e-4)
    assert (found.images, found.read_for_collapse, found.read_for_speciation) == (300, 300, 300)
    assert found.collapse == pytest.approx(collapse_level(images), rel=0.15)  # other noise


def test_flips_are_training_images(digits):
    images = digits.subset(range(100)).with_flips()
    found = noise_landmarks(images)
    assert found.images == 200
    assert entropy_at(found.collapse * 0.98, images) < math.log(2) < entropy_at(found.collapse * 1.02, images)


def test_the_largest_spread_of_large_images():
    """Where neither side of the images is small, an iteration finds it."""
    generator = np.random.default_rng(0)
    pattern = generator.standard_normal((1, 1, 20, 20))
    values = (
        128 + 12 * generator.standard_normal((400, 1, 1, 1)) * pattern + 6 * generator.standard_normal((400, 1, 20, 20))
    )
    images = ImageSet(values.clip(0, 255).astype(np.uint8))
    largest = np.linalg.eigvalsh(np.cov(flat(images).T, bias=True))[-1]
    assert noise_landmarks(images).speciation == pytest.approx(math.sqrt(largest), rel=1e-3)


def test_a_part_of_a_set_stands_for_all_of_it():
    values = 128 + 24 * np.random.default_rng(0).standard_normal((4000, 1, 6, 6))
    images = ImageSet(values.clip(0, 255).astype(np.uint8))
    whole, part = noise_landmarks(images), noise_landmarks(images, most_values=500 * 36)
    alone = noise_landmarks(images.subset(range(500)))
    assert (part.images, part.read_for_collapse) == (4000, 500)
    assert part.collapse == pytest.approx(whole.collapse, rel=0.05)
    assert alone.collapse > 1.05 * whole.collapse  # fewer images lose their names later


def test_sets_without_a_level():
    two = ImageSet(np.array([0, 200], dtype=np.uint8).reshape(2, 1, 1, 1).repeat(2, 3))
    assert noise_landmarks(two).collapse is None
    assert noise_landmarks(two).speciation == pytest.approx(math.sqrt(2) * 100 / 127.5)
    equal = ImageSet(np.full((3, 1, 2, 2), 7, dtype=np.uint8))
    assert noise_landmarks(equal).speciation is None
