"""The window posterior against its definition in float64."""

import numba as nb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import relative_error
from tests.posterior import oracles

from scorescope.data.images import ImageSet
from scorescope.posterior import windows as module
from scorescope.posterior.exponential import exp32
from scorescope.posterior.units import LEVELS_PER_UNIT
from scorescope.posterior.vector import LANES, load, logarithm, store
from scorescope.posterior.windows import Window, WindowPosterior


def composite(images, noisy, sigma, side):
    height, width = images.image_shape[1:]
    levels = noisy.reshape(len(noisy), -1) * LEVELS_PER_UNIT - 0.5
    windows = [Window.inside(side, height, width)] * len(noisy)
    found = WindowPosterior(images).mean(levels, np.full(len(noisy), sigma * LEVELS_PER_UNIT), windows)
    return found.reshape(noisy.shape)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 40),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 11), st.integers(1, 11)),
    side=st.integers(1, 13),
    sigma=st.floats(0.05, 80),
)
def test_composite_of_any_shape_matches_the_definition(seed, count, shape, side, sigma):
    rng = np.random.default_rng(seed)
    images = ImageSet(rng.integers(0, 256, (count, *shape)).astype(np.uint8))
    clean = oracles.values(images.pixels)
    noisy = clean[:1] + sigma * rng.standard_normal((1, *shape))
    expected = oracles.square_patches(noisy[0], clean, sigma, side)
    # float32 distances: a logit of size L is known to L · 1e-7.
    np.testing.assert_allclose(composite(images, noisy, sigma, side)[0], expected, atol=2e-5)


@pytest.mark.parametrize("side", [1, 2, 3, 7])
def test_many_images_over_several_chunks_and_threads(side, digits):
    rng = np.random.default_rng(0)
    clean = oracles.values(digits.pixels)
    noisy = clean[[5, 700, 1500]] + 0.4 * rng.standard_normal((3, 1, 8, 8))
    expected = np.stack([oracles.square_patches(image, clean, 0.4, side) for image in noisy])
    assert relative_error(composite(digits, noisy, 0.4, side), expected) < 3e-6


def test_at_low_noise_a_training_image_comes_back(digits):
    noisy = oracles.values(digits.pixels[40:42])
    assert np.abs(composite(digits, noisy, 0.002, 5) - noisy).max() < 1e-6


def test_far_from_all_images_weights_still_sum_to_one():
    # Logits of size 1e8 and one value everywhere: any mean of the images is that value.
    images = ImageSet(np.full((50, 1, 6, 6), 200, np.uint8))
    noisy = np.random.default_rng(0).standard_normal((1, 1, 6, 6)) * 50
    np.testing.assert_allclose(composite(images, noisy, 0.002, 3), 200 / 127.5 - 1, atol=1e-6)


def test_batches_larger_than_the_limit_are_split(monkeypatch, digits):
    noisy = oracles.values(digits.pixels[:5]) + 0.3
    whole = composite(digits, noisy, 0.5, 3)
    monkeypatch.setattr(module, "MOST_ROWS", 2)
    np.testing.assert_array_equal(composite(digits, noisy, 0.5, 3), whole)


def test_exponential():
    x = np.linspace(-86.9, 80, 2001).astype(np.float32)
    found = np.array([exp32(value) for value in x], dtype=np.float64)
    np.testing.assert_allclose(found, np.exp(x.astype(np.float64)), rtol=3e-7)
    assert exp32(np.float32(-1e30)) < 1e-37


def test_logarithm():
    x = np.geomspace(1e-37, 1e37, 1600).astype(np.float32)
    expected = np.log(x.astype(np.float64))
    np.testing.assert_allclose(logarithms(x.copy()), expected, rtol=1e-6, atol=1e-7)
    near = np.linspace(0.6, 1.5, 1600).astype(np.float32)
    np.testing.assert_allclose(logarithms(near.copy()), np.log(near.astype(np.float64)), rtol=1e-6, atol=2e-7)


@nb.njit
def logarithms(values):
    for place in range(0, values.size, LANES):
        store(values, place, logarithm(load(values, place)))
    return values
