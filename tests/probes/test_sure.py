"""Traces, Stein's estimate and the KL bound where all of them have a closed form: Gaussian data, and a training set."""

import numpy as np
import pytest
import torch
from torch import Tensor

from scorescope.denoisers import GaussianDenoiser, OptimalDenoiser
from scorescope.denoisers.base import Denoiser
from scorescope.foundation import UserError
from scorescope.probes.sure import divergence, kl_bound, kl_integrand, sure

SHAPE, SIDE = (1, 4, 4), 16


def gaussian(seed, spread=1.0):
    """A Gaussian of 16 values: (mean, covariance, its denoiser)."""
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(SIDE, SIDE, generator=generator, dtype=torch.float64)
    covariance = spread * (factor @ factor.T / SIDE) + 0.02 * torch.eye(SIDE, dtype=torch.float64)
    mean = 0.2 * torch.randn(SIDE, generator=generator, dtype=torch.float64)
    return mean, covariance, GaussianDenoiser.from_moments(mean, covariance, SHAPE)


def drawn(mean, covariance, count, sigma, seed=0):
    generator = torch.Generator().manual_seed(seed)
    factor = torch.linalg.cholesky(covariance)
    clean = mean + torch.randn(count, SIDE, generator=generator, dtype=torch.float64) @ factor.T
    clean = clean.reshape(-1, *SHAPE)
    return clean, clean + sigma * torch.randn(clean.shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("sigma", [0.05, 0.5, 3.0])
def test_a_gaussian_keeps_as_many_directions_as_its_variances_say(sigma):
    mean, covariance, denoiser = gaussian(0)
    _, noisy = drawn(mean, covariance, 400, sigma)
    expected = torch.linalg.eigvalsh(covariance)
    expected = (expected / (expected + sigma**2)).sum().item()
    found = divergence(denoiser, noisy, sigma, torch.Generator().manual_seed(1), draws=4)
    assert found.mean().item() == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("sigma", [0.1, 0.7])
def test_stein_s_estimate_is_the_error_of_good_and_bad_denoisers(sigma):
    mean, covariance, right = gaussian(0)
    wrong = gaussian(1, spread=4.0)[2]
    clean, noisy = drawn(mean, covariance, 4000, sigma)
    variances = torch.linalg.eigvalsh(covariance)
    for denoiser, closed_form in ((right, variances * sigma**2 / (variances + sigma**2)), (wrong, None)):
        traces = divergence(denoiser, noisy, sigma, torch.Generator().manual_seed(1), draws=8)
        denoised = denoiser(noisy, sigma)
        estimate = sure(noisy, denoised, traces, sigma)
        true = (denoised - clean).square().flatten(1).mean(1)
        difference = estimate - true
        assert abs(difference.mean()) < 4 * difference.std() / len(difference) ** 0.5
        if closed_form is not None:
            assert estimate.mean().item() == pytest.approx(closed_form.mean().item(), rel=0.05)
            assert (sigma**2 * traces.mean() / SIDE).item() == pytest.approx(closed_form.mean().item(), rel=0.03)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_optimal_denoiser_s_trace_is_that_of_its_posterior_covariance(digits, temperature):
    images, sigma = digits.subset(range(200)), 0.6
    clean = images.tensor(range(12)).double()
    noisy = clean + sigma * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    points = torch.from_numpy(images.read(0, 200) / 127.5 - 1).flatten(1)
    weights = torch.softmax(-torch.cdist(noisy.flatten(1), points).square() / (2 * sigma**2 * temperature), 1)
    mean = weights @ points
    trace = (weights @ points.square() - mean.square()).sum(1)
    found = divergence(OptimalDenoiser(images, temperature=temperature), noisy, sigma, torch.Generator())
    # The engine rounds the trace to about 1e-6 of the images' squared norms.
    assert torch.allclose(found, trace / (sigma**2 * temperature), rtol=1e-5, atol=2e-5)


def test_the_optimal_denoiser_s_error_is_its_trace(digits):
    images, sigma = digits.subset(range(300)), 0.8
    clean = images.tensor().double().repeat(4, 1, 1, 1)
    noisy = clean + sigma * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    optimal = OptimalDenoiser(images)
    error = (optimal(noisy, sigma) - clean).square().flatten(1).sum(1)
    predicted = sigma**2 * divergence(optimal, noisy, sigma, torch.Generator())
    difference = error - predicted
    assert abs(difference.mean()) < 4 * difference.std() / len(difference) ** 0.5
    assert predicted.mean().item() == pytest.approx(error.mean().item(), rel=0.1)


def test_the_bound_is_the_divergence_of_two_gaussians():
    (mean, covariance, first), (other_mean, other_covariance, second) = gaussian(0), gaussian(1, spread=2.0)
    inverse = torch.linalg.inv(other_covariance)
    shift = other_mean - mean
    expected = 0.5 * (
        (inverse @ covariance).trace()
        - SIDE
        + shift @ inverse @ shift
        + torch.logdet(other_covariance)
        - torch.logdet(covariance)
    )
    sigmas = np.geomspace(1e-3, 1e3, 70)
    errors, differences = np.zeros(70), np.zeros(70)
    for place, sigma in enumerate(sigmas):
        clean, noisy = drawn(mean, covariance, 2000, float(sigma), seed=place)
        outputs = [denoiser(noisy, float(sigma)) for denoiser in (first, second)]
        best, worse = ((output - clean).square().mean().item() for output in outputs)
        errors[place] = worse - best
        differences[place] = (outputs[0] - outputs[1]).square().mean().item()
    # The excess error is the squared difference from the optimal denoiser, which scatters less.
    assert kl_bound(differences, sigmas, SIDE) == pytest.approx(expected.item(), rel=0.02)
    assert kl_bound(errors, sigmas, SIDE) == pytest.approx(expected.item(), rel=0.25)
    assert kl_bound(differences[::-1], sigmas[::-1], SIDE) == pytest.approx(expected.item(), rel=0.02)
    two = kl_bound(np.stack([differences, 2 * differences]), sigmas, SIDE)
    assert two[1] == pytest.approx(2 * two[0])


def test_the_integrand_is_per_factor_of_noise():
    # a constant integrand of 3 nats a unit of ln σ over two decades
    sigmas = np.geomspace(0.1, 10, 5)
    excess = 3 * sigmas**2 / 7
    assert kl_integrand(excess, sigmas, 7) == pytest.approx(np.full(5, 3.0))
    assert kl_bound(excess, sigmas, 7) == pytest.approx(3 * np.log(100))


class Stubborn(Denoiser):
    """Knows no derivatives."""

    name = "stubborn"
    differentiable = False

    def denoise(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        return noisy


def test_what_has_no_trace_is_refused():
    generator = torch.Generator()
    with pytest.raises(UserError, match="stubborn is not differentiable"):
        divergence(Stubborn(SHAPE), torch.zeros(1, *SHAPE), 1.0, generator)
    with pytest.raises(UserError, match="at least one random draw, found 0"):
        divergence(gaussian(0)[2], torch.zeros(1, *SHAPE), 1.0, generator, draws=0)
