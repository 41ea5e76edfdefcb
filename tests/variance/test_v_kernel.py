"""V-kernels: each case against its definition, and the linear model's formula against models that were fitted."""

import pytest
import torch

from scorescope.foundation import UserError
from scorescope.variance.features import bumps, fourier
from scorescope.variance.formulations import DENOISER, NOISE, SCORE
from scorescope.variance.linear import LinearTraining, fit_linear
from scorescope.variance.linear_kernel import fitted_kernel, misfit_kernel, noise_kernel
from scorescope.variance.point_sets import scattered, square, three
from scorescope.variance.processes import VariancePreserving
from scorescope.variance.proxy import PointProxy
from scorescope.variance.v_kernel import NaiveKernel, NoVariance

FULL = torch.tensor([[1.2, 0.3], [0.3, 0.7]], dtype=torch.float64)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def at(*times):
    return torch.tensor(times, dtype=torch.float64)


def plane():
    return PointProxy(VariancePreserving(0.01, shape=FULL), scattered())


def test_naive_kernel_is_its_definition():
    proxy, x, t = plane(), torch.tensor([[0.1, 0.2], [-0.5, 0.4]], dtype=torch.float64), at(0.2, 0.4)
    spread = proxy.process.diffusion(t).dense(2)
    wanted = 0.7 * spread @ proxy.covariance(x, t) @ spread
    kernel = NaiveKernel(proxy, 0.7)
    torch.testing.assert_close(kernel.intensity(x, t), wanted)
    torch.testing.assert_close(kernel.trace(x, t), wanted.diagonal(dim1=1, dim2=2).sum(1))
    changing = NaiveKernel(proxy, lambda t: t**2)
    torch.testing.assert_close(changing.intensity(x, t), (t**2 / 0.7)[:, None, None] * wanted)


@pytest.mark.parametrize("draw", ["sample_noise", "draw_noise"])
def test_naive_noise_has_the_kernels_covariance(draw):
    proxy, count = plane(), 60_000
    kernel = NaiveKernel(proxy, 0.7)
    x, t, step = torch.tensor([0.1, 0.2], dtype=torch.float64), at(0.2), at(-0.03)
    noise = getattr(kernel, draw)(x.expand(count, 2), t.expand(count), step.expand(count), generator())
    wanted = 0.03 * kernel.intensity(x[None], t)[0]
    assert float(noise.mean(0).abs().max()) < 5 * float(wanted.max() / count) ** 0.5
    torch.testing.assert_close(noise.T.cov(), wanted, rtol=0.05, atol=0.02 * float(wanted.max()))


def test_no_variance_and_one_point_have_none():
    x, t = torch.randn(3, 2, generator=generator(), dtype=torch.float64), at(0.2, 0.3, 0.4)
    assert float(NoVariance(plane()).trace(x, t).abs().max()) == 0
    torch.testing.assert_close(NoVariance(plane()).score(x, t), plane().score(x, t))
    alone = PointProxy(VariancePreserving(), torch.tensor([[0.3, 0.1]]))
    assert float(NaiveKernel(alone).trace(x, t).abs().max()) == 0
    training = LinearTraining(100, 0.1)
    assert float(noise_kernel(alone, bumps(2, 3, (0.001, 1.0)), training).trace(x, t).abs().max()) == 0


def test_linear_kernel_is_the_expectation_of_proposition_5_1():
    """(1/P) E_c[λ_c² k(a; c) C(c) k(c; b)] by brute force over draws of c, for a model of the score."""
    proxy, features = PointProxy(VariancePreserving(0.05), three()), bumps(1, 4, (0.05, 1.0))
    training = LinearTraining(200, 0.05, SCORE)
    kernel = noise_kernel(proxy, features, training)
    count = 200_000
    _, t, x = proxy.draw_training(count, generator())
    weight, phi = training.weights(proxy.process, t, 1), features(x, t)
    inverse = torch.linalg.inv((phi * weight[:, None]).T @ phi / count + 0.05 * torch.eye(16))
    here_x, here_t = torch.tensor([[-0.5], [0.2], [0.9]], dtype=torch.float64), at(0.1, 0.3, 0.6)
    left = features(here_x, here_t) @ inverse @ phi.T  # k(a; c)
    value = (left * (weight**2 * proxy.covariance(x, t)[:, 0, 0])) @ left.T / count / 200
    diffusion = proxy.process.beta(here_t)
    wanted = diffusion[:, None] * value * diffusion
    found = kernel.covariance(here_x, here_t, here_x, here_t)[..., 0, 0]
    assert float((found - wanted).norm() / wanted.norm()) < 0.02
    torch.testing.assert_close(kernel.trace(here_x, here_t), found.diagonal())


