"""A denoiser that takes another's place within an interval of noise levels."""

import pytest
import torch

from scorescope.denoisers.base import Denoiser
from scorescope.denoisers.swapped import SwappedDenoiser
from scorescope.foundation import UserError


class Scaled(Denoiser):
    """The noisy image times a number."""

    def __init__(self, factor, shape=(1, 2, 2)):
        super().__init__(shape)
        self.factor = factor
        self.name = f"times {factor}"

    def denoise(self, noisy, sigma):
        return self.factor * noisy / sigma.view(-1, 1, 1, 1)


def test_every_image_gets_the_denoiser_of_its_level():
    swapped = SwappedDenoiser(Scaled(2), Scaled(5), 0.5, 2.0)
    noisy = torch.arange(16.0).view(4, 1, 2, 2)
    sigma = torch.tensor([0.4, 0.5, 1.0, 2.0])
    factor = torch.tensor([2.0, 5.0, 5.0, 2.0])
    assert torch.equal(swapped(noisy, sigma), (factor / sigma).view(-1, 1, 1, 1) * noisy)
    for level, each in zip(sigma.tolist(), factor.tolist(), strict=True):
        assert swapped(noisy, level) == pytest.approx((each / level * noisy).numpy())


def test_intervals_that_are_open():
    noisy = torch.ones(1, 1, 2, 2)
    assert SwappedDenoiser(Scaled(2), Scaled(5))(noisy, 100.0).flatten()[0] == pytest.approx(0.05)
    assert SwappedDenoiser(Scaled(2), Scaled(5), 0.0, 1.0)(noisy, 1e-3).flatten()[0] == pytest.approx(5000)


def test_what_cannot_be_swapped():
    with pytest.raises(UserError, match="cannot take the place"):
        SwappedDenoiser(Scaled(2), Scaled(5, (1, 3, 3)))
    with pytest.raises(UserError, match="interval of noise levels"):
        SwappedDenoiser(Scaled(2), Scaled(5), 2.0, 1.0)
