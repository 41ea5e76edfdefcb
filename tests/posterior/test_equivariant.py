"""The equivariant posterior against its definition in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import relative_error
from tests.posterior import oracles

from scorescope.data.images import ImageSet
from scorescope.posterior import equivariant as module
from scorescope.posterior.equivariant import EquivariantPosterior
from scorescope.posterior.units import LEVELS_PER_UNIT

SIGMAS = (0.002, 0.02, 0.1, 0.4, 0.6, 2.0, 80.0)


def found(images, noisy, sigma, side, border=False):
    """The engine's means of noisy images (B, C, H, W) in [-1, 1]."""
    levels = noisy.reshape(len(noisy), -1) * LEVELS_PER_UNIT - 0.5
    posterior = EquivariantPosterior(images)
    mean = posterior.border_mean if border else posterior.mean
    sigmas = np.broadcast_to(np.asarray(sigma, dtype=np.float64), len(noisy)) * LEVELS_PER_UNIT
    return mean(levels, sigmas, [side] * len(noisy)).reshape(noisy.shape)


def around_every_place(image, rows, columns, mode):
    """Windows around every place of an image (C, H, W), continued past its edges: (H, W, values)."""
    padded = np.pad(image, ((0, 0), (rows, rows), (columns, columns)), mode=mode)
    views = np.lib.stride_tricks.sliding_window_view(padded, (2 * rows + 1, 2 * columns + 1), axis=(1, 2))
    return views.transpose(1, 2, 0, 3, 4).reshape(*image.shape[1:], -1)


def expected(noisy, clean, sigma, side, border=False):
    """The definition for one image (C, H, W): every window against every place that may stand for it."""
    return definition(noisy, clean, sigma, side, border)[0]


def definition(noisy, clean, sigma, side, border):
    """The same, and the logit of every pixel's likeliest window without its sign, (H, W)."""
    _, height, width = noisy.shape
    rows, columns = side // 2, side // 2
    if not border:
        rows, columns = min(rows, (height - 1) // 2), min(columns, (width - 1) // 2)
    windows = around_every_place(noisy, rows, columns, "constant" if border else "wrap")
    patches = np.stack([around_every_place(image, rows, columns, "constant") for image in clean])

    def touch(row, column):
        down, right = height - 1 - row, width - 1 - column
        return min(row, rows), min(down, rows), min(column, columns), min(right, columns)

    places = [(row, column) for row in range(height) for column in range(width)]
    result, logits = np.empty_like(noisy), np.empty((height, width))
    for row, column in places:
        wanted = touch(row, column) if border else (rows, rows, columns, columns)
        alike = [place for place in places if touch(*place) == wanted]
        part = np.concatenate([patches[:, r, c] for r, c in alike])
        centres = np.concatenate([clean[:, :, r, c] for r, c in alike])
        result[:, row, column] = oracles.posterior_weights(windows[row, column], part, sigma) @ centres
        logits[row, column] = ((windows[row, column] - part) ** 2).sum(1).min() / (2 * sigma**2)
    return result, logits


def smooth_images(rng, count, shape):
    """Images whose neighbouring pixels are alike, with exactly flat parts, as photographs have: uint8."""
    images = rng.integers(0, 256, (count, *shape)).astype(np.float64)
    for axis in (2, 3):
        images = (images + np.roll(images, 1, axis)) / 2
    images[:, :, : shape[1] // 3] = 0
    return images.astype(np.uint8)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 6),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 19)),
    side=st.integers(1, 13),
    sigma=st.floats(0.002, 80),
    border=st.booleans(),
)
def test_any_shape_and_window_match_the_definition(seed, count, shape, side, sigma, border):
    rng = np.random.default_rng(seed)
    images = ImageSet(rng.integers(0, 256, (count, *shape)).astype(np.uint8))
    clean = oracles.values(images.pixels)
    noisy = clean[:1] + sigma * rng.standard_normal((1, *shape))
    wanted, logits = definition(noisy[0], clean, sigma, side, border)
    # float32 distances: a logit of size L is known to L · 1e-7. Where nothing is like a noisy window it can be a million.
    assert (np.abs(found(images, noisy, sigma, side, border)[0] - wanted) <= 1e-5 + 4e-7 * logits).all()


@pytest.mark.slow
@pytest.mark.parametrize("border", [False, True])
@pytest.mark.parametrize("side", [3, 7])
def test_all_noise_levels_match_the_definition(side, border):
    rng = np.random.default_rng(side)
    images = ImageSet(smooth_images(rng, 9, (3, 12, 18)))
    clean = oracles.values(images.pixels)
    for sigma in SIGMAS:
        noisy = clean[:1] + sigma * rng.standard_normal((1, 3, 12, 18))
        wanted = expected(noisy[0], clean, sigma, side, border)
        # Around the edges of a noisy image that goes on there no window fits: logits of thousands, of which float32 knows 1e-3.
        limit = 1e-6 if border or side == 3 else 3e-5
        assert relative_error(found(images, noisy, sigma, side, border)[0], wanted) < limit


