"""The mixture against plain least squares on pixels, and what it is for: less error on images that nobody has seen."""

import numpy as np
import pytest
import torch

from scorescope.data import ImageSet
from scorescope.denoisers import GaussianDenoiser, OptimalDenoiser, SquarePatchDenoiser, StackedDenoiser, denoisers
from scorescope.denoisers.stacked import RIDGE
from scorescope.foundation import UserError
from scorescope.noise import add_noise

LEVELS = [0.1, 0.5, 2.0]


@pytest.fixture(scope="module")
def parts(digits):
    return digits.subset(range(900)), digits.subset(range(900, 1300)), digits.subset(range(1300, 1797))


@pytest.fixture(scope="module")
def members(parts):
    return [OptimalDenoiser(parts[0]), GaussianDenoiser(parts[0]), SquarePatchDenoiser(parts[0], 3)]


def test_coefficients_are_those_of_least_squares(parts, members):
    stacked = StackedDenoiser(members, parts[1], count=50, levels=LEVELS, seed=4)
    for place, sigma in enumerate(LEVELS):
        clean = parts[1].tensor(range(50))
        noisy = add_noise(clean, sigma, torch.Generator().manual_seed(4 + place))
        design = torch.stack([member(noisy, sigma).reshape(-1) for member in members], 1).double()
        ridge = RIDGE * (design**2).sum() / 3
        expected = torch.linalg.solve(design.T @ design + ridge * torch.eye(3), design.T @ clean.reshape(-1).double())
        torch.testing.assert_close(stacked.coefficients(sigma)[0], expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("bands", [1, 3])
def test_output_is_the_mixture(parts, members, bands):
    stacked = StackedDenoiser(members, parts[1], bands=bands, count=20, levels=LEVELS)
    noisy = add_noise(parts[2].tensor(range(3)), 0.5, torch.Generator().manual_seed(0))
    spectra = [np.fft.fft2(member(noisy, 0.5).double().numpy()) for member in members]
    frequency = np.maximum(*np.meshgrid(abs(np.fft.fftfreq(8)), abs(np.fft.fftfreq(8))))
    band = np.zeros((8, 8), int) if bands == 1 else np.where(frequency > 0.25, 0, np.where(frequency > 0.125, 1, 2))
    coefficients = stacked.coefficients(0.5).numpy()
    expected = np.fft.ifft2(sum(coefficients[band, k] * spectrum for k, spectrum in enumerate(spectra))).real
    np.testing.assert_allclose(stacked(noisy, 0.5), expected, atol=1e-5)


@pytest.mark.slow
def test_less_error_on_unseen_images_than_every_member(parts, members):
    clean = parts[2].tensor(range(200))
    stacked = StackedDenoiser(members, parts[1], count=200, levels=LEVELS)
    banded = StackedDenoiser(members, parts[1], bands=2, count=200, levels=LEVELS)
    for sigma in LEVELS:
        noisy = add_noise(clean, sigma, torch.Generator().manual_seed(9))
        errors = [(member(noisy, sigma) - clean).square().mean() for member in (*members, stacked, banded)]
        assert errors[-2] <= min(errors[:3]) * 1.001
        assert errors[-1] <= errors[-2] * 1.01


def test_levels_between_and_outside_the_fitted_ones(parts, members):
    stacked = StackedDenoiser(members, parts[1], count=20, levels=LEVELS)
    between = (stacked.coefficients(0.1) + stacked.coefficients(0.5)) / 2
    torch.testing.assert_close(stacked.coefficients((0.1 * 0.5) ** 0.5), between)
    assert torch.equal(stacked.coefficients(0.001), stacked.coefficients(0.1))
    assert torch.equal(stacked.coefficients(70.0), stacked.coefficients(2.0))
    noisy = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    mixed = stacked(noisy, torch.tensor([0.1, 2.0]))
    torch.testing.assert_close(mixed[1:], stacked(noisy[1:], 2.0), rtol=0, atol=1e-5)


def test_by_name_it_holds_out_a_tenth(digits):
    stacked = denoisers["stacked"].build(digits.subset(range(60)))
    assert len(stacked.clean) == 6
    assert stacked(torch.zeros(1, 1, 8, 8), 1.0).isfinite().all()


def test_what_cannot_be_mixed(parts, members):
    other = ImageSet(np.zeros((3, 1, 4, 4), np.uint8))
    for arguments, words in (
        (([], parts[1]), "at least one"),
        ((members, other), "one shape"),
    ):
        with pytest.raises(UserError, match=words):
            StackedDenoiser(*arguments)
    with pytest.raises(UserError, match="at least 1"):
        StackedDenoiser(members, parts[1], bands=0)
    with pytest.raises(UserError, match="positive and finite"):
        StackedDenoiser(members, parts[1], levels=[0.0])
    with pytest.raises(UserError, match="at least 2 images"):
        denoisers["stacked"].build(other.subset([0]))
