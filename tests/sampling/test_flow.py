"""The flow against its closed-form solution for Gaussian data."""

import pytest
import torch

from scorescope.foundation import UserError
from scorescope.noise import log_spaced_sigmas
from scorescope.sampling import euler, heun, last

MEAN, SCALE = 0.3, 0.5


def gaussian_denoiser(noisy, sigma):
    """Posterior mean for data N(MEAN, SCALE²)."""
    return MEAN + SCALE**2 / (SCALE**2 + sigma**2) * (noisy - MEAN)


def exact_sample(start, sigma):
    """The flow keeps (y − mean) / sqrt(scale² + σ²)."""
    return MEAN + (start - MEAN) * SCALE / (SCALE**2 + sigma**2) ** 0.5


@pytest.mark.parametrize(("sampler", "order"), [(euler, 1), (heun, 2)])
def test_samplers_converge_at_their_order(sampler, order):
    start = 10.0 * torch.randn(4, 1, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    errors = []
    for steps in (40, 80):
        states = sampler(gaussian_denoiser, start, log_spaced_sigmas(steps, 1e-4, 10.0))
        errors.append((last(states).noisy - exact_sample(start, 10.0)).abs().max().item())
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.25)


@pytest.mark.parametrize("sampler", [euler, heun])
def test_every_state_is_yielded_with_its_denoised_image(sampler):
    sigmas = [5.0, 1.0, 0.2]
    states = list(sampler(gaussian_denoiser, torch.ones(2, 1, 2, 2), sigmas))
    assert [state.sigma for state in states] == [*sigmas, 0.0]
    for state in states[:-1]:
        assert torch.equal(state.denoised, gaussian_denoiser(state.noisy, state.sigma))
    assert torch.equal(states[-1].noisy, states[-1].denoised)


def test_the_last_step_lands_on_the_denoised_image():
    states = list(heun(gaussian_denoiser, torch.ones(1, 1, 2, 2), [3.0]))
    assert torch.allclose(states[-1].noisy, states[0].denoised)


def test_increasing_levels_are_refused():
    with pytest.raises(UserError, match="decrease"):
        list(heun(gaussian_denoiser, torch.ones(1, 1, 2, 2), [0.1, 1.0]))
