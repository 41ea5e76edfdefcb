"""Tangent kernels and the lazy network: limits, real networks at large width, Monte Carlo, and gradient descent itself."""

import pytest
import torch
from torch import nn

from scorescope.foundation import UserError
from scorescope.variance.formulations import DENOISER, NOISE, SCORE
from scorescope.variance.lazy import LazyNetwork, LazyTraining, noise_weighted, scaled_inputs
from scorescope.variance.linear import noisy_target
from scorescope.variance.point_sets import scattered, three
from scorescope.variance.processes import VariancePreserving
from scorescope.variance.proxy import PointProxy
from scorescope.variance.tangent_kernels import EmpiricalTangentKernel, ReluTangentKernel, TangentMLP

PROXY = PointProxy(VariancePreserving(0.02), three())
PLANE = PointProxy(VariancePreserving(0.02), scattered())


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(proxy, count, seed=0):
    """Training points and their clean points: (P, d), (P,), (P, d)."""
    clean, t, x = proxy.draw_training(count, generator(seed))
    return x, t, clean


def rows(count=5, inputs=3, seed=1):
    return torch.randn(count, inputs, generator=generator(seed), dtype=torch.float64)


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_a_wide_networks_kernel_is_the_analytic_one(depth):
    analytic = ReluTangentKernel(depth, bias_variance=0.2).between(rows(), rows())[..., 0, 0]
    width = 2000 if depth < 3 else 1000
    network = TangentMLP(3, 1, width, depth, generator(depth), bias_variance=0.2)
    empirical = EmpiricalTangentKernel(network).between(rows(), rows())[..., 0, 0]
    error = float((empirical - analytic).norm() / analytic.norm())
    # A handful of standard deviations of what a network of this width is away from the limit; exact without hidden layers.
    assert error < max(1e-12, 4 * ReluTangentKernel(depth, width=width).kernel_spread)


@pytest.mark.slow
def test_the_distance_to_the_analytic_kernel_falls_as_one_over_the_root_of_the_width():
    analytic = ReluTangentKernel(2).between(rows(), rows())[..., 0, 0]
    errors = []
    for width in (50, 800):
        found = [
            EmpiricalTangentKernel(TangentMLP(3, 1, width, 2, generator(seed))).between(rows(), rows())[..., 0, 0]
            for seed in range(12)
        ]
        errors.append(float((torch.stack(found) - analytic).square().mean().sqrt()))
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.4)  # √16


def test_the_starting_outputs_have_the_stated_covariance_at_any_width():
    inputs, draw = rows(3), generator(7)
    outputs = torch.cat([TangentMLP(3, 16, 20, 2, draw)(inputs).detach().T for _ in range(200)])
    wanted = ReluTangentKernel(2, width=20).start_covariance(inputs, inputs)[..., 0, 0]
    found = outputs.T.cov()
    torch.testing.assert_close(found.diagonal(), wanted.diagonal(), rtol=0.2, atol=0)
    assert float((found - wanted).abs().max()) < 0.25 * float(wanted.max())


def test_the_jacobian_is_the_derivative_of_the_outputs():
    network = TangentMLP(3, 2, 6, 1, generator())
    jacobian = EmpiricalTangentKernel(network).jacobian(rows())
    direction = [torch.randn(p.shape, generator=generator(3), dtype=torch.float64) for p in network.parameters()]
    flat = torch.cat([d.flatten() for d in direction])
    step = 1e-6
    outputs = []
    for sign in (1, -1):
        with torch.no_grad():
            for parameter, way in zip(network.parameters(), direction, strict=True):
                parameter += sign * step * way
            outputs.append(network(rows()))
            for parameter, way in zip(network.parameters(), direction, strict=True):
                parameter -= sign * step * way
    torch.testing.assert_close(jacobian @ flat, (outputs[0] - outputs[1]) / (2 * step), rtol=1e-6, atol=1e-8)


