"""Denoisers answer the inputs of several levels in one batch as they answer them one by one."""

import numpy as np
import pytest
import torch

from scorescope.denoisers import OptimalDenoiser, SquarePatchDenoiser
from scorescope.lenses.inputs import ForwardInputs, denoised_at


@pytest.mark.parametrize("kind", [OptimalDenoiser, SquarePatchDenoiser])
def test_levels_together_are_levels_one_by_one(kind, digits):
    images = digits.subset(range(50))
    sigmas, clean = [2.0, 0.7, 0.2, 0.05, 0.02], images.tensor(range(3))
    inputs = ForwardInputs("train", "train", sigmas, clean, seed=0)
    denoiser, cpu = kind(images), torch.device("cpu")
    alone = denoised_at(denoiser, inputs, range(1, 5), cpu, 1)
    assert alone.shape == (4, 3, *images.image_shape)
    np.testing.assert_allclose(alone[1], denoiser(inputs.at(2), 0.2).numpy(), atol=1e-6)
    for together in (2, 3, 4):
        np.testing.assert_allclose(denoised_at(denoiser, inputs, range(1, 5), cpu, together), alone, atol=1e-6)
