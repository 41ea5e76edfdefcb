"""Whose weights an estimate is made of, and the estimate without one image, against their definitions in float64."""

import numpy as np
import pytest
from tests.posterior import oracles
from tests.posterior.test_equivariant import around_every_place, smooth_images

from scorescope.data.images import ImageSet
from scorescope.posterior.contributions import (
    anywhere_contributions,
    images_without,
    patch_without,
    whole_contributions,
    whole_without,
    window_contributions,
    windows_without,
)
from scorescope.posterior.units import LEVELS_PER_UNIT
from scorescope.posterior.whole_image import WholeImagePosterior
from scorescope.posterior.windows import Window

TOP = 5


@pytest.fixture(scope="module")
def few():
    """Images that resemble each other, more than one block of the engine holds, and a noisy one near two of them."""
    rng = np.random.default_rng(0)
    images = ImageSet(smooth_images(rng, 37, (2, 7, 9)).astype(np.uint8))
    clean = oracles.values(images.pixels)
    return images, clean, 0.6 * clean[3] + 0.4 * clean[20] + 0.05 * rng.standard_normal((2, 7, 9))


def asked(noisy, sigma):
    return noisy.reshape(1, -1) * LEVELS_PER_UNIT - 0.5, np.array([sigma * LEVELS_PER_UNIT])


def by_windows(noisy, clean, sigma, tall, wide):
    """Weights of every image at every pixel, (N, H, W): means over the windows that cover it."""
    _, height, width = noisy.shape
    total, covered = np.zeros((len(clean), height, width)), np.zeros((height, width))
    for top in range(height - tall + 1):
        for left in range(width - wide + 1):
            part = (..., slice(top, top + tall), slice(left, left + wide))
            weights = oracles.posterior_weights(noisy[part], clean[part], sigma)
            total[part] += weights[:, None, None]
            covered[part] += 1
    return total / covered


def check(found, weights, mean, atol=2e-5):
    """Contributions against weights (N, H, W) of the definition and its estimate."""
    np.testing.assert_allclose(found.share, weights.mean((1, 2)), atol=atol)
    assert found.share.sum() == pytest.approx(1, abs=1e-5)
    entropy = -(weights * np.log(np.where(weights > 0, weights, 1))).sum(0)
    np.testing.assert_allclose(found.effective_number, np.exp(entropy), rtol=1e-3)
    largest = -np.sort(-weights, axis=0)[:TOP].transpose(1, 2, 0)
    np.testing.assert_allclose(found.weights, largest, atol=atol)
    named = np.take_along_axis(weights.transpose(1, 2, 0), np.maximum(found.entries, 0), 2)
    np.testing.assert_allclose(np.where(found.entries < 0, 0, named), found.weights, atol=atol)
    np.testing.assert_allclose(found.mean, mean, atol=5e-5)


@pytest.mark.parametrize("sigma", [0.05, 0.3, 2.0])
def test_whole_images(few, sigma):
    images, clean, noisy = few
    weights = oracles.posterior_weights(noisy, clean, sigma)
    levels, spread = asked(noisy, sigma)
    np.testing.assert_allclose(WholeImagePosterior(images).weights(levels, spread)[0], weights, rtol=1e-5, atol=1e-12)
    (found,) = whole_contributions(images, levels, spread, TOP)
    everywhere = np.broadcast_to(weights[:, None, None], (37, 7, 9))
    check(found, everywhere, oracles.optimal(noisy, clean, sigma))
    entropy = -(weights * np.log(np.maximum(weights, 1e-300))).sum()
    assert found.effective_images == pytest.approx(np.exp(entropy), rel=1e-5)


@pytest.mark.parametrize(("sigma", "side"), [(0.05, 3), (0.3, 1), (0.3, 4), (0.3, 8), (2.0, 3)])
def test_windows(few, sigma, side):
    images, clean, noisy = few
    weights = by_windows(noisy, clean, sigma, min(side, 7), min(side, 9))
    (found,) = window_contributions(images, *asked(noisy, sigma), [Window.inside(side, 7, 9)], TOP)
    check(found, weights, oracles.square_patches(noisy, clean, sigma, side))


