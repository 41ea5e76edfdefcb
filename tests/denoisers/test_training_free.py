"""What every denoiser built from training images must do, whatever its mechanism."""

import numpy as np
import pytest
import torch
from tests.conftest import relative_error
from tests.posterior import oracles

from scorescope.data.images import ImageSet
from scorescope.denoisers import (
    GaussianDenoiser,
    LocalScoreDenoiser,
    OptimalDenoiser,
    SquarePatchDenoiser,
    WindowSchedule,
    denoisers,
)
from scorescope.foundation import UserError

BUILDERS = {
    "optimal": OptimalDenoiser,
    "gaussian": GaussianDenoiser,
    "pspc-square": lambda images: SquarePatchDenoiser(images, 3),
    "local-score": lambda images: LocalScoreDenoiser(images, 3),
}
posteriors = pytest.mark.parametrize("name", [name for name in BUILDERS if name != "gaussian"])
everything = pytest.mark.parametrize("name", list(BUILDERS))


@pytest.fixture(scope="module")
def few(digits):
    return digits.subset(range(0, 1797, 9))


def noise(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@everything
def test_registered_with_an_explanation(name):
    entry = denoisers[name]
    assert entry.build(ImageSet(np.zeros((2, 1, 4, 4), np.uint8))).name == name
    assert entry.explanation
    assert entry.source


@pytest.mark.slow
@everything
def test_mixed_noise_levels_are_those_of_each_image_alone(name, few):
    denoiser = BUILDERS[name](few)
    sigmas = torch.tensor([0.002, 0.3, 1.0, 5.0, 80.0])
    noisy = few.tensor(range(5)) + sigmas[:, None, None, None] * noise((5, 1, 8, 8))
    together = denoiser(noisy, sigmas)
    alone = torch.cat([denoiser(noisy[k : k + 1], float(sigmas[k])) for k in range(5)])
    assert together.dtype == torch.float32
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    assert denoiser(noisy.double(), sigmas.double()).dtype == torch.float64


@everything
def test_high_noise_gives_the_mean_image(name, few):
    denoised = BUILDERS[name](few)(noise((2, 1, 8, 8)), 1e5)
    mean = few.tensor().mean(0)
    torch.testing.assert_close(denoised, mean.expand(2, -1, -1, -1), rtol=0, atol=1e-3)


@posteriors
def test_low_noise_gives_the_nearest_image(name, few):
    clean = few.tensor(range(7))
    torch.testing.assert_close(BUILDERS[name](few)(clean + 0.002 * noise(clean.shape), 0.002), clean, rtol=0, atol=1e-6)


@everything
def test_permuting_the_training_set_changes_nothing(name, few):
    order = np.random.default_rng(0).permutation(len(few))
    noisy = few.tensor(range(3)) + 0.7 * noise((3, 1, 8, 8))
    one, other = BUILDERS[name](few)(noisy, 0.7), BUILDERS[name](few.subset(order))(noisy, 0.7)
    torch.testing.assert_close(one, other, rtol=1e-5, atol=2e-5)


@everything
def test_flipping_data_and_input_flips_the_output(name, few):
    flipped = ImageSet(np.ascontiguousarray(few.read(0, len(few))[..., ::-1]))
    noisy = few.tensor(range(3)) + 0.7 * noise((3, 1, 8, 8))
    one, other = BUILDERS[name](few)(noisy, 0.7), BUILDERS[name](flipped)(noisy.flip(-1), 0.7).flip(-1)
    torch.testing.assert_close(one, other, rtol=1e-5, atol=2e-5)


@everything
def test_virtual_flips_equal_stored_ones(name, few):
    pixels = few.read(0, len(few))
    stored = ImageSet(np.concatenate([pixels, pixels[..., ::-1]]))
    noisy = few.tensor(range(3)) + 0.7 * noise((3, 1, 8, 8))
    one, other = BUILDERS[name](few.with_flips())(noisy, 0.7), BUILDERS[name](stored)(noisy, 0.7)
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@everything
def test_one_class_is_that_subset(name, digits):
    noisy = noise((2, 1, 8, 8))
    zeros = digits.of_class(0)
    copied = ImageSet(np.ascontiguousarray(digits.pixels[digits.labels == 0]))
    torch.testing.assert_close(BUILDERS[name](zeros)(noisy, 0.5), BUILDERS[name](copied)(noisy, 0.5))


@everything
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 1), (1, 1, 5), (2, 4, 3)])
def test_one_training_image_of_any_shape(name, shape):
    pixels = np.random.default_rng(0).integers(0, 256, (1, *shape)).astype(np.uint8)
    denoiser = BUILDERS[name](ImageSet(pixels))
    expected = torch.from_numpy(oracles.values(pixels)).float().expand(4, *shape)
    for sigma in (0.002, 1.0, 80.0):
        torch.testing.assert_close(denoiser(noise((4, *shape)) * sigma, sigma), expected, rtol=1e-5, atol=1e-6)


