"""Linear models of the score: fitting, sampling, and both together, beside NumPy code that evaluates features on a whole grid.

The reference does what a reader would write first: features at every node of the sampling grid and every time for all models,
one array (grid, times, features); the field of each model on it; then every sample looks its field up at the nearest node. Its
result is less exact than ours, which interpolates (`scorescope.variance.field_tables` states the error).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from benchmarks.harness import Machine, Row, timed
from scorescope.variance.features import ProductFeatures, bumps, fourier
from scorescope.variance.field_tables import follow_flow
from scorescope.variance.linear import LinearModels, LinearTraining, fit_linear
from scorescope.variance.linear_kernel import noise_kernel
from scorescope.variance.point_sets import square, three
from scorescope.variance.processes import VariancePreserving
from scorescope.variance.proxy import PointProxy

EPSILON, STEPS, RIDGE = 0.01, 30, 0.1
MODELS, POINTS = 100, 100_000
REFERENCE_MODELS = {1: 10, 2: 2}  # as many of the 100 models are measured with the reference, and scaled
GRID = {1: 200, 2: 200}


def rows(machine: Machine) -> Iterator[Row]:
    """All lines of the table."""
    line = PointProxy(VariancePreserving(EPSILON), three())
    plane = PointProxy(VariancePreserving(EPSILON), square())
    yield from _study(line, bumps(1, 16, (EPSILON, 1.0)), 1024, "1-D, 256 bumps, P = 1,024", "≤ 5 s, ≥ 5×")
    yield from _study(
        plane, bumps(2, 10, (EPSILON, 1.0)), 500, "2-D, 1,000 bumps, P = 500", "six of these ≤ 120 s, ≥ 5×"
    )
    yield from _study(
        plane, fourier(2, 10, (EPSILON, 1.0)), 500, "2-D, 1,000 modes, P = 500", "six of these ≤ 120 s, ≥ 5×"
    )
    yield _kernel(line, bumps(1, 16, (EPSILON, 1.0)), "V-kernel by proposition 5.1, 1-D, 256 bumps")
    yield _kernel(plane, bumps(2, 10, (EPSILON, 1.0)), "V-kernel by proposition 5.1, 2-D, 1,000 bumps")


def _study(proxy: PointProxy, features: ProductFeatures, samples: int, name: str, wanted: str) -> Iterator[Row]:
    """Fitting and sampling, and the two together."""
    training, dimension = LinearTraining(samples, RIDGE), proxy.dimension

    def fit(models: int = MODELS) -> LinearModels:
        return fit_linear(proxy, features, training, models, torch.Generator().manual_seed(0))

    def follow(models: LinearModels) -> torch.Tensor:
        generator = torch.Generator().manual_seed(1)
        starts = proxy.process.start(len(models) * POINTS, dimension, generator)
        return follow_flow(models, starts.reshape(len(models), POINTS, dimension), proxy.process.times(STEPS))

    fitted = fit()
    measured = REFERENCE_MODELS[dimension]
    part = LinearModels(fitted.process, features, fitted.formulation, fitted.weights[:measured])
    scale = MODELS / measured
    fitting, sampling = timed(fit, runs=1, warm_up=False), timed(lambda: follow(fitted), runs=1)
    plain_fitting = scale * timed(lambda: plain_fit(proxy, features, samples, measured), runs=1, warm_up=False)
    # Features on the grid serve all models, so only what is done for each of them is scaled.
    shared = timed(lambda: sum(phi[0, 0] for phi in grid_features(part)), runs=1, warm_up=False)
    whole = timed(lambda: plain_sampling_of(part), runs=1, warm_up=False)
    plain_sampling = shared + scale * (whole - shared)
    note = f"reference: {measured} of {MODELS} models, scaled; features on the grid once"
    yield Row(f"{name}: fit {MODELS} models", fitting, plain_fitting, note=note)
    yield Row(f"{name}: {POINTS:,} samples each, {STEPS} steps", sampling, plain_sampling, note=note)
    yield Row(f"{name}: both", fitting + sampling, plain_fitting + plain_sampling, wanted=wanted, note=note)


def _kernel(proxy: PointProxy, features: ProductFeatures, name: str) -> Row:
    training = LinearTraining(1024, RIDGE)
    return Row(name, timed(lambda: noise_kernel(proxy, features, training), runs=1, warm_up=False))


def plain_fit(proxy: PointProxy, features: ProductFeatures, samples: int, models: int) -> np.ndarray:
    """Weights of the models, (M, d, F): features of all draws, sums over draws, one inverse of F × F for each model."""
    generator = torch.Generator().manual_seed(0)
    clean, t, x = (part.numpy() for part in proxy.draw_training(models * samples, generator))
    weight = LinearTraining().weights(proxy.process, torch.from_numpy(t), proxy.dimension).numpy()
    phi = plain_features(features, x, t)
    shaped = phi.reshape(models, samples, -1)
    weighted = shaped * weight.reshape(models, samples, 1)
    gram = weighted.transpose(0, 2, 1) @ shaped / samples
    moments = clean.reshape(models, samples, -1).transpose(0, 2, 1) @ weighted / samples
    return moments @ np.linalg.inv(gram + RIDGE * np.eye(phi.shape[1]))


def plain_sampling_of(models: LinearModels) -> np.ndarray:
    """Samples of the models, (M, n, d): features on the grid at all times, fields of all models, then lookups."""
    process, dimension = models.process, models.features.dimension
    nodes, times = np.linspace(-1.5, 1.5, GRID[dimension]), process.times(STEPS)
    fields = [phi @ models.weights.numpy().transpose(0, 2, 1) for phi in grid_features(models)]  # (M, nodes^d, d) each
    generator = torch.Generator().manual_seed(1)
    x = process.start(len(models) * POINTS, dimension, generator).numpy().reshape(len(models), POINTS, dimension)
    beta, alpha = process.beta(times).numpy(), process.alpha(times).numpy()
    model = np.arange(len(models))[:, None]
    for k, step in enumerate(np.diff(times.numpy())):
        index = np.clip(np.searchsorted(nodes, x), None, len(nodes) - 1)
        cell = index[..., 0] if dimension == 1 else index[..., 0] * len(nodes) + index[..., 1]
        score = (alpha[k] * fields[k][model, cell] - x) / (1 - alpha[k] ** 2)
        x = x - step * beta[k] * (x + score)
    return x


def grid_features(models: LinearModels) -> Iterator[np.ndarray]:
    """φ at every node of the grid, (nodes^d, F), one time after another."""
    dimension = models.features.dimension
    nodes = np.linspace(-1.5, 1.5, GRID[dimension])
    places = np.stack(np.meshgrid(*[nodes] * dimension, indexing="ij"), -1).reshape(-1, dimension)
    for t in models.process.times(STEPS)[:-1].numpy():
        yield plain_features(models.features, places, np.full(len(places), t))


def plain_features(features: ProductFeatures, x: np.ndarray, t: np.ndarray) -> np.ndarray:
    """φ at positions (n, d) and times (n,), (n, F), as one dense array."""
    factors = [functions(torch.from_numpy(x[:, i])).numpy() for i, functions in enumerate(features.spatial)]
    factors.append(features.temporal(torch.from_numpy(t)).numpy())
    phi = factors[0]
    for factor in factors[1:]:
        phi = (phi[:, :, None] * factor[:, None, :]).reshape(len(x), -1)
    return phi
