"""The window posterior on a device against its definition in float64 and against the processor's engine."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.posterior import oracles
from tests.posterior.device.cases import BUDGETS, SIGMAS, between, clean, engine, image_of, levels, question, random_set

from scorescope.data.images import ImageSet
from scorescope.posterior.device import windows as module
from scorescope.posterior.units import LEVELS_PER_UNIT
from scorescope.posterior.windows import Window, WindowPosterior

HEIGHT, WIDTH = 6, 7
INSIDE = [Window.inside(side, HEIGHT, WIDTH) for side in (3, 3, 2, 5, 7, 1)]
AROUND = [Window.around(side, HEIGHT, WIDTH) for side in (3, 3, 1, 5, 15, 3)]
KINDS = pytest.mark.parametrize("windows", [INSIDE, AROUND, INSIDE[:3] + AROUND[3:]], ids=["inside", "around", "both"])


def local_score(noisy, known, sigma, side):
    """Every pixel from the window around it, cut at the border."""
    half, result = side // 2, np.empty_like(noisy)
    for row in range(HEIGHT):
        for column in range(WIDTH):
            rows, columns = slice(max(0, row - half), row + half + 1), slice(max(0, column - half), column + half + 1)
            weights = oracles.posterior_weights(noisy[:, rows, columns], known[:, :, rows, columns], sigma)
            result[:, row, column] = weights @ known[:, :, row, column]
    return result


def definition(noisy, known, sigma, window):
    if window.spread:
        return oracles.square_patches(noisy, known, sigma, max(window.height, window.width))
    return local_score(noisy, known, sigma, max(window.height, window.width))


@KINDS
@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("flips", [False, True])
def test_mixed_sigmas_and_windows_match_the_definition(budget, flips, windows, device):
    images = random_set(0, 100, flips=flips)
    noisy, known = between(images, SIGMAS), clean(images)
    mean = engine(images, device, budget).windows.mean(*question(noisy, SIGMAS, device), windows)
    expected = [definition(noisy[k], known, SIGMAS[k], windows[k]) for k in range(6)]
    # float32 distances: a logit of size L is known to L · 1e-7.
    np.testing.assert_allclose(image_of(mean, images), expected, atol=2e-5)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_one_sigma_in_groups_matches_the_processor(sigma, device):
    images = random_set(1, 300, (1, 9, 8))
    sigmas = [sigma] * 5
    noisy, spread = between(images, sigmas), np.full(5, sigma * LEVELS_PER_UNIT)
    for window in (Window.inside(4, 9, 8), Window.around(5, 9, 8)):
        expected = WindowPosterior(images).mean(levels(noisy), spread, [window] * 5)
        for budget in BUDGETS:
            found = engine(images, device, budget).windows.mean(*question(noisy, sigmas, device), [window] * 5)
            np.testing.assert_allclose(found.cpu(), expected, atol=1e-5)


@KINDS
@pytest.mark.parametrize("budget", BUDGETS)
def test_descriptions_match_those_of_the_processor(windows, budget, device):
    images = random_set(2, 120, flips=True)
    sigmas = (0.1, 0.2, 0.3, 1.0, 5.0, 80.0)
    noisy, spread = between(images, sigmas), np.array(sigmas) * LEVELS_PER_UNIT
    expected = WindowPosterior(images).describe(levels(noisy), spread, windows, top=3)
    found = engine(images, device, budget).windows.describe(*question(noisy, sigmas, device), windows, top=3)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, rtol=1e-3, atol=1e-6)
        # Two images of all but the same weight may change places.
        assert (one.indices == other.indices).mean() > 0.9
        np.testing.assert_allclose(one.effective_number, other.effective_number, rtol=1e-4)
        np.testing.assert_allclose(one.log_evidence, other.log_evidence, rtol=1e-5, atol=2e-3)


def test_few_images_with_any_weight_leave_places_empty(device):
    images = random_set(3, 40)
    asked = question(clean(images)[7:8], [0.002], device)
    [found] = engine(images, device).windows.describe(*asked, [Window.inside(5, HEIGHT, WIDTH)], top=3)
    assert (found.indices[..., 0] == 7).all()
    assert (found.indices[..., 1:] == -1).all()
    np.testing.assert_array_equal(found.probabilities[..., 1:], 0)


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 40),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    side=st.integers(1, 11),
    sigma=st.floats(0.05, 80),
    kind=st.sampled_from([Window.inside, Window.around]),
)
def test_any_shape_matches_the_processor(seed, count, shape, side, sigma, kind):
    images = random_set(seed, count, shape)
    noisy, window = between(images, [sigma], seed), kind(side, *shape[1:])
    mean = engine(images, "cpu").windows.mean(*question(noisy, [sigma], "cpu"), [window])
    expected = WindowPosterior(images).mean(levels(noisy), np.array([sigma * LEVELS_PER_UNIT]), [window])
    np.testing.assert_allclose(mean, expected, atol=2e-5)


def test_at_low_noise_a_training_image_comes_back(device, digits):
    noisy = oracles.values(digits.pixels[40:42])
    window = Window.inside(5, 8, 8)
    mean = engine(digits, device).windows.mean(*question(noisy, [0.002] * 2, device), [window] * 2)
    assert np.abs(image_of(mean, digits) - noisy).max() < 1e-6


def test_far_from_all_images_weights_still_sum_to_one(device):
    # Logits of size 1e8 and one value everywhere: any mean of the images is that value.
    images = ImageSet(np.full((50, 1, 6, 7), 200, np.uint8))
    noisy = np.random.default_rng(0).standard_normal((2, 1, 6, 7)) * 50
    windows = [INSIDE[0], AROUND[0]]
    mean = engine(images, device).windows.mean(*question(noisy, [0.002] * 2, device), windows)
    np.testing.assert_allclose(mean.cpu(), 200 / 127.5 - 1, atol=1e-6)


def test_batches_larger_than_the_limit_are_split(monkeypatch, device):
    images = random_set(4, 30)
    asked = question(between(images, SIGMAS), SIGMAS, device)
    whole = engine(images, device).windows.mean(*asked, INSIDE[:3] + AROUND[:3])
    monkeypatch.setattr(module, "MOST_ROWS", 2)
    split = engine(images, device).windows.mean(*asked, INSIDE[:3] + AROUND[:3])
    torch.testing.assert_close(split, whole, rtol=0, atol=1e-6)
