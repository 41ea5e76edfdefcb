"""PCA locality: golden data, the definition in float64, and the contract of all training-free denoisers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import relative_error
from tests.posterior import oracles

from scorescope.data.images import ImageSet
from scorescope.denoisers import (
    BatchedPcaLocalityDenoiser,
    GaussianDenoiser,
    OptimalDenoiser,
    PcaLocalityDenoiser,
    denoisers,
)
from scorescope.foundation import UserError

SIGMAS = (0.002, 0.05, 0.4, 2.0, 80.0)


@pytest.fixture(scope="module")
def few(digits):
    return digits.subset(range(0, 1797, 9))


def noise(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def ratios(clean, sigma):
    """R of the module's docstring, for images in which every pixel-channel varies."""
    flat = clean.reshape(len(clean), -1)
    deviations = flat - flat.mean(0)
    covariance = deviations.T @ deviations / len(flat)
    wiener = covariance @ np.linalg.inv(covariance + sigma**2 * np.eye(len(covariance)))
    return wiener / np.diag(wiener)[:, None]


def definition(noisy, clean, sigma, weights):
    """Float64: one noisy image; weights (d, d), row m those of entry m."""
    flat = clean.reshape(len(clean), -1)
    distances = (noisy.reshape(-1) - flat) ** 2 @ weights.T
    posterior = oracles.softmax(-distances.T / (2 * sigma**2))
    return (posterior * flat.T).sum(1).reshape(noisy.shape)


def test_golden(golden):
    data = golden("local_machines.npz")
    levels = torch.from_numpy(data["sigma"])
    noisy = torch.from_numpy(data["clean"]) + levels[:, None, None, None, None] * torch.from_numpy(data["noise"])
    images, sigmas = ImageSet(data["images"]), levels.repeat_interleave(noisy.shape[1])
    denoiser = PcaLocalityDenoiser(images, float(data["mask_threshold"]))
    denoised = denoiser(noisy.flatten(0, 1), sigmas).reshape(noisy.shape)
    for found, expected in zip(denoised, data["pca_locality"], strict=True):
        assert relative_error(found, expected) < 1e-5
    filtered = GaussianDenoiser(images)(noisy.flatten(0, 1), sigmas).reshape(noisy.shape)
    for found, expected in zip(filtered, data["wiener"], strict=True):
        assert relative_error(found, expected) < 1e-5


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("threshold", [0.0, 0.02, 0.3, 1.0, None])
def test_matches_the_definition(threshold, sigma):
    images = ImageSet(np.random.default_rng(0).integers(0, 256, (150, 2, 5, 6)).astype(np.uint8))
    clean = oracles.values(images.pixels)
    noisy = clean[:2] + sigma * noise((2, 2, 5, 6)).double().numpy()
    found = ratios(clean, sigma)
    weights = found.T if threshold is None else (np.abs(found) >= threshold * np.abs(found).max()).T.astype(float)
    weights[np.arange(60), np.arange(60)] = 1.0
    denoiser = PcaLocalityDenoiser(images, threshold)
    np.testing.assert_allclose(denoiser.masks(sigma), weights, atol=1e-6)
    expected = np.stack([definition(image, clean, sigma, weights) for image in noisy])
    assert relative_error(denoiser(torch.from_numpy(noisy), sigma), expected) < 1e-5


def test_registered_as_costly():
    entry = denoisers["pca-locality"]
    assert entry.costly
    assert entry.explanation
    assert entry.source
    assert entry.build(ImageSet(np.zeros((2, 1, 4, 4), np.uint8))).name == "pca-locality"


def test_a_threshold_of_zero_is_the_optimal_denoiser(few):
    varying = few.read(0, len(few))[..., 1:7]  # the outer columns of the digits are empty in places
    images = ImageSet(np.ascontiguousarray(varying))
    noisy = images.tensor(range(3)) + 0.5 * noise((3, 1, 8, 6))
    found, expected = PcaLocalityDenoiser(images, 0.0)(noisy, 0.5), OptimalDenoiser(images)(noisy, 0.5)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("threshold", [0.05, None])
