"""The effective process: kernels with a known answer, and three routes to the same density."""

import itertools

import pytest
import torch
from scipy.stats import ks_2samp

from scorescope.variance.effective import effective_process, models_flow, naive_estimator, probability_flow
from scorescope.variance.features import bumps
from scorescope.variance.linear import LinearTraining
from scorescope.variance.linear_kernel import noise_kernel
from scorescope.variance.point_sets import scattered, three
from scorescope.variance.processes import CustomProcess, VarianceExploding, VariancePreserving
from scorescope.variance.proxy import PointProxy
from scorescope.variance.v_kernel import NaiveKernel, NoVariance, SmoothKernel


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def last(states):
    *_, final = states
    return final


class TimeOnly(SmoothKernel):
    """A field that does not depend on x: the end of a trajectory is Gaussian with a covariance known in closed form."""

    name = "time only"
    mixing = torch.tensor([[1.0, 0.4], [0.4, 0.5]], dtype=torch.float64)

    def score(self, x, t):
        return torch.zeros_like(x)

    def covariance(self, x, t, other_x, other_t):
        near = torch.exp(-((t[..., :, None] - other_t[..., None, :]) ** 2) / 0.08)
        return near[..., None, None] * self.mixing


def test_frozen_noise_is_correlated_along_a_trajectory():
    kernel, count = TimeOnly(VarianceExploding(0.1, 1.0), 2), 8_000
    times = torch.linspace(1.0, 0.1, 10, dtype=torch.float64)
    end = last(effective_process(kernel, torch.zeros(count, 2, dtype=torch.float64), times, generator()))
    steps = times.diff()
    near = torch.exp(-((times[:-1, None] - times[None, :-1]) ** 2) / 0.08)
    wanted = (steps @ near @ steps) * kernel.mixing
    torch.testing.assert_close(end.T.cov(), wanted, rtol=0.06, atol=0.03 * float(wanted.max()))
    independent = (steps**2).sum() * kernel.mixing
    assert float(wanted[0, 0]) > 3 * float(independent[0, 0])  # it would be as small if the noise were not frozen


def test_white_noise_adds_up():
    class Constant(NoVariance):
        def score(self, x, t):
            return torch.zeros_like(x)

        def intensity(self, x, t):
            return TimeOnly.mixing.expand(*x.shape, 2)

        def sample_noise(self, x, t, step, generator):
            return super(NoVariance, self).sample_noise(x, t, step, generator)

    kernel = Constant(PointProxy(VarianceExploding(0.1, 1.0), torch.zeros(1, 2)))
    times = torch.linspace(1.0, 0.1, 7, dtype=torch.float64)
    end = last(effective_process(kernel, torch.zeros(40_000, 2, dtype=torch.float64), times, generator()))
    torch.testing.assert_close(end.T.cov(), 0.9 * TimeOnly.mixing, rtol=0.05, atol=0.02)


def test_without_variance_the_flow_ends_at_the_training_points():
    proxy = PointProxy(VariancePreserving(1e-4), scattered())
    kernel, times = NoVariance(proxy), torch.logspace(0, -4, 120, dtype=torch.float64)
    starts = proxy.process.start(500, 2, generator())
    end = last(effective_process(kernel, starts, times, generator()))
    torch.testing.assert_close(end, last(probability_flow(kernel, starts, times)))
    nearest = torch.cdist(end, proxy.points)
    assert float(nearest.amin(1).median()) < 0.02
    assert len(nearest.argmin(1).unique()) == 6


def test_naive_estimator_and_its_effective_process_sample_alike():
    """From one start, so that all of the spread is the noise's own; stopped before single draws become large jumps."""
    proxy, count = PointProxy(VariancePreserving(0.15), three()), 3000
    kernel, times = NaiveKernel(proxy, 0.05), torch.linspace(0.5, 0.15, 61, dtype=torch.float64)
    starts = torch.full((count, 1), 0.2, dtype=torch.float64)
    drawn = last(naive_estimator(kernel, starts, times, generator(1)))[:, 0]
    smooth = last(effective_process(kernel, starts, times, generator(2)))[:, 0]
    assert ks_2samp(drawn.numpy(), smooth.numpy()).pvalue > 1e-3
    assert float(drawn.std()) > 0.1
    assert float(last(probability_flow(kernel, starts, times)).std()) == pytest.approx(0, abs=1e-12)


def test_conditioning_and_whole_fields_sample_alike():
    process, count = VariancePreserving(0.05), 2000
    kernel = noise_kernel(PointProxy(process, three()), bumps(1, 5, (0.05, 1.0)), LinearTraining(200))
    times, starts = process.times(12), torch.full((count, 1), 0.6, dtype=torch.float64)
    conditioned = last(effective_process(kernel, starts, times, generator(1)))[:, 0]
    fields = last(models_flow(kernel.sample_models(count, generator(2)), starts[:, None], times))[:, 0, 0]
    assert ks_2samp(conditioned.numpy(), fields.numpy()).pvalue > 1e-3
    assert float(fields.std()) > 0.05


@pytest.mark.parametrize("steps", [1, 4])
def test_states_are_yielded_at_every_time(steps):
    proxy = PointProxy(VariancePreserving(0.05), three())
    starts, times = proxy.process.start(5, 1, generator()), proxy.process.times(steps)
    kernel = noise_kernel(proxy, bumps(1, 3, (0.05, 1.0)), LinearTraining(50))
    for states in (
        effective_process(kernel, starts, times, generator()),
        naive_estimator(NaiveKernel(proxy), starts, times, generator()),
        effective_process(NoVariance(proxy), starts, times, generator()),
    ):
        first, *others = itertools.islice(states, 100)
        assert bool((first == starts).all())
        assert len(others) == steps


def test_noise_in_one_direction_at_a_time():
    """D_t is singular at every time, but turns, so that S_t is not: score, V and the process exist, and V is singular."""

    def diffusion(t):
        along = torch.stack([(3 * t).cos(), (3 * t).sin()], -1)
        return along[..., :, None] * along[..., None, :]

    process = CustomProcess(torch.zeros_like, diffusion, 0.5, 2.0, full=True)
    kernel = NaiveKernel(PointProxy(process, scattered()), 0.1)
    x, t = torch.randn(6, 2, generator=generator(), dtype=torch.float64), torch.full((6,), 1.0, dtype=torch.float64)
    smallest = torch.linalg.eigvalsh(kernel.intensity(x, t))[:, 0] / kernel.trace(x, t)
    assert float(smallest.abs().max()) < 1e-9
    end = last(effective_process(kernel, x, process.times(10), generator()))
    assert bool(torch.isfinite(end).all())


def test_one_data_point_is_where_everything_ends():
    proxy = PointProxy(VariancePreserving(1e-4), torch.tensor([[0.3, 0.1]]))
    times = torch.logspace(0, -4, 60, dtype=torch.float64)
    starts = proxy.process.start(20, 2, generator())
    end = last(effective_process(NaiveKernel(proxy), starts, times, generator()))
    torch.testing.assert_close(end, last(probability_flow(NoVariance(proxy), starts, times)))
    assert float((end - proxy.points).abs().max()) < 0.1
