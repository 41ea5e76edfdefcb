"""Patch posterior errors against their definition, and what they must choose where the answer is known."""

import numpy as np
import pytest
import torch
from tests.posterior import oracles

from scorescope.data.images import ImageSet
from scorescope.denoisers import (
    FlexPatchDenoiser,
    OptimalDenoiser,
    ShareSchedule,
    SquarePatchDenoiser,
    WienerHeatmaps,
)
from scorescope.foundation import UserError
from scorescope.noise import add_noise
from scorescope.posterior.device import DeviceEngine
from scorescope.probes.patches import all_sides, choose_schedule, choose_shares, errors_on_device, patch_errors


def test_errors_match_the_definition():
    rng = np.random.default_rng(0)
    images = ImageSet(rng.integers(0, 256, (60, 2, 6, 5)).astype(np.uint8))
    clean = oracles.values(images.pixels)
    noisy = clean[:2] + 0.5 * rng.standard_normal((2, 2, 6, 5))
    reference = rng.standard_normal((2, 2, 6, 5))
    found = patch_errors(images, torch.from_numpy(noisy), 0.5, torch.from_numpy(reference), [1, 3, 6])
    for image in range(2):
        for place, (tall, wide) in enumerate([(1, 1), (3, 3), (6, 5)]):
            errors = []
            for row in range(7 - tall):
                for column in range(6 - wide):
                    part = (..., slice(row, row + tall), slice(column, column + wide))
                    weights = oracles.posterior_weights(noisy[image][part], clean[part], 0.5)
                    errors.append(np.square(np.tensordot(weights, clean[part], 1) - reference[image][part]).mean())
            assert found[image, place] == pytest.approx(np.mean(errors), rel=1e-5)


@pytest.mark.parametrize("budget", [{}, {"resident_bytes": 0, "work_bytes": 1}])
def test_errors_on_a_device_are_those_of_the_processor(budget):
    rng = np.random.default_rng(1)
    images = ImageSet(rng.integers(0, 256, (90, 2, 6, 5)).astype(np.uint8))
    noisy = torch.from_numpy(oracles.values(images.pixels)[:3] + 0.5 * rng.standard_normal((3, 2, 6, 5)))
    reference = torch.from_numpy(rng.standard_normal(noisy.shape))
    engine = DeviceEngine(images, "cpu", **budget)
    found = errors_on_device(engine, noisy, 0.5, reference, [1, 3, 4, 6])
    np.testing.assert_allclose(found, patch_errors(images, noisy, 0.5, reference, [1, 3, 4, 6]), rtol=1e-5)


def test_of_the_optimal_denoiser_the_whole_image_is_the_best_patch(digits):
    noisy = add_noise(digits.tensor(range(3)), 0.8, torch.Generator().manual_seed(0))
    schedule, errors = choose_schedule(digits, OptimalDenoiser(digits), [noisy], [0.8])
    assert schedule.sides == (8,)
    assert errors[0, -1] < 1e-9
    assert (np.diff(errors[0]) < 0).all()


def test_of_a_patch_denoiser_its_own_side_is_chosen(digits):
    sigmas = [1.5, 1.0]
    inputs = [add_noise(digits.tensor(range(4)), sigma, torch.Generator().manual_seed(1)) for sigma in sigmas]
    schedule, _ = choose_schedule(digits, SquarePatchDenoiser(digits, 5), inputs, sigmas, [1, 5, 8])
    assert schedule.sides == (5, 5)


def test_of_a_mask_denoiser_its_own_share_is_chosen(digits):
    images, sigmas = digits.subset(range(200)), [1.5, 0.6]
    heatmaps = WienerHeatmaps(images)
    inputs = [add_noise(images.tensor(range(3)), sigma, torch.Generator().manual_seed(2)) for sigma in sigmas]
    denoiser = FlexPatchDenoiser(images, heatmaps, ShareSchedule(tuple(sigmas), (0.8, 0.5)))
    schedule, errors = choose_shares(images, denoiser, heatmaps, inputs, sigmas, [0.3, 0.5, 0.8, 1.0])
    assert schedule.shares == (0.8, 0.5)
    assert schedule.sigmas == tuple(sigmas)
    assert errors[0, 2] < 1e-9
    assert errors[1, 1] < 1e-9
    # a share of 1 is the optimal denoiser
    with torch.no_grad():
        made = denoiser(inputs[0], 1.5)
        distance = (made - OptimalDenoiser(images)(inputs[0], 1.5)).square().mean().item()
    assert errors[0, 3] == pytest.approx(distance, rel=1e-4)


def test_sides_to_choose_from():
    assert all_sides(8, 8) == [3, 5, 7, 8]
    assert all_sides(5, 7) == [3, 5, 7]
    assert all_sides(1, 2) == [2]


def test_what_cannot_be_measured(digits):
    noisy = digits.tensor(range(1))
    for arguments in (
        (noisy, 0.5, noisy, []),
        (noisy, 0.5, noisy, [0]),
        (noisy[..., :4], 0.5, noisy, [3]),
        (noisy, 0.0, noisy, [3]),
        (noisy * float("nan"), 0.5, noisy, [3]),
    ):
        with pytest.raises(UserError):
            patch_errors(digits, *arguments)
