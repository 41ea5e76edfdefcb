"""Constrained sampling: measurements against their matrices, a Gaussian prior against its exact posterior, a real network."""

import pytest
import torch

from scorescope.denoisers import GaussianDenoiser, NetworkDenoiser
from scorescope.foundation import UserError
from scorescope.networks import NetworkConfig, architectures
from scorescope.sampling import (
    BlockAverages,
    Inpainting,
    RandomDirections,
    blind_ascent,
    constrained_ascent,
    last,
    start_of,
)
from scorescope.training import TrainingConfig, TrainingJob, train_networks

SHAPE = (1, 12, 12)
KINDS = ["inpainting", "averages", "random"]


def measurement(kind, shape=SHAPE):
    generator = torch.Generator().manual_seed(3)
    if kind == "inpainting":
        return Inpainting(torch.rand(shape, generator=generator) < 0.5)
    return BlockAverages(shape, 2) if kind == "averages" else RandomDirections(shape, 40, generator)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [SHAPE, (3, 4, 8)])
def test_measurements_are_products_with_orthonormal_directions(kind, shape):
    found = measurement(kind, shape)
    directions = found.spread(torch.eye(found.count)).flatten(1).T  # M, (d, m)
    assert torch.allclose(directions.T @ directions, torch.eye(found.count), atol=1e-5)
    images = torch.randn(5, *shape, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(found.measure(images), images.flatten(1) @ directions, atol=1e-5)
    values = torch.randn(5, found.count, generator=torch.Generator().manual_seed(1))
    imposed = found.impose(images, values)
    assert torch.allclose(found.measure(imposed), values, atol=1e-5)
    change = (imposed - images).flatten(1)
    assert torch.allclose(change @ directions @ directions.T, change, atol=1e-5)  # nothing but the measured part moved


def test_averages_are_those_of_blocks():
    found = BlockAverages((1, 4, 6), 2)
    images = torch.arange(24.0).reshape(1, 1, 4, 6)
    small = found.coarse(found.measure(images))
    assert small[0, 0, 0].tolist() == [(0 + 1 + 6 + 7) / 4, (2 + 3 + 8 + 9) / 4, (4 + 5 + 10 + 11) / 4]
    assert torch.equal(found.of_coarse(small), found.measure(images))


def gaussian_problem(found):
    """A Gaussian of rank 6 of which three features are seen by half and three not at all: (denoiser, c, mean, covariance)."""
    generator = torch.Generator().manual_seed(0)
    dimension = 144
    directions = found.spread(torch.eye(found.count)).flatten(1).T.double()
    seen = directions @ directions.T

    def part(projection):
        drawn = projection @ torch.randn(dimension, 3, generator=generator, dtype=torch.float64)
        return drawn / drawn.norm(dim=0)

    unseen = torch.eye(dimension, dtype=torch.float64) - seen
    scales = torch.tensor([3.0, 2, 1, 3, 2, 1], dtype=torch.float64)
    factor = torch.cat([part(seen) + part(unseen), part(unseen)], dim=1) * scales
    covariance = factor @ factor.T
    mean = 0.3 * torch.randn(dimension, generator=generator, dtype=torch.float64)
    truth = mean + factor @ torch.randn(6, generator=generator, dtype=torch.float64)
    # The textbook's conditional of a Gaussian, given Mᵀ x = c.
    gain = covariance @ directions @ torch.linalg.pinv(directions.T @ covariance @ directions, rtol=1e-9)
    posterior_mean = mean + gain @ directions.T @ (truth - mean)
    posterior = covariance - gain @ directions.T @ covariance
    denoiser = GaussianDenoiser.from_moments(mean, covariance, SHAPE, rank=6)
    return denoiser, found.measure(truth.float().reshape(1, *SHAPE)), posterior_mean, posterior, mean


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_samples_are_those_of_a_gaussian_posterior(kind):
    found = measurement(kind)
    denoiser, measured, expected, covariance, prior_mean = gaussian_problem(found)
    generator = torch.Generator().manual_seed(0)
    many = measured.expand(200, -1)
    start = start_of(found, many, 0.0, 2.0, generator)
    final = last(
        constrained_ascent(denoiser, found, many, start, generator, sigma_end=0.05, h=0.2, beta=0.07, h_grows=False)
    )
    assert bool(final.converged.all())
    assert torch.allclose(found.measure(final.denoised), many, atol=1e-4)
    samples = final.denoised.flatten(1).double()
    width = covariance.trace().sqrt()
    assert (samples.mean(0) - expected).norm() / width < 0.2
    assert (prior_mean - expected).norm() / width > 0.5  # which the prior alone would miss
    assert samples.T.cov().trace().item() == pytest.approx(covariance.trace().item(), rel=0.25)
    assert (samples.T.cov() - covariance).norm() / covariance.norm() < 0.35


@pytest.fixture(scope="module")
def network(digits, tmp_path_factory):
    """A small blind network that has seen 1,200 digits."""
    entry = architectures["unet"]
    config = NetworkConfig(
        architecture="unet",
        arguments=entry.arguments_for((1, 8, 8)) | {"width": 12},
        preconditioning=entry.preconditioning,
        image_shape=(1, 8, 8),
        sigma_range=(0.0, 2.0),
    )
    folder = tmp_path_factory.mktemp("inverse") / "network"
    train_networks([TrainingJob(folder, config, digits.subset(range(1200)), TrainingConfig(steps=300))])
    return NetworkDenoiser.open(folder)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_network_fills_in_what_was_not_measured(network, digits, kind):
    found = {
        "inpainting": Inpainting(torch.rand(8, 8, generator=torch.Generator().manual_seed(0)) < 0.7),
        "averages": BlockAverages((1, 8, 8), 2),
        "random": RandomDirections((1, 8, 8), 24, torch.Generator().manual_seed(0)),
    }[kind]
    clean, each = digits.tensor(range(1300, 1316)), 6
    measured = found.measure(clean).repeat_interleave(each, 0)
    generator = torch.Generator().manual_seed(0)
    seen = digits.subset(range(1200)).tensor()
    start = start_of(found, measured, float(seen.mean()), 2.0, generator)
    final = last(constrained_ascent(network, found, measured, start, generator, sigma_end=0.15, h=0.1, beta=0.1))
    assert final.converged.float().mean() > 0.8
    assert torch.allclose(found.measure(final.denoised), measured, atol=1e-4)
    # Samples scatter around what can be known: their mean is to be nearer to the truth than the mean image is.
    average = final.denoised.reshape(-1, each, 1, 8, 8).mean(1)
    guess = found.impose(seen.mean(0, keepdim=True).expand_as(clean), found.measure(clean))
    error, error_of_guess = ((images - clean).square().mean().sqrt() for images in (average, guess))
    assert error < error_of_guess


@pytest.mark.slow
def test_with_nothing_but_one_measurement_it_is_nearly_the_free_ascent(network):
    # One random direction of 64 changes little; the noise that is drawn is the same.
    found = RandomDirections((1, 8, 8), 1, torch.Generator().manual_seed(0))
    start = 2 * torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    settings = {"sigma_end": 0.2, "h": 0.1, "beta": 0.5}
    free = last(blind_ascent(network, start, torch.Generator().manual_seed(2), **settings))
    measured = found.measure(free.denoised)
    bound = last(constrained_ascent(network, found, measured, start, torch.Generator().manual_seed(2), **settings))
    assert torch.allclose(found.measure(bound.denoised), measured, atol=1e-5)
    similar = torch.nn.functional.cosine_similarity(free.denoised.flatten(1), bound.denoised.flatten(1))
    assert similar.median() > 0.8


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Inpainting(torch.ones(4, 4, dtype=torch.bool)), "some that are not"),
        (lambda: Inpainting(torch.ones(4, 4)), "mask of bool"),
        (lambda: BlockAverages((1, 6, 6), 4), "do not tile images of 6×6"),
        (lambda: RandomDirections((1, 2, 2), 4, torch.Generator()), "between 1 and 3"),
    ],
)
def test_impossible_measurements_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.slow
def test_values_that_do_not_fit_are_refused(network):
    found = BlockAverages((1, 8, 8), 2)
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(UserError, match=r"are \(B, 16\), found \(2, 9\)"):
        start_of(found, torch.zeros(2, 9), 0.0, 2.0, generator)
    with pytest.raises(UserError, match="need as many images to start from"):
        constrained_ascent(network, found, torch.zeros(2, 16), torch.zeros(3, 1, 8, 8), generator)
    with pytest.raises(UserError, match="NaN"):
        start_of(found, torch.full((1, 16), torch.nan), 0.0, 2.0, generator)
