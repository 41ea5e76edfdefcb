"""Both limits: mixtures against SciPy, covariances against simulations with little noise."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, norm
from tests.variance.test_effective import TimeOnly

from scorescope.foundation import UserError
from scorescope.variance.effective import effective_process, models_flow
from scorescope.variance.features import bumps
from scorescope.variance.learned_density import Density, Grid, total_variation
from scorescope.variance.limits import EndNoise, gaussian_mixture, kernel_density, semiclassical
from scorescope.variance.linear import LinearTraining
from scorescope.variance.linear_kernel import noise_kernel
from scorescope.variance.point_sets import scattered, three
from scorescope.variance.processes import VarianceExploding, VariancePreserving
from scorescope.variance.proxy import PointProxy
from scorescope.variance.v_kernel import NaiveKernel


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_mixture_on_a_grid_against_scipy():
    grid, spread = Grid(-1.5, 1.5, 60, 2), torch.tensor([[0.05, 0.01], [0.01, 0.03]], dtype=torch.float64)
    proxy = PointProxy(VariancePreserving(0.01), scattered(), torch.tensor([1.0, 2, 3, 1, 1, 1]))
    shares = kernel_density(proxy, spread, grid)
    epsilon = torch.tensor(0.01, dtype=torch.float64)
    cover = (spread + proxy.process.covariance(epsilon).dense(2)).numpy() + grid.width**2 / 12 * np.eye(2)
    centres = (proxy.process.alpha(epsilon) * proxy.points).numpy()
    wanted = sum(
        float(weight) * multivariate_normal(centre, cover).pdf(grid.points.numpy())
        for weight, centre in zip(proxy.weights, centres, strict=True)
    )
    np.testing.assert_allclose(shares[:-1].numpy(), wanted.ravel() * grid.width**2, rtol=1e-9, atol=1e-15)
    assert float(shares.sum()) == pytest.approx(1)


def test_narrow_gaussians_are_not_lost_between_centres():
    grid = Grid(-1, 1, 20)
    shares = gaussian_mixture(torch.tensor([[0.3]]).double(), torch.full((1, 1, 1), 1e-12).double(), grid)
    assert float(shares.sum()) == pytest.approx(1, abs=1e-3)


@pytest.mark.slow
def test_late_noise_makes_a_kernel_density_estimate():
    proxy, grid = PointProxy(VariancePreserving(0.01), three()), Grid(-2, 2, 50)
    total = torch.full((1, 1), 0.03, dtype=torch.float64)
    distances = []
    for stretch in (0.1, 1e-4):
        kernel = EndNoise(proxy, total, stretch)
        starts = proxy.process.start(20_000, 1, generator())
        *_, end = effective_process(kernel, starts, kernel.times(60, 10), generator(1))
        found = Density.of(end[None], grid).shares[0]
        distances.append(float(total_variation(found, kernel_density(proxy, total, grid))))
    assert distances[1] < 0.04  # sampling noise and the Euler steps before
    assert distances[0] > 3 * distances[1]


def test_covariance_is_exact_where_the_process_is_linear():
    kernel, times = TimeOnly(VarianceExploding(0.1, 1.0), 2), torch.linspace(1.0, 0.1, 13, dtype=torch.float64)
    starts = torch.zeros(3, 2, dtype=torch.float64)
    end, covariance = semiclassical(kernel, starts, times)
    steps = times.diff()
    near = torch.exp(-((times[:-1, None] - times[None, :-1]) ** 2) / 0.08)
    torch.testing.assert_close(covariance, ((steps @ near @ steps) * kernel.mixing).expand(3, 2, 2))
    assert float(end.abs().max()) == 0


def test_little_white_noise_spreads_as_predicted():
    proxy, count = PointProxy(VariancePreserving(0.05), scattered()), 6000
    kernel, times = NaiveKernel(proxy, 1e-4), proxy.process.times(20)
    start = torch.tensor([[0.4, -0.3]], dtype=torch.float64)
    end, covariance = semiclassical(kernel, start, times)
    *_, ends = effective_process(kernel, start.expand(count, 2), times, generator())
    torch.testing.assert_close(ends.T.cov(), covariance[0], rtol=0.06, atol=0.03 * float(covariance.max()))
    assert float((ends.mean(0) - end[0]).abs().max()) < 5 * float(covariance.max() / count) ** 0.5 + 1e-3


def test_little_frozen_noise_spreads_as_predicted():
    process = VariancePreserving(0.05)
    kernel = noise_kernel(PointProxy(process, three()), bumps(1, 6, (0.05, 1.0)), LinearTraining(3_000_000))
    times, start = process.times(15), torch.tensor([[0.6]], dtype=torch.float64)
    end, covariance = semiclassical(kernel, start, times)
    *_, ends = models_flow(kernel.sample_models(3000, generator()), start.expand(3000, 1, 1), times)
    assert float(ends.var()) == pytest.approx(float(covariance), rel=0.1)
    assert norm(float(end), float(covariance) ** 0.5).cdf(ends.median()) == pytest.approx(0.5, abs=0.05)


def test_refusals():
    proxy = PointProxy(VariancePreserving(0.01), three())
    with pytest.raises(UserError, match="before ε"):
        EndNoise(proxy, torch.eye(1), 2.0)
    with pytest.raises(UserError, match="d = 1"):
        EndNoise(proxy, torch.eye(2), 0.1)