def test_mixed_noise_levels_are_those_of_each_image_alone(threshold, few):
    denoiser = PcaLocalityDenoiser(few, threshold)
    sigmas = torch.tensor([0.002, 0.3, 1.0, 0.3, 80.0])
    noisy = few.tensor(range(5)) + sigmas[:, None, None, None] * noise((5, 1, 8, 8))
    together = denoiser(noisy, sigmas)
    alone = torch.cat([denoiser(noisy[k : k + 1], float(sigmas[k])) for k in range(5)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    assert denoiser(noisy.double(), sigmas.double()).dtype == torch.float64


@pytest.mark.parametrize("threshold", [0.05, None])
def test_low_noise_gives_the_nearest_value_and_high_noise_the_mean(threshold, few):
    clean = few.tensor(range(7))
    denoiser = PcaLocalityDenoiser(few, threshold)
    torch.testing.assert_close(denoiser(clean + 5e-4 * noise(clean.shape), 5e-4), clean, rtol=0, atol=1e-4)
    mean = few.tensor().mean(0).expand(7, -1, -1, -1)
    torch.testing.assert_close(denoiser(noise(clean.shape), 1e4), mean, rtol=0, atol=1e-4)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 40), sigma=st.floats(0.05, 20))
def test_permuting_changes_nothing_and_flipping_everything_flips_the_output(seed, count, sigma):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, 2, 4, 3)).astype(np.uint8)
    noisy = ImageSet(pixels).tensor([0]) + sigma * noise((1, 2, 4, 3), seed)
    denoised = PcaLocalityDenoiser(ImageSet(pixels), 0.1)(noisy, sigma)
    permuted = PcaLocalityDenoiser(ImageSet(pixels[rng.permutation(count)]), 0.1)(noisy, sigma)
    torch.testing.assert_close(permuted, denoised, rtol=0, atol=2e-5)
    flipped = PcaLocalityDenoiser(ImageSet(np.ascontiguousarray(pixels[..., ::-1])), 0.1)(noisy.flip(-1), sigma)
    torch.testing.assert_close(flipped.flip(-1), denoised, rtol=0, atol=2e-5)


def test_virtual_flips_equal_stored_ones_and_one_class_is_that_subset(few, digits):
    pixels = few.read(0, len(few))
    stored = ImageSet(np.concatenate([pixels, pixels[..., ::-1]]))
    noisy = few.tensor(range(3)) + 0.7 * noise((3, 1, 8, 8))
    pair = [PcaLocalityDenoiser(images)(noisy, 0.7) for images in (few.with_flips(), stored)]
    torch.testing.assert_close(*pair, rtol=0, atol=1e-5)
    copied = ImageSet(np.ascontiguousarray(digits.pixels[digits.labels == 3]))
    pair = [PcaLocalityDenoiser(images)(noisy, 0.7) for images in (digits.of_class(3), copied)]
    torch.testing.assert_close(*pair, rtol=0, atol=1e-5)


@pytest.mark.parametrize("threshold", [0.02, None])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 1), (1, 1, 5), (2, 4, 3)])
def test_one_training_image_of_any_shape(shape, threshold):
    pixels = np.random.default_rng(0).integers(0, 256, (1, *shape)).astype(np.uint8)
    expected = torch.from_numpy(oracles.values(pixels)).float().expand(4, *shape)
    for sigma in (0.002, 1.0, 80.0):
        denoised = PcaLocalityDenoiser(ImageSet(pixels), threshold)(noise((4, *shape)) * sigma, sigma)
        torch.testing.assert_close(denoised, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("threshold", [0.02, None])
@pytest.mark.parametrize("sigma", SIGMAS)
def test_pixels_that_never_vary_stay_and_count_for_nothing(sigma, threshold):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 1, 6, 6)).astype(np.uint8)
    inside = PcaLocalityDenoiser(ImageSet(np.ascontiguousarray(pixels[:, :, 1:, :5])), threshold)
    pixels[:, :, 0], pixels[:, :, :, 5] = 0, 77
    noisy = sigma * noise((3, 1, 6, 6))
    denoiser = PcaLocalityDenoiser(ImageSet(pixels), threshold)
    denoised = denoiser(noisy, sigma)
    torch.testing.assert_close(denoised[:, 0, 0, :5], torch.full((3, 5), -1.0), rtol=0, atol=1e-6)
    torch.testing.assert_close(denoised[:, 0, :, 5], torch.full((3, 6), 77 / 127.5 - 1), rtol=0, atol=1e-6)
    rest = denoised[:, :, 1:, :5]
    assert torch.isfinite(rest).all()
    constant = np.zeros((6, 6), dtype=bool)
    constant[0], constant[:, 5] = True, True
    links = denoiser.masks(sigma).reshape(36, 36)
    np.testing.assert_array_equal(links[constant.ravel()][:, constant.ravel()], np.eye(constant.sum()))
    assert not links[~constant.ravel()][:, constant.ravel()].any()
    if sigma >= 0.4:  # below, all images are far away and rounding decides which of two is nearest
        torch.testing.assert_close(rest, inside(noisy[:, :, 1:, :5], sigma), rtol=0, atol=1e-4)


