"""Noise levels against the papers' equations, computed another way."""

import itertools
import math

import numpy as np
import pytest
import torch

from scorescope.foundation import UserError
from scorescope.noise import add_noise, check_sigmas, ddpm_sigmas, edm_sigmas, log_spaced_sigmas, vp_sigmas


def test_edm_levels_follow_the_equation():
    expected = [(80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(18)]
    assert edm_sigmas().numpy() == pytest.approx(expected, rel=1e-12)


def test_log_spaced_levels_have_a_constant_ratio_and_both_ends():
    levels = log_spaced_sigmas(150).numpy()
    assert levels[0] == pytest.approx(100)
    assert levels[-1] == pytest.approx(0.01)
    ratios = levels[1:] / levels[:-1]
    assert np.ptp(ratios) < 1e-12


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_ddpm_tables_are_noise_over_signal(schedule):
    if schedule == "linear":
        betas = [1e-4 + (0.02 - 1e-4) * i / 999 for i in range(1000)]
    else:
        signal = [math.cos((i / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(1001)]
        betas = [min(0.999, 1 - b / a) for a, b in itertools.pairwise(signal)]
    product, expected = 1.0, []
    for beta in betas:
        product *= 1 - beta
        expected.append(math.sqrt((1 - product) / product))
    assert ddpm_sigmas(schedule=schedule).numpy() == pytest.approx(expected[::-1], rel=1e-6)


def test_vp_levels_are_those_of_the_simulated_process():
    # variance of x_t | x_0 by integrating dv/dt = β(1 − v), signal by da/dt = −β a / 2, as the SDE says
    steps, a, v = 200_000, 1.0, 0.0
    for i in range(steps):
        beta = 0.1 + 19.9 * (i + 0.5) / steps
        a, v = a * math.exp(-beta / 2 / steps), 1 - (1 - v) * math.exp(-beta / steps)
    assert vp_sigmas(5)[0].item() == pytest.approx(math.sqrt(v) / a, rel=1e-6)


def test_forward_inputs_take_one_level_an_image():
    clean = torch.zeros(3, 1, 64, 64)
    noisy = add_noise(clean, torch.tensor([0.1, 1.0, 10.0]), torch.Generator().manual_seed(0))
    assert noisy.std((1, 2, 3)).numpy() == pytest.approx([0.1, 1.0, 10.0], rel=0.05)


@pytest.mark.parametrize("sigmas", [[], [1.0, 1.0], [0.1, 1.0], [1.0, 0.0], [1.0, -1.0], [math.nan], [math.inf, 1.0]])
def test_bad_lists_are_refused(sigmas):
    with pytest.raises(UserError, match="noise levels must"):
        check_sigmas(sigmas)


@pytest.mark.parametrize(
    "call", [lambda: edm_sigmas(1), lambda: log_spaced_sigmas(5, 2.0, 1.0), lambda: edm_sigmas(5, 0.0)]
)
def test_bad_ranges_are_refused(call):
    with pytest.raises(UserError):
        call()


def test_unknown_schedule_is_refused():
    with pytest.raises(UserError, match="linear, cosine"):
        ddpm_sigmas(schedule="quadratic")
