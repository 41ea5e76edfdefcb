"""A network as a denoiser: what it accepts, and batches of any size."""

import math

import pytest
import torch

from scorescope.denoisers.network import NetworkDenoiser
from scorescope.foundation import UserError
from scorescope.networks import NetworkConfig, build_network

CONFIG = NetworkConfig(
    architecture="unet",
    arguments={"channels": 1, "width": 4, "blocks": 1},
    preconditioning="blind-residual",
    image_shape=(1, 8, 8),
    sigma_range=(0.0, 2.0),
)


@pytest.fixture
def denoiser():
    return NetworkDenoiser(build_network(CONFIG), "blind-residual", (1, 8, 8), (0.0, 2.0), name="small", max_batch=3)


def test_large_batches_are_split_without_a_trace(denoiser):
    noisy = torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together = denoiser(noisy)
        alone = torch.cat([denoiser(image[None]) for image in noisy])
    assert torch.allclose(together, alone, atol=1e-6)


def test_a_blind_denoiser_does_not_look_at_sigma(denoiser):
    noisy = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(denoiser(noisy), denoiser(noisy, 0.5))


@pytest.mark.parametrize(
    ("noisy", "said"),
    [
        (torch.zeros(2, 3, 8, 8), r"takes images \(B, 1, 8, 8\), found \(2, 3, 8, 8\)"),
        (torch.zeros(2, 1, 9, 9), "found"),
        (torch.zeros(1, 8, 8), "found"),
        (torch.zeros(1, 1, 8, 8, dtype=torch.uint8), "uint8"),
        (torch.full((1, 1, 8, 8), math.nan), "NaN"),
    ],
)
def test_wrong_images_are_refused(denoiser, noisy, said):
    with pytest.raises(UserError, match=said):
        denoiser(noisy, 0.5)