def test_a_pixel_that_hardly_varies_is_still_in_its_own_mask():
    pixels = np.random.default_rng(0).integers(0, 256, (500, 1, 3, 3)).astype(np.uint8)
    pixels[:, 0, 0, 0] = 0
    pixels[0, 0, 0, 0] = 3
    denoiser = PcaLocalityDenoiser(ImageSet(pixels), 0.5)
    assert (denoiser.masks(0.5).diagonal() == 1).all()
    assert torch.isfinite(denoiser(noise((2, 1, 3, 3)), 0.5)).all()


def test_wrong_settings_are_refused(few):
    for threshold in (-0.1, 1.5, float("nan")):
        with pytest.raises(UserError, match="threshold"):
            PcaLocalityDenoiser(few, threshold)
    with pytest.raises(UserError, match="temperature"):
        PcaLocalityDenoiser(few, temperature=0.0)
    for noisy in (torch.zeros(2, 1, 8, 7), torch.full((1, 1, 8, 8), float("inf"))):
        with pytest.raises(UserError):
            PcaLocalityDenoiser(few)(noisy, 1.0)


@pytest.mark.parametrize("threshold", [0.05, None])
def test_temperature_divides_the_logits_and_leaves_the_masks(threshold, few):
    noisy = few.tensor(range(2)) + 0.5 * noise((2, 1, 8, 8))
    denoiser = PcaLocalityDenoiser(few, threshold, temperature=4.0)
    clean = oracles.values(few.read(0, len(few)))
    expected = np.stack([definition(image.double().numpy(), clean, 1.0, denoiser.masks(0.5)) for image in noisy])
    torch.testing.assert_close(denoiser(noisy, 0.5).double(), torch.from_numpy(expected), rtol=0, atol=2e-5)


def test_batches_are_averaged_whatever_they_say():
    images = ImageSet(np.random.default_rng(1).integers(0, 256, (50, 1, 4, 5)).astype(np.uint8))
    clean, sigma = oracles.values(images.pixels), 0.4
    noisy = clean[:2] + sigma * noise((2, 1, 4, 5)).double().numpy()
    found = np.abs(ratios(clean, sigma))
    weights = (found >= 0.1 * found.max()).T.astype(float)
    weights[np.arange(20), np.arange(20)] = 1.0
    parts = [clean[start : start + 16] for start in range(0, 50, 16)]  # the last one has two images, and counts as much
    expected = [np.mean([definition(image, part, sigma, weights) for part in parts], axis=0) for image in noisy]
    denoised = BatchedPcaLocalityDenoiser(images, 0.1, batch=16)(torch.from_numpy(noisy), sigma)
    assert relative_error(denoised, np.stack(expected)) < 1e-5
    exact = PcaLocalityDenoiser(images, 0.1)(torch.from_numpy(noisy), sigma)
    assert relative_error(exact, np.stack(expected)) > 0.05
    together = BatchedPcaLocalityDenoiser(images, 0.1, batch=50)(torch.from_numpy(noisy), sigma)
    torch.testing.assert_close(together, exact)


def test_mirror_images_are_in_the_batch_of_what_they_mirror():
    pixels = np.random.default_rng(2).integers(0, 256, (12, 1, 4, 4)).astype(np.uint8)
    pairs = np.stack([pixels, pixels[..., ::-1]], 1).reshape(24, 1, 4, 4)
    noisy = 0.5 * noise((2, 1, 4, 4))
    mirrored = BatchedPcaLocalityDenoiser(ImageSet(pixels).with_flips(), 0.1, batch=4)(noisy, 0.5)
    torch.testing.assert_close(mirrored, BatchedPcaLocalityDenoiser(ImageSet(pairs), 0.1, batch=8)(noisy, 0.5))


def test_batches_that_cannot_be():
    images = ImageSet(np.zeros((2, 1, 4, 4), np.uint8))
    for options, words in (
        ({"batch": 0}, "at least 1"),
        ({"threshold": None}, "threshold"),
        ({"threshold": 2.0}, "0 to 1"),
    ):
        with pytest.raises(UserError, match=words):
            BatchedPcaLocalityDenoiser(images, **options)
