"""Projected gradients and their attribution against float64 formulas and differences of the weights."""

import numpy as np
import pytest
import torch
from torch import nn

from scorescope.denoisers import NetworkDenoiser
from scorescope.foundation import UserError
from scorescope.probes import attribution_gradients as module
from scorescope.probes.attribution_gradients import GradientFeatures, gradient_scores


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1, bias=False), nn.Tanh(), nn.Conv2d(3, 1, 3, padding=1, bias=False)
    )
    return NetworkDenoiser(layers.double(), "blind-residual", (1, 4, 4), (0.0, 2.0), name="small")


def test_projected_gradient_is_that_of_the_squared_norm(network):
    features = GradientFeatures(network, [0.3, 1.0], seed=1, places=16)
    image = torch.rand(1, 4, 4, dtype=torch.float64) * 2 - 1
    weights = list(network.network.parameters())

    def norm():
        total = 0.0
        for sigma, noise in zip(features.sigmas.double(), features.noise.double(), strict=True):
            noisy = (image + sigma * noise)[None]
            with torch.no_grad():
                total += float(((noisy - network(noisy, float(sigma))) / sigma).square().mean())
        return total / 2

    slopes, step = [], 1e-5
    for weight in weights:
        for place in range(weight.numel()):
            flat = weight.data.view(-1)
            flat[place] += step
            above = norm()
            flat[place] -= 2 * step
            below = norm()
            flat[place] += step
            slopes.append((above - below) / (2 * step))
    projection = np.zeros((16, len(slopes)))
    projection[features.place.numpy(), np.arange(len(slopes))] = 2.0 * features.sign.numpy() - 1
    expected = projection @ np.array(slopes)
    np.testing.assert_allclose(features.of(image).numpy(), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert not any(weight.grad is not None for weight in weights)


@pytest.mark.parametrize("count", [5, 12])
def test_scores_are_the_formula_in_either_form(count):
    random = np.random.default_rng(count)
    training, samples = random.standard_normal((count, 8)), random.standard_normal((3, 8))
    size = 0.1 * (training**2).sum() / count
    expected = samples @ np.linalg.inv(training.T @ training + size * np.eye(8)) @ training.T
    np.testing.assert_allclose(gradient_scores(samples, training), expected, atol=1e-12)
    assert not gradient_scores(samples, np.zeros((4, 8))).any()


def test_inner_products_survive_the_projection_on_average(network, monkeypatch):
    random = np.random.default_rng(0)
    first, second = random.standard_normal((2, 54))
    found = []
    for seed in range(400):
        features = GradientFeatures(network, [1.0], seed=seed, places=32)
        a, b = (
            torch.zeros(32, dtype=torch.float64).index_add_(
                0, features.place, torch.from_numpy(g) * (2.0 * features.sign - 1)
            )
            for g in (first, second)
        )
        found.append(float(a @ b))
    assert np.mean(found) == pytest.approx(first @ second, abs=4 * np.std(found) / 20)


def test_a_network_that_does_not_fit_is_refused(network, monkeypatch):
    monkeypatch.setattr(module, "MOST_WEIGHTS", 10)
    with pytest.raises(UserError, match="at most 10 weights, small has 54"):
        GradientFeatures(network, [1.0])
