"""What window denoisers tell beside their output: weights and evidence of every window, against float64."""

import math

import numpy as np
import pytest
import torch
from tests.posterior import oracles

from scorescope.data.images import ImageSet
from scorescope.denoisers import LocalScoreDenoiser, SquarePatchDenoiser
from scorescope.foundation import UserError

SHAPE = (2, 7, 5)
COUNT = 45


def images():
    return ImageSet(np.random.default_rng(0).integers(0, 256, (COUNT, *SHAPE)).astype(np.uint8))


def noisy_images(sigma):
    noise = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return images().tensor(range(2)).double() + sigma * noise


def inside(side, row, column):
    return slice(row, row + side), slice(column, column + side)


def around(side, row, column):
    half = side // 2
    return slice(max(0, row - half), row + half + 1), slice(max(0, column - half), column + half + 1)


@pytest.mark.parametrize("sigma", [0.05, 0.8, 5.0, 80.0])
@pytest.mark.parametrize(("kind", "part"), [(SquarePatchDenoiser, inside), (LocalScoreDenoiser, around)])
def test_description_matches_the_definition(kind, part, sigma):
    noisy, clean = noisy_images(sigma), oracles.values(images().pixels)
    found = kind(images(), 3).describe(noisy, sigma, top=4)
    rows, columns = found.effective_number.shape[1:]
    assert (rows, columns) == ((5, 3) if part is inside else (7, 5))
    for image in range(2):
        for row in range(rows):
            for column in range(columns):
                window = (..., *part(3, row, column))
                seen = noisy[image].numpy()[window]
                weights = oracles.posterior_weights(seen, clean[window], sigma)
                place = (image, row, column)
                np.testing.assert_allclose(found.probabilities[place], np.sort(weights)[::-1][:4], rtol=1e-4, atol=1e-6)
                named = found.indices[place][found.probabilities[place] > 0]
                np.testing.assert_allclose(weights[named], np.sort(weights)[::-1][: len(named)], rtol=1e-4, atol=1e-6)
                entropy = -(weights[weights > 0] * np.log(weights[weights > 0])).sum()
                assert found.effective_number[place] == pytest.approx(math.exp(entropy), rel=1e-4)
                exponents = -((seen - clean[window]) ** 2).reshape(COUNT, -1).sum(1) / (2 * sigma**2)
                density = np.log(np.exp(exponents - exponents.max()).mean()) + exponents.max()
                density -= seen.size / 2 * math.log(2 * math.pi * sigma**2)
                assert found.log_evidence[place] == pytest.approx(density, rel=1e-5, abs=1e-3)


def test_few_images_with_any_weight_leave_places_empty():
    found = SquarePatchDenoiser(images(), 5).describe(images().tensor([7]), 0.002, top=3)
    assert (found.indices[..., 0] == 7).all()
    assert (found.indices[..., 1:] == -1).all()
    torch.testing.assert_close(found.probabilities[..., 0], torch.ones(1, 3, 1))


def test_number_of_images_to_name():
    with pytest.raises(UserError, match="at least 1, found 0"):
        SquarePatchDenoiser(images(), 3).describe(noisy_images(1.0), 1.0, top=0)