@pytest.mark.parametrize("border", [False, True])
def test_several_batches_of_images_on_either_side(digits, border, monkeypatch):
    images = digits.subset(range(30))
    clean = oracles.values(images.pixels[:30])
    noisy = clean[[2, 20]] + 0.4 * np.random.default_rng(0).standard_normal((2, 1, 8, 8))
    monkeypatch.setattr(module, "IMAGES_AT_A_TIME", 8)
    monkeypatch.setattr(module, "MOST_SWEEPS", 1)
    wanted = np.stack([expected(image, clean, 0.4, 3, border) for image in noisy])
    assert relative_error(found(images, noisy, 0.4, 3, border), wanted) < 1e-6


@pytest.mark.parametrize("border", [False, True])
def test_windows_that_are_found_are_weighed_exactly_at_low_noise(border):
    # Two images that differ by one grey level here and there: their weights hang on differences of logits of about one.
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 250, (1, 3, 9, 9)).astype(np.uint8).repeat(2, 0)
    pixels[1] += rng.random((3, 9, 9)) < 0.05
    clean = oracles.values(pixels)
    noisy = clean[:1] + 0.004 * rng.standard_normal((1, 3, 9, 9))
    inner = (..., slice(2, 7), slice(2, 7))
    difference = found(ImageSet(pixels), noisy, 0.004, 5, border)[0] - expected(noisy[0], clean, 0.004, 5, border)
    assert np.abs(expected(noisy[0], clean, 0.004, 5, border) - clean[0])[inner].max() > 1e-3
    assert np.abs(difference)[inner].max() < 1e-6


def test_a_late_image_can_outweigh_all_before_it():
    # Levels rise by far more than float32's range of exponents from one batch of images to the next.
    pixels = np.zeros((150, 1, 6, 6), np.uint8)
    pixels[149] = np.random.default_rng(0).integers(0, 256, (1, 6, 6))
    noisy = oracles.values(pixels[149:])
    inner = (..., slice(1, 5), slice(1, 5))
    assert np.abs(found(ImageSet(pixels), noisy, 0.002, 3) - noisy)[inner].max() < 1e-6
    assert np.abs(found(ImageSet(pixels), noisy, 0.002, 3, border=True) - noisy).max() < 1e-6


@pytest.mark.parametrize("border", [False, True])
def test_far_from_all_images_weights_still_sum_to_one(border):
    images = ImageSet(np.full((5, 2, 6, 7), 200, np.uint8))
    for sigma in (1e-4, 0.002, 1.0, 1e5):
        noisy = np.random.default_rng(0).standard_normal((1, 2, 6, 7)) * 50
        np.testing.assert_allclose(found(images, noisy, sigma, 3, border), 200 / 127.5 - 1, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(down=st.integers(-9, 9), right=st.integers(-9, 9), sigma=st.floats(0.05, 5), side=st.sampled_from([1, 3, 5, 9]))
def test_shifting_the_noisy_image_around_shifts_the_result(digits, down, right, sigma, side):
    images = digits.subset(range(5))
    noisy = oracles.values(digits.pixels[7:8]) + sigma * np.random.default_rng(1).standard_normal((1, 1, 8, 8))
    shifted = found(images, np.roll(noisy, (down, right), (2, 3)), sigma, side)
    np.testing.assert_allclose(shifted, np.roll(found(images, noisy, sigma, side), (down, right), (2, 3)), atol=2e-6)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), sigma=st.floats(0.002, 80), border=st.booleans())
def test_exchanging_or_turning_axes_of_everything_turns_the_result(seed, sigma, border):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (6, 2, 7, 10)).astype(np.uint8)
    noisy = oracles.values(pixels[:1]) + sigma * rng.standard_normal((1, 2, 7, 10))
    straight = found(ImageSet(pixels), noisy, sigma, 3, border)
    for turn in (lambda a: a.swapaxes(2, 3), lambda a: a[..., ::-1], lambda a: a[:, :, ::-1]):
        turned = ImageSet(np.ascontiguousarray(turn(pixels)))
        np.testing.assert_allclose(found(turned, turn(noisy), sigma, 3, border), turn(straight), atol=2e-6)


def test_results_repeat_to_the_last_bit(digits):
    images, noisy = digits.subset(range(70)), oracles.values(digits.pixels[80:83]) + 0.1
    for border in (False, True):
        once, again = (found(images, noisy, 0.3, 3, border) for _ in range(2))
        np.testing.assert_array_equal(once, again)


def test_any_number_of_threads_gives_the_same_result(digits):
    images, noisy = digits.subset(range(20)), oracles.values(digits.pixels[80:82]) + 0.1
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            results.append([found(images, noisy, 0.3, 3, border) for border in (False, True)])
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_allclose(results[0], results[1], atol=1e-6)
    np.testing.assert_allclose(results[0], results[2], atol=1e-6)
