"""The proxy score's mean and covariance: brute force, autograd, golden maps, and what is left at the edges."""

import functools
import math

import numpy as np
import pytest
import torch
from tests.conftest import relative_error

from scorescope.foundation import UserError
from scorescope.variance.formulations import FORMULATIONS, unit_noise_weight
from scorescope.variance.point_sets import FIGURE_1, corner, scattered
from scorescope.variance.processes import CustomProcess, LinearSignal, VarianceExploding, VariancePreserving
from scorescope.variance.proxy import PointProxy

FULL = torch.tensor([[1.3, 0.4], [0.4, 0.6]], dtype=torch.float64)
PROCESSES = {
    "vp": VariancePreserving(),
    "vp, diagonal": VariancePreserving(shape=torch.tensor([0.3, 1.5])),
    "edm, full": VarianceExploding(shape=FULL),
    "custom, turning": CustomProcess(
        lambda t: 1 + t,
        lambda t: torch.stack([torch.stack([1 + t, t], -1), torch.stack([t, 1 + t**2], -1)], -2),
        1e-3,
        1.0,
        full=True,
    ),
}


def brute_force(process, points, weights, x, t):
    """Everything by Bayes' rule with dense matrices, one position after another, in NumPy."""
    means, covariances, evidences = [], [], []
    dimension = points.shape[1]
    for position, time in zip(x.numpy(), t, strict=True):
        alpha, spread = float(process.alpha(time)), process.covariance(time).dense(dimension).numpy()
        inverse = np.linalg.inv(spread)
        scale = math.sqrt((2 * math.pi) ** dimension * np.linalg.det(spread))
        likelihood = [np.exp(-(position - alpha * p) @ inverse @ (position - alpha * p) / 2) / scale for p in points]
        joint = np.array(likelihood) * weights
        targets = np.array([inverse @ (alpha * p - position) for p in points])
        share = joint / joint.sum()
        mean = share @ targets
        means.append(mean)
        covariances.append(sum(s * np.outer(g - mean, g - mean) for s, g in zip(share, targets, strict=True)))
        evidences.append(math.log(joint.sum()))
    return np.array(means), np.array(covariances), np.array(evidences)


