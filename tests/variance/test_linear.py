"""Linear models in closed form: normal equations written out, limits, formulations, golden fitted models."""

import numpy as np
import pytest
import torch

from scorescope.foundation import UserError
from scorescope.variance.features import bumps, fourier
from scorescope.variance.formulations import FORMULATIONS
from scorescope.variance.linear import LinearModels, LinearTraining, exact_target, fit_linear, least_squares
from scorescope.variance.point_sets import square, three
from scorescope.variance.processes import VariancePreserving
from scorescope.variance.proxy import PointProxy


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("samples", [9, 40])
def test_least_squares_against_normal_equations(samples):
    phi = torch.randn(2, samples, 20, generator=generator(), dtype=torch.float64)
    y = torch.randn(2, samples, 3, generator=generator(1), dtype=torch.float64)
    for features, targets, found in zip(phi.numpy(), y.numpy(), least_squares(phi, y, 0.07).numpy(), strict=True):
        gram = features.T @ features / samples + 0.07 * np.eye(20)
        wanted = np.linalg.solve(gram, features.T @ targets / samples).T
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("samples", [9, 40])
def test_no_ridge_is_the_limit_of_a_small_one(samples):
    phi = torch.randn(1, samples, 20, generator=generator(), dtype=torch.float64)
    phi[:, :, 7] = phi[:, :, 3]  # a singular Gram matrix even with many samples
    y = torch.randn(1, samples, 2, generator=generator(1), dtype=torch.float64)
    torch.testing.assert_close(least_squares(phi, y, 0.0), least_squares(phi, y, 1e-9), rtol=1e-5, atol=1e-6)
    if samples < 20:
        torch.testing.assert_close(
            phi @ least_squares(phi, y, 0.0).mT, y
        )  # more features than samples: it interpolates


def test_fit_solves_the_weighted_problem_of_its_own_draws():
    process = VariancePreserving(0.01)
    proxy, features = PointProxy(process, square(0.2)), bumps(2, 4, (0.01, 1.0))
    models = fit_linear(proxy, features, LinearTraining(300, 0.1), 2, generator())
    clean, t, x = proxy.draw_training(600, generator())
    for model in range(2):
        rows = slice(300 * model, 300 * (model + 1))
        phi = features(x[rows], t[rows]).numpy()
        weight = (process.alpha(t[rows]) ** 2 / (1 - process.alpha(t[rows]) ** 2)).numpy()
        gram = (phi * weight[:, None]).T @ phi / 300 + 0.1 * np.eye(64)
        wanted = np.linalg.solve(gram, (phi * weight[:, None]).T @ clean[rows].numpy() / 300).T
        np.testing.assert_allclose(models.weights[model].numpy(), wanted, rtol=1e-8, atol=1e-10)


def test_output_and_score_of_all_models():
    process = VariancePreserving(0.01)
    models = fit_linear(PointProxy(process, square()), fourier(2, 3, (0.01, 1.0)), LinearTraining(50), 3, generator())
    x, t = torch.randn(4, 2, generator=generator(), dtype=torch.float64), torch.full((4,), 0.3, dtype=torch.float64)
    phi = models.features(x, t)
    denoised = torch.stack([phi @ weights.T for weights in models.weights])
    torch.testing.assert_close(models.output(x, t), denoised)
    alpha = process.alpha(t)[:, None]
    torch.testing.assert_close(models.score(x, t), (alpha * denoised - x) / (1 - alpha**2))


class Rescaled:
    """Features times a power of S and α: with them a model of one formulation becomes one of another."""

    def __init__(self, features, process, formulation):
        self.features, self.process, self.formulation = features, process, formulation
        self.dimension, self.count = features.dimension, features.count

    def __call__(self, x, t):
        # gain of denoisers over gain of this formulation: f_this = that · f_denoiser
        ratio = FORMULATIONS["denoiser"].gain(self.process, t, 1) / self.formulation.gain(self.process, t, 1)
        return self.features(x, t) * ratio[..., 0]


