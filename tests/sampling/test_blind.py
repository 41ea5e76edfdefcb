"""The blind ascent on a denoiser whose prior is known."""

import pytest
import torch
from torch import Tensor

from scorescope.denoisers.base import Denoiser
from scorescope.foundation import UserError
from scorescope.sampling import blind_ascent
from scorescope.sampling.blind import steps_of_exact


class TwoPoints(Denoiser):
    """Exact posterior mean for images that are all −1 or all +1, told sigma."""

    name = "two points"

    def denoise(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        total = noisy.sum((1, 2, 3)) / sigma**2
        return torch.tanh(total).reshape(-1, 1, 1, 1).expand_as(noisy)


class Amplifier(Denoiser):
    """Takes every image for a faint one and doubles it: the noise that it sees grows without end."""

    name = "amplifier"
    blind = True

    def denoise(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        grows = (noisy.mean((1, 2, 3)) > 0).reshape(-1, 1, 1, 1)
        return torch.where(grows, 2 * noisy, torch.zeros_like(noisy))


def run(side=6, **settings):
    denoiser = TwoPoints((1, side, side))
    generator = torch.Generator().manual_seed(1)
    start = 2.0 * torch.randn(64, 1, side, side, generator=generator)
    return list(blind_ascent(denoiser, start, generator, **({"sigma_end": 0.02} | settings)))


@pytest.mark.parametrize("h_grows", [True, False])
def test_samples_are_the_points_of_the_prior(h_grows):
    states = run(h=0.05, beta=0.5, h_grows=h_grows)
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


@pytest.mark.parametrize("h_grows", [True, False])
def test_an_exact_denoiser_takes_as_many_steps_as_expected(h_grows):
    settings = {"h": 0.05, "beta": 0.2, "sigma_end": 0.05, "h_grows": h_grows}
    expected = steps_of_exact(sigma_start=2.0, **settings)
    final = run(side=24, **settings)[-1]  # in few dimensions σ̂ scatters, and the luckier of its ways down count
    assert final.steps.float().mean().item() == pytest.approx(expected, rel=0.05)


def test_expected_steps_are_those_of_the_recursion():
    for h_grows in (True, False):
        level, step = 2.0, 0
        while level > 0.05:
            step += 1
            level *= 1 - 0.1 * (0.01 * step / (1 + 0.01 * (step - 1)) if h_grows else 0.01)
        assert steps_of_exact(2.0, 0.05, 0.01, 0.1, h_grows) == step


@pytest.mark.slow
def test_the_slower_rule_is_given_the_time_it_needs():
    # A fixed h = 0.01 needs more than a thousand steps: giving up after a thousand would lose every sample.
    final = run(h=0.01, beta=0.2, h_grows=False)[-1]
    assert bool(final.converged.all())
    assert int(final.steps.min()) > 1000


def test_giving_up_is_reported_for_every_image():
    states = run(h=0.01, h_grows=False, max_steps=5)
    assert len(states) == 5
    assert not bool(states[-1].converged.any())
    assert not bool(states[-1].diverged.any())
    assert states[-1].steps.tolist() == [5] * 64


def test_an_image_that_diverges_is_told_from_one_that_converges():
    start = torch.ones(2, 1, 4, 4)
    start[1] = -1
    generator = torch.Generator().manual_seed(0)
    final = list(blind_ascent(Amplifier((1, 4, 4)), start, generator, sigma_start=1.0, h=0.1, beta=1.0))[-1]
    assert final.diverged.tolist() == [True, False]
    assert final.converged.tolist() == [False, True]
    # Each stops when it is done: 1.1^t reaches ten times the start, 0.9^t falls to a tenth, with a step that grows.
    assert bool((final.steps < 40).all())
    assert bool(torch.isfinite(final.noisy).all())


def test_one_image_does_not_depend_on_the_others():
    denoiser, start = TwoPoints((1, 6, 6)), 2.0 * torch.randn(4, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    pushed = start.clone()
    pushed[3] = 50.0
    results = [list(blind_ascent(denoiser, s, torch.Generator().manual_seed(2), h=0.05))[-1] for s in (start, pushed)]
    assert torch.allclose(results[0].denoised[:3], results[1].denoised[:3], atol=1e-5)


@pytest.mark.parametrize("settings", [{"h": 0.0}, {"beta": 2.0}, {"sigma_start": 0.01}, {"h": 0.0, "max_steps": 3}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(UserError):
        run(**settings)
