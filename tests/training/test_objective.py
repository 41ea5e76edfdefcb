"""Objectives and schedules against the papers' formulas, and what a step does with them."""

import math

import numpy as np
import pydantic
import pytest
import torch

from scorescope.denoisers import OptimalDenoiser
from scorescope.networks import NetworkConfig, build_network
from scorescope.noise import ddpm_sigmas
from scorescope.training import Objective, Trainer, TrainingConfig
from scorescope.training.loop import split

NETWORK = NetworkConfig(
    architecture="unet",
    arguments={"channels": 1, "width": 4, "blocks": 1},
    preconditioning="blind-residual",
    image_shape=(1, 8, 8),
    sigma_range=(0.0, 2.0),
)


def draws(**settings):
    return Objective(**settings).draw(200_000, torch.Generator().manual_seed(0)).double()


def test_noise_levels_have_the_stated_distributions():
    assert draws(noise="power", sigma_max=2.0, sigma_power=3.0).mean().item() == pytest.approx(2 / 4, rel=0.01)
    logs = draws(noise="lognormal", log_mean=-1.2, log_std=1.2).log()
    assert (logs.mean().item(), logs.std().item()) == pytest.approx((-1.2, 1.2), abs=0.01)
    logs = draws(noise="log-uniform", sigma_min=0.01, sigma_max=10.0).log()
    assert logs.mean().item() == pytest.approx(math.log(0.01 * 10.0) / 2, abs=0.02)
    table = ddpm_sigmas()
    drawn = draws(noise="ddpm")
    assert drawn.log().mean().item() == pytest.approx(table.log().mean().item(), abs=0.02)
    assert torch.isin(drawn.float(), table.float()).all()


@pytest.mark.parametrize("noise", ["power", "lognormal", "log-uniform", "ddpm"])
def test_noise_levels_lie_in_the_stated_range(noise):
    objective = Objective(noise=noise)
    drawn = objective.draw(100_000, torch.Generator().manual_seed(0))
    low, high = objective.sigma_range
    outside = (drawn < low * 0.999) | (drawn > high * 1.001)
    assert outside.float().mean().item() <= (2e-4 if noise == "lognormal" else 0)


def test_weights_are_the_papers():
    sigma = torch.tensor([0.1, 1.0, 7.0])
    assert Objective(weight="edm", sigma_data=0.5).weights(sigma).tolist() == pytest.approx(
        [(s**2 + 0.25) / (s * 0.5) ** 2 for s in (0.1, 1.0, 7.0)]
    )
    # an error of the denoised image is σ times an error of the predicted noise
    assert Objective(weight="noise").weights(sigma).tolist() == pytest.approx([100, 1, 1 / 49])
    assert Objective().weights(sigma).tolist() == [1, 1, 1]


def test_a_range_the_wrong_way_round_is_refused():
    with pytest.raises(pydantic.ValidationError, match="sigma_min must be below"):
        Objective(noise="log-uniform", sigma_min=3.0, sigma_max=1.0)


def test_the_loss_is_the_weighted_error_in_double_precision(digits):
    config = TrainingConfig(batch=6, objective=Objective(noise="lognormal", weight="edm"))
    trainer = Trainer(build_network(NETWORK), "blind-residual", digits, config)
    trainer.network.eval()  # so that normalization does not look at the batch
    batch = trainer.draw(3)
    expected = 0.0
    for noisy, sigma, target in zip(batch.noisy, batch.sigma.double(), batch.target, strict=True):
        with torch.no_grad():
            denoised = noisy - 2 * trainer.network((noisy[None] + 1) / 2)[0]
        weight = (sigma**2 + 0.25) / (0.5 * sigma) ** 2
        expected += (weight * (denoised.double() - target).square().mean() / 6).item()
    assert trainer.loss(batch).item() == pytest.approx(expected, rel=1e-5)


def test_the_closed_form_target_is_the_optimal_denoisers_answer(digits):
    images = digits.subset(range(40))
    noisy_target = Trainer(build_network(NETWORK), "blind-residual", images, TrainingConfig(batch=16)).draw(0)
    config = TrainingConfig(batch=16, objective=Objective(target="closed-form"))
    exact = Trainer(build_network(NETWORK), "blind-residual", images, config).draw(0)
    assert torch.equal(noisy_target.noisy, exact.noisy)
    assert torch.equal(exact.target, OptimalDenoiser(images)(exact.noisy, exact.sigma))
    # the noisy target is unbiased for it: at low noise they coincide
    quiet = exact.sigma < 0.05
    assert torch.allclose(noisy_target.target[quiet], exact.target[quiet], atol=1e-3)


def test_a_split_batch_gives_the_gradient_of_the_whole(digits):
    gradients = []
    for parts in (1, 3):
        config = TrainingConfig(batch=8, accumulate=parts)
        trainer = Trainer(build_network(NETWORK), "blind-residual", digits, config)
        trainer.network.eval()
        whole = trainer.draw(0)
        for part in split(whole, config.accumulate):
            trainer.backward(trainer.loss(part) * (len(part.sigma) / 8))
        gradients.append(torch.cat([value.grad.flatten() for value in trainer.network.parameters()]))
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-4, atol=1e-7)


def test_learning_rates_follow_their_schedules():
    cosine = TrainingConfig(steps=1000, learning_rate=1.0, warmup=10)
    assert cosine.learning_rate_at(0) == pytest.approx(0.1)
    assert cosine.learning_rate_at(500) == pytest.approx(0.01 + 0.99 / 2)
    assert cosine.learning_rate_at(1000) == pytest.approx(0.01)
    inverse = TrainingConfig(steps=1000, learning_rate=1.0, warmup=0, schedule="inverse-sqrt", decay_from=100)
    assert inverse.learning_rate_at(50) == 1
    assert inverse.learning_rate_at(399) == pytest.approx(0.5)
    assert TrainingConfig(warmup=0, schedule="constant").learning_rate_at(10**6) == 3e-3


def test_averages_are_the_weighted_means_they_say():
    # power profile (Karras et al. 2024): weight of step t in the average of n steps is proportional to t^γ
    config, values = TrainingConfig(ema="power", ema_power=3.0), np.random.default_rng(0).normal(size=200)
    average = 0.0
    for step, value in enumerate(values, start=1):
        decay = config.decay_at(step)
        average = decay * average + (1 - decay) * value
    weights = np.array([(t / 200) ** 3 for t in range(1, 201)])
    assert average == pytest.approx((weights * values).sum() / weights.sum(), abs=0.02)
    assert TrainingConfig(ema_decay=0.9).decay_at(1) == 0.1
    assert TrainingConfig(ema_decay=0.9).decay_at(10_000) == 0.9
