"""What linear models put where: samples of fitted models, of their average, and of the exact score, all from the same starts.

The average of fitted models is the model with the mean weights: it has the features' bias and no variance over training runs.
What the fitted models do to a density that their average does not do is the work of the variance.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import pydantic
import torch
from torch import Tensor

from scorescope.variance.effective import effective_process, probability_flow
from scorescope.variance.features import FAMILIES
from scorescope.variance.field_tables import follow_flow
from scorescope.variance.linear import LinearTraining, fit_linear
from scorescope.variance.processes import Process, VariancePreserving
from scorescope.variance.proxy import PointProxy
from scorescope.variance.v_kernel import NaiveKernel, NoVariance

Family = Literal["gaussian", "fourier"]


class LinearDensityConfig(pydantic.BaseModel):
    """Settings of an experiment with linear models.

    Attributes:
        models: fitted ones, M.
        samples: P, noisy points that each is fitted to.
        per_axis: features of x and t each.
        family: ``gaussian`` or ``fourier``.
        ridge: η.
        epsilon: ε, where the VP process stops.
        steps: Euler steps of the flow.
        drawn: samples of each model.
        seed: of all draws.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    models: int = pydantic.Field(60, ge=2)
    samples: int = pydantic.Field(256, ge=1)
    per_axis: int = pydantic.Field(16, ge=2)
    family: Family = "gaussian"
    ridge: float = pydantic.Field(0.1, ge=0)
    epsilon: float = pydantic.Field(1e-3, gt=0)
    steps: int = pydantic.Field(30, ge=1)
    drawn: int = pydantic.Field(500, ge=1)
    seed: int = pydantic.Field(0, ge=0)


@dataclass(frozen=True)
class Learned:
    """Samples from the same M × n starts, each (M, n, d).

    Attributes:
        models: of the fitted models.
        average: of the model with their mean weights.
        exact: of the exact score with the same steps.
    """

    models: Tensor
    average: Tensor
    exact: Tensor


def learned(proxy: PointProxy, config: LinearDensityConfig) -> Learned:
    """Fit, and follow all flows."""
    process = proxy.process
    features = FAMILIES[config.family](proxy.dimension, config.per_axis, (process.epsilon, process.horizon))
    training = LinearTraining(samples=config.samples, ridge=config.ridge)
    models = fit_linear(proxy, features, training, config.models, torch.Generator().manual_seed(config.seed))
    average = replace(models, weights=models.weights.mean(0, keepdim=True))
    starts = _starts(process, config, proxy.dimension)
    times = process.times(config.steps)
    flat = starts.flatten(0, 1)
    for state in probability_flow(NoVariance(proxy), flat, times):
        exact = state
    return Learned(
        models=follow_flow(models, starts, times),
        average=follow_flow(average, flat[None], times).reshape(starts.shape),
        exact=exact.reshape(starts.shape),
    )


def naive(proxy: PointProxy, config: LinearDensityConfig, kappa: float) -> Learned:
    """The same with the naive estimator's white noise, whose average is the exact score: ``V = κ D C D δ(t − t')``."""
    process = proxy.process
    starts, times = _starts(process, config, proxy.dimension), process.times(config.steps)
    flat, generator = starts.flatten(0, 1), torch.Generator().manual_seed(config.seed + 2)
    for state in probability_flow(NoVariance(proxy), flat, times):
        exact = state
    for state in effective_process(NaiveKernel(proxy, kappa), flat, times, generator):
        noisy = state
    exact = exact.reshape(starts.shape)
    return Learned(models=noisy.reshape(starts.shape), average=exact, exact=exact)


def line_proxy(points: Tensor, epsilon: float, weights: Tensor | None = None) -> PointProxy:
    """Points under a VP process that stops at ε."""
    return PointProxy(VariancePreserving(epsilon), points, weights)


def _starts(process: Process, config: LinearDensityConfig, dimension: int) -> Tensor:
    generator = torch.Generator().manual_seed(config.seed + 1)
    count = config.models * config.drawn
    return process.start(count, dimension, generator).reshape(config.models, config.drawn, dimension)
