"""PSPC-Flex: masks from heatmaps, golden data, and the contract of all training-free denoisers."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import relative_error
from tests.denoisers import mask_sharing
from tests.posterior import oracles

from scorescope.data.images import ImageSet
from scorescope.denoisers import (
    FlexPatchDenoiser,
    GaussianDenoiser,
    GivenHeatmaps,
    OptimalDenoiser,
    ShareSchedule,
    WienerHeatmaps,
    denoisers,
)
from scorescope.denoisers.heatmaps import masks_of_share
from scorescope.foundation import UserError


@pytest.fixture(scope="module")
def few(digits):
    return digits.subset(range(0, 1797, 9))


def noise(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def bumps(height, width, seed=0):
    """Heatmaps that fall off with distance, no two values alike."""
    rows, columns = np.mgrid[:height, :width]
    squared = (rows[:, :, None, None] - rows) ** 2 + (columns[:, :, None, None] - columns) ** 2
    return np.exp(-squared / 8) * np.random.default_rng(seed).uniform(0.8, 1.2, squared.shape)


def definition(noisy, clean, sigma, heatmaps, share):
    """Float64, loops: one noisy image (C, H, W)."""
    _, height, width = noisy.shape
    masks = np.zeros((height * width, height, width), dtype=bool)
    for mask, heatmap in zip(masks, heatmaps.reshape(-1, height, width), strict=True):
        held = 0.0
        for place in sorted(np.ndindex(height, width), key=lambda place: -heatmap[place]):
            mask[place] = True
            held += heatmap[place]
            if held >= share * heatmap.sum():
                break
    for number, place in enumerate(np.ndindex(height, width)):
        if not masks[:, place[0], place[1]].any():
            masks[number][place] = True
    total, covered = np.zeros_like(noisy), np.zeros((height, width))
    for mask in masks:
        weights = oracles.posterior_weights(noisy[:, mask], clean[:, :, mask], sigma)
        total[:, mask] += np.tensordot(weights, clean[:, :, mask], axes=1)
        covered[mask] += 1
    return total / covered


def test_golden(golden):
    data = golden("niedoba.npz")
    levels = torch.from_numpy(data["t"])
    noisy = torch.from_numpy(data["clean"]) + levels[:, None, None, None, None] * torch.from_numpy(data["noise"])
    images, sigmas = ImageSet(data["images"]), levels.repeat_interleave(noisy.shape[1])
    for k, share in enumerate(data["thresholds"].tolist()):
        denoised = FlexPatchDenoiser(images, data["heatmaps"], share)(noisy.flatten(0, 1), sigmas).reshape(noisy.shape)
        for found, expected in zip(denoised, data["pspc_flex"][:, k], strict=True):
            assert relative_error(found, expected) < 2e-6


@pytest.mark.parametrize("sigma", [0.002, 0.05, 0.4, 2.0, 80.0])
def test_matches_the_definition(sigma):
    images = ImageSet(np.random.default_rng(0).integers(0, 256, (40, 2, 6, 5)).astype(np.uint8))
    clean = oracles.values(images.pixels)
    noisy = clean[:2] + sigma * noise((2, 2, 6, 5)).double().numpy()
    for share in (0.1, 0.5, 0.9):
        found = FlexPatchDenoiser(images, bumps(6, 5), share)(torch.from_numpy(noisy), sigma)
        expected = np.stack([definition(image, clean, sigma, bumps(6, 5), share) for image in noisy])
        assert relative_error(found, expected) < 1e-5


def test_default_heatmaps_are_those_of_the_gaussian_denoiser(few):
    colour = ImageSet(np.random.default_rng(0).integers(0, 256, (30, 2, 3, 4)).astype(np.uint8))
    gaussian = GaussianDenoiser(colour)
    jacobian = torch.autograd.functional.jacobian(lambda y: gaussian(y[None], 0.7)[0], torch.zeros(2, 3, 4).double())
    expected = jacobian.abs().sum((0, 3))
    np.testing.assert_allclose(WienerHeatmaps(colour).at(0.7), expected, atol=1e-9)
    noisy = few.tensor(range(2)) + 0.3 * noise((2, 1, 8, 8))
    given = FlexPatchDenoiser(few, WienerHeatmaps(few).at(0.3), 0.4)(noisy, 0.3)
    torch.testing.assert_close(FlexPatchDenoiser(few)(noisy, 0.3), given)


def test_registered_as_costly():
    entry = denoisers["pspc-flex"]
    assert entry.costly
    assert "heatmaps" in entry.needs
    assert entry.build(ImageSet(np.zeros((2, 1, 4, 4), np.uint8))).name == "pspc-flex"


def test_whole_share_is_the_optimal_denoiser(few):
    noisy = few.tensor(range(3)) + 0.7 * noise((3, 1, 8, 8))
    denoiser = FlexPatchDenoiser(few, np.zeros((8, 8, 8, 8)), 1.0)
    torch.testing.assert_close(denoiser(noisy, 0.7), OptimalDenoiser(few)(noisy, 0.7))
    assert denoiser.masks(0.7).all()
    paper = FlexPatchDenoiser(few)(80 * noise((3, 1, 8, 8)), 80.0)
    torch.testing.assert_close(paper, OptimalDenoiser(few)(80 * noise((3, 1, 8, 8)), 80.0))


def test_mixed_noise_levels_are_those_of_each_image_alone(few):
    denoiser = FlexPatchDenoiser(few)
    sigmas = torch.tensor([0.002, 0.3, 1.0, 1.7, 5.0, 80.0])
    assert len({denoiser.schedule.share(sigma) for sigma in sigmas.tolist()}) > 3
    noisy = few.tensor(range(6)) + sigmas[:, None, None, None] * noise((6, 1, 8, 8))
    together = denoiser(noisy, sigmas)
    alone = torch.cat([denoiser(noisy[k : k + 1], float(sigmas[k])) for k in range(6)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)
    assert denoiser(noisy.double(), sigmas.double()).dtype == torch.float64


def test_low_noise_gives_the_nearest_image_and_high_noise_the_mean(few):
    clean = few.tensor(range(7))
    denoiser = FlexPatchDenoiser(few, bumps(8, 8), 0.5)
    torch.testing.assert_close(denoiser(clean + 0.002 * noise(clean.shape), 0.002), clean, rtol=0, atol=1e-6)
    mean = few.tensor().mean(0).expand(7, -1, -1, -1)
    torch.testing.assert_close(denoiser(noise(clean.shape), 1e5), mean, rtol=0, atol=1e-4)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 40), share=st.floats(0.05, 0.95), sigma=st.floats(0.05, 20))
def test_permuting_changes_nothing_and_flipping_everything_flips_the_output(seed, count, share, sigma):
    rng = np.random.default_rng(seed)
    pixels, heatmaps = rng.integers(0, 256, (count, 2, 5, 6)).astype(np.uint8), bumps(5, 6, seed)
    noisy = ImageSet(pixels).tensor([0]) + sigma * noise((1, 2, 5, 6), seed)
    denoised = FlexPatchDenoiser(ImageSet(pixels), heatmaps, share)(noisy, sigma)
    permuted = FlexPatchDenoiser(ImageSet(pixels).subset(rng.permutation(count)), heatmaps, share)(noisy, sigma)
    torch.testing.assert_close(permuted, denoised, rtol=0, atol=2e-5)
    turned = np.ascontiguousarray(pixels[..., ::-1]), np.ascontiguousarray(heatmaps[:, ::-1, :, ::-1])
    flipped = FlexPatchDenoiser(ImageSet(turned[0]), turned[1], share)(noisy.flip(-1), sigma).flip(-1)
    torch.testing.assert_close(flipped, denoised, rtol=0, atol=2e-5)


def test_virtual_flips_equal_stored_ones_and_one_class_is_that_subset(few, digits):
    pixels = few.read(0, len(few))
    stored = ImageSet(np.concatenate([pixels, pixels[..., ::-1]]))
    noisy = few.tensor(range(3)) + 0.7 * noise((3, 1, 8, 8))
    flex = [FlexPatchDenoiser(images, bumps(8, 8), 0.4)(noisy, 0.7) for images in (few.with_flips(), stored)]
    torch.testing.assert_close(*flex, rtol=0, atol=1e-6)
    copied = ImageSet(np.ascontiguousarray(digits.pixels[digits.labels == 3]))
    flex = [FlexPatchDenoiser(images, shares=0.4)(noisy, 0.7) for images in (digits.of_class(3), copied)]
    torch.testing.assert_close(*flex, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 1), (1, 1, 5), (2, 4, 3)])
def test_one_training_image_of_any_shape(shape):
    pixels = np.random.default_rng(0).integers(0, 256, (1, *shape)).astype(np.uint8)
    expected = torch.from_numpy(oracles.values(pixels)).float().expand(4, *shape)
    for sigma in (0.002, 1.0, 80.0):
        denoised = FlexPatchDenoiser(ImageSet(pixels))(noise((4, *shape)) * sigma, sigma)
        torch.testing.assert_close(denoised, expected, rtol=0, atol=1e-6)


def test_pixels_that_never_vary_stay():
    pixels = np.random.default_rng(0).integers(0, 256, (60, 1, 6, 6)).astype(np.uint8)
    pixels[:, :, 0] = 0
    denoiser = FlexPatchDenoiser(ImageSet(pixels), shares=0.5)
    assert (denoiser.masks(0.5)[0].sum((1, 2)) == 1).all()
    for sigma in (0.002, 0.5, 80.0):
        denoised = denoiser(sigma * noise((3, 1, 6, 6)), sigma)
        assert torch.isfinite(denoised).all()
        torch.testing.assert_close(denoised[:, 0, 0], torch.full((3, 6), -1.0), rtol=0, atol=1e-6)


def test_masks_hold_the_share_and_no_pixel_more():
    heatmaps = bumps(5, 4).reshape(20, 20)
    masks = masks_of_share(heatmaps.reshape(5, 4, 5, 4), 0.6).reshape(20, 20)
    for heatmap, mask in zip(heatmaps, masks, strict=True):
        assert heatmap[mask].sum() >= 0.6 * heatmap.sum()
        assert heatmap[mask].sum() - heatmap[mask].min() < 0.6 * heatmap.sum()
        assert heatmap[mask].min() > heatmap[~mask].max()


def test_masks_of_heatmaps_with_zeros():
    heatmaps = np.zeros((2, 2, 2, 2))
    heatmaps[0, 0, 0, 1] = heatmaps[0, 1, 0, 1] = 3.0  # two look at the second pixel, two at nothing
    masks = masks_of_share(heatmaps, 0.9).reshape(4, 4)
    expected = np.eye(4, dtype=bool)
    expected[0, 1] = True  # nothing holds the first pixel: it joins its own mask
    np.testing.assert_array_equal(masks, expected)


def test_heatmaps_by_noise_level():
    values = np.stack([bumps(3, 3, seed) for seed in range(2)])
    given = GivenHeatmaps(values, [0.1, 10.0])
    for sigma, level in ((1e-4, 0), (0.9, 0), (1.1, 1), (80.0, 1)):
        np.testing.assert_array_equal(given.at(sigma), values[level])
    np.testing.assert_array_equal(GivenHeatmaps(torch.from_numpy(values[0])).at(3.0), values[0])


@pytest.mark.parametrize(
    ("values", "sigmas", "message"),
    [
        (np.ones((4, 4, 4, 3)), None, "heatmaps are"),
        (np.ones((16, 16)), None, "heatmaps are"),
        (np.full((4, 4, 4, 4), np.nan), None, "finite"),
        (-np.ones((4, 4, 4, 4)), None, "not negative"),
        (np.ones((2, 4, 4, 4, 4)), [1.0], "2 noise levels"),
        (np.ones((1, 4, 4, 4, 4)), [0.0], "positive"),
    ],
)
def test_wrong_heatmaps_are_refused(values, sigmas, message):
    with pytest.raises(UserError, match=message):
        GivenHeatmaps(values, sigmas)


def test_wrong_settings_are_refused(few):
    with pytest.raises(UserError, match="need heatmaps"):
        FlexPatchDenoiser(few, bumps(4, 4))
    for share in (0.0, 1.5, float("nan")):
        with pytest.raises(UserError, match="shares"):
            FlexPatchDenoiser(few, shares=share)
    for sigmas, shares in (((), ()), ((1.0,), (0.1, 0.2)), ((0.0,), (0.3,))):
        with pytest.raises(UserError):
            ShareSchedule(sigmas, shares)
    with pytest.raises(UserError, match="temperature"):
        FlexPatchDenoiser(few, temperature=-1.0)
    with pytest.raises(UserError, match="NaN"):
        FlexPatchDenoiser(few)(torch.full((1, 1, 8, 8), float("nan")), 1.0)


def test_temperature_is_a_larger_sigma_in_the_weights(few):
    noisy = few.tensor(range(2)) + 0.5 * noise((2, 1, 8, 8))
    one = FlexPatchDenoiser(few, bumps(8, 8), 0.5, temperature=4.0)(noisy, 0.5)
    torch.testing.assert_close(one, FlexPatchDenoiser(few, bumps(8, 8), 0.5)(noisy, 1.0))


def test_share_schedule():
    paper = ShareSchedule.paper()
    assert [paper.share(sigma) for sigma in (1e4, 80, 5.4, 3.3, 1.9, 1.1, 0.002)] == [1, 1, 0.7, 0.7, 0.5, 0.4, 0.3]
    assert ShareSchedule.constant(0.6).share(17.0) == 0.6


@pytest.mark.slow
@pytest.mark.parametrize("count", [11, pytest.param(40, marks=pytest.mark.exhaustive)])
def test_two_processes_that_share_the_images_find_what_one_does(count, tmp_path):
    # Images are shared out sixteen at a time: of eleven, one process gets none.
    environment = os.environ | {"PYTHONPATH": str(Path(mask_sharing.__file__).parents[2])}
    words = [[sys.executable, mask_sharing.__file__, str(tmp_path), str(rank), "2", str(count)] for rank in range(2)]
    processes = [subprocess.Popen(word, env=environment) for word in words]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    expected = mask_sharing.denoised(count)
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), expected, rtol=0, atol=1e-5)