@pytest.mark.slow
@pytest.mark.parametrize(("sigma", "side"), [(0.05, 3), (0.3, 5), (2.0, 3)])
def test_places_anywhere_summed_over_positions(few, sigma, side):
    images, clean, noisy = few
    reach = side // 2
    windows = around_every_place(noisy, reach, reach, "wrap")
    inside = (slice(None), slice(reach, 7 - reach), slice(reach, 9 - reach))
    patches = np.stack([around_every_place(image, reach, reach, "constant") for image in clean])[inside]
    weights, mean = np.zeros((37, 7, 9)), np.zeros_like(noisy)
    for row in range(7):
        for column in range(9):
            distances = ((windows[row, column] - patches) ** 2).sum(-1)
            every = oracles.softmax(-distances.reshape(-1) / (2 * sigma**2)).reshape(distances.shape)
            weights[:, row, column] = every.sum((1, 2))
            mean[:, row, column] = np.einsum("nhw,nchw->c", every, clean[:, :, inside[1], inside[2]])
    (found,) = anywhere_contributions(images, *asked(noisy, sigma), [side], TOP)
    check(found, weights, mean, atol=1e-4)


@pytest.mark.parametrize("sigma", [0.05, 0.5, 2.0])
def test_leaving_an_image_out_is_really_leaving_it_out(few, sigma):
    images, clean, noisy = few
    levels, spread = asked(noisy, sigma)
    window = Window.inside(3, 7, 9)
    # at 0.05 one image has all the weight, and the closed form would be a difference of equals
    entries = np.array([3, 20, 0])
    whole = whole_without(images, levels[0], spread[0], entries).reshape(3, *noisy.shape)
    parts = windows_without(images, levels[0], spread[0], window, entries).reshape(3, *noisy.shape)
    for place, entry in enumerate(entries):
        rest = np.delete(clean, entry, axis=0)
        np.testing.assert_allclose(whole[place], oracles.optimal(noisy, rest, sigma), atol=2e-4)
        np.testing.assert_allclose(parts[place], oracles.square_patches(noisy, rest, sigma, 3), atol=2e-4)


def test_the_closed_form_of_one_patch_is_the_posterior_mean_of_the_others(few):
    _, clean, noisy = few
    weights = oracles.posterior_weights(noisy[:, :3, :3], clean[:, :, :3, :3], 0.4)
    mean = np.tensordot(weights, clean[:, :, :3, :3], axes=1)
    rest = np.delete(clean, 20, axis=0)
    expected = oracles.optimal(noisy[:, :3, :3], rest[:, :, :3, :3], 0.4)
    np.testing.assert_allclose(patch_without(mean, weights[[20]], clean[[20], :, :3, :3]), expected, atol=1e-12)


@pytest.mark.parametrize("sigma", [0.05, 2.0])
def test_an_image_is_left_out_with_its_mirror_image(few, sigma):
    images, clean, noisy = few
    flipped = images.with_flips()
    assert images_without(flipped, 37 + 4).stored == 36
    levels, spread = asked(noisy, sigma)
    rest = np.delete(clean, 4, axis=0)
    rest = np.concatenate([rest, rest[..., ::-1]])
    whole = whole_without(flipped, levels[0], spread[0], np.array([37 + 4]))
    np.testing.assert_allclose(whole[0].reshape(noisy.shape), oracles.optimal(noisy, rest, sigma), atol=2e-4)
    parts = windows_without(flipped, levels[0], spread[0], Window.inside(3, 7, 9), np.array([4]))
    np.testing.assert_allclose(parts[0].reshape(noisy.shape), oracles.square_patches(noisy, rest, sigma, 3), atol=2e-4)