@pytest.mark.parametrize("name", ["score", "noise"])
def test_formulations_fit_the_same_score_if_their_features_correspond(name):
    """With features that correspond, W is the same; the known offset of a denoiser is taken off the others' targets."""
    process = VariancePreserving(0.01)
    proxy, features, form = PointProxy(process, three()), bumps(1, 5, (0.01, 1.0)), FORMULATIONS[name]

    def without_offset(proxy, formulation, clean, x, t):
        known = FORMULATIONS["denoiser"].offset(process, x, t)
        return formulation.from_score(
            process, formulation.to_score(process, formulation.target(process, clean, x, t), x, t) - known, x, t
        )

    denoisers = fit_linear(proxy, features, LinearTraining(200), 2, generator())
    training = LinearTraining(200, formulation=form, target=without_offset)
    others = fit_linear(proxy, Rescaled(features, process, form), training, 2, generator())
    torch.testing.assert_close(others.weights, denoisers.weights, rtol=1e-6, atol=1e-8)
    x = torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None]
    t = torch.full((9,), 0.2, dtype=torch.float64)
    score = others.score(x, t) + FORMULATIONS["denoiser"].offset(process, x, t)
    torch.testing.assert_close(score, denoisers.score(x, t), rtol=1e-6, atol=1e-6)


def test_exact_targets_leave_less_variance_between_models():
    proxy, features = PointProxy(VariancePreserving(0.01), three()), bumps(1, 8, (0.01, 1.0))
    x, t = torch.linspace(-1, 1, 21, dtype=torch.float64)[:, None], torch.full((21,), 0.1, dtype=torch.float64)
    spreads = []
    for target in (LinearTraining().target, exact_target):
        models = fit_linear(proxy, features, LinearTraining(500, target=target), 30, generator())
        spreads.append(float(models.output(x, t).var(0).mean()))
    assert spreads[1] < 0.5 * spreads[0]


@pytest.mark.parametrize("case", ["eps0.01_P64", "eps0.01_P1024", "eps0.001_P256"])
def test_mean_and_variance_of_fitted_models_against_golden_ones(golden, case):
    data = golden("vastola.npz")
    epsilon, samples = float(case[3:].split("_")[0]), int(case.split("P")[1])
    process = VariancePreserving(epsilon)
    models = fit_linear(
        PointProxy(process, three()), bumps(1, 16, (epsilon, 1.0)), LinearTraining(samples, 0.1), 100, generator()
    )
    x, t = torch.from_numpy(data[f"fig2/{case}/x"]), process.times(30)
    found = models.output(x[:, None, None].expand(-1, len(t), 1), t.expand(len(x), -1))[..., 0]
    mean = torch.from_numpy(data[f"fig2/{case}/mean_denoiser"]).double()
    variance = torch.from_numpy(data[f"fig2/{case}/variance_denoiser"]).double()
    # Two independent sets of 100 models: squared standard scores are 1 on average, wherever there is any variance.
    known = variance > 1e-8
    scores = (found.mean(0) - mean) / ((found.var(0) + variance) / 100).sqrt()
    assert 0.7 < float(scores[known].square().mean()) < 1.5
    assert float(((found.var(0) / variance)[known]).median()) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"samples": 0}, "at least one sample"), ({"ridge": -1.0}, "ridge η"), ({"ridge": float("nan")}, "ridge η")],
)
def test_bad_training_is_refused(settings, words):
    with pytest.raises(UserError, match=words):
        LinearTraining(**settings)


def test_bad_fits_are_refused():
    proxy = PointProxy(VariancePreserving(0.01), three())
    with pytest.raises(UserError, match="2 coordinates"):
        fit_linear(proxy, bumps(2, 3, (0.01, 1.0)), LinearTraining(10), 1, generator())
    with pytest.raises(UserError, match="number of models"):
        fit_linear(proxy, bumps(1, 3, (0.01, 1.0)), LinearTraining(10), 0, generator())
    at_zero = PointProxy(VariancePreserving(0.0), three())
    with pytest.raises(UserError, match="choose ε > 0"):
        fit_linear(at_zero, bumps(1, 3, (0.0, 1.0)), LinearTraining(10), 1, generator())
    kept = LinearTraining(10, weight=lambda process, t, dimension: torch.ones_like(t))
    assert isinstance(fit_linear(at_zero, bumps(1, 3, (0.0, 1.0)), kept, 1, generator()), LinearModels)
