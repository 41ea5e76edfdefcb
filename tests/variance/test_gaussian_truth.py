"""A Gaussian truth against its definitions, and the lazy network that is affine in x."""

import pytest
import torch

from scorescope.foundation import UserError
from scorescope.variance.gaussian_truth import GaussianTruth
from scorescope.variance.lazy import LazyNetwork, noise_weighted, scaled_inputs
from scorescope.variance.processes import VarianceExploding, VariancePreserving
from scorescope.variance.proxy import PointProxy
from scorescope.variance.tangent_kernels import AffineTangentKernel, ReluTangentKernel

TRUTH = GaussianTruth(VariancePreserving(0.01), torch.tensor([0.3, -0.2]), 0.5)


def test_score_and_covariance_are_the_limit_of_many_points():
    generator = torch.Generator().manual_seed(0)
    points = TRUTH.mean + 0.5 * torch.randn(40_000, 2, generator=generator, dtype=torch.float64)
    proxy = PointProxy(TRUTH.process, points)
    x = torch.tensor([[0.1, 0.4], [-0.3, 0.0]], dtype=torch.float64)
    t = torch.tensor([0.15, 0.5], dtype=torch.float64)
    torch.testing.assert_close(proxy.score(x, t), TRUTH.score(x, t), rtol=0.05, atol=0.05)
    torch.testing.assert_close(proxy.covariance(x, t), TRUTH.covariance(x, t), rtol=0.05, atol=0.08)


def test_the_divergence_is_that_of_gaussians():
    first = torch.distributions.MultivariateNormal(TRUTH.mean, 0.25 * torch.eye(2, dtype=torch.float64))
    mean = torch.tensor([0.0, 0.1], dtype=torch.float64)
    second = torch.distributions.MultivariateNormal(mean, 0.4 * torch.eye(2, dtype=torch.float64))
    wanted = torch.distributions.kl_divergence(first, second)
    torch.testing.assert_close(TRUTH.divergence_to(mean, torch.tensor(0.4).double()), wanted)
    assert float(TRUTH.divergence_to(TRUTH.mean, torch.tensor(0.25).double())) == 0


def test_what_it_draws_has_its_moments():
    clean, t, x = TRUTH.draw_training(20_000, torch.Generator().manual_seed(1))
    assert clean.mean(0).tolist() == pytest.approx([0.3, -0.2], abs=0.02)
    assert clean.std(0).tolist() == pytest.approx([0.5, 0.5], rel=0.03)
    noise = (x - TRUTH.process.alpha(t)[:, None] * clean) / TRUTH.process.mean_variance(t, 2).sqrt()[:, None]
    assert float(noise.var()) == pytest.approx(1, rel=0.03)


def test_an_affine_network_learns_affine_functions_of_x():
    _, t, x = TRUTH.draw_training(15, torch.Generator().manual_seed(2))
    network = LazyNetwork(TRUTH, AffineTangentKernel(ReluTangentKernel(1)), noise_weighted(5.0), x, t)
    at = torch.full((3,), 0.3, dtype=torch.float64)
    three = torch.tensor([[0.0, 0.0], [0.5, 0.2], [1.0, 0.4]], dtype=torch.float64)
    low, middle, high = network.mean_output(three, at)
    torch.testing.assert_close(middle, (low + high) / 2)
    inputs = scaled_inputs(TRUTH.process, three, at)
    gram = AffineTangentKernel(ReluTangentKernel(1)).between(inputs, inputs)[..., 0, 0]
    assert float(torch.linalg.eigvalsh(gram).min()) > -1e-12


def test_bad_input_is_refused():
    with pytest.raises(UserError, match="must be positive, found 0"):
        GaussianTruth(VarianceExploding(), torch.zeros(1), 0.0)
    with pytest.raises(UserError, match="same along every coordinate"):
        GaussianTruth(VariancePreserving(shape=torch.tensor([1.0, 2.0])), torch.zeros(2), 1.0)