def test_without_end_it_is_kernel_regression():
    x, t, clean = drawn(PLANE, 30)
    kernel = ReluTangentKernel(2)
    lazy = LazyNetwork(PLANE, kernel, LazyTraining(), x, t)
    there = (
        torch.randn(4, 2, generator=generator(2), dtype=torch.float64),
        torch.rand(4, generator=generator(3)).double(),
    )
    own, other = scaled_inputs(PLANE.process, x, t), scaled_inputs(PLANE.process, *there)
    zero = torch.zeros(30, 2, dtype=torch.float64)
    regression = kernel.between(other, own)[..., 0, 0] @ torch.linalg.solve(kernel.between(own, own)[..., 0, 0], clean)
    torch.testing.assert_close(lazy.output(*there, clean, zero[:4], zero), regression, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(lazy.output(x, t, clean, zero, zero), clean, rtol=1e-6, atol=1e-6)
    long = LazyNetwork(PLANE, kernel, LazyTraining(1e14), x, t)
    torch.testing.assert_close(long.response(*there), lazy.response(*there), rtol=1e-5, atol=1e-7)


def test_at_the_draws_it_ends_with_the_variance_of_the_targets():
    """The naive estimator's form: V = D C D at the training points themselves, nothing between different ones."""
    x, t, _ = drawn(PROXY, 12)
    for formulation in (SCORE, DENOISER, NOISE):
        lazy = LazyNetwork(PROXY, ReluTangentKernel(1), LazyTraining(formulation=formulation), x, t)
        spread = PROXY.process.diffusion(t).on_both_sides(PROXY.covariance(x, t))
        wanted = torch.zeros(12, 12, 1, 1, dtype=torch.float64)
        wanted[range(12), range(12)] = spread
        torch.testing.assert_close(lazy.covariance(x, t, x, t), wanted, rtol=1e-6, atol=1e-6 * float(spread.max()))


@pytest.mark.parametrize("time", [0.3, 20.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_response_solves_gradient_flow(time, weighted):
    """``df/dτ = −K Λ (f − y)`` at the training points, by the matrix exponential of the flow itself."""
    x, t, clean = drawn(PROXY, 9)
    training = noise_weighted(time) if weighted else LazyTraining(time)
    kernel = ReluTangentKernel(2)
    lazy = LazyNetwork(PROXY, kernel, training, x, t)
    weight = PROXY.process.alpha(t) ** 2 / PROXY.process.mean_variance(t, 1) if weighted else torch.ones_like(t)
    own = scaled_inputs(PROXY.process, x, t)
    rate = kernel.between(own, own)[..., 0, 0] * weight
    start = torch.randn(9, 1, generator=generator(5), dtype=torch.float64)
    wanted = clean + torch.linalg.matrix_exp(-rate * time) @ (start - clean)
    torch.testing.assert_close(lazy.output(x, t, clean, start, start), wanted, rtol=1e-7, atol=1e-7)


def test_mean_and_covariance_are_those_of_random_targets_and_starts():
    """Monte Carlo over target draws and Gaussian starts, in the plane, at a finite time."""
    x, t, _ = drawn(PLANE, 10)
    kernel = ReluTangentKernel(2)
    lazy = LazyNetwork(PLANE, kernel, LazyTraining(3.0), x, t)
    here = torch.tensor([[0.1, 0.0], [-0.6, 0.4]], dtype=torch.float64), torch.tensor([0.1, 0.3], dtype=torch.float64)
    inputs = torch.cat([scaled_inputs(PLANE.process, *here), scaled_inputs(PLANE.process, x, t)])
    draw, count = generator(11), 40_000
    root = torch.linalg.cholesky(kernel.start_covariance(inputs, inputs)[..., 0, 0] + 1e-12 * torch.eye(12))
    starts = torch.einsum("ab,nbi->nai", root, torch.randn(count, 12, 2, generator=draw, dtype=torch.float64))
    clean = PLANE.draw_clean(x.expand(count, -1, -1), t.expand(count, -1), draw)
    targets = noisy_target(PLANE, DENOISER, clean, x, t)
    outputs = starts[:, :2] + lazy.response(*here)[..., 0, 0] @ (targets - starts[:, 2:])
    deviations = (outputs - outputs.mean(0)).flatten(1)
    found = (deviations.T @ deviations / (count - 1)).reshape(2, 2, 2, 2).permute(0, 2, 1, 3)
    wanted = lazy.output_covariance(*here, *here)
    torch.testing.assert_close(
        outputs.mean(0), lazy.mean_output(*here), rtol=0, atol=5 * float(wanted.max() / count) ** 0.5
    )
    assert float((found - wanted).abs().max()) < 0.03 * float(wanted.max())
    velocity = lazy.trace(*here) / (PLANE.process.diffusion(here[1]).values[:, 0]) ** 2
    score = wanted[[0, 1], [0, 1]].diagonal(dim1=1, dim2=2).sum(1)
    gain = PLANE.process.alpha(here[1]) ** 2 / PLANE.process.mean_variance(here[1], 2) ** 2
    torch.testing.assert_close(velocity, score * gain)


def test_a_wide_network_trained_by_gradient_descent_is_the_lazy_network():
    """Plain gradient descent on a real network, width 1,024, against the formula with that network's own kernel and start."""
    x, t, clean = drawn(PROXY, 6)
    network = TangentMLP(2, 1, 1024, 2, generator(2))
    inputs = scaled_inputs(PROXY.process, x, t)
    here = torch.tensor([[0.4], [-0.7]], dtype=torch.float64), torch.tensor([0.1, 0.4], dtype=torch.float64)
    other = scaled_inputs(PROXY.process, *here)
    with torch.no_grad():
        start, start_there = network(other), network(inputs)
    time, steps = 1.5, 40
    lazy = LazyNetwork(PROXY, EmpiricalTangentKernel(network), LazyTraining(time), x, t)
    predicted = lazy.output(*here, clean, start, start_there)
    analytic = LazyNetwork(PROXY, ReluTangentKernel(2), LazyTraining(time), x, t).output(
        *here, clean, start, start_there
    )
    optimizer = torch.optim.SGD(network.parameters(), time / steps)
    for _ in range(steps):
        optimizer.zero_grad()
        ((network(inputs) - clean).square().sum() / 2).backward()
        optimizer.step()
    with torch.no_grad():
        moved = float((network(other) - start).norm())
        assert float((network(other) - predicted).norm()) < 0.1 * moved
        assert float((network(other) - analytic).norm()) < 0.2 * moved


def test_several_outputs_share_a_networks_parameters():
    x, t, _ = drawn(PLANE, 5)
    network = TangentMLP(3, 2, 64, 1, generator(4))
    lazy = LazyNetwork(PLANE, EmpiricalTangentKernel(network), LazyTraining(2.0), x, t)
    jacobian = EmpiricalTangentKernel(network).jacobian(scaled_inputs(PLANE.process, x, t)).flatten(0, 1)
    gram = jacobian @ jacobian.T
    targets = lazy.mean_targets.flatten()
    with torch.no_grad():
        start = network(scaled_inputs(PLANE.process, x, t)).flatten()
    wanted = targets + torch.linalg.matrix_exp(-2.0 * gram) @ (start - targets)
    torch.testing.assert_close(lazy.mean_output(x, t).flatten(), wanted, rtol=1e-8, atol=1e-8)
    assert lazy.covariance(x[None], t[None], x[None, :3], t[None, :3]).shape == (1, 5, 3, 2, 2)


def test_bad_input_is_refused():
    x, t, _ = drawn(PROXY, 4)
    with pytest.raises(UserError, match="singular at these training points"):
        LazyNetwork(PROXY, ReluTangentKernel(1), LazyTraining(), x[[0, 0, 1]], t[[0, 0, 1]])
    finite = LazyNetwork(PROXY, ReluTangentKernel(1), LazyTraining(5.0), x[[0, 0, 1]], t[[0, 0, 1]])
    assert bool(torch.isfinite(finite.score(x, t)).all())
    with pytest.raises(UserError, match="must be positive"):
        LazyTraining(0.0)
    with pytest.raises(UserError, match="depth ≥ 0"):
        ReluTangentKernel(-1)
    with pytest.raises(UserError, match="training points are"):
        LazyNetwork(PROXY, ReluTangentKernel(1), LazyTraining(), x, t[:2])
    with pytest.raises(UserError, match="the network has 1 outputs"):
        EmpiricalTangentKernel(nn.Linear(2, 1).double()).start_mean(rows(2, 2), 2)
    zero = ReluTangentKernel(2, bias_variance=0.0).between(torch.zeros(2, 3), rows())
    assert float(zero.abs().max()) == 0
