"""The blind ascent on a denoiser whose prior is known."""

import pytest
import torch
from torch import Tensor

from scorescope.denoisers.base import Denoiser
from scorescope.foundation import UserError
from scorescope.sampling import blind_ascent


class TwoPoints(Denoiser):
    """Exact posterior mean for images that are all −1 or all +1, told sigma."""

    name = "two points"

    def denoise(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        total = noisy.sum((1, 2, 3)) / sigma**2
        return torch.tanh(total).reshape(-1, 1, 1, 1).expand_as(noisy)


def run(**settings):
    denoiser = TwoPoints((1, 6, 6))
    generator = torch.Generator().manual_seed(1)
    start = 2.0 * torch.randn(64, 1, 6, 6, generator=generator)
    return list(blind_ascent(denoiser, start, generator, sigma_end=0.02, **settings))


def test_samples_are_the_points_of_the_prior():
    states = run(h=0.05)
    samples = states[-1].denoised
    assert bool(states[-1].converged.all())
    assert torch.allclose(samples.abs(), torch.ones_like(samples), atol=1e-3)
    share = (samples.mean((1, 2, 3)) > 0).float().mean().item()
    assert 0.25 < share < 0.75


def test_noise_level_falls_by_one_minus_beta_h():
    # algorithm 1: with a constant step and an exact denoiser, σ̂ falls by the factor 1 − βh a step
    states = run(h=0.1, beta=0.5, h_grows=False)
    sigma = torch.stack([state.sigma for state in states[20:30]]).mean(1)
    assert (sigma[1:] / sigma[:-1]).mean().item() == pytest.approx(1 - 0.5 * 0.1, abs=0.01)


def test_giving_up_is_reported():
    states = run(h=0.01, h_grows=False, max_steps=5)
    assert len(states) == 5
    assert not bool(states[-1].converged.any())


def test_one_image_does_not_depend_on_the_others():
    denoiser, start = TwoPoints((1, 6, 6)), 2.0 * torch.randn(4, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    pushed = start.clone()
    pushed[3] = 50.0
    results = [list(blind_ascent(denoiser, s, torch.Generator().manual_seed(2), h=0.05))[-1] for s in (start, pushed)]
    assert torch.allclose(results[0].denoised[:3], results[1].denoised[:3], atol=1e-5)


@pytest.mark.parametrize("settings", [{"h": 0.0}, {"beta": 2.0}, {"sigma_start": 0.01}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(UserError):
        run(**settings)