@everything
def test_pixels_that_never_vary_stay(name):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 1, 6, 6)).astype(np.uint8)
    pixels[:, :, 0] = 0
    pixels[:, :, :, 5] = 77
    for sigma in (0.002, 0.5, 80.0):
        denoised = BUILDERS[name](ImageSet(pixels))(sigma * noise((3, 1, 6, 6)), sigma)
        assert torch.isfinite(denoised).all()
        torch.testing.assert_close(denoised[:, 0, 0, :5], torch.full((3, 5), -1.0), rtol=0, atol=1e-4)
        torch.testing.assert_close(denoised[:, 0, 1:, 5], torch.full((3, 5), 77 / 127.5 - 1), rtol=0, atol=1e-4)


@everything
def test_wrong_input_is_refused(name, few):
    denoiser = BUILDERS[name](few)
    for noisy, sigma in (
        (torch.zeros(2, 1, 8, 7), 1.0),
        (torch.full((1, 1, 8, 8), float("nan")), 1.0),
        (torch.zeros(1, 1, 8, 8), 0.0),
        (torch.zeros(1, 1, 8, 8), float("inf")),
        (torch.zeros(3, 1, 8, 8), torch.ones(2)),
    ):
        with pytest.raises(UserError):
            denoiser(noisy, sigma)


@posteriors
def test_temperature_is_a_larger_sigma_in_the_weights(name, few):
    kinds = {"optimal": OptimalDenoiser, "pspc-square": SquarePatchDenoiser, "local-score": LocalScoreDenoiser}

    def builder(images, **options):
        return kinds[name](images, *([] if name == "optimal" else [3]), **options)

    noisy = few.tensor(range(2)) + 0.5 * noise((2, 1, 8, 8))
    torch.testing.assert_close(builder(few, temperature=4.0)(noisy, 0.5), builder(few)(noisy, 1.0))
    with pytest.raises(UserError, match="temperature"):
        builder(few, temperature=0.0)


def test_optimal_matches_the_definition(few):
    clean = oracles.values(few.read(0, len(few)))
    denoiser = OptimalDenoiser(few)
    for sigma in (0.002, 0.1, 0.4, 1.0, 4.0, 80.0):
        noisy = clean[:3] + sigma * noise((3, 1, 8, 8)).double().numpy()
        expected = np.stack([oracles.optimal(image, clean, sigma) for image in noisy])
        assert relative_error(denoiser(torch.from_numpy(noisy), sigma), expected) < 2e-6


@pytest.mark.parametrize("count", [30, 200])
def test_gaussian_matches_the_definition(count, few):
    some = few.subset(range(count))
    clean = oracles.values(some.read(0, count))
    for sigma in (0.002, 0.3, 80.0):
        noisy = clean[:3] + sigma * noise((3, 1, 8, 8)).double().numpy()
        expected = np.stack([oracles.gaussian(image, clean, sigma) for image in noisy])
        assert relative_error(GaussianDenoiser(some)(torch.from_numpy(noisy), sigma), expected) < 1e-7


def test_gaussian_from_moments_and_by_rank(few):
    flat = few.tensor().reshape(len(few), -1).double()
    moments = flat.mean(0), torch.cov(flat.T, correction=0)
    noisy = noise((2, 1, 8, 8))
    for rank in (None, 5):
        one = GaussianDenoiser.from_moments(*moments, few.image_shape, rank=rank)(noisy, 0.5)
        torch.testing.assert_close(one, GaussianDenoiser(few, rank=rank)(noisy, 0.5))
    with pytest.raises(UserError, match="rank"):
        GaussianDenoiser(few, rank=0)
    with pytest.raises(UserError, match="mean of 64 values"):
        GaussianDenoiser.from_moments(torch.zeros(3), torch.eye(3), few.image_shape)
    with pytest.raises(UserError, match="symmetric"):
        GaussianDenoiser.from_moments(torch.zeros(2), torch.tensor([[1.0, 0.5], [0.0, 1.0]]), (1, 1, 2))


def test_gaussian_is_differentiable(few):
    noisy = noise((1, 1, 8, 8)).double().requires_grad_()
    denoiser = GaussianDenoiser(few, rank=3)
    assert torch.autograd.gradcheck(lambda y: denoiser(y, 0.5), (noisy,), fast_mode=True)


def test_window_schedule():
    paper = WindowSchedule.paper()
    assert WindowSchedule.for_images(32, 32) == paper
    assert [paper.side(sigma) for sigma in (1e4, 80, 5.4, 3.3, 0.3, 0.002, 1e-6)] == [32, 32, 23, 15, 3, 3, 3]
    assert set(WindowSchedule.for_images(8, 8).sides) == {8, 5, 3}
    assert WindowSchedule.constant(5).side(17.0) == 5
    for sigmas, sides in (((), ()), ((1.0,), (1, 2)), ((0.0,), (3,)), ((1.0,), (0,))):
        with pytest.raises(UserError):
            WindowSchedule(sigmas, sides)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in denoisers if name != "bm3d"])
@pytest.mark.parametrize("count", [2, 3])
def test_two_images_are_enough(name, count, few):
    images = few.subset(range(count))
    clean = images.tensor(range(count)).mean(0, keepdim=True).expand(5, -1, -1, -1)
    denoised = denoisers[name].build(images)(clean + 0.1 * noise(clean.shape), torch.tensor([0.002, 0.1, 1, 10, 80]))
    assert bool(torch.isfinite(denoised).all())
    assert denoised.abs().max() < 2
