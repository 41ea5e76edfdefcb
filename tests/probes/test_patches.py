"""Patch posterior errors against their definition, and what they must choose where the answer is known."""

import numpy as np
import pytest
import torch
from tests.posterior import oracles

from scorescope.data.images import ImageSet
from scorescope.denoisers import OptimalDenoiser, SquarePatchDenoiser
from scorescope.foundation import UserError
from scorescope.noise import add_noise
from scorescope.probes.patches import all_sides, choose_schedule, patch_errors


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