@pytest.mark.slow
@pytest.mark.parametrize("form", [SCORE, DENOISER, NOISE], ids=lambda form: form.name)
def test_formula_and_fitted_models_agree_where_features_suffice(form):
    """Proposition 5.1 as it stands: targets whose mean is within the features' reach, and P much larger than F."""
    proxy, features, models = PointProxy(VariancePreserving(0.05), three()), fourier(1, 3, (0.05, 1.0)), 300
    slope = torch.linspace(-0.2, 0.3, 9, dtype=torch.float64)

    def reachable(proxy, formulation, clean, x, t):
        target = formulation.target(proxy.process, clean, x, t)
        mean = formulation.from_score(proxy.process, proxy.score(x, t), x, t)
        return (features(x, t) @ slope)[:, None] + target - mean

    training = LinearTraining(3000, 1e-6, form, target=reachable)
    fitted = fit_linear(proxy, features, training, models, generator())
    formula = noise_kernel(proxy, features, training)
    x, t = torch.linspace(-1.2, 1.2, 25, dtype=torch.float64)[:, None, None], at(0.06, 0.15, 0.4, 0.8)
    x, t = x.expand(25, 4, 1), t.expand(25, 4)
    ratio = fitted_kernel(fitted).trace(x, t) / formula.trace(x, t)
    error = (2 / (models - 1)) ** 0.5
    assert float(((ratio - 1) / error).square().mean()) < 2
    assert float((ratio - 1).abs().max()) < 5 * error


@pytest.mark.slow
@pytest.mark.parametrize(("points", "family"), [(three(), bumps), (square(0.3), fourier)], ids=["line", "plane"])
def test_leading_order_and_fitted_models_agree_whatever_the_misfit(points, family):
    dimension, models = points.shape[1], 200
    proxy, features = PointProxy(VariancePreserving(0.05), points), family(dimension, 3, (0.05, 1.0))
    training = LinearTraining(3000, 0.02)
    fitted = fit_linear(proxy, features, training, models, generator())
    formula = misfit_kernel(proxy, features, training)
    x = torch.randn(60, dimension, generator=generator(), dtype=torch.float64)
    t = 0.05 + 0.9 * torch.rand(60, generator=generator(1), dtype=torch.float64)
    ratio = fitted_kernel(fitted).trace(x, t) / formula.trace(x, t)
    error = (2 / (models - 1)) ** 0.5
    assert float(((ratio - 1) / error).square().mean()) < 2
    mean = (fitted_kernel(fitted).score(x, t) - formula.score(x, t)).norm() / formula.score(x, t).norm()
    assert float(mean) < 0.02
    # The target's noise is only a part of it.
    assert bool((noise_kernel(proxy, features, training).trace(x, t) < formula.trace(x, t)).all())


def test_covariance_between_pairs_is_that_of_drawn_fields():
    proxy, features = PointProxy(VariancePreserving(0.05, shape=FULL), square()), bumps(2, 3, (0.05, 1.0))
    kernel = noise_kernel(proxy, features, LinearTraining(200))
    x, t = torch.tensor([[0.2, 0.1], [-0.4, 0.6]], dtype=torch.float64), at(0.2, 0.5)
    pairs = kernel.covariance(x, t, x, t)
    torch.testing.assert_close(pairs[0, 1], pairs[1, 0].T)
    torch.testing.assert_close(pairs.diagonal(dim1=0, dim2=1).diagonal(dim1=0, dim2=1).sum(1), kernel.trace(x, t))
    batched = kernel.covariance(x[:, None], t[:, None], x[:, None], t[:, None])  # two batches of one point each
    torch.testing.assert_close(batched[1, 0, 0], pairs[1, 1])
    whole = pairs.transpose(1, 2).reshape(4, 4)
    for draws in (
        kernel.sample_noise(x, t, 40_000, generator()),
        -proxy.process.diffusion(t).times(kernel.sample_models(40_000, generator()).score(x, t) - kernel.score(x, t)),
    ):
        found = draws.reshape(-1, 4).T.cov()
        torch.testing.assert_close(found, whole, rtol=0.05, atol=0.02 * float(whole.max()))


def test_singular_features_are_refused_without_ridge_and_taken_with_one():
    proxy, features = PointProxy(VariancePreserving(0.05), three()), bumps(1, 12, (0.05, 1.0), window=(-9.0, 9.0))
    with pytest.raises(UserError, match="use a ridge"):
        noise_kernel(proxy, features, LinearTraining(100, 0.0))
    x, t = torch.zeros(1, 1, dtype=torch.float64), at(0.3)
    assert float(noise_kernel(proxy, features, LinearTraining(100, 0.1)).trace(x, t)) > 0


def test_refusals():
    with pytest.raises(UserError, match="κ must be"):
        NaiveKernel(plane(), -1.0)
    proxy, features = PointProxy(VariancePreserving(0.05), three()), bumps(1, 3, (0.05, 1.0))
    with pytest.raises(UserError, match="at least two"):
        fitted_kernel(fit_linear(proxy, features, LinearTraining(10), 1, generator()))