def scene(process, points, count=7):
    generator = torch.Generator().manual_seed(3)
    t = torch.tensor([0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64)[:count]
    weights = torch.rand(len(points), generator=generator, dtype=torch.float64)
    x = torch.randn(count, points.shape[1], generator=generator, dtype=torch.float64)
    return PointProxy(process, points, weights), weights / weights.sum(), x, t


@pytest.mark.parametrize("name", PROCESSES)
def test_mean_covariance_and_density_against_brute_force(name):
    process, points = PROCESSES[name], scattered()
    proxy, weights, x, t = scene(process, points)
    score, covariance, evidence = brute_force(process, points.numpy(), weights.numpy(), x, t)
    assert relative_error(proxy.score(x, t), score) < 1e-10
    assert relative_error(proxy.covariance(x, t), covariance) < 1e-10
    assert relative_error(proxy.log_density(x, t), evidence) < 1e-10
    assert relative_error(proxy.trace(x, t), np.trace(covariance, axis1=1, axis2=2)) < 1e-10
    v = torch.randn(7, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert relative_error(proxy.products(x, t, v), np.einsum("bij,bj->bi", covariance, v.numpy())) < 1e-10
    values, directions = proxy.leading(x, t, 2)
    rebuilt = torch.einsum("bk,bki,bkj->bij", values, directions, directions)
    assert relative_error(rebuilt, covariance) < 1e-10
    assert bool((values[:, 0] >= values[:, 1]).all())


@pytest.mark.parametrize("name", PROCESSES)
def test_covariance_is_the_curvature_of_the_density(name):
    process = PROCESSES[name]
    proxy, _, x, t = scene(process, corner())
    for position, time in zip(x, t, strict=True):
        log_density = functools.partial(proxy.log_density, t=time)
        gradient = torch.autograd.functional.jacobian(log_density, position)
        curvature = torch.autograd.functional.hessian(log_density, position)
        torch.testing.assert_close(proxy.score(position, time), gradient, rtol=1e-9, atol=1e-9)
        wanted = process.covariance(time).power(-1).dense(2) + curvature
        torch.testing.assert_close(proxy.covariance(position, time), wanted, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("dimension", [1, 5])
def test_any_dimension_and_any_shape_of_batch(dimension):
    points = torch.randn(4, dimension, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    proxy, _, x, t = scene(VariancePreserving(), points, count=6)
    together = proxy.covariance(x.reshape(2, 3, dimension), t.reshape(2, 3))
    assert together.shape == (2, 3, dimension, dimension)
    torch.testing.assert_close(together[1, 2], proxy.covariance(x[5], t[5]))
    torch.testing.assert_close(proxy.score(x, t[0]), torch.stack([proxy.score(one, t[0]) for one in x]))


@pytest.mark.parametrize("name", PROCESSES)
def test_the_three_formulations_say_the_same(name):
    process = PROCESSES[name]
    proxy, _, x, t = scene(process, scattered())
    clean = proxy.draw_clean(x, t, torch.Generator().manual_seed(0))
    targets = {key: form.target(process, clean, x, t) for key, form in FORMULATIONS.items()}
    torch.testing.assert_close(targets["denoiser"], clean, rtol=1e-9, atol=1e-9)
    whitened = process.covariance(t).power(-0.5).times(x - process.alpha(t)[:, None] * clean)
    torch.testing.assert_close(targets["noise"], whitened, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        FORMULATIONS["denoiser"].from_score(process, proxy.score(x, t), x, t), proxy.denoised(x, t)
    )
    score, covariance = proxy.score(x, t), proxy.covariance(x, t)
    for key, form in FORMULATIONS.items():
        torch.testing.assert_close(form.to_score(process, targets[key], x, t), targets["score"])
        torch.testing.assert_close(form.to_score(process, form.from_score(process, score, x, t), x, t), score)
        gain = form.gain(process, t, 2)
        spread = proxy.target_covariance(form, x, t)
        torch.testing.assert_close(gain @ spread @ gain.mT, covariance)
    torch.testing.assert_close(proxy.target_covariance(FORMULATIONS["denoiser"], x, t), proxy.clean_covariance(x, t))


def test_the_usual_weights_make_one_loss():
    process = VariancePreserving()
    proxy, _, x, t = scene(process, scattered())
    clean = proxy.draw_clean(x, t, torch.Generator().manual_seed(0))
    guess = proxy.score(x, t) + 0.3
    losses = []
    for form in FORMULATIONS.values():
        error = form.from_score(process, guess, x, t) - form.target(process, clean, x, t)
        losses.append(unit_noise_weight(form)(process, t, 2) * error.square().sum(-1))
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(losses[0], losses[2])


def test_fraction_of_noise_against_golden_maps(golden):
    data = golden("vastola.npz")
    names = dict(zip(FIGURE_1, ["polygon", "line", "blend", "random"], strict=True))
    across = torch.from_numpy(data["grid"])
    x = torch.stack(torch.meshgrid(across, across, indexing="ij"), -1)
    for name, key in names.items():
        points = FIGURE_1[name]()
        torch.testing.assert_close(points, torch.from_numpy(data[f"points/{key}"]), rtol=0, atol=1e-12)
        proxy = PointProxy(LinearSignal(), points)
        for level, t in enumerate(data["t"]):
            found = proxy.fraction(x, torch.tensor(t))
            assert relative_error(found, data[f"fraction/{key}"][level]) < 1e-5, (name, t)


def test_draws_of_the_target_have_mean_s_and_covariance_c():
    process, count = VariancePreserving(), 100_000
    proxy = PointProxy(process, scattered())
    x, t = torch.tensor([0.2, 0.1], dtype=torch.float64), torch.tensor(0.25, dtype=torch.float64)
    clean = proxy.draw_clean(x.expand(count, 2), t.expand(count), torch.Generator().manual_seed(0))
    target = FORMULATIONS["score"].target(process, clean, x.expand(count, 2), t.expand(count))
    wanted = proxy.covariance(x, t)
    assert float((target.mean(0) - proxy.score(x, t)).abs().max()) < 5 * float(wanted.max() / count) ** 0.5
    torch.testing.assert_close(target.T.cov(), wanted, rtol=0.05, atol=0.05)


def test_training_draws_follow_weights_and_times():
    proxy = PointProxy(VariancePreserving(0.01), torch.tensor([[-1.0], [1.0]]), torch.tensor([3.0, 1.0]))
    clean, t, x = proxy.draw_training(40_000, torch.Generator().manual_seed(0))
    assert float(clean.mean()) == pytest.approx(-0.5, abs=0.02)
    assert 0.01 <= float(t.min()) < 0.011
    assert float(t.mean()) == pytest.approx(0.505, abs=0.01)
    residual = (x - proxy.process.alpha(t)[:, None] * clean) / proxy.process.covariance(t).power(0.5).dense(1)[:, 0]
    assert float(residual.std()) == pytest.approx(1, abs=0.02)


def test_one_point_has_no_noise_in_its_target():
    proxy = PointProxy(VariancePreserving(), torch.tensor([[0.4, -0.2]]))
    x, t = torch.randn(5, 2, dtype=torch.float64), torch.full((5,), 0.3, dtype=torch.float64)
    assert float(proxy.covariance(x, t).abs().max()) == 0
    assert float(proxy.fraction(x, t).max()) == 0
    alone = proxy.process.alpha(t[:1])[:, None] * proxy.points
    assert proxy.fraction(alone, t[:1]).tolist() == [0.0]  # score and noise both vanish here


def test_at_time_zero_the_nearest_point_is_left():
    proxy = PointProxy(VariancePreserving(0.0), torch.tensor([[-1.0], [0.0], [0.0], [1.0]]))
    zero = torch.tensor(0.0, dtype=torch.float64)
    x = torch.tensor([[-3.0], [-0.6], [0.1], [0.5]], dtype=torch.float64)
    assert proxy.denoised(x, zero)[:, 0].tolist() == pytest.approx(
        [-1, -1, 0, 1 / 3]
    )  # 0.5 is as far from 1 as from 0, twice
    later = proxy.denoised(x[:3], torch.tensor(1e-9, dtype=torch.float64))
    torch.testing.assert_close(later, proxy.denoised(x[:3], zero))
    for refused in (proxy.score, proxy.covariance, proxy.log_density, proxy.fraction):
        with pytest.raises(UserError, match="singular"):
            refused(x, zero)


def test_noise_without_some_direction_leaves_the_points_on_that_line():
    flat = VariancePreserving(shape=torch.tensor([1.0, 0.0]))
    points = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    t, x = torch.tensor(0.2, dtype=torch.float64), torch.tensor([[0.3, 0.0]], dtype=torch.float64)
    found = PointProxy(flat, points).posterior(x, t)
    thin = VariancePreserving(shape=torch.tensor([1.0, 1e-8]))
    torch.testing.assert_close(found, PointProxy(thin, points).posterior(x, t))
    assert float(found[0, 2]) == 0
    with pytest.raises(UserError, match="singular"):
        PointProxy(flat, points).score(x, t)


@pytest.mark.parametrize(
    ("points", "weights", "words"),
    [
        (torch.zeros(0, 2), None, "at least 1"),
        (torch.zeros(3), None, r"\(N, d\)"),
        (torch.tensor([[math.inf, 0.0]]), None, "NaN or infinite"),
        (torch.zeros(2, 2), torch.tensor([1.0, -1.0]), "weights ≥ 0"),
        (torch.zeros(2, 2), torch.zeros(2), "weights ≥ 0"),
        (torch.zeros(2, 2), torch.ones(3), "2 points"),
    ],
)
def test_bad_points_are_refused(points, weights, words):
    with pytest.raises(UserError, match=words):
        PointProxy(VariancePreserving(), points, weights)


def test_other_dimensions_are_refused():
    with pytest.raises(UserError, match="2 dimensions"):
        PointProxy(VariancePreserving(shape=torch.ones(2)), torch.zeros(1, 3))
    proxy = PointProxy(VariancePreserving(), torch.zeros(1, 3))
    with pytest.raises(UserError, match=r"\(..., 3\)"):
        proxy.score(torch.zeros(4, 2, dtype=torch.float64), torch.tensor(0.5))
    with pytest.raises(UserError, match="between 1 and 3"):
        proxy.leading(torch.zeros(3, dtype=torch.float64), torch.tensor(0.5), 4)
